"""Features of stored bars into their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import polars as pl

from candlecast.domain.catalog import FEATURES, FeatureTable
from candlecast.domain.facts import Facts
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import FeatureSpec
from candlecast.errors import NotFound
from candlecast.features.chosen import by_table
from candlecast.features.compute import compute, members, newest
from candlecast.features.evaluation import compare
from candlecast.features.plan import Plan
from candlecast.features.user_files import code_of
from candlecast.pipelines.prune import prune_unattended
from candlecast.pipelines.score import read_known_facts
from candlecast.pipelines.universe import Market, read_market, with_facts
from candlecast.store.bars import read_extent
from candlecast.store.features import write_features
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

SYMBOLS_IN_FLIGHT: Final = 250
"""More are not held in memory with all their features at once."""


@dataclass(frozen=True)
class Span:
    """Which symbols (all when empty) and which bars, by `ts`, both ends inclusive."""

    symbols: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None

    def cut(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of `frame` within the span."""
        kept = pl.col("symbol").is_in(self.symbols) if self.symbols else pl.lit(True)
        if self.start is not None:
            kept &= pl.col("ts") >= self.start
        if self.end is not None:
            kept &= pl.col("ts") <= self.end
        return frame.filter(kept)

    def __str__(self) -> str:
        ends = [f"{at:%Y-%m-%d %H:%M}" for at in (self.start, self.end) if at is not None]
        since = "from" if self.start is not None else "until"
        when = f" {since} {' to '.join(ends)}" if ends else ""
        return f"{','.join(self.symbols[:5]) or 'any symbol'}{when}"


def materialize_features(stores: Stores, timeframe: str, span: Span) -> int:
    """Compute every feature, over the whole universe, and store the values within `span`.

    Returns how many rows changed, in both tables; where nothing but prices is known there are
    none of sentiment. A large universe is computed some symbols at a time, after what they are
    compared by was computed for all. Features of intraday bars are kept for 90 days by the
    clock of the stores: older ones are pruned and not written, so that retention needs nobody's
    hand. With TimescaleDB all are written, and its own job prunes them.

    NotFound names a symbol that there is not, or says that no bar lies within `span`.
    """
    _check_span(stores, Timeframe.parse(timeframe), span)
    length = Timeframe.parse(timeframe)
    since = None if length.is_daily else prune_unattended(stores)
    groups = _groups(stores, length)
    # Read and scored once: what each group's rows may see of them is cut out of these.
    facts = read_known_facts(stores, (), stores.clock.now())
    compared = _compared(stores, length, groups, facts) if len(groups) > 1 else None
    n_changed = 0
    for group in groups:
        if span.symbols and group and not {*group} & {*span.symbols}:
            continue
        market, own = _read(stores, length, group, facts)
        for table, features in feature_sets().items():
            if table == "sentiment" and own.is_empty:
                continue
            values = compute(market.prices, features.names, own, compared=compared)
            values = replace(span, start=_latest(span.start, since)).cut(values)
            n_changed += write_features(stores.database, length, values, features.id, table)
    return n_changed


def _check_span(stores: Stores, timeframe: Timeframe, span: Span) -> None:
    known = {symbol.ticker for symbol in read_symbols(stores.database)}
    for ticker in span.symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    if span == Span():
        return
    extent = read_extent(stores.database, timeframe)
    if span.symbols:
        extent = extent.filter(pl.col("symbol").is_in(span.symbols))
    if span.start is not None:
        extent = extent.filter(pl.col("last_ts") >= span.start)
    if span.end is not None:
        extent = extent.filter(pl.col("first_ts") <= span.end)
    if extent.is_empty():
        raise NotFound(
            f"no {timeframe} bars of {span} are stored; ingest them first, or choose another span"
        )


def _groups(stores: Stores, timeframe: Timeframe) -> list[tuple[str, ...]]:
    # The symbols with bars, some at a time; all at once where there are few.
    extent = read_extent(stores.database, timeframe)
    symbols = extent.filter(pl.col("first_ts") < stores.clock.now())["symbol"].to_list()
    if len(symbols) <= SYMBOLS_IN_FLIGHT:
        return [()]
    starts = range(0, len(symbols), SYMBOLS_IN_FLIGHT)
    return [tuple(symbols[start : start + SYMBOLS_IN_FLIGHT]) for start in starts]


def _read(
    stores: Stores, timeframe: Timeframe, symbols: tuple[str, ...], facts: Facts
) -> tuple[Market, Facts]:
    market = read_market(stores, timeframe, symbols, None)
    return market, facts.known_by(market.as_of)


def _compared(
    stores: Stores, timeframe: Timeframe, groups: Sequence[tuple[str, ...]], facts: Facts
) -> pl.DataFrame:
    # The features that compare symbols, of every row of the universe.
    names = FEATURES.names()
    read = (_read(stores, timeframe, group, facts) for group in groups)
    rows = pl.concat([members(market.prices, names, own) for market, own in read])
    return compare(rows, Plan.of(names).names_of_universe)


def _latest(*instants: datetime | None) -> datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)


def read_values(
    stores: Stores,
    timeframe: Timeframe,
    name: str,
    *,
    symbols: tuple[str, ...] = (),
    as_of: datetime | None = None,
    is_whole: bool = False,
) -> pl.DataFrame:
    """FEATURES of one feature of stored bars as known at `as_of`: the newest ones, or all."""
    is_alone = FEATURES.get(name).scope == "symbol"
    market = read_market(stores, timeframe, symbols if is_alone else (), as_of, is_newest=True)
    market = with_facts(stores, market, (name,))
    values = (compute if is_whole else newest)(market.prices, (name,), market.facts)
    return Span(symbols).cut(values)


def feature_sets() -> dict[FeatureTable, FeatureSpec]:
    """What stands in each table of features: all that is known here, as a spec with its id."""
    tables = by_table(FEATURES.names())
    return {table: FeatureSpec(names, code_of(names)) for table, names in tables.items()}
