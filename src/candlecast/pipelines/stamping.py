"""Fetched bars into the store: stamped with when they could be known, on one basis of prices.

1. Each bar's end comes from its symbol's calendar; a daily bar on no session refuses its symbol.
2. Adjusted closes are brought to the basis of the stored ones.
3. A bar was known when it ended, plus the provider's delay, unless it comes late: within the
   span stored or covered already, or at or before an instant of which a stored result was made.
   What comes late is known from now on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from candlecast.domain.frames import BARS, INSTANT, QUARANTINE, UNSTAMPED
from candlecast.domain.market import Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, is_simulated
from candlecast.errors import DatabaseBusy
from candlecast.pipelines.universe import instants
from candlecast.store.bars import (
    BarsWritten,
    PinnedMeanwhile,
    read_bars,
    read_ends,
    write_bars,
)
from candlecast.store.coverage import Coverage, make_coverage, read_coverage
from candlecast.store.pins import read_pins
from candlecast.store.quarantine import write_quarantine
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols, write_symbols

BASIS_BARS: Final = 21
MOST_STAMPINGS: Final = 20
SAME_PRICE: Final = 1e-4
"""Adjusted closes that agree to this after rebasing are the same number, rounded twice."""


@dataclass(frozen=True)
class Stored:
    """What became of fetched bars; `failures` hold the provider's, and whom we refused whole."""

    written: BarsWritten
    symbols: tuple[str, ...]
    failures: dict[str, str]


def store_fetched(
    stores: Stores,
    fetched: Fetched,
    *,
    make_symbol: Callable[[str], Symbol],
    timeframe: Timeframe,
    delay_seconds: float,
    source: str,
) -> Stored:
    """Store the bars of one answer of `source`; symbols new to the store are made."""
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    bars = UNSTAMPED.check(fetched.bars)
    answered, refused = fetched.covered, dict[str, str]()
    traded = {
        ticker: known[ticker] if ticker in known else make_symbol(ticker)
        for ticker in sorted({*bars["symbol"].unique(), *answered})
    }
    dated = _dated(bars, traded, timeframe, refused)
    if known:
        dated = _joined_to_stored(stores, dated, timeframe, refused, known.keys())
    is_refused = pl.col("symbol").is_in(list(refused))
    dated = dated.filter(~is_refused & (pl.col("close_at") <= stores.clock.now()))
    kept = {*dated["symbol"].unique(), *answered} - {*refused}
    write_symbols(stores.database, [traded[t] for t in kept if t not in known])
    _set_aside(stores, timeframe, fetched, {*known} | kept)
    spans = {ticker: span for ticker, span in answered.items() if ticker in kept}
    coverage = make_coverage(spans, source, stores.clock.now())
    delay = timedelta(seconds=delay_seconds)
    written = _write_stamped(stores, dated, timeframe, delay, coverage)
    told = tuple(dated["symbol"].unique().sort())
    return Stored(written, told, {**fetched.failures, **refused})


def _write_stamped(
    stores: Stores,
    dated: pl.DataFrame,
    timeframe: Timeframe,
    delay: timedelta,
    coverage: Coverage | None,
) -> BarsWritten:
    # Anew where a stored result was made of these bars while they were being stamped.
    for _ in range(MOST_STAMPINGS):
        pins = read_pins(stores.database, timeframe)
        stamped = BARS.conform(_stamped(stores, dated, timeframe, delay, pins))
        try:
            return write_bars(stores.database, timeframe, stamped, coverage, pins)
        except PinnedMeanwhile:
            continue
    raise DatabaseBusy("forecasts are made faster than bars can be written; try again")


def _set_aside(stores: Stores, timeframe: Timeframe, fetched: Fetched, symbols: set[str]) -> None:
    rows = QUARANTINE.empty() if fetched.quarantined is None else fetched.quarantined
    own = rows.filter(pl.col("symbol").is_in(list(symbols)))
    answered = fetched.bars.select("symbol", "source").unique()
    write_quarantine(stores.database, timeframe, own, stores.clock.now(), answered=answered)


def _dated(
    bars: pl.DataFrame,
    traded: dict[str, Symbol],
    timeframe: Timeframe,
    failures: dict[str, str],
) -> pl.DataFrame:
    # Every bar's end by its symbol's calendar; symbols with a day off the calendar fail.
    parts = []
    for name in sorted({symbol.calendar for symbol in traded.values()}):
        own = [t for t, symbol in traded.items() if symbol.calendar == name]
        part = bars.filter(pl.col("symbol").is_in(own)) if len(own) < len(traded) else bars
        ends = trading_calendar(name).close_at(instants(part["ts"]), timeframe)
        parts.append(part.with_columns(close_at=pl.Series(ends).dt.replace_time_zone("UTC")))
    if not parts:
        return bars.with_columns(close_at="ts")
    dated = parts[0] if len(parts) == 1 else pl.concat(parts).sort("symbol", "ts")
    outside = dated.filter(pl.col("close_at").is_null()).group_by("symbol").agg(pl.col("ts").min())
    for ticker, day in outside.sort("symbol").iter_rows():
        failures[ticker] = (
            f"{day:%Y-%m-%d} is no session of {traded[ticker].calendar}; name the right one "
            "with --calendar (24/7 for markets that never close)"
        )
    return dated.filter(~pl.col("symbol").is_in(list(failures)))


def _joined_to_stored(
    stores: Stores,
    dated: pl.DataFrame,
    timeframe: Timeframe,
    failures: dict[str, str],
    known: Collection[str],
) -> pl.DataFrame:
    # On the basis of the stored adjusted closes, and no simulated bar over a real one.
    tickers = [ticker for ticker in dated["symbol"].unique() if ticker in known]
    if not tickers:
        return dated
    if dated.select(is_simulated(pl.col("source")).any()).item():
        dated = without_inventions_over(dated, stores, timeframe)
    if dated["adj_close"].null_count() == len(dated):
        return dated
    stored = _stored_beside(stores, timeframe, dated, tickers)
    closes = stored.select("symbol", "ts", stored_adj_close="adj_close")
    for ticker in _without_overlap(dated, closes):
        failures[ticker] = (
            "its adjusted closes share no bar with the stored ones, so the two bases cannot be "
            "joined; bring at least one stored bar along"
        )
    return _rebased(dated, closes)


def _stored_beside(
    stores: Stores, timeframe: Timeframe, dated: pl.DataFrame, tickers: list[str]
) -> pl.DataFrame:
    # The stored bars of the same span; of symbols that have none there their newest ones.
    first, last = dated["ts"].min(), dated["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    found = read_bars(stores.database, timeframe, symbols=tickers, start=first, end=last)
    apart = sorted({*tickers} - {*found["symbol"].unique()})
    ends = read_ends(stores.database, timeframe, apart)
    if ends.is_empty():
        return found
    since = ends["last"].min()
    assert isinstance(since, datetime)
    newest = read_bars(stores.database, timeframe, symbols=ends["symbol"].to_list(), start=since)
    return pl.concat([found, newest])


def without_inventions_over(
    bars: pl.DataFrame, stores: Stores, timeframe: Timeframe
) -> pl.DataFrame:
    """`bars` less the invented ones in the place of a stored real one."""
    known = {symbol.ticker for symbol in read_symbols(stores.database)}
    invented = bars.filter(is_simulated(pl.col("source")) & pl.col("symbol").is_in(known))
    if invented.is_empty():
        return bars
    first, last = invented["ts"].min(), invented["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    tickers = invented["symbol"].unique().to_list()
    stored = read_bars(stores.database, timeframe, symbols=tickers, start=first, end=last)
    real = stored.filter(~is_simulated(pl.col("source")))
    replaced = invented.join(real, on=["symbol", "ts"], how="semi")
    return bars.join(replaced, on=["symbol", "ts", "source"], how="anti", maintain_order="left")


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
    stores: Stores,
    dated: pl.DataFrame,
    timeframe: Timeframe,
    delay: timedelta,
    pins: pl.DataFrame,
) -> pl.DataFrame:
    natural = pl.col("close_at") + delay
    tickers = dated["symbol"].unique().to_list()
    if not tickers:
        return dated.with_columns(known_at=natural).drop("close_at")
    ends = read_ends(stores.database, timeframe, tickers)
    spans = read_coverage(stores.database, timeframe, tickers).rename({"end_at": "covered_until"})
    if ends.is_empty() and spans.is_empty():  # nothing can be late
        return dated.with_columns(known_at=natural).drop("close_at")
    beside = dated.join(ends, on="symbol", how="left", maintain_order="left").join(
        pins, on="symbol", how="left", maintain_order="left"
    )
    placed = beside.join_asof(
        spans.set_sorted("start_at"),
        left_on="ts",
        right_on="start_at",
        by="symbol",
        check_sortedness=False,
    )
    is_covered = (pl.col("ts") < pl.col("covered_until")).fill_null(value=False)
    is_within = pl.col("ts").is_between("first", "last").fill_null(value=False)
    was_read = (pl.col("ts") > pl.col("last")) & (natural <= pl.col("pinned_at"))
    is_late = is_within | is_covered | was_read.fill_null(value=False)
    now = pl.lit(stores.clock.now()).cast(INSTANT)
    return placed.with_columns(
        known_at=pl.when(is_late).then(pl.max_horizontal(now, natural)).otherwise(natural)
    ).select(*dated.drop("close_at").columns, "known_at")
