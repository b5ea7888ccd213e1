// What this page knows: the streams with their statuses, the last minutes, and what changed. Views listen.

import { listStreams, openEvents, readHistory } from "./api.js";
import { severity } from "./verdicts.js";

const RETRY_MS = 1500;
const SILENT_MS = 8000; // statuses come every second: so long without one, and what is shown is old
const FEW_POINTS = 90; // what a tile shows; a stream's own page asks for all of it
const FIGURES = ["camera_fps", "published_fps", "age_p50", "age_p95", "age_p99", "verdict"];
const STATES_THAT_END = new Set(["ended"]);

/** Events: `streams` (the set changed), `status` (detail: ids), `history`, `changes`, `connection`. */
export class Store extends EventTarget {
  constructor() {
    super();
    /** id -> {id, status, facts}; in the server's order. */
    this.streams = new Map();
    this.process = {};
    this.changes = [];
    this.history = { points: 300, stepSeconds: 2, next: 0, streams: new Map() };
    this.connected = null;
    this.heardAt = 0;
  }

  start() {
    this.listen();
    this.keepHistory();
    setInterval(() => {
      if (this.connected && Date.now() - this.heardAt > SILENT_MS) this.open?.abort();
    }, 2000);
  }

  /** Load the list anew: after something was added, changed or removed. */
  async reload() {
    const answer = await listStreams();
    this.takeStreams(answer);
  }

  get ids() {
    return [...this.streams.keys()];
  }

  verdict(id) {
    return this.streams.get(id)?.status?.verdict ?? "starting";
  }

  /** Streams a verdict, worst first: [verdict, number]. */
  counts() {
    const counts = new Map();
    for (const id of this.streams.keys()) counts.set(this.verdict(id), (counts.get(this.verdict(id)) ?? 0) + 1);
    return [...counts].sort(([a], [b]) => severity(b) - severity(a));
  }

  tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  async listen() {
    for (;;) {
      const open = (this.open = new AbortController());
      try {
        await this.reload();
        for await (const { event, data } of openEvents("api/events?kind=status", open.signal)) {
          this.heardAt = Date.now();
          this.connection(true);
          this.take(event, data);
        }
      } catch (error) {
        if (error.status === 401) this.connection(false, error.message);
      }
      open.abort();
      this.connection(false);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  connection(connected, why = "") {
    if (connected === this.connected) return;
    this.connected = connected;
    this.tell("connection", why);
  }

  take(event, data) {
    if (event === "status") this.takeStatus(data);
    else if (event === "streams") this.takeStreams(data);
  }

  takeStreams(answer) {
    const before = this.ids.join("\n");
    const known = this.streams;
    this.process = answer.process ?? this.process;
    this.streams = new Map(
      answer.streams.map((facts) => {
        const old = known.get(facts.id);
        return [facts.id, { id: facts.id, facts, status: old?.status ?? facts.status ?? null }];
      }),
    );
    if (before !== this.ids.join("\n")) this.tell("streams");
    this.tell("status", this.ids);
  }

  takeStatus(status) {
    const stream = this.streams.get(status.stream_id);
    if (!stream) {
      if (!STATES_THAT_END.has(status.state)) this.reloadSoon();
      return;
    }
    stream.status = status;
    this.tell("status", [status.stream_id]);
  }

  /** A stream that this page does not know: somebody else added it. */
  reloadSoon() {
    clearTimeout(this.reloading);
    this.reloading = setTimeout(() => this.reload().catch(() => {}), 200);
  }

  async keepHistory() {
    for (;;) {
      if (!document.hidden) {
        try {
          const { next } = this.history;
          this.takeHistory(await readHistory({ since: next, points: next ? 0 : FEW_POINTS }));
        } catch {
          // the connection's own message says that nobody answers
        }
      }
      await new Promise((resolve) => setTimeout(resolve, this.history.stepSeconds * 1000));
    }
  }

  /** Get all that is kept of one stream: at first only what a tile shows is known of each. */
  async loadHistory(id) {
    const answer = await readHistory({ stream: id });
    const columns = { ...emptyHistory(), next: answer.first };
    append(columns, answer.streams[id] ?? emptyHistory(), answer, answer.most_points);
    this.history.streams.set(id, columns);
    this.tell("history");
  }

  takeHistory(answer) {
    const { history } = this;
    // A number that went back is another run of the pipeline: what is remembered is not its past.
    const anew = answer.next < history.next || answer.first > history.next || history.next === 0;
    if (anew) history.streams.clear();
    history.stepSeconds = answer.step_seconds;
    history.points = answer.most_points;
    for (const [id, columns] of Object.entries(answer.streams)) {
      if (!history.streams.has(id)) history.streams.set(id, { ...emptyHistory(), next: answer.first });
      append(history.streams.get(id), columns, answer, history.points);
    }
    for (const id of [...history.streams.keys()]) if (!(id in answer.streams)) history.streams.delete(id);
    this.changes = (anew ? answer.changes : [...this.changes, ...answer.changes]).slice(-500);
    history.next = answer.next;
    this.tell("history");
    if (answer.changes.length || anew) this.tell("changes", anew ? [] : answer.changes);
  }

  /** One stream's columns, oldest first: camera_fps, published_fps, age_p50, age_p95, age_p99, verdict, dropped. */
  historyOf(id) {
    return this.history.streams.get(id) ?? emptyHistory();
  }
}

function emptyHistory() {
  return { ...Object.fromEntries(FIGURES.map((name) => [name, []])), dropped: {}, length: 0, next: 0 };
}

/** Add the points that `columns` does not have yet, and let go of the oldest beyond `most`. */
function append(columns, fresh, { first, next }, most) {
  const known = Math.max(0, columns.next - first);
  const count = next - first - known;
  if (count <= 0) return;
  for (const name of FIGURES) columns[name] = [...columns[name], ...fresh[name].slice(known)].slice(-most);
  for (const reason of new Set([...Object.keys(columns.dropped), ...Object.keys(fresh.dropped)])) {
    const before = columns.dropped[reason] ?? new Array(columns.length).fill(0);
    const after = fresh.dropped[reason]?.slice(known) ?? new Array(count).fill(0);
    columns.dropped[reason] = [...before, ...after].slice(-most);
  }
  columns.length = columns.verdict.length;
  columns.next = next;
}
