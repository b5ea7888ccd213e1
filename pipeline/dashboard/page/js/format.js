// Figures as people read them. A dash stands for what is not known, never for zero.

const DASH = "–";

export function fps(value) {
  return value === null || value === undefined ? DASH : value.toFixed(1);
}

/** An age: milliseconds up to a second, seconds from there. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

export function count(value) {
  return value === null || value === undefined ? DASH : value.toLocaleString("en");
}

export function signed(value) {
  if (value === null || value === undefined) return DASH;
  return `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(1)}`;
}

export function clockTime(utcSeconds) {
  return new Date(utcSeconds * 1000).toLocaleTimeString("en-GB");
}

export function ago(utcSeconds, nowSeconds = Date.now() / 1000) {
  const seconds = Math.max(0, nowSeconds - utcSeconds);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

export function droppedTotal(dropped) {
  let total = 0;
  for (const reasons of Object.values(dropped ?? {})) for (const frames of Object.values(reasons)) total += frames;
  return total;
}

/** Reason -> frames, over all stages. */
export function droppedByReason(dropped) {
  const totals = {};
  for (const reasons of Object.values(dropped ?? {})) {
    for (const [reason, frames] of Object.entries(reasons)) totals[reason] = (totals[reason] ?? 0) + frames;
  }
  return totals;
}
