// Short words about what was just done, or refused. Refusals stay until they are read away.

import { button, h } from "./dom.js";
import { icon } from "./icons.js";

const STAY_MS = 5000;

export function toast(words, { bad = false } = {}) {
  const element = h("div", { class: "toast", "data-colour": bad ? "red" : "green" }, icon(bad ? "octagon" : "check"), h("p", {}, words));
  element.append(button("Close", { kind: "quiet", action: () => element.remove() }));
  document.getElementById("toasts").append(element);
  if (!bad) setTimeout(() => element.remove(), STAY_MS);
}
