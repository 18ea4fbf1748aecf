// Candles, volume and the fan, with the horizon chips and what is under the crosshair.
import { useMemo, useState } from "react";

import { ChartView } from "../chart/ChartView";
import { fanSteps, SPANS, type Span } from "../chart/fan";
import type { Chart, HorizonForecast } from "../data/client";
import { formatDay, formatPrice, formatSigned, horizonInWords } from "../data/format";
import { useTheme } from "../data/theme";
import { Sign } from "../parts/Badge";
import { Choice } from "../parts/Choice";
import { ChartLegend } from "./ChartLegend";
import { PointsTable } from "./PointsTable";

interface Props {
  chart: Chart;
  forecast: HorizonForecast | undefined;
  currency: string;
  onHorizon: (horizon: string) => void;
}

const SPAN_NAMES: Record<Span, string> = { forecast: "Forecast", "6M": "6M", "1Y": "1Y", "5Y": "5Y" };

export function ChartPanel({ chart, forecast, currency, onHorizon }: Props) {
  const theme = useTheme();
  const [span, setSpan] = useState<Span>("forecast");
  const [hovered, setHovered] = useState<number | null>(null);
  const fan = useMemo(
    () => (forecast ? fanSteps(chart.bars, forecast) : []),
    [chart.bars, forecast],
  );
  const last = chart.bars.at(-1);
  const before = chart.bars.at(-2);
  const isDaily = chart.timeframe === "1d";

  return (
    <section className="panel chart-panel" aria-labelledby="chart-title">
      <div className="chart-head">
        <div>
          <h2 id="chart-title">{chart.symbol}</h2>
          {last && (
            <p className="quote">
              <strong>{formatPrice(last.close, currency)}</strong>{" "}
              {before && (
                <span className={last.close >= before.close ? "gain" : "loss"}>
                  {formatSigned(last.close / before.close - 1, 2)}
                </span>
              )}{" "}
              <span className="muted">close of {formatDay(last.time)}</span>
            </p>
          )}
        </div>
        <HorizonChips chart={chart} chosen={forecast?.horizon ?? null} onHorizon={onHorizon} />
      </div>
      {last ? (
        <>
          <ChartLegend bars={chart.bars} fan={fan} hovered={hovered} currency={currency} />
          <ChartView
            bars={chart.bars}
            openBar={chart.open_bar}
            fan={fan}
            isDaily={isDaily}
            span={span}
            theme={theme}
            description={describe(chart, forecast, currency)}
            onHover={setHovered}
          />
          <div className="chart-foot">
            <Choice
              label="Span on show"
              className="quiet"
              options={SPANS.map((value) => ({ value, text: SPAN_NAMES[value] }))}
              chosen={span}
              onChoose={setSpan}
            />
            <span className="muted small">
              Prices adjusted for splits and dividends
              {chart.open_bar && "; the grey candle at the end still forms"}
            </span>
          </div>
          {forecast && <PointsTable forecast={forecast} currency={currency} isDaily={isDaily} />}
        </>
      ) : (
        <p className="hollow">
          No bars of {chart.symbol} are stored yet. Load some with <code>candlecast ingest</code>.
        </p>
      )}
    </section>
  );
}

interface ChipsProps {
  chart: Chart;
  chosen: string | null;
  onHorizon: (horizon: string) => void;
}

function HorizonChips({ chart, chosen, onHorizon }: ChipsProps) {
  const horizons = chart.ml_summary?.horizons ?? [];
  if (horizons.length === 0) return null;
  return (
    <Choice
      label="Horizon"
      className="chips"
      chosen={chosen}
      onChoose={onHorizon}
      options={horizons.map(({ horizon, label }) => ({
        value: horizon,
        title: `${horizonInWords(horizon)}: ${label}`,
        text: (
          <>
            {horizon} <Sign label={label} />
            <span className="visually-hidden">{label}</span>
          </>
        ),
      }))}
    />
  );
}

function describe(chart: Chart, forecast: HorizonForecast | undefined, currency: string): string {
  const last = chart.bars.at(-1);
  const end = forecast?.points.at(-1);
  const price = (value: number) => formatPrice(value, currency);
  const bars = last
    ? `Candles of ${chart.symbol} to ${formatDay(last.time)}, last close ${price(last.close)}.`
    : "";
  if (!forecast || !end) return bars;
  return (
    `${bars} Forecast for ${formatDay(end.ts)}: median ${price(end.value)}, ` +
    `80% band from ${price(end.lower)} to ${price(end.upper)}.`
  );
}
