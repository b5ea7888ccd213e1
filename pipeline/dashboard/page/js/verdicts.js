// Words and colours of the terminal's table, and a shape for each, so that colour is never all there is.

import { h, setAttribute, setText } from "./dom.js";
import { icon } from "./icons.js";

/** Worst last. `colour` is the terminal's. */
export const VERDICTS = {
  ended: { colour: "dim", shape: "end", means: "It has no more pictures, and was not expected to." },
  paused: { colour: "dim", shape: "pause", means: "Somebody paused it." },
  keeping_up: { colour: "green", shape: "check", means: "What the camera delivers is published, and in time." },
  starting: { colour: "dim", shape: "dots", means: "There is too little to judge by." },
  falling_behind: { colour: "yellow", shape: "triangle", means: "Frames come late, or later and later." },
  overloaded: { colour: "red", shape: "octagon", means: "More frames are lost than is tolerated." },
  reconnecting: { colour: "yellow", shape: "again", means: "The camera is away and is tried again." },
  black: { colour: "red", shape: "square", means: "The camera delivers pictures without content." },
  frozen: { colour: "red", shape: "flake", means: "The camera delivers the same picture again and again." },
  stalled: { colour: "red", shape: "stall", means: "It is connected, and nothing comes." },
  offline: { colour: "red", shape: "cross", means: "The camera is away, and not tried at present." },
};

const ORDER = Object.keys(VERDICTS);

/** How bad a verdict is, 0 and up. One that this page does not know counts as the worst, so that it cannot hide. */
export function severity(verdict) {
  const place = ORDER.indexOf(verdict);
  return place < 0 ? ORDER.length : place;
}

export function colourOf(verdict) {
  return VERDICTS[verdict]?.colour ?? "red";
}

/** Whether the stream's picture is of the past. */
export function isAway(verdict) {
  return ["reconnecting", "offline", "stalled", "ended", "paused"].includes(verdict);
}

/** A chip with shape, word and colour; `show(verdict)` changes it. */
export function verdictChip() {
  const word = h("span", { class: "word" });
  const element = h("span", { class: "verdict" }, icon("dots"), word);
  let shown = null;
  function show(verdict) {
    if (verdict === shown) return;
    shown = verdict;
    const { shape = "octagon", means = "" } = VERDICTS[verdict] ?? {};
    element.firstChild.replaceWith(icon(shape));
    setText(word, verdict);
    setAttribute(element, "title", means);
    setAttribute(element, "data-colour", colourOf(verdict));
    element.dataset.verdict = verdict;
  }
  show("starting");
  return { element, show };
}
