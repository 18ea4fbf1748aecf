// Brand, symbol picker and theme switch.
import type { SymbolExtent } from "../data/client";
import { showView } from "../data/location";
import { chooseTheme, useTheme } from "../data/theme";
import { SymbolPicker } from "./SymbolPicker";

export function Header({ symbols, symbol }: { symbols: readonly SymbolExtent[]; symbol: string | null }) {
  return (
    <header className="header">
      <div className="header-inner">
        <h1 className="brand">
          <img src="/favicon.svg" alt="" width="28" height="28" />
          candlecast
        </h1>
        {symbols.length > 0 && (
          <SymbolPicker
            symbols={symbols}
            symbol={symbol}
            onPick={(picked) => showView({ symbol: picked })}
          />
        )}
        <ThemeSwitch />
      </div>
    </header>
  );
}

function ThemeSwitch() {
  const other = useTheme() === "dark" ? "light" : "dark";
  return (
    <button
      type="button"
      className="button icon"
      aria-label={`Switch to the ${other} theme`}
      title={`Switch to the ${other} theme`}
      onClick={() => chooseTheme(other)}
    >
      <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
        {other === "dark" ? (
          <path d="M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z" fill="currentColor" />
        ) : (
          <g stroke="currentColor" strokeWidth="2" strokeLinecap="round">
            <circle cx="12" cy="12" r="4" fill="currentColor" />
            <path d="M12 2v2M12 20v2M2 12h2M20 12h2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4" />
          </g>
        )}
      </svg>
    </button>
  );
}
