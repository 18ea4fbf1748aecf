// Light or dark: the reader's choice where there is one, else the system's preference.
import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark";

const KEY = "candlecast-theme"; // public/theme.js reads it before the first paint
const CHANGED = "candlecast:theme";

function systemQuery(): MediaQueryList {
  return window.matchMedia("(prefers-color-scheme: dark)");
}

function currentTheme(): Theme {
  const chosen = document.documentElement.dataset["theme"];
  if (chosen === "light" || chosen === "dark") return chosen;
  return systemQuery().matches ? "dark" : "light";
}

export function chooseTheme(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
  try {
    window.localStorage.setItem(KEY, theme);
  } catch {
    // Storage is switched off: the choice holds until the page is left.
  }
  window.dispatchEvent(new Event(CHANGED));
}

export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, currentTheme);
}

function subscribe(notify: () => void): () => void {
  const system = systemQuery();
  system.addEventListener("change", notify);
  window.addEventListener(CHANGED, notify);
  return () => {
    system.removeEventListener("change", notify);
    window.removeEventListener(CHANGED, notify);
  };
}
