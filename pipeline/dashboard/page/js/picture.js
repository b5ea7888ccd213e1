// Draws one stream's picture, and over it the boxes that were published for that very picture.

const PALETTE = ["#35d0ff", "#ffd166", "#ff7ab6", "#9dff6b", "#ff9f5a", "#b9a0ff", "#5affc8", "#fff27a"];
const MOST_PIXEL_RATIO = 2;
const LABELS_FROM = 260; // CSS pixels of width: below that, letters would hide what they name

/** Where a picture of `width` x `height` lies in the middle of a canvas, as large as it fits. */
export function fit(width, height, canvasWidth, canvasHeight) {
  const scale = Math.min(canvasWidth / width, canvasHeight / height);
  return { scale, left: (canvasWidth - width * scale) / 2, top: (canvasHeight - height * scale) / 2 };
}

/** A canvas that keeps its last picture. */
export class PictureCanvas {
  constructor(canvas) {
    this.canvas = canvas;
    /** The message of the picture that is shown; null before the first. */
    this.shown = null;
    this.boxes = true;
    this.scores = false;
    this.bitmap = null;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(canvas);
  }

  /** Show a picture with its message. The bitmap is this canvas's from now on. */
  show(bitmap, message) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.shown = message;
    this.draw();
  }

  close() {
    this.observer.disconnect();
    this.bitmap?.close();
    this.bitmap = null;
  }

  draw() {
    const { canvas, bitmap, shown } = this;
    if (!bitmap || !canvas.isConnected) return;
    const ratio = Math.min(window.devicePixelRatio || 1, MOST_PIXEL_RATIO);
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    canvas.dataset.frame = `${shown.epoch}/${shown.frame_index}`;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const place = fit(shown.frame_width, shown.frame_height, width, height);
    context.imageSmoothingQuality = "medium";
    context.drawImage(
      bitmap, place.left, place.top, shown.frame_width * place.scale, shown.frame_height * place.scale,
    );
    if (this.boxes) this.drawBoxes(context, place, ratio);
  }

  drawBoxes(context, place, ratio) {
    const labelled = this.canvas.clientWidth >= LABELS_FROM;
    context.lineWidth = (labelled ? 2 : 1.5) * ratio;
    context.font = `600 ${11.5 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const labels = new Labels(context, ratio);
    // The largest last: they lie in front, and their labels are placed first.
    const objects = this.shown.objects.toSorted((one, other) => areaOf(one) - areaOf(other));
    for (const object of objects) {
      const [left, top, right, bottom] = object.xyxy;
      const x = place.left + left * place.scale;
      const y = place.top + top * place.scale;
      const colour = colourOf(object);
      // Dashed: the track is carried on without having been seen in this picture.
      context.setLineDash(object.track_state === "carried" ? [5 * ratio, 4 * ratio] : []);
      context.strokeStyle = "rgb(0 0 0 / 55%)";
      context.lineWidth += 2 * ratio;
      context.strokeRect(x, y, (right - left) * place.scale, (bottom - top) * place.scale);
      context.lineWidth -= 2 * ratio;
      context.strokeStyle = colour;
      context.strokeRect(x, y, (right - left) * place.scale, (bottom - top) * place.scale);
      if (labelled) labels.add(labelOf(object, this.scores), x, y, colour);
    }
    context.setLineDash([]);
    labels.draw();
  }
}

/** Labels that do not hide each other: where two would, the one of the larger box stays. */
class Labels {
  constructor(context, ratio) {
    Object.assign(this, { context, ratio, labels: [] });
  }

  add(text, x, y, colour) {
    const { context, ratio } = this;
    const height = 16 * ratio;
    const width = context.measureText(text).width + 8 * ratio;
    const left = Math.max(0, Math.min(x - ratio, context.canvas.width - width));
    const top = y - height < 0 ? y : y - height;
    this.labels.push({ text, colour, left, top, width, height });
  }

  draw() {
    const { context, ratio } = this;
    const drawn = [];
    for (const label of this.labels.toReversed()) {
      if (drawn.some((other) => overlap(label, other))) continue;
      drawn.push(label);
      context.fillStyle = "rgb(8 12 18 / 82%)";
      context.fillRect(label.left, label.top, label.width, label.height);
      context.fillStyle = label.colour;
      context.fillText(label.text, label.left + 4 * ratio, label.top + label.height / 2 + 0.5 * ratio);
    }
  }
}

function overlap(one, other) {
  return one.left < other.left + other.width && other.left < one.left + one.width
    && one.top < other.top + other.height && other.top < one.top + one.height;
}

function areaOf(object) {
  const [left, top, right, bottom] = object.xyxy;
  return (right - left) * (bottom - top);
}

function labelOf(object, scores) {
  const parts = [object.class_name];
  if (object.track_id !== null && object.track_id !== undefined) parts.push(`#${object.track_id}`);
  if (scores) parts.push(object.score.toFixed(2));
  return parts.join(" ");
}

/** A track keeps its colour; without tracks, a class does. */
function colourOf(object) {
  const number = object.track_id ?? object.class_id;
  return PALETTE[number % PALETTE.length];
}

/** What is in a picture, in words, for those who cannot see it. */
export function describe(message) {
  if (!message) return "no picture yet";
  const counts = new Map();
  for (const object of message.objects) counts.set(object.class_name, (counts.get(object.class_name) ?? 0) + 1);
  if (!counts.size) return "nothing detected";
  return [...counts].map(([name, number]) => `${number} ${name}`).join(", ");
}
