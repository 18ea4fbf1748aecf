// A label with its sign: the shape tells it as well as the colour does.
import type { Label } from "../data/client";

const SIGNS: Record<Label, string> = { Bullish: "▲", Neutral: "■", Bearish: "▼" };

export function Sign({ label }: { label: Label }) {
  return (
    <span className={`sign ${label.toLowerCase()}`} aria-hidden="true">
      {SIGNS[label]}
    </span>
  );
}

export function Badge({ label }: { label: Label }) {
  return (
    <span className={`badge ${label.toLowerCase()}`}>
      <span aria-hidden="true">{SIGNS[label]}</span> {label}
    </span>
  );
}
