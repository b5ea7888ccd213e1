// Every action has a key. Keys are silent while somebody types or answers a dialog.

export const KEYS = [
  ["/", "find a stream"],
  ["← ↑ ↓ →", "from tile to tile"],
  ["Enter", "open the stream"],
  ["Esc", "all streams"],
  ["[ ]", "previous or next stream"],
  ["a", "add a stream"],
  ["p", "pause or resume"],
  ["r", "restart"],
  ["c", "change"],
  ["Del", "remove"],
  ["b", "boxes on or off"],
  ["e", "events"],
  ["t", "theme"],
  ["?", "these keys"],
];

const ARROWS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]);

/** `page()` is what is shown now; `commands` maps keys to what they do everywhere. */
export function listenToKeys({ page, commands, streamInFocus, actions }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const id = streamInFocus();
    const ofStream = { p: "togglePause", r: "restart", c: "change", Delete: "remove" }[event.key];
    if (ofStream && id) return done(event, () => actions[ofStream](id));
    if (event.key in commands) return done(event, commands[event.key]);
    if (ARROWS.has(event.key) && page().links) moveFocus(event, page());
  });
}

function done(event, action) {
  event.preventDefault();
  action();
}

/** Arrow keys go from tile to tile, as they lie on the screen. */
function moveFocus(event, overview) {
  const links = overview.links;
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -overview.columns, ArrowDown: overview.columns }[event.key];
  if (at < 0 && event.target !== document.body && event.target.id !== "page") return;
  event.preventDefault();
  const to = at < 0 ? 0 : at + step;
  if (to >= 0 && to < links.length) links[to].focus();
}
