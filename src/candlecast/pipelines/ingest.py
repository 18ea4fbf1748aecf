"""A provider's bars into the store: stamped with when they could be known, versions kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.sources import BarSource, Refusal, Request
from candlecast.pipelines.stamping import store_fetched
from candlecast.store.bars import BarsWritten, read_extent
from candlecast.store.stores import Stores


@dataclass(frozen=True, eq=False)
class IngestRun:
    """What was written, and what was refused and why: `failures` name whole symbols or files."""

    written: BarsWritten
    symbols: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    failures: dict[str, str]
    shortfalls: dict[str, str]


def ingest(
    stores: Stores,
    provider: BarSource,
    *,
    template: Symbol,
    timeframe: Timeframe,
    request: Request | None = None,
    min_bars: int = 0,
) -> IngestRun:
    """Fetch all closed bars that a provider has (of what `request` asks), at once; store them.

    Symbols new to the store are made like `template`. A symbol whose bars cannot be right is
    refused as a whole and named; the others are kept.
    """
    fetched = provider.fetch_bars(request or Request(), timeframe, stores.clock)
    stored = store_fetched(
        stores,
        fetched,
        make_symbol=lambda ticker: replace(template, ticker=ticker),
        timeframe=timeframe,
        delay_seconds=provider.delay_seconds,
        source=type(provider).__name__,
    )
    tickers = fetched.bars["symbol"].unique().to_list()
    shortfalls = find_short(stores, timeframe, tickers, min_bars)
    return IngestRun(stored.written, stored.symbols, fetched.refusals, stored.failures, shortfalls)


def find_short(
    stores: Stores, timeframe: Timeframe, tickers: Sequence[str], min_bars: int
) -> dict[str, str]:
    """Those of `tickers` with fewer than `min_bars` bars, and how many they have."""
    if not min_bars:
        return {}
    extent = read_extent(stores.database, timeframe).filter(pl.col("symbol").is_in(list(tickers)))
    return {
        ticker: f"{n} of {min_bars} bars"
        for ticker, n in extent.select("symbol", "n_bars").iter_rows()
        if n < min_bars
    }
