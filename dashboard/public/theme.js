// A theme the reader chose earlier; without one the system's preference holds.
try {
  const theme = localStorage.getItem("candlecast-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's preference holds.
}
