"""A provider's bars into the store: stamped with when they could be known, versions kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from candlecast.domain.catalog import Provider, Refusal
from candlecast.domain.frames import BARS, INSTANT, UNSTAMPED
from candlecast.domain.market import Symbol, Timeframe, trading_calendar
from candlecast.pipelines.universe import instants
from candlecast.store.bars import BarsWritten, read_bars, read_extent, write_bars
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols, write_symbols

BASIS_BARS: Final = 21
SAME_PRICE: Final = 1e-4
"""Adjusted closes that agree to this after rebasing are the same number, rounded twice."""


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
    provider: Provider,
    *,
    template: Symbol,
    timeframe: Timeframe,
    symbols: Sequence[str] | None = None,
    min_bars: int = 0,
) -> IngestRun:
    """Fetch closed bars and store them; symbols new to the store are made like `template`.

    A symbol whose bars cannot be right is refused as a whole and named; the others are kept.
    """
    fetched = provider.fetch_bars(symbols, timeframe, stores.clock)
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    bars = UNSTAMPED.check(fetched.bars)
    failures = dict(fetched.failures)
    tickers = sorted(bars["symbol"].unique())
    traded = {t: known.get(t, replace(template, ticker=t)) for t in tickers}
    dated, outside = _dated(bars, traded, timeframe)
    for ticker, day in outside.items():
        failures[ticker] = (
            f"{day:%Y-%m-%d} is no session of {traded[ticker].calendar}; name the right one "
            "with --calendar (24/7 for markets that never close)"
        )
    dated = dated.filter(~pl.col("symbol").is_in(list(outside)))
    stored = _stored(stores, timeframe, dated, known)
    for ticker in _without_overlap(dated, stored):
        failures[ticker] = (
            "its adjusted closes share no bar with the stored ones, so the two bases cannot be "
            "joined; bring at least one stored bar along"
        )
    dated = dated.filter(~pl.col("symbol").is_in(list(failures)))
    delay = timedelta(seconds=provider.delay_seconds)
    stamped = _stamped(_rebased(dated, stored), stored, stores.clock.now(), delay)
    write_symbols(stores.database, [traded[t] for t in stamped["symbol"].unique().sort()])
    written = write_bars(stores.database, timeframe, BARS.conform(stamped))
    extent = read_extent(stores.database, timeframe).filter(pl.col("symbol").is_in(tickers))
    shortfalls = {
        ticker: f"{n} of {min_bars} bars"
        for ticker, n in extent.select("symbol", "n_bars").iter_rows()
        if n < min_bars
    }
    kept = tuple(stamped["symbol"].unique().sort())
    return IngestRun(written, kept, fetched.refusals, failures, shortfalls)


def _dated(
    bars: pl.DataFrame, traded: dict[str, Symbol], timeframe: Timeframe
) -> tuple[pl.DataFrame, dict[str, datetime]]:
    # Every bar's end by its symbol's calendar; the first day off the calendar of each symbol.
    parts = []
    for name in sorted({symbol.calendar for symbol in traded.values()}):
        own = [t for t, symbol in traded.items() if symbol.calendar == name]
        part = bars.filter(pl.col("symbol").is_in(own))
        ends = trading_calendar(name).close_at(instants(part["ts"]), timeframe)
        parts.append(part.with_columns(close_at=pl.Series(ends).dt.replace_time_zone("UTC")))
    dated = pl.concat(parts).sort("symbol", "ts") if parts else bars.with_columns(close_at="ts")
    outside = dated.filter(pl.col("close_at").is_null()).group_by("symbol").agg(pl.col("ts").min())
    return dated, dict(outside.sort("symbol").iter_rows())


def _stored(
    stores: Stores, timeframe: Timeframe, dated: pl.DataFrame, known: Collection[str]
) -> pl.DataFrame:
    tickers = [ticker for ticker in dated["symbol"].unique() if ticker in known]
    bars = read_bars(stores.database, timeframe, symbols=tickers) if tickers else BARS.empty()
    return bars.select("symbol", "ts", stored_adj_close="adj_close")


def _without_overlap(dated: pl.DataFrame, stored: pl.DataFrame) -> list[str]:
    # Symbols with adjusted closes on both sides but none of the same bar.
    has_both = dated.drop_nulls("adj_close").join(
        stored.drop_nulls("stored_adj_close"), on="symbol", how="semi"
    )
    pairs = has_both.join(stored.drop_nulls("stored_adj_close"), on=["symbol", "ts"], how="semi")
    return sorted({*has_both["symbol"]} - {*pairs["symbol"]})


def _rebased(dated: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    # A source restates all adjusted closes after each dividend. Only their ratios mean anything,
    # so new ones are brought to the stored basis: otherwise the seam would look like a return.
    if stored.is_empty():
        return dated
    beside = dated.join(stored, on=["symbol", "ts"], how="left", maintain_order="left")
    # The median of the newest shared bars, so that one corrected bar does not move the basis.
    ratio = pl.col("stored_adj_close") / pl.col("adj_close")
    basis = ratio.drop_nulls().tail(BASIS_BARS).median().over("symbol").fill_null(1.0)
    moved = beside.with_columns(adj_close=pl.col("adj_close") * basis)
    is_same = (pl.col("adj_close") / pl.col("stored_adj_close") - 1).abs() < SAME_PRICE
    return moved.with_columns(
        adj_close=pl.when(is_same).then("stored_adj_close").otherwise("adj_close")
    ).drop("stored_adj_close")


def _stamped(
    dated: pl.DataFrame, stored: pl.DataFrame, now: datetime, delay: timedelta
) -> pl.DataFrame:
    # A symbol's backfill, be it extended to earlier years, and what comes after its newest bar
    # were known when the bar ended (plus the provider's delay); a healed gap or a correction now.
    span = stored.group_by("symbol").agg(first_ts=pl.col("ts").min(), newest_ts=pl.col("ts").max())
    beside = dated.join(span, on="symbol", how="left", maintain_order="left")
    is_within = pl.col("ts").is_between("first_ts", "newest_ts").fill_null(value=False)
    at_close = pl.col("close_at") + delay
    return beside.with_columns(
        known_at=pl.when(is_within).then(pl.lit(now).cast(INSTANT)).otherwise(at_close)
    ).drop("first_ts", "newest_ts", "close_at")
