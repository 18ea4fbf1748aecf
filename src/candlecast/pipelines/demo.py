"""The whole way on the bundled bars: ingest, train, forecast, settle, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import CandlecastError
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.ingest import ingest
from candlecast.pipelines.label import materialize_labels
from candlecast.pipelines.materialize import Span, materialize_features
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.report import ReportQuery, make_report
from candlecast.pipelines.settle import settle
from candlecast.pipelines.train import train
from candlecast.store.bars import read_extent
from candlecast.store.stores import Stores

DAILY = Timeframe.parse("1d")


@dataclass(frozen=True, eq=False)
class DemoRun:
    """What the demo made; `stores` carry the clock that stands at the end of its data."""

    stores: Stores
    model_version: str
    forecasts: pl.DataFrame
    report: dict[str, Any]
    shortfalls: dict[str, str]


def run_demo(stores: Stores, spec: ExperimentSpec, progress: Progress = silent) -> DemoRun:
    """Run every pipeline on the sample, as `spec` says; what stands already is not made again."""
    progress("bars", 0, 1)
    run = ingest(stores, PROVIDERS.get("sample")(), template=Symbol(""), timeframe=DAILY)
    if run.failures or run.refusals:
        raise CandlecastError(f"the bundled bars are damaged: {run.failures or run.refusals}")
    progress("bars", 1, 1)
    extent = read_extent(stores.database, DAILY).filter(pl.col("symbol").is_in(run.symbols))
    end: datetime = extent["last_known_at"].max()  # type: ignore[assignment]
    stores = replace(stores, clock=FixedClock(end))
    spec = replace(spec, timeframe=DAILY.name, symbols=run.symbols)
    trained = train(stores, spec, progress=progress)
    forecasts = forecast(stores, version=trained.version.version)
    settle(stores)
    progress("feature and label tables", 0, 1)
    span = Span(run.symbols)
    materialize_features(stores, "1d", span)
    materialize_labels(stores, spec, span)
    progress("feature and label tables", 1, 1)
    report = make_report(stores, ReportQuery(symbols=run.symbols))
    return DemoRun(
        stores, forecasts.model_version, forecasts.forecasts, report, forecasts.shortfalls
    )
