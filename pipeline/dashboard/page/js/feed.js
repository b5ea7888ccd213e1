// Pictures of the streams that are on the screen, over one connection. Nothing is asked for while nobody can see it.

import { openStream } from "./api.js";

const SETTLE_MS = 150;
const RETRY_MS = 1500;
const HEADER_BYTES = 8;

/** Splits a byte stream into records: two lengths (uint32, little endian), then as many bytes of JSON and of JPEG. */
export class Records {
  constructor() {
    this.parts = [];
    this.length = 0;
  }

  /** Take bytes in; return the records that are complete, as `[json, jpeg]`. */
  push(bytes) {
    this.parts.push(bytes);
    this.length += bytes.length;
    const records = [];
    for (;;) {
      const sizes = this.peek(HEADER_BYTES);
      if (!sizes) return records;
      const view = new DataView(sizes.buffer, sizes.byteOffset, HEADER_BYTES);
      const json = view.getUint32(0, true);
      const jpeg = view.getUint32(4, true);
      const whole = this.peek(HEADER_BYTES + json + jpeg);
      if (!whole) return records;
      this.parts = [whole.subarray(HEADER_BYTES + json + jpeg)];
      this.length -= HEADER_BYTES + json + jpeg;
      records.push([whole.subarray(HEADER_BYTES, HEADER_BYTES + json), whole.slice(HEADER_BYTES + json, HEADER_BYTES + json + jpeg)]);
    }
  }

  /** The first bytes joined, at least `least` of them; null while there are fewer. */
  peek(least) {
    if (this.length < least) return null;
    if (this.parts.length > 1 && this.parts[0].length < least) {
      const joined = new Uint8Array(this.length);
      let at = 0;
      for (const part of this.parts) {
        joined.set(part, at);
        at += part.length;
      }
      this.parts = [joined];
    }
    return this.parts[0];
  }
}

/** Keeps the one connection that carries what is wanted now. */
export class PictureFeed {
  /** `onPicture(message, bitmap)`. */
  constructor(onPicture) {
    this.onPicture = onPicture;
    this.wanted = [];
    this.width = 320;
    this.open = null;
    this.timer = null;
    document.addEventListener("visibilitychange", () => this.settle(0));
  }

  /** Ask for these streams, about so many device pixels wide. Calling again replaces what was asked. */
  want(streamIds, width) {
    const wanted = [...streamIds].sort();
    if (width === this.width && wanted.join() === this.wanted.join()) return;
    this.wanted = wanted;
    this.width = width;
    this.settle(SETTLE_MS);
  }

  settle(delay) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.reopen(), delay);
  }

  async reopen() {
    this.open?.abort();
    this.open = null;
    if (document.hidden || !this.wanted.length) return;
    const open = (this.open = new AbortController());
    const query = new URLSearchParams({ width: String(this.width) });
    for (const id of this.wanted) query.append("stream", id);
    try {
      const records = new Records();
      for await (const bytes of openStream(`api/preview?${query}`, open.signal)) {
        for (const [json, jpeg] of records.push(bytes)) if (jpeg.length) await this.show(json, jpeg);
      }
    } catch (error) {
      if (open.signal.aborted) return;
    }
    if (this.open === open) this.settle(RETRY_MS);
  }

  async show(json, jpeg) {
    const message = JSON.parse(new TextDecoder().decode(json));
    let bitmap;
    try {
      bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    } catch {
      return; // one picture that cannot be read is followed by the next
    }
    this.onPicture(message, bitmap);
  }
}
