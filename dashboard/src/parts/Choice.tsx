// One of a few: buttons of which one is pressed.
import type { ReactNode } from "react";

interface Props<T extends string> {
  label: string;
  options: readonly { value: T; text: ReactNode; title?: string }[];
  chosen: T | null;
  onChoose: (value: T) => void;
  className?: string;
}

export function Choice<T extends string>({ label, options, chosen, onChoose, className }: Props<T>) {
  return (
    <div className={`choice ${className ?? ""}`} role="group" aria-label={label}>
      {options.map(({ value, text, title }) => (
        <button
          key={value}
          type="button"
          title={title}
          aria-pressed={value === chosen}
          onClick={() => onChoose(value)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}
