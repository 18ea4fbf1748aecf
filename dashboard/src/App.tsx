// The page: which symbol and horizon are on show, and what stands where.
import { useEffect } from "react";

import type { Chart, HorizonForecast, SymbolExtent } from "./data/client";
import { showView, useView } from "./data/location";
import { useChart, useSymbols } from "./data/queries";
import { Banners } from "./panels/Banners";
import { ChartPanel } from "./panels/ChartPanel";
import { DataQuality } from "./panels/DataQuality";
import { Footer } from "./panels/Footer";
import { ForecastCard } from "./panels/ForecastCard";
import { Header } from "./panels/Header";
import { TrackRecord } from "./panels/TrackRecord";
import { EmptyNotice, ErrorNotice, Skeleton } from "./parts/Notice";

export function App() {
  const view = useView();
  const symbols = useSymbols();
  const known = symbols.data?.symbols ?? [];
  const symbol = view.symbol ?? firstWithBars(known)?.symbol ?? null;

  useEffect(() => {
    document.title = symbol ? `${symbol} · candlecast` : "candlecast";
  }, [symbol]);

  return (
    <>
      <a className="skip" href="#content">
        Skip to the forecast
      </a>
      <Header symbols={known} symbol={symbol} />
      <main id="content">
        {symbols.isPending && <Skeleton label="Loading the symbols" className="skeleton-page" />}
        {symbols.isError && (
          <ErrorNotice
            title="The symbols could not be loaded"
            error={symbols.error}
            onRetry={() => void symbols.refetch()}
          />
        )}
        {symbols.isSuccess && known.length === 0 && (
          <EmptyNotice title="There are no bars yet">
            Load some with <code>candlecast demo</code>, or your own with{" "}
            <code>candlecast ingest files PATH</code>, and reload this page.
          </EmptyNotice>
        )}
        {known.length > 0 && symbol && (
          <SymbolView
            symbol={symbol}
            horizon={view.horizon}
            extent={known.find((one) => one.symbol === symbol)}
          />
        )}
      </main>
      <Footer />
    </>
  );
}

interface SymbolViewProps {
  symbol: string;
  horizon: string | null;
  extent: SymbolExtent | undefined;
}

function SymbolView({ symbol, horizon, extent }: SymbolViewProps) {
  const query = useChart(symbol);
  if (query.isPending) {
    return <Skeleton label={`Loading ${symbol}`} className="skeleton-page" />;
  }
  if (query.isError) {
    return (
      <ErrorNotice
        title={`${symbol} could not be loaded`}
        error={query.error}
        onRetry={() => void query.refetch()}
      />
    );
  }
  const chart = query.data;
  const forecast = chosenForecast(chart, horizon);
  const currency = extent?.currency ?? "USD";
  return (
    <>
      <Banners chart={chart} forecast={forecast} />
      <div className="stage">
        <ChartPanel
          chart={chart}
          forecast={forecast}
          currency={currency}
          onHorizon={(name) => showView({ symbol, horizon: name })}
        />
        <ForecastCard symbol={symbol} forecast={forecast} currency={currency} />
      </div>
      {forecast && <TrackRecord symbol={symbol} horizon={forecast.horizon} />}
      <DataQuality symbol={symbol} />
    </>
  );
}

/** The asked-for horizon; else the longest, whose fan shows most. */
function chosenForecast(chart: Chart, horizon: string | null): HorizonForecast | undefined {
  const horizons = chart.ml_summary?.horizons ?? [];
  return horizons.find((one) => one.horizon === horizon) ?? horizons.at(-1);
}

function firstWithBars(symbols: readonly SymbolExtent[]): SymbolExtent | undefined {
  return symbols.find((one) => one.n_bars > 0) ?? symbols[0];
}
