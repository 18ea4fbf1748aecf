// One line above the chart: the bar or the forecast step under the crosshair, else the fan's end.
import { type FanStep, stepAt } from "../chart/fan";
import type { ChartBar } from "../data/client";
import { formatDay, formatPercent, formatPrice, formatVolume } from "../data/format";

interface Props {
  bars: readonly ChartBar[];
  fan: readonly FanStep[];
  hovered: number | null;
  currency: string;
}

export function ChartLegend({ bars, fan, hovered, currency }: Props) {
  const bar = hovered === null ? undefined : bars.find((one) => one.time === hovered);
  const step = bar ? undefined : stepAt(fan, hovered);
  if (bar) return <BarLegend bar={bar} currency={currency} />;
  if (step) return <StepLegend step={step} currency={currency} />;
  return <p className="legend">&nbsp;</p>;
}

function BarLegend({ bar, currency }: { bar: ChartBar; currency: string }) {
  const values = { Open: bar.open, High: bar.high, Low: bar.low, Close: bar.close };
  return (
    <p className="legend">
      <strong>{formatDay(bar.time)}</strong>
      {Object.entries(values).map(([name, value]) => (
        <span key={name}>
          <span className="muted">{name}</span> {formatPrice(value, currency)}
        </span>
      ))}
      <span>
        <span className="muted">Volume</span> {formatVolume(bar.volume)}
      </span>
    </p>
  );
}

function StepLegend({ step, currency }: { step: FanStep; currency: string }) {
  return (
    <p className="legend">
      <strong>{formatDay(step.time)}</strong>
      <span>
        <i className="swatch median" /> <span className="muted">Median</span>{" "}
        {formatPrice(step.median, currency)}
      </span>
      {step.bands.toReversed().map(({ level, lower, upper }) => (
        <span key={level}>
          <i className={`swatch band-${Math.round(level * 100)}`} />{" "}
          <span className="muted">{formatPercent(level)}</span> {formatPrice(lower, currency)} –{" "}
          {formatPrice(upper, currency)}
        </span>
      ))}
    </p>
  );
}
