// Dark, light, or as the system has it.

import { setAttribute } from "./dom.js";
import { icon } from "./icons.js";

const THEMES = ["system", "dark", "light"];
const ICONS = { system: "half", dark: "moon", light: "sun" };

export function currentTheme() {
  return document.documentElement.dataset.theme ?? "system";
}

export function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("onpace.theme", theme);
  } catch {
    // it then holds until the page is left
  }
}

export function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(currentTheme()) + 1) % THEMES.length]);
}

export function showTheme(element) {
  const theme = currentTheme();
  element.querySelector("svg").replaceWith(icon(ICONS[theme]));
  setAttribute(element, "aria-label", `Theme: ${theme}`);
  setAttribute(element, "title", `Theme: ${theme} (t)`);
}
