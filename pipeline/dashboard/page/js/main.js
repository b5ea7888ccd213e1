// Starts the page: its bar, what stands below it, and the keys.

import { Actions } from "./actions.js";
import { onTokenNeeded } from "./api.js";
import { ChangesPage } from "./changes.js";
import { askForToken, showKeys } from "./dialogs.js";
import { button, h, setText } from "./dom.js";
import { icon } from "./icons.js";
import { KEYS, listenToKeys } from "./keyboard.js";
import { Overview } from "./overview.js";
import { Store } from "./store.js";
import { StreamPage } from "./stream_page.js";
import { nextTheme, showTheme } from "./theme.js";
import { severity } from "./verdicts.js";

const store = new Store();
const actions = new Actions(store);
const main = document.getElementById("page");
const notice = document.getElementById("notice");
let page = null;

function buildBar() {
  const theme = button("Theme", { icon: icon("half"), kind: "quiet icon-only", key: "t", action: changeTheme });
  theme.id = "theme";
  const facts = h("span", { class: "process", id: "process" });
  const links = h(
    "nav",
    { "aria-label": "Pages" },
    h("a", { class: "button quiet", href: "#/", id: "to-streams" }, "Streams"),
    h("a", { class: "button quiet", href: "#/events", id: "to-events" }, "Events"),
  );
  document.getElementById("bar").append(
    h("a", { class: "brand", href: "#/", "aria-label": "Onpace: all streams" }, h("img", { src: "icon.svg", alt: "", width: "22", height: "22" }), "Onpace"),
    links,
    facts,
    button("Add", { icon: icon("plus"), key: "a", label: "Add a stream", kind: "primary", action: actions.add }),
    theme,
    button("Keys", { icon: icon("help"), kind: "quiet icon-only", key: "?", label: "Keys", action: () => showKeys(KEYS) }),
  );
  showTheme(theme);
}

function changeTheme() {
  nextTheme();
  showTheme(document.getElementById("theme"));
}

/** Show what the address says: #/, #/stream/NAME or #/events. */
function route() {
  const [, kind, name] = location.hash.split("/");
  const left = page instanceof StreamPage ? page.id : null;
  page?.close();
  if (kind === "stream" && name) page = new StreamPage(store, actions, decodeURIComponent(name));
  else if (kind === "events") page = new ChangesPage(store);
  else page = new Overview(store, actions);
  main.replaceChildren(page.element);
  const title = page instanceof StreamPage ? page.id : kind === "events" ? "Events" : "Streams";
  document.title = `${title} · Onpace`;
  for (const [id, current] of [["to-streams", kind !== "events"], ["to-events", kind === "events"]]) {
    const link = document.getElementById(id);
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // Where one came from is where one goes on.
  const tile = left && page.tiles?.get(left);
  if (tile) tile.link.focus();
  else main.focus({ preventScroll: true });
  if (!tile) window.scrollTo(0, 0);
}

function beside(step) {
  if (!(page instanceof StreamPage)) return;
  const ids = store.ids;
  const at = ids.indexOf(page.id);
  if (at >= 0) location.hash = `#/stream/${encodeURIComponent(ids[(at + step + ids.length) % ids.length])}`;
}

function streamInFocus() {
  if (page instanceof StreamPage) return page.id;
  return document.activeElement?.closest?.(".tile")?.dataset.stream ?? null;
}

function sayConnection(event) {
  if (store.connected) notice.hidden = true;
  else {
    notice.hidden = false;
    setText(notice, event.detail || "Onpace does not answer. What is shown is old; trying again.");
  }
  document.body.classList.toggle("disconnected", !store.connected);
}

/** Tell those who listen instead of looking what became worse or well again. */
function announce(event) {
  const words = event.detail.filter((change) => change.verdict).slice(-3).map((change) => `${change.stream_id}: ${change.verdict}`);
  if (words.length) setText(document.getElementById("announcer"), words.join(". "));
}

/** How all streams are together, in the bar and in the tab's title. */
function summarise() {
  const [worst, number] = store.counts()[0] ?? [];
  const { model, runtime } = store.process;
  const total = store.streams.size;
  setText(document.getElementById("process"), [model && `${model} on ${runtime}`, `${total} stream${total === 1 ? "" : "s"}`].filter(Boolean).join(" · "));
  const troubled = worst && severity(worst) > severity("starting");
  const title = document.title.replace(/^\(.*?\) /, "");
  document.title = troubled ? `(${number} ${worst}) ${title}` : title;
}

onTokenNeeded(askForToken);
buildBar();
route();
window.addEventListener("hashchange", route);
store.addEventListener("connection", sayConnection);
store.addEventListener("changes", announce);
store.addEventListener("status", summarise);
listenToKeys({
  page: () => page,
  streamInFocus,
  actions,
  commands: {
    "/": () => page.search?.focus(),
    a: actions.add,
    b: () => page.showBoxes?.(!page.boxes.checked),
    e: () => (location.hash = "#/events"),
    t: changeTheme,
    "?": () => showKeys(KEYS),
    "[": () => beside(-1),
    "]": () => beside(1),
    Escape: () => (location.hash = "#/"),
  },
});
store.start();
