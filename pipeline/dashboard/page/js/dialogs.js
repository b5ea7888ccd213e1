// Questions to the person: add or change a stream, confirm, a token, the keys. Native dialogs keep focus inside.

import { h, setText } from "./dom.js";
import { TRACKERS, fieldsToBody } from "./fields.js";

/** Show a dialog with a form; resolve to what `submit()` returned, or to null when it was left. */
function ask({ title, content, word, kind = "primary", submit }) {
  return new Promise((resolve) => {
    const error = h("p", { class: "error", role: "alert", hidden: true });
    const send = h("button", { type: "submit", class: `button ${kind}` }, word);
    const leave = h("button", { type: "button", class: "button quiet", on: { click: () => dialog.close() } }, "Cancel");
    let answer = null;
    const form = h(
      "form",
      {
        novalidate: true,
        on: {
          submit: async (event) => {
            event.preventDefault();
            send.disabled = true;
            error.hidden = true;
            try {
              answer = await submit();
              dialog.close();
            } catch (problem) {
              setText(error, problem.message);
              error.hidden = false;
            } finally {
              send.disabled = false;
            }
          },
        },
      },
      h("h2", { id: "dialog-title" }, title),
      ...content,
      error,
      h("div", { class: "dialog-buttons" }, leave, send),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", on: { close: () => { dialog.remove(); resolve(answer); } } }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

function field(name, word, properties = {}, hint = "") {
  const { choices, ...rest } = properties;
  const input = choices
    ? h("select", { name, ...rest }, ...choices.map((choice) => h("option", { value: choice }, choice || "as configured")))
    : h("input", { name, autocomplete: "off", spellcheck: "false", ...rest });
  return h("label", { class: rest.type === "checkbox" ? "field check" : "field" }, h("span", {}, word), input, hint ? h("small", {}, hint) : null);
}

function read(content) {
  const values = {};
  for (const part of content) {
    for (const input of part.querySelectorAll("input, select")) values[input.name] = input.type === "checkbox" ? input.checked : input.value.trim();
  }
  return values;
}

/** Ask for a new stream. `add(body)` may refuse: the dialog then stays and says why. */
export function askForStream(add) {
  const content = [
    field("id", "Name", { required: true, autofocus: true, maxlength: "64", placeholder: "door" }, "In messages, metrics and logs. Letters, digits, _ . and -"),
    field("url", "Address", { required: true, placeholder: "rtsp://10.0.0.5/stream1" }, "rtsp://, a video file, a folder of pictures, camera:0 or pattern:"),
    h("div", { class: "pair" }, field("username", "User"), field("password", "Password", { type: "password" })),
    h(
      "details",
      {},
      h("summary", {}, "More"),
      h("div", { class: "pair" }, field("transport", "Transport", { choices: ["", "tcp", "udp"] }), field("tracker", "Tracker", { choices: TRACKERS })),
      h("div", { class: "pair" }, field("deadline", "Deadline", { placeholder: "200ms" }), field("weight", "Weight", { inputmode: "decimal", placeholder: "1" })),
      h("div", { class: "pair" }, field("realtime", "Play a file at its own pace", { type: "checkbox" }), field("loop", "Begin a file again", { type: "checkbox" })),
    ),
  ];
  return ask({ title: "Add a stream", content, word: "Add", submit: async () => add(fieldsToBody(read(content))) });
}

/** Ask what to change. `facts`: what is set now. */
export function askForChanges(id, facts, change) {
  const value = (name) => (facts[name] === null || facts[name] === undefined ? "" : String(facts[name]));
  const content = [
    field("deadline", "Deadline", { value: value("deadline"), placeholder: "auto", autofocus: true }, "Oldest that a published frame may be, as in 200ms, or auto"),
    h("div", { class: "pair" },
      field("weight", "Weight", { value: value("weight"), inputmode: "decimal", placeholder: "1" }, "Share of the capacity"),
      field("min_fps", "Least rate", { value: value("min_fps"), inputmode: "decimal", placeholder: "0" }, "Frames a second, before sharing"),
    ),
    h("div", { class: "pair" },
      field("max_fps", "Most rate", { value: value("max_fps"), inputmode: "decimal", placeholder: "all" }, "Frames a second, at most"),
      field("score_threshold", "Score threshold", { value: value("score_threshold"), inputmode: "decimal", placeholder: "as configured" }, "0 to 1"),
    ),
  ];
  const before = read(content);
  return ask({
    title: `Change ${id}`, content, word: "Change",
    submit: async () => {
      const now = read(content);
      const changed = Object.fromEntries(Object.entries(now).filter(([name, text]) => text !== before[name]));
      return Object.keys(changed).length ? change(fieldsToBody(changed, { empty: null })) : true;
    },
  });
}

export function confirmRemoval(id, remove) {
  const content = [h("p", {}, "Its messages end, and its figures are forgotten. What was published stays with whoever received it.")];
  return ask({ title: `Remove ${id}?`, content, word: "Remove", kind: "danger", submit: remove });
}

/** `again`: the one given before was refused. */
export function askForToken(again) {
  const content = [
    h("p", {}, again ? "That token is not the right one." : "This server is reached from other machines too, and wants a token."),
    field("token", "Token", { type: "password", autofocus: true, autocomplete: "current-password" }),
  ];
  return ask({ title: "Token", content, word: "Continue", submit: async () => read(content).token });
}

export function showKeys(keys) {
  const rows = keys.map(([key, means]) => h("div", {}, h("dt", {}, ...key.split(" ").map((part) => h("kbd", {}, part))), h("dd", {}, means)));
  return ask({ title: "Keys", content: [h("dl", { class: "keys" }, ...rows)], word: "Close", submit: async () => true });
}
