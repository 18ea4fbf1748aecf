// The symbol and horizon on show live in the address, so that a view can be linked to.
import { useSyncExternalStore } from "react";

export interface View {
  symbol: string | null;
  horizon: string | null;
}

export function readView(search: string): View {
  const query = new URLSearchParams(search);
  return { symbol: query.get("symbol") || null, horizon: query.get("horizon") || null };
}

export function writeView(search: string, change: Partial<View>): string {
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(change)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  return query.size ? `?${query}` : "";
}

const MOVED = "candlecast:moved";

export function showView(change: Partial<View>): void {
  const { pathname, search } = window.location;
  const next = writeView(search, change);
  if (next === search) return;
  window.history.pushState(null, "", pathname + next);
  window.dispatchEvent(new Event(MOVED));
}

export function useView(): View {
  return readView(useSyncExternalStore(subscribe, () => window.location.search));
}

function subscribe(notify: () => void): () => void {
  window.addEventListener("popstate", notify);
  window.addEventListener(MOVED, notify);
  return () => {
    window.removeEventListener("popstate", notify);
    window.removeEventListener(MOVED, notify);
  };
}
