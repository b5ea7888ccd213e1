// Sixteen by sixteen, drawn in the colour of the text beside them. Each verdict has a shape of its own.

import { s } from "./dom.js";

const PATHS = {
  // verdicts
  check: ["M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z", "M5 8.200l2.1 2.100L11.2 6"],
  triangle: ["M8 2 14.5 13.500h-13z", "M8 6.500v3.200M8 11.600v.1"],
  octagon: ["M5.3 1.500h5.400l3.8 3.800v5.400l-3.8 3.800H5.300l-3.8-3.800V5.300z", "M8 4.700v4M8 11v.1"],
  stall: ["M2 2h12v12H2z", "M6.2 5.500v5M9.8 5.500v5"],
  again: ["M13.5 8A5.5 5.5 0 1 1 11.6 3.8", "M12 1v3.300H8.7"],
  cross: ["M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z", "M5.7 5.700l4.6 4.600M10.3 5.700l-4.6 4.6"],
  flake: ["M8 1.500v13M2.4 4.700l11.2 6.600M13.6 4.7 2.4 11.3", "M6 2.700l2 1.6 2-1.600M6 13.300l2-1.6 2 1.6"],
  square: ["M2 3h12v10H2z", "M4.5 5.500h7v5h-7z"],
  dots: ["M3.5 8h.1M8 8h.1M12.5 8h.1"],
  end: ["M3 3h10v10H3z"],
  pause: ["M5 3v10M11 3v10"],
  // actions
  play: ["M4.5 2.5 13 8l-8.5 5.500z"],
  plus: ["M8 2.500v11M2.5 8h11"],
  bin: ["M2.5 4h11M6 4V2.500h4V4M4 4l.7 9.500h6.600L12 4M6.7 6.500v4.500M9.3 6.500v4.5"],
  sliders: ["M2 4.500h6M12 4.500h2M2 11.500h2M8 11.500h6", "M8 2.500h3.500v4H8zM4 9.500h3.500v4H4z"],
  sun: ["M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6z", "M8 1v1.500M8 13.500V15M1 8h1.500M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1"],
  moon: ["M13.5 9.700A6 6 0 1 1 6.3 2.500a4.8 4.8 0 0 0 7.2 7.200z"],
  half: ["M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z", "M8 1.500v13M8 4h3.500M8 6.700h5.300M8 9.300h5.300M8 12h3.5"],
  help: ["M5.5 5.800a2.5 2.5 0 1 1 3.6 2.300c-.8.4-1.1.9-1.1 1.700M8 12.300v.1"],
  back: ["M10 2.5 4.5 8l5.5 5.5"],
};

/** An icon that says nothing by itself: a word stands beside it, or its button has a label. */
export function icon(name) {
  const paths = (PATHS[name] ?? PATHS.dots).map((d) => s("path", { d }));
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, ...paths);
}
