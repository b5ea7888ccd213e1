// One stream: its picture as large as the page allows, every figure, the last minutes, and what can be done with it.

import { Chart, VerdictBand } from "./chart.js";
import { changeList } from "./changes.js";
import { button, h, onNextFrame, setAttribute, setText } from "./dom.js";
import { PictureFeed } from "./feed.js";
import { age, count, droppedTotal, fps, signed } from "./format.js";
import { icon } from "./icons.js";
import { PictureCanvas, describe } from "./picture.js";
import { colourOf, isAway, verdictChip } from "./verdicts.js";

const FIGURES = [
  ["camera", "What the camera really delivers", (status) => `${fps(status.cadence_fps)} fps`],
  ["published", "What left with a result", (status) => `${fps(status.published_fps)} fps`],
  ["age p50", "From capture to publish, half are younger", (status) => age(status.age_seconds.p50)],
  ["age p95", "19 of 20 are younger", (status) => age(status.age_seconds.p95)],
  ["age p99", "99 of 100 are younger", (status) => age(status.age_seconds.p99)],
  ["wait p95", "Time in queues", (status) => age(status.wait_seconds_p95)],
  ["work p95", "Time being worked on", (status) => age(status.service_seconds_p95)],
  ["headroom", "How many more such cameras would fit", (status) => signed(status.headroom_streams)],
  ["received", "Frames since the start", (status) => count(status.received)],
  ["dropped", "Frames given up, for any reason", (status) => count(droppedTotal(status.dropped))],
  ["in flight", "Frames inside the pipeline", (status) => count(status.in_flight)],
  ["reconnects", "Connections after the first", (status) => count(status.reconnects)],
];
const RATES = [{ name: "camera", className: "series-1" }, { name: "published", className: "series-2" }];
const AGES = [{ name: "p50", className: "series-1" }, { name: "p95", className: "series-2" }, { name: "p99", className: "series-3" }];

export class StreamPage {
  constructor(store, actions, id) {
    Object.assign(this, { store, actions, id });
    this.feed = new PictureFeed((message, bitmap) => this.showPicture(message, bitmap));
    this.build();
    this.update = onNextFrame(() => this.showStatus());
    this.listeners = [
      ["status", (event) => event.detail.includes(id) && this.update()],
      ["streams", () => this.showPresence()],
      ["history", () => this.showHistory()],
      ["changes", () => this.showChanges()],
    ];
    for (const [type, listener] of this.listeners) store.addEventListener(type, listener);
    this.resized = new ResizeObserver(() => this.askForPictures());
    this.resized.observe(this.canvas);
    this.showPresence();
    this.showStatus();
    this.showHistory();
    this.showChanges();
    store.loadHistory(id).catch(() => {}); // the bar says when nobody answers
  }

  build() {
    const { actions, id } = this;
    this.canvas = h("canvas", { class: "picture", role: "img", "aria-label": `${id}: no picture yet` });
    this.picture = new PictureCanvas(this.canvas);
    this.picture.scores = true;
    this.veil = h("p", { class: "veil" }, "no picture yet");
    this.caption = h("p", { class: "caption" });
    this.chip = verdictChip();
    this.cause = h("p", { class: "cause" });
    this.values = new Map(FIGURES.map(([name]) => [name, h("dd")]));
    this.boxes = h("input", { type: "checkbox", checked: true, on: { change: () => this.showBoxes(this.boxes.checked) } });
    this.pause = button("Pause", { icon: icon("pause"), key: "p", action: () => actions.togglePause(id) });
    this.rates = new Chart({ title: "frames a second", series: RATES, format: (value) => fps(value) });
    this.ages = new Chart({ title: "age from capture to publish", series: AGES, format: (value) => age(value), least: 0.05 });
    this.drops = new Chart({ title: "dropped frames, by reason", series: [], format: (value, axis) => (axis ? compact(value) : count(value)), stacked: true, least: 4 });
    this.band = new VerdictBand();
    this.reasons = h("dl", { class: "reasons" });
    this.changes = h("section", { class: "card changes" });
    this.gone = h("p", { class: "empty", hidden: true }, "There is no stream of this name. ", h("a", { href: "#/" }, "All streams"));
    this.body = h(
      "div",
      { class: "stream-body" },
      h("section", { class: "stage", "aria-label": "Picture" }, h("div", { class: "frame" }, this.canvas, this.veil), this.caption),
      h("aside", { class: "card facts" }, this.figureList(), this.reasons, this.controls()),
      h("div", { class: "charts" }, this.band.element, this.rates.element, this.ages.element, this.drops.element),
      this.changes,
    );
    this.element = h(
      "div",
      { class: "stream-page", dataset: { stream: id } },
      h(
        "div",
        { class: "stream-head" },
        h("a", { class: "button quiet back", href: "#/", title: "All streams (Escape)", "aria-label": "All streams" }, icon("back")),
        h("h1", {}, id), this.chip.element, this.cause,
      ),
      this.body, this.gone,
    );
  }

  figureList() {
    return h(
      "dl",
      { class: "figures" },
      ...FIGURES.map(([name, means]) => h("div", { title: means }, h("dt", {}, name), this.values.get(name))),
    );
  }

  controls() {
    const { actions, id } = this;
    return h(
      "div",
      { class: "controls" },
      this.pause,
      button("Restart", { icon: icon("again"), key: "r", action: () => actions.restart(id) }),
      button("Change", { icon: icon("sliders"), key: "c", action: () => actions.change(id) }),
      button("Remove", { icon: icon("bin"), key: "Delete", kind: "danger", action: () => actions.remove(id) }),
      h("label", { class: "switch", title: "Show boxes (b)" }, this.boxes, " boxes"),
    );
  }

  close() {
    for (const [type, listener] of this.listeners) this.store.removeEventListener(type, listener);
    this.resized.disconnect();
    this.feed.want([], 0);
    this.picture.close();
    for (const chart of [this.rates, this.ages, this.drops, this.band]) chart.close();
  }

  showPresence() {
    const present = this.store.streams.has(this.id) || !this.store.connected;
    this.gone.hidden = present;
    this.body.hidden = !present;
    this.askForPictures();
  }

  askForPictures() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.feed.want(this.store.streams.has(this.id) ? [this.id] : [], this.canvas.clientWidth * ratio);
  }

  showStatus() {
    const stream = this.store.streams.get(this.id);
    const status = stream?.status;
    const verdict = this.store.verdict(this.id);
    const away = isAway(verdict);
    this.chip.show(verdict);
    setAttribute(this.element, "data-colour", colourOf(verdict));
    this.element.classList.toggle("away", away);
    const cause = status?.cause || (away ? status?.last_error : "") || "";
    setText(this.cause, cause);
    this.veil.hidden = Boolean(this.picture.shown) && !away;
    setText(this.veil, away ? verdict : "no picture yet");
    const paused = Boolean(stream?.facts.paused);
    if (paused !== this.paused) {
      this.paused = paused;
      this.pause.replaceChildren(icon(paused ? "play" : "pause"), h("span", { class: "word" }, paused ? "Resume" : "Pause"));
    }
    if (!status) return;
    for (const [name, , read] of FIGURES) setText(this.values.get(name), read(status));
    this.showReasons(status.dropped);
  }

  /** Where and why frames were dropped since the start. */
  showReasons(dropped) {
    const said = JSON.stringify(dropped);
    if (said === this.saidReasons) return;
    this.saidReasons = said;
    const rows = Object.entries(dropped).flatMap(([stage, reasons]) =>
      Object.entries(reasons).filter(([, frames]) => frames).map(([reason, frames]) =>
        h("div", {}, h("dt", {}, `${reason} at ${stage}`), h("dd", {}, count(frames))),
      ),
    );
    this.reasons.replaceChildren(...rows);
  }

  showHistory() {
    const columns = this.store.historyOf(this.id);
    const { stepSeconds } = this.store.history;
    const points = windowOf(columns.length, this.store.history.points);
    for (const chart of [this.rates, this.ages, this.drops]) Object.assign(chart, { points, stepSeconds });
    const last = (list) => list.slice(-points);
    this.rates.show([columns.camera_fps, columns.published_fps].map(last));
    this.ages.show([columns.age_p50, columns.age_p95, columns.age_p99].map(last));
    const reasons = Object.keys(columns.dropped);
    const series = reasons.map((name, index) => ({ name, className: `series-${(index % 5) + 1}` }));
    if (reasons.length) this.drops.show(reasons.map((name) => last(columns.dropped[name])), series);
    else this.drops.show([last(columns.verdict.map(() => 0))], [{ name: "none", className: "series-1" }]);
    this.band.show(last(columns.verdict), points);
  }

  showChanges() {
    const mine = this.store.changes.filter((change) => change.stream_id === this.id);
    this.changes.replaceChildren(h("h2", {}, "What changed"), changeList(mine.slice(-12), { named: false }));
  }

  showPicture(message, bitmap) {
    this.picture.show(bitmap, message);
    setAttribute(this.canvas, "aria-label", `${this.id}: ${describe(message)}`);
    setText(this.caption, `${message.frame_width}×${message.frame_height} · frame ${message.frame_index} · ${age(message.age_seconds)} old when published · ${describe(message)}`);
    if (!this.element.classList.contains("away")) this.veil.hidden = true;
  }

  showBoxes(shown) {
    this.boxes.checked = shown;
    this.picture.boxes = shown;
    this.picture.draw();
  }
}

/** How many points charts show: two minutes, five, or all that is kept, so that a young stream's fill them too. */
function windowOf(known, most) {
  return Math.min(most, [60, 150].find((points) => known <= points) ?? most);
}

function compact(value) {
  return value >= 1000 ? `${(value / 1000).toFixed(1)}k` : String(Math.round(value));
}
