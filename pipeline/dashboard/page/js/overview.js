// All streams at once: a grid that fits what there is, from one to hundreds.

import { button, h, onNextFrame, setText } from "./dom.js";
import { PictureFeed } from "./feed.js";
import { icon } from "./icons.js";
import { Tile } from "./tile.js";
import { VERDICTS, colourOf } from "./verdicts.js";

const SPARK_POINTS = 90; // three minutes
const FILTER_FROM = 6;

/** How close tiles stand, by how many there are. */
export function densityOf(count) {
  if (count <= 1) return "one";
  if (count <= 4) return "few";
  return count <= 16 ? "some" : "many";
}

export class Overview {
  constructor(store, actions) {
    this.store = store;
    this.actions = actions;
    this.tiles = new Map();
    this.text = "";
    this.verdict = null;
    this.feed = new PictureFeed((message, bitmap) => this.showPicture(message, bitmap));
    this.visible = new Set();
    this.observer = new IntersectionObserver((entries) => this.seen(entries), { rootMargin: "120px" });
    this.search = h("input", {
      type: "search", class: "search", placeholder: "Find a stream", "aria-label": "Find a stream", "aria-keyshortcuts": "/",
      on: { input: () => this.filter({ text: this.search.value }) },
    });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Show only streams that are" });
    this.tools = h("div", { class: "tools" }, this.chips, this.search);
    this.grid = h("div", { class: "grid" });
    this.empty = h("p", { class: "empty", hidden: true });
    this.element = h("div", { class: "overview" }, h("h1", { class: "unseen" }, "All streams"), this.tools, this.grid, this.empty);
    this.update = onNextFrame(() => this.showStatuses());
    this.listeners = [
      ["streams", () => this.arrange()],
      ["status", () => this.update()],
      ["history", () => this.showHistory()],
    ];
    for (const [type, listener] of this.listeners) store.addEventListener(type, listener);
    this.resized = new ResizeObserver(() => this.askForPictures());
    this.resized.observe(this.grid);
    this.arrange();
    this.showHistory();
  }

  close() {
    for (const [type, listener] of this.listeners) this.store.removeEventListener(type, listener);
    this.observer.disconnect();
    this.resized.disconnect();
    this.feed.want([], 0);
    for (const tile of this.tiles.values()) tile.close();
  }

  /** Make tiles for new streams, let go of those of removed ones, and keep the server's order. */
  arrange() {
    for (const [id, tile] of this.tiles) {
      if (this.store.streams.has(id)) continue;
      this.observer.unobserve(tile.element);
      this.visible.delete(id);
      tile.close();
      tile.element.remove();
      this.tiles.delete(id);
    }
    this.store.ids.forEach((id, place) => {
      if (!this.tiles.has(id)) {
        const tile = new Tile(id);
        this.tiles.set(id, tile);
        this.observer.observe(tile.element);
      }
      const { element } = this.tiles.get(id);
      if (this.grid.children[place] !== element) this.grid.insertBefore(element, this.grid.children[place] ?? null);
    });
    this.grid.dataset.density = densityOf(this.tiles.size);
    this.search.hidden = this.tiles.size < FILTER_FROM;
    this.showStatuses();
    this.askForPictures();
  }

  showStatuses() {
    for (const [id, tile] of this.tiles) tile.showStatus(this.store.streams.get(id) ?? { status: null });
    this.showChips();
    this.filter({});
  }

  showHistory() {
    for (const [id, tile] of this.tiles) tile.showHistory(this.store.historyOf(id), SPARK_POINTS);
  }

  showPicture(message, bitmap) {
    const tile = this.tiles.get(message.stream_id);
    if (tile) tile.showPicture(bitmap, message);
    else bitmap.close();
  }

  /** The verdicts that there are, as buttons: pressing one shows only those streams. */
  showChips() {
    const counts = this.store.counts();
    const said = JSON.stringify([counts, this.verdict]);
    if (said === this.saidChips) return;
    this.saidChips = said;
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.verdict : null;
    this.chips.replaceChildren(
      ...counts.map(([verdict, number]) =>
        h(
          "button",
          {
            type: "button", class: "chip", "data-colour": colourOf(verdict), "data-verdict": verdict,
            "aria-pressed": String(this.verdict === verdict), title: VERDICTS[verdict]?.means,
            on: { click: () => this.filter({ verdict: this.verdict === verdict ? null : verdict }) },
          },
          icon(VERDICTS[verdict]?.shape ?? "octagon"), h("b", {}, String(number)), ` ${verdict}`,
        ),
      ),
    );
    if (focused) this.chips.querySelector(`[data-verdict="${CSS.escape(focused)}"]`)?.focus();
  }

  filter({ text = this.text, verdict = this.verdict }) {
    const chosen = verdict !== this.verdict;
    this.text = text;
    this.verdict = verdict;
    let shown = 0;
    for (const [id, tile] of this.tiles) {
      const fits = id.toLowerCase().includes(text.trim().toLowerCase()) && (!verdict || this.store.verdict(id) === verdict);
      tile.element.hidden = !fits;
      shown += fits;
    }
    if (chosen) this.showChips();
    this.empty.hidden = shown > 0;
    if (!shown) this.sayEmpty();
  }

  sayEmpty() {
    if (this.tiles.size) setText(this.empty, "No stream is like that.");
    else if (this.store.process.ready === false) setText(this.empty, "The model is being loaded.");
    else if (this.store.connected && !this.empty.firstElementChild) {
      this.empty.replaceChildren("There is no stream yet. ", button("Add a stream", { icon: icon("plus"), kind: "primary", action: this.actions.add }));
    }
  }

  seen(entries) {
    for (const entry of entries) {
      const id = entry.target.dataset.stream;
      if (entry.isIntersecting) this.visible.add(id);
      else this.visible.delete(id);
    }
    this.askForPictures();
  }

  askForPictures() {
    const widest = [...this.visible].map((id) => this.tiles.get(id)?.canvas.clientWidth ?? 0);
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.feed.want(this.visible, Math.max(0, ...widest) * ratio);
  }

  /** The tiles that can be seen, in order, for the arrow keys. */
  get links() {
    return [...this.tiles.values()].filter((tile) => !tile.element.hidden).map((tile) => tile.link);
  }

  get columns() {
    return getComputedStyle(this.grid).gridTemplateColumns.split(" ").length;
  }
}
