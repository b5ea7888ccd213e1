// What a person can do to streams. Every refusal is shown in the server's own words.

import * as api from "./api.js";
import { askForChanges, askForStream, confirmRemoval } from "./dialogs.js";
import { toast } from "./toasts.js";

export class Actions {
  constructor(store) {
    this.store = store;
    this.add = () => this.addStream();
  }

  async addStream() {
    const added = await askForStream((body) => api.addStream(body));
    if (!added) return;
    await this.refresh();
    toast(`${added.id ?? "The stream"} was added.`);
  }

  async togglePause(id) {
    const paused = this.store.streams.get(id)?.facts.paused;
    await this.perform(() => (paused ? api.resumeStream(id) : api.pauseStream(id)), `${id} ${paused ? "is resumed" : "is paused"}.`);
  }

  async restart(id) {
    await this.perform(() => api.restartStream(id), `${id} is opened again.`);
  }

  async change(id) {
    const facts = this.store.streams.get(id)?.facts ?? {};
    if (await askForChanges(id, facts, (body) => api.changeStream(id, body))) await this.refresh();
  }

  async remove(id) {
    const removed = await confirmRemoval(id, async () => {
      await api.removeStream(id);
      return true;
    });
    if (!removed) return;
    await this.refresh();
    if (location.hash.startsWith(`#/stream/${encodeURIComponent(id)}`)) location.hash = "#/";
    toast(`${id} was removed.`);
  }

  async perform(call, done) {
    try {
      await call();
      toast(done);
      await this.refresh();
    } catch (error) {
      toast(error.message, { bad: true });
    }
  }

  async refresh() {
    await this.store.reload().catch((error) => toast(error.message, { bad: true }));
  }
}
