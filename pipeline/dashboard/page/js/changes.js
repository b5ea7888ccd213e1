// What changed, newest first: verdicts with their causes, and what people did.

import { h } from "./dom.js";
import { clockTime } from "./format.js";
import { icon } from "./icons.js";
import { VERDICTS, colourOf } from "./verdicts.js";

/** `changes`: [{utc, stream_id, verdict, before, words}], oldest first. */
export function changeList(changes, { named = true } = {}) {
  if (!changes.length) return h("p", { class: "dim" }, "Nothing yet.");
  return h("ol", { class: "change-list", reversed: true }, ...changes.toReversed().map((change) => row(change, named)));
}

function row(change, named) {
  const { verdict, words } = change;
  const what = verdict
    ? h("span", { class: "verdict", "data-colour": colourOf(verdict) }, icon(VERDICTS[verdict]?.shape ?? "octagon"), h("span", { class: "word" }, verdict))
    : null;
  const name = named ? h("a", { class: "name", href: `#/stream/${encodeURIComponent(change.stream_id)}` }, change.stream_id) : null;
  return h("li", {}, h("time", { datetime: new Date(change.utc * 1000).toISOString() }, clockTime(change.utc)), name, what, h("span", { class: "words" }, words));
}

/** The page of all changes. */
export class ChangesPage {
  constructor(store) {
    this.store = store;
    this.list = h("div", { class: "card changes" });
    this.element = h("div", { class: "changes-page" }, h("h1", {}, "Events"), this.list);
    this.show = () => this.list.replaceChildren(changeList(store.changes.slice(-300)));
    store.addEventListener("changes", this.show);
    this.show();
  }

  close() {
    this.store.removeEventListener("changes", this.show);
  }
}
