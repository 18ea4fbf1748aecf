"""Stored bars of several timeframes to windows for the sequence models.

Bars are read in their first versions, in training and live alike: a window looks the same on the
day it is used as it will when a model is later trained on it. Symbols are worked off in chunks,
and of each only the arrays of its features stay. Features of scope ``universe`` compare all
symbols, so with one of them, or of scope ``market``, there is a single chunk, of all that the
store knows, whichever are wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Symbol, Timeframe, trading_calendar
from candlecast.domain.specs import TensorSpec
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFound
from candlecast.features.compute import compute
from candlecast.features.plan import Plan
from candlecast.features.timeframes import Windows, keys_of
from candlecast.features.timelines import Timeline, make_timeline
from candlecast.pipelines.provenance import has_facts
from candlecast.pipelines.score import read_known_facts
from candlecast.pipelines.universe import Market, read_market
from candlecast.store.bars import read_ends
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

CHUNK_SYMBOLS: Final = 200
CHUNK_BARS: Final = 2_000_000
"""At most so many symbols and bars are in flight at once."""


@dataclass(frozen=True, eq=False)
class TensorRun:
    """Windows, when the last of their bars was known, and why other symbols have none."""

    windows: Windows
    as_of: datetime
    failures: dict[str, str]


def make_windows(
    stores: Stores,
    spec: TensorSpec,
    symbols: tuple[str, ...] = (),
    as_of: datetime | None = None,
    facts: Facts | None = None,
) -> TensorRun:
    """Windows of `symbols` (all when empty) known by `as_of`: a row for each bar of the finest
    timeframe, at the instant at which it became known.

    `Windows.at` gives those of other rows, such as a data set's. `facts` are what is known besides
    prices, by default what the store knows. Features that compare symbols compare those of the
    whole store. A symbol without bars of each timeframe gets no row and is named in `failures`.
    NotEnoughHistory where that leaves none.
    """
    return _Reader(stores, spec, as_of, facts).run(symbols, is_newest=False)


def newest_windows(
    stores: Stores,
    spec: TensorSpec,
    symbols: tuple[str, ...] = (),
    as_of: datetime | None = None,
    facts: Facts | None = None,
) -> TensorRun:
    """The windows of `symbols` at `as_of` (by default now), a row each, as `make_windows` gives
    them, from no more bars than that takes.
    """
    return _Reader(stores, spec, as_of, facts).run(symbols, is_newest=True)


def make_part(
    market: Market,
    spec: TensorSpec,
    wanted: Collection[str],
    facts: Facts | None,
    until: datetime | None = None,
) -> Timeline | None:
    """The timeline of the `wanted` symbols of a market, None where it has none of them.

    With `until` it holds no more than the windows at that instant take.
    """
    prices, names = market.prices, spec.features
    shown = pl.col("symbol").is_in(list(wanted))
    if until is not None:
        prices = _recent(prices, spec, shown, until)
        shown &= _is_end(spec.n_steps)  # what only led up to the window is no longer needed
    is_shown = prices.select(shown.alias("is_shown")).to_series()
    if not is_shown.any():
        return None
    features = compute(prices, names, facts)
    prices, features = prices.filter(is_shown), features.filter(is_shown)
    return make_timeline(market.timeframe, prices, features, names, market.calendars)


def _recent(
    prices: pl.DataFrame, spec: TensorSpec, is_wanted: pl.Expr, until: datetime
) -> pl.DataFrame:
    # What the newest windows are made of. What is compared needs the bars of all symbols from
    # the first one that is compared on, and of each what these depend on.
    plan = Plan.of(spec.features)
    ended = prices.filter(pl.col("close_at") <= until)
    n_bars = plan.window_bars
    if not (plan.universe or plan.market):
        return ended.filter(_is_end(spec.n_steps - 1 + n_bars))
    n_compared = spec.n_steps - 1 + (plan.market_bars if plan.market else 1)
    compared = ended.filter(is_wanted & _is_end(n_compared))
    place = ended.select(pl.int_range(pl.len()).over("segment").alias("place"))
    is_compared = pl.col("ts") >= pl.lit(compared["ts"].min(), INSTANT)
    first = pl.when(is_compared).then("place").min().over("segment")
    kept = ended.with_columns(place).filter(pl.col("place") > first - n_bars)
    return kept.select(ended.columns)


class _Reader:
    # One run: what it reads, and what it finds missing on the way.

    def __init__(
        self, stores: Stores, spec: TensorSpec, as_of: datetime | None, facts: Facts | None
    ) -> None:
        self._stores, self._spec, self._facts = stores, spec, facts
        now = stores.clock.now()
        self._until = min(as_of or now, now)
        self._wanted: list[str] = []
        self._missing: dict[str, list[str]] = {}
        self._known_at: list[datetime] = []
        entries = [FEATURES.get(name) for name in spec.features]
        if shown := [entry.name for entry in entries if not entry.is_input]:
            raise InvalidSpec(
                f"{', '.join(shown)}: no model may see these, for their units are the price's or "
                "the volume's; `candlecast features list` shows the others"
            )
        plan = Plan.of(spec.features)
        self._is_universe = bool(plan.universe or plan.market)

    def run(self, symbols: tuple[str, ...], *, is_newest: bool) -> TensorRun:
        """The windows of `symbols`: at each bar of the finest timeframe, or only at the end."""
        known = {symbol.ticker: symbol for symbol in read_symbols(self._stores.database)}
        for ticker in symbols:
            if ticker not in known:
                raise NotFound.among("symbol", ticker, known)
        self._wanted = sorted({*(symbols or known)})
        read = sorted(known) if self._is_universe else self._wanted
        traded = {ticker: known[ticker] for ticker in read}
        if self._facts is None and has_facts(self._spec.features):
            self._facts = read_known_facts(self._stores, read, self._until)
        lines = [
            self._timeline(Timeframe.parse(name), traded, is_newest)
            for name in self._spec.timeframes
        ]
        complete = [ticker for ticker in self._wanted if ticker not in self._missing]
        failures = {ticker: self._reason(names) for ticker, names in self._missing.items()}
        if not complete:
            first = next(iter(failures.items()), ("the store", "it knows no symbol; ingest some"))
            raise NotEnoughHistory(f"no symbol has bars of each timeframe; {first[0]}: {first[1]}")
        if is_newest:
            keys = pl.DataFrame({"symbol": complete}).with_columns(
                as_of=pl.lit(self._until, INSTANT)
            )
        else:
            keys = keys_of(lines[0]).filter(pl.col("symbol").is_in(complete))
        windows = Windows(self._spec, lines, keys)
        return TensorRun(windows, max(self._known_at), failures)

    def _timeline(
        self, timeframe: Timeframe, traded: Mapping[str, Symbol], is_newest: bool
    ) -> Timeline:
        parts = [
            part
            for chunk in self._chunks(timeframe, traded)
            if (market := self._market(timeframe, chunk)) is not None
            if (part := self._part(market, is_newest)) is not None
        ]
        found = {ticker for part in parts for ticker in part.tickers}
        for ticker in self._wanted:
            if ticker not in found:
                self._missing.setdefault(ticker, []).append(timeframe.name)
        if not parts:
            raise NotEnoughHistory(
                f"no {timeframe} bars that were traded are known at {self._until:%Y-%m-%d %H:%M}; "
                "ingest them or finer ones (candlecast ingest), or leave the timeframe out"
            )
        return Timeline.concat(parts)

    def _chunks(
        self, timeframe: Timeframe, traded: Mapping[str, Symbol]
    ) -> Iterator[tuple[str, ...]]:
        # At most so many symbols, and so many bars as their calendars have room for.
        chunk: list[str] = []
        n_bars = 0.0
        ends = read_ends(self._stores.database, timeframe, list(traded))
        for ticker, first, last in ends.iter_rows():
            calendar = trading_calendar(traded[ticker].calendar)
            days = [np.datetime64(at.replace(tzinfo=None), "D") for at in (first, last)]
            start, end = np.searchsorted(calendar.sessions, days)
            room = float(end - start + 1) * calendar.bars_per_session(timeframe)
            is_full = len(chunk) == CHUNK_SYMBOLS or n_bars + room > CHUNK_BARS
            if chunk and is_full and not self._is_universe:
                yield tuple(chunk)
                chunk, n_bars = [], 0.0
            chunk.append(ticker)
            n_bars += room
        if chunk:
            yield tuple(chunk)

    def _market(self, timeframe: Timeframe, chunk: tuple[str, ...]) -> Market | None:
        try:
            market = read_market(
                self._stores, timeframe, chunk, self._until, is_simulation_allowed=False
            )
        except NotEnoughHistory:  # of none of them; they are named with all others
            return None
        return market

    def _part(self, market: Market, is_newest: bool) -> Timeline | None:
        until = self._until if is_newest else None
        part = make_part(market, self._spec, self._wanted, self._facts, until)
        if part is not None:
            self._known_at.append(market.as_of)
        return part

    def _reason(self, timeframes: list[str]) -> str:
        return (
            f"it has no traded {', '.join(timeframes)} bars known at "
            f"{self._until:%Y-%m-%d %H:%M}; ingest them or finer ones, or leave the symbol out"
        )


def _is_end(n_bars: int) -> pl.Expr:
    # The last bars of each symbol's newest segment.
    is_newest_segment = pl.col("segment") == pl.col("segment").last().over("symbol")
    place = pl.int_range(pl.len()).reverse().over("segment")
    return (is_newest_segment & (place < n_bars)).alias("is_end")
