// Small charts of the last minutes, drawn as SVG: lines, stacked bars, and a band of verdicts.

import { h, onNextFrame, s, setAttribute, setText } from "./dom.js";
import { colourOf } from "./verdicts.js";

const LEFT = 44;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 18;

/** A round number at or above `value`, for the top of an axis. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** A path through values that are not null; a gap stays a gap. */
export function linePath(values, x, y) {
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = "M";
      return;
    }
    path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

/** What all charts share: a frame with a title, a legend with the values at the pointer, an axis of time. */
export class Chart {
  /** `series`: [{name, className}]; `format(value)`: a figure with its unit; `height` in pixels. */
  constructor({ title, series, format, height = 132, stacked = false, least = 1 }) {
    Object.assign(this, { title, series, format, height, stacked, least });
    this.values = series.map(() => []);
    this.stepSeconds = 2;
    this.points = 300;
    this.pointer = null;
    this.legend = h("dl", { class: "legend" });
    this.plot = s("svg", { class: "plot", height, "aria-hidden": "true" });
    this.area = h("div", {
      class: "plot-area", tabindex: "0", role: "img", "aria-label": title,
      on: {
        pointermove: (event) => this.point(event.offsetX),
        pointerleave: () => this.point(null),
        blur: () => this.point(null),
        keydown: (event) => this.step(event),
      },
    }, this.plot);
    this.element = h("section", { class: "chart" }, h("header", {}, h("h3", {}, title), this.legend), this.area);
    this.draw = onNextFrame(() => this.drawNow());
    this.observer = new ResizeObserver(this.draw);
    this.observer.observe(this.area);
  }

  /** Show these values, one list a series, oldest first. */
  show(values, series = this.series) {
    this.values = values;
    this.series = series;
    this.draw();
  }

  close() {
    this.observer.disconnect();
  }

  get length() {
    return Math.max(0, ...this.values.map((list) => list.length));
  }

  point(offset) {
    if (offset === null) this.pointer = null;
    else {
      const width = this.area.clientWidth - LEFT - RIGHT;
      const fromRight = Math.round(((LEFT + width - offset) / width) * (this.points - 1));
      this.pointer = Math.max(0, Math.min(this.length - 1, this.length - 1 - fromRight));
    }
    this.draw();
  }

  step(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -15, PageDown: 15, Home: -1e6, End: 1e6 }[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.pointer = Math.max(0, Math.min(this.length - 1, (this.pointer ?? this.length - 1) + move));
    this.draw();
  }

  drawNow() {
    const width = this.area.clientWidth;
    if (!width || !this.element.isConnected) return;
    setAttribute(this.plot, "width", String(width));
    const inner = width - LEFT - RIGHT;
    const bottom = this.height - BOTTOM;
    const offset = this.points - this.length;
    const x = (index) => LEFT + ((index + offset) / (this.points - 1)) * inner;
    const top = roundUp(Math.max(this.least, this.highest()));
    const y = (value) => bottom - (value / top) * (bottom - TOP);
    const shapes = [...this.axes(top, y, width), ...(this.stacked ? this.bars(x, y, inner) : this.lines(x, y))];
    const at = this.pointer ?? this.length - 1;
    if (this.pointer !== null && this.length) {
      const place = x(this.pointer).toFixed(1);
      shapes.push(s("path", { class: "pointer", d: `M${place} ${TOP}V${bottom}` }));
    }
    this.plot.replaceChildren(...shapes);
    this.showValues(at);
  }

  highest() {
    if (!this.stacked) return Math.max(0, ...this.values.flat().filter((value) => value !== null));
    let highest = 0;
    for (let index = 0; index < this.length; index++) {
      highest = Math.max(highest, this.values.reduce((sum, list) => sum + (list[index] ?? 0), 0));
    }
    return highest;
  }

  axes(top, y, width) {
    const shapes = [];
    for (const share of [0, 0.5, 1]) {
      const height = y(top * share).toFixed(1);
      shapes.push(s("path", { class: share ? "rule" : "axis", d: `M${LEFT} ${height}H${width - RIGHT}` }));
      shapes.push(s("text", { class: "tick", x: LEFT - 6, y: height, "text-anchor": "end", dy: "0.35em" }, this.format(top * share, true)));
    }
    const minutes = (this.points * this.stepSeconds) / 60;
    const words = [`−${minutes} min`, `−${minutes / 2} min`, "now"];
    const anchors = ["start", "middle", "end"];
    words.forEach((word, index) => {
      const place = LEFT + ((width - LEFT - RIGHT) * index) / 2;
      shapes.push(s("text", { class: "tick", x: place, y: this.height - 4, "text-anchor": anchors[index] }, word));
    });
    return shapes;
  }

  lines(x, y) {
    return this.values.map((list, index) =>
      s("path", { class: `line ${this.series[index].className}`, d: linePath(list, x, y) }),
    );
  }

  bars(x, y, inner) {
    const width = Math.max(1.5, inner / this.points - 0.5);
    const heights = new Array(this.length).fill(0);
    return this.values.map((list, series) => {
      let path = "";
      list.forEach((value, index) => {
        if (!value) return;
        const from = y(heights[index]);
        heights[index] += value;
        const to = y(heights[index]);
        path += `M${(x(index) - width / 2).toFixed(1)} ${from.toFixed(1)}h${width.toFixed(1)}V${to.toFixed(1)}h${(-width).toFixed(1)}z`;
      });
      return s("path", { class: `bars ${this.series[series].className}`, d: path });
    });
  }

  showValues(at) {
    const when = this.pointer === null ? "now" : this.whenOf(at);
    const entries = this.series.map(({ name, className }, index) => {
      const value = this.values[index]?.[at];
      return h("div", { class: className }, h("dt", {}, name), h("dd", {}, this.format(value ?? null)));
    });
    const time = h("div", { class: "when" }, h("dt", { class: "unseen" }, "at"), h("dd", {}, when));
    this.legend.replaceChildren(time, ...entries);
    const said = this.series.map(({ name }, index) => `${name} ${this.format(this.values[index]?.[at] ?? null)}`);
    setAttribute(this.area, "aria-label", `${this.title}, ${when}: ${said.join(", ") || "none"}`);
  }

  whenOf(at) {
    const seconds = (this.length - 1 - at) * this.stepSeconds;
    if (!seconds) return "now";
    return seconds < 60 ? `${seconds} s ago` : `${Math.floor(seconds / 60)} min ${seconds % 60} s ago`;
  }
}

/** The band of verdicts over the last minutes. */
export class VerdictBand {
  constructor() {
    this.plot = s("svg", { class: "band-plot", height: 14, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.said = h("p", { class: "unseen" });
    this.element = h("section", { class: "chart band" }, h("header", {}, h("h3", {}, "verdict")), h("div", { class: "band-area" }, this.plot), this.said);
  }

  show(verdicts, points) {
    setAttribute(this.plot, "viewBox", `0 0 ${points} 14`);
    const runs = runsOf(verdicts);
    const offset = points - verdicts.length;
    this.plot.replaceChildren(
      ...runs.filter(({ verdict }) => verdict).map(({ verdict, from, length }) =>
        s("rect", { "data-colour": colourOf(verdict), x: from + offset, y: 0, width: length, height: 14 }, s("title", {}, verdict)),
      ),
    );
    const known = runs.filter(({ verdict }) => verdict).map(({ verdict }) => verdict);
    setText(this.said, `in turn: ${known.slice(-8).join(", ")}`);
  }

  close() {}
}

/** Equal neighbours as one: [{verdict, from, length}]. */
export function runsOf(verdicts) {
  const runs = [];
  verdicts.forEach((verdict, index) => {
    const last = runs.at(-1);
    if (last && last.verdict === verdict) last.length += 1;
    else runs.push({ verdict, from: index, length: 1 });
  });
  return runs;
}

/** A line without axes, for a tile. `show(values)`. */
export class Spark {
  constructor(label) {
    this.line = s("path", { class: "line" });
    this.fill = s("path", { class: "fill" });
    this.element = s("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.fill, this.line);
    this.element.dataset.label = label;
  }

  show(values, points) {
    const top = roundUp(Math.max(1e-9, ...values.filter((value) => value !== null)));
    const offset = points - values.length;
    const x = (index) => ((index + offset) / (points - 1)) * 100;
    const y = (value) => 23 - (value / top) * 21;
    const path = linePath(values, x, y);
    setAttribute(this.line, "d", path);
    const first = values.findIndex((value) => value !== null);
    const whole = first >= 0 && !values.slice(first).includes(null);
    setAttribute(this.fill, "d", whole && path ? `${path}V24H${x(first).toFixed(1)}z` : "");
  }
}
