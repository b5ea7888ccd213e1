// From a form's text to what the control API takes.

export const TRACKERS = ["", "off", "bytetrack", "ocsort"];

const NUMBERS = new Set(["weight", "min_fps", "max_fps", "score_threshold"]);

/** Leave out what is empty (or send `empty` for it), and make numbers of figures. */
export function fieldsToBody(values, { empty = undefined } = {}) {
  const body = {};
  for (const [name, value] of Object.entries(values)) {
    if (value === "" || value === false) {
      if (empty !== undefined) body[name] = empty;
    } else if (NUMBERS.has(name)) {
      // What is no number goes as it is: the server's sentence says what it wants.
      body[name] = Number.isFinite(Number(value)) ? Number(value) : value;
    } else body[name] = value;
  }
  return body;
}
