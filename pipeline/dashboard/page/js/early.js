// Runs before the first paint, so that the page never flashes in the other theme.
"use strict";
try {
  const theme = localStorage.getItem("onpace.theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be refused: the system's preference then counts.
}
