// What a reader must know before reading any number: the clock stands still, or it is stale.
import type { Chart, HorizonForecast } from "../data/client";
import { formatAge, formatDay, formatInstant } from "../data/format";

interface Props {
  chart: Chart;
  forecast: HorizonForecast | undefined;
}

export function Banners({ chart, forecast }: Props) {
  return (
    <>
      {chart.is_clock_fixed && (
        <p className="banner" role="status">
          <strong>The clock stands still</strong> at {formatInstant(chart.now)}, the end of the
          data on show. Nothing here is about today.
        </p>
      )}
      {chart.bars.some((bar) => bar.is_simulated) && (
        <p className="banner warning" role="alert">
          <strong>Simulated bars</strong>: the grey candles were invented, not traded. They are no
          training data unless they were asked for.
        </p>
      )}
      {forecast?.is_simulated && (
        <p className="banner warning" role="alert">
          <strong>Simulated forecast</strong>: it is made of bars that were never traded.
        </p>
      )}
      {forecast?.state === "stale" && (
        <p className="banner warning" role="alert">
          <strong>This forecast is stale</strong>: it was made from data up to{" "}
          {formatDay(forecast.as_of)} ({formatAge(forecast.age_seconds)}), and newer sessions have
          closed since. Run <code>candlecast ingest</code> and <code>candlecast forecast</code>.
        </p>
      )}
      {forecast?.shortfall && (
        <p className="banner warning" role="status">
          <strong>Short history</strong>: {forecast.shortfall}
        </p>
      )}
    </>
  );
}
