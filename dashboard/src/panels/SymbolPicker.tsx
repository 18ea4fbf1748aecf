// A list of symbols that is searched by typing (the ARIA combobox pattern with a list box).
import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";

import type { SymbolExtent } from "../data/client";
import { formatPrice } from "../data/format";

interface Props {
  symbols: readonly SymbolExtent[];
  symbol: string | null;
  onPick: (symbol: string) => void;
}

export function SymbolPicker({ symbols, symbol, onPick }: Props) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const [typed, setTyped] = useState<string | null>(null); // null: closed
  const [active, setActive] = useState(0);
  const isOpen = typed !== null;
  const matches = matching(symbols, typed ?? "");

  useEffect(() => {
    list.current?.children[active]?.scrollIntoView({ block: "nearest" });
  }, [active, isOpen]);

  const open = () => {
    if (isOpen) return;
    setTyped("");
    setActive(Math.max(0, symbols.findIndex((one) => one.symbol === symbol)));
  };
  const pick = (picked: SymbolExtent | undefined) => {
    if (!picked) return;
    setTyped(null);
    onPick(picked.symbol);
    input.current?.blur();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      if (!isOpen) open();
      else setActive((now) => Math.min(matches.length - 1, Math.max(0, now + step)));
    } else if (event.key === "Enter" && isOpen) {
      event.preventDefault();
      pick(matches[active]);
    } else if (event.key === "Escape") {
      setTyped(null);
    }
  };

  return (
    <div className="picker">
      <label htmlFor={`${id}-input`} className="visually-hidden">
        Symbol
      </label>
      <input
        id={`${id}-input`}
        ref={input}
        role="combobox"
        aria-expanded={isOpen}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={isOpen && matches[active] ? `${id}-${active}` : undefined}
        autoComplete="off"
        spellCheck={false}
        maxLength={32}
        placeholder={symbol ?? "Symbol"}
        value={typed ?? symbol ?? ""}
        onFocus={open}
        onClick={open}
        onBlur={() => setTyped(null)}
        onChange={(event) => {
          setTyped(event.target.value);
          setActive(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul id={`${id}-list`} ref={list} role="listbox" aria-label="Symbols" hidden={!isOpen}>
        {matches.map((one, index) => (
          <li
            key={one.symbol}
            id={`${id}-${index}`}
            role="option"
            aria-selected={one.symbol === symbol}
            className={index === active ? "active" : undefined}
            onPointerDown={(event) => event.preventDefault()} // keeps the focus in the field
            onClick={() => pick(one)}
          >
            <span>{one.symbol}</span>
            <span className="muted">
              {one.last_close === null ? "no bars" : formatPrice(one.last_close, one.currency)}
            </span>
          </li>
        ))}
        {isOpen && matches.length === 0 && <li className="muted">No symbol contains “{typed}”</li>}
      </ul>
    </div>
  );
}

/** Symbols that contain the text, those that start with it first. */
function matching(symbols: readonly SymbolExtent[], text: string): SymbolExtent[] {
  const wanted = text.trim().toUpperCase();
  const found = symbols.filter((one) => one.symbol.toUpperCase().includes(wanted));
  const starts = (one: SymbolExtent) => one.symbol.toUpperCase().startsWith(wanted);
  return [...found.filter(starts), ...found.filter((one) => !starts(one))];
}
