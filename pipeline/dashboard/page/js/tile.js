// One stream on the overview: its picture, how it is doing, and the last minutes.

import { Spark } from "./chart.js";
import { h, setAttribute, setText } from "./dom.js";
import { age, count, droppedTotal, fps } from "./format.js";
import { PictureCanvas, describe } from "./picture.js";
import { colourOf, isAway, verdictChip } from "./verdicts.js";

export class Tile {
  constructor(id) {
    this.id = id;
    this.canvas = h("canvas", { class: "picture", role: "img" });
    this.picture = new PictureCanvas(this.canvas);
    this.chip = verdictChip();
    this.veil = h("p", { class: "veil", hidden: true });
    this.cause = h("p", { class: "cause" });
    this.out = h("dd");
    this.age = h("dd");
    this.dropped = h("dd");
    this.spark = new Spark("published frames a second");
    this.link = h("a", { class: "tile-link", href: `#/stream/${encodeURIComponent(id)}` }, h("span", { class: "name" }, id));
    this.element = h(
      "article",
      { class: "tile", dataset: { stream: id } },
      h("div", { class: "frame" }, this.canvas, this.veil),
      h("div", { class: "tile-head" }, h("h2", {}, this.link), this.chip.element),
      h(
        "dl",
        { class: "figures" },
        h("div", {}, h("dt", {}, "out"), this.out),
        h("div", {}, h("dt", {}, "age p95"), this.age),
        h("div", {}, h("dt", {}, "dropped"), this.dropped),
      ),
      this.spark.element,
      this.cause,
    );
  }

  showStatus(stream) {
    const status = stream.status;
    const verdict = status?.verdict ?? "starting";
    this.chip.show(verdict);
    setAttribute(this.element, "data-colour", colourOf(verdict));
    const away = isAway(verdict);
    this.element.classList.toggle("away", away);
    setText(this.out, status ? `${fps(status.published_fps)} fps` : "–");
    setText(this.age, age(status?.age_seconds.p95));
    setText(this.dropped, count(droppedTotal(status?.dropped)));
    const cause = status?.cause || (away ? status?.last_error : "") || "";
    setText(this.cause, cause);
    setAttribute(this.cause, "title", cause);
    this.veil.hidden = !(away || !this.picture.shown);
    setText(this.veil, away ? verdict : "no picture yet");
    const words = [this.id, verdict, `${fps(status?.published_fps)} frames a second`, cause];
    setAttribute(this.link, "aria-label", words.filter(Boolean).join(", "));
  }

  showHistory(columns, points) {
    this.spark.show(columns.published_fps.slice(-points), points);
  }

  showPicture(bitmap, message) {
    const first = !this.picture.shown;
    this.picture.show(bitmap, message);
    setAttribute(this.canvas, "aria-label", `${this.id}: ${describe(message)}`);
    if (first && !this.element.classList.contains("away")) this.veil.hidden = true;
  }

  close() {
    this.picture.close();
  }
}
