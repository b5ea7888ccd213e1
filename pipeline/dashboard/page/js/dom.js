// Elements made by hand. Text is only ever text: nothing that a camera or a file says becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `properties`: `class`, `dataset`, `on` (listeners), `aria-*` and other attributes. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set text only where it changed: an unchanged page costs no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A button with a word, an optional icon and an optional key that does the same. */
export function button(word, { icon = null, key = null, kind = "", label = null, action }) {
  return h(
    "button",
    {
      type: "button",
      class: `button ${kind}`,
      title: key ? `${label ?? word} (${key})` : label,
      "aria-label": label,
      "aria-keyshortcuts": key,
      on: { click: action },
    },
    icon,
    h("span", { class: "word" }, word),
  );
}

/** Call `draw` at most once a screen refresh, however often it is asked for. */
export function onNextFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
