// Bars that show one share, or an estimate with its interval, against a marked reference.
import type { CSSProperties } from "react";

import { formatPercent, isKnown, type Maybe } from "../data/format";

interface MeterProps {
  label: string;
  value: number;
  mark?: { at: number; label: string } | undefined;
  tone?: "accent" | "bullish" | "neutral" | "bearish";
}

/** A share of one as a bar; `mark` is where it would be without skill. */
export function Meter({ label, value, mark, tone = "accent" }: MeterProps) {
  return (
    <div className="meter-row">
      <div className="meter-head">
        <span>{label}</span>
        <strong>{formatPercent(value)}</strong>
      </div>
      <div
        className={`meter tone-${tone}`}
        role="meter"
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(value * 100)}
        aria-valuetext={`${formatPercent(value)}${mark ? `; ${mark.label}` : ""}`}
      >
        <div className="meter-fill" style={{ width: `${clamp(value) * 100}%` }} />
        {mark && <div className="meter-mark" style={{ left: `${mark.at * 100}%` }} />}
      </div>
      {mark && <div className="meter-note">{mark.label}</div>}
    </div>
  );
}

interface IntervalProps {
  value: Maybe;
  interval: readonly [number, number] | null;
  from: number;
  to: number;
  reference: number;
}

/** An estimate as a dot, its confidence interval as a bar, and the reference as a line. */
export function Interval({ value, interval, from, to, reference }: IntervalProps) {
  const at = (x: number) => `${clamp((x - from) / (to - from)) * 100}%`;
  const bar: CSSProperties | null = interval && {
    left: at(interval[0]),
    width: `${(clamp((interval[1] - from) / (to - from)) - clamp((interval[0] - from) / (to - from))) * 100}%`,
  };
  return (
    <div className="interval" aria-hidden="true">
      <div className="interval-reference" style={{ left: at(reference) }} />
      {bar && <div className="interval-bar" style={bar} />}
      {isKnown(value) && <div className="interval-dot" style={{ left: at(value) }} />}
    </div>
  );
}

/** Ends of an axis, symmetric about `reference`, wide enough for everything in `values`. */
export function axisAround(reference: number, values: readonly Maybe[], least: number): [number, number] {
  const reach = Math.max(
    least,
    ...values.filter(isKnown).map((value) => Math.abs(value - reference) * 1.15),
  );
  return [reference - reach, reference + reach];
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, share));
}
