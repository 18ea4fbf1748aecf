"""Adjusted prices of a universe as known at an instant, and which symbols cannot be used."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.facts import Facts
from candlecast.domain.frames import ACTIONS, INSTANT
from candlecast.domain.market import Horizon, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.prices import factored_bars, prices_of_factored
from candlecast.domain.sources import is_simulated
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFound
from candlecast.pipelines.provenance import has_facts
from candlecast.pipelines.score import read_known_facts
from candlecast.store.facts import read_facts
from candlecast.store.pins import pin, pin_facts
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

SESSIONS_DAILY: Final = 252
SESSIONS_INTRADAY: Final = 63


@dataclass(frozen=True, eq=False)
class Market:
    """Adjusted prices of a universe as known at `as_of`, with each ticker's calendar.

    `simulated` names the symbols that have no bar that was ever traded. `facts` are what is known
    besides prices, where somebody asked for features made of them (`with_facts`). `beside` is the
    same universe in other timeframes, where a model looks at them (`sequences.with_timeframes`).
    """

    timeframe: Timeframe
    as_of: datetime
    prices: pl.DataFrame
    calendars: dict[str, TradingCalendar]
    simulated: frozenset[str] = frozenset()
    facts: Facts | None = None
    beside: tuple[Market, ...] = ()

    @cached_property
    def tickers(self) -> tuple[str, ...]:
        """All symbols of the universe that have bars, sorted."""
        return tuple(_runs(self.prices, "symbol"))

    def sha256(self) -> str:
        """Hash of all prices and facts: the same data give the same hash, on every machine."""
        digest = hashlib.sha256(",".join(self.tickers).encode())
        codes = self.prices["symbol"].rle_id().to_numpy()
        digest.update(np.ascontiguousarray(codes).tobytes())
        for name in self.prices.columns[1:]:
            values = self.prices[name].to_physical().to_numpy()
            digest.update(np.ascontiguousarray(values).tobytes())
        if self.facts is not None:
            digest.update(self.facts.sha256().encode())
        for other in self.beside:
            digest.update(f"{other.timeframe}{other.sha256()}".encode())
        return digest.hexdigest()


def read_market(  # noqa: PLR0913 - each says which rows, in which version
    stores: Stores,
    timeframe: Timeframe,
    symbols: tuple[str, ...],
    as_of: datetime | None,
    *,
    is_newest: bool = False,
    is_simulation_allowed: bool = True,
    since: Mapping[str, datetime] | None = None,
) -> Market:
    """The universe `symbols` (all when empty) known at `as_of` (by default all there is).

    Training reads each bar's first version, as it was known at its own time; with `is_newest`
    bars come in the version known at `as_of`, stamped as the first one was. Corporate actions
    come as they are known at `as_of`; in training the rows behind one that was told late wait for
    it, so that a late split is neither a return nor looked ahead to. The `as_of` of the result is
    when the last of these bars and actions was known, so that it depends on the data alone.

    Invented bars never stand beside real ones: a symbol with any real bar is read without them,
    and one without comes only where simulation is allowed. `since` leaves out what lies before a
    symbol's first bar at some time: history that is added in front counts as known when it ended.
    """
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    for ticker in symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    now = stores.clock.now()
    until = min(as_of or now, now)
    bars, newest_at = _read_versions(stores, timeframe, list(symbols) or None, until, is_newest)
    if since:
        first = pl.col("symbol").replace_strict(since, default=None, return_dtype=INSTANT)
        bars = bars.filter((pl.col("ts") >= first).fill_null(value=True))
    bars, simulated = _without_inventions(bars, is_simulation_allowed)
    if bars.is_empty():
        raise NotEnoughHistory(
            f"all {timeframe} bars of {', '.join(sorted(simulated)[:5])} are simulated; ingest "
            "real ones, or allow it with --allow-simulated"
            if simulated
            else f"no {timeframe} bars are known at {until:%Y-%m-%d %H:%M}; "
            "run `candlecast ingest` first" + (", or choose a later --as-of" if as_of else "")
        )
    calendars = {
        ticker: trading_calendar(known[ticker].calendar) for ticker in _runs(bars, "symbol")
    }
    actions = read_facts(stores.database, ACTIONS, as_of=until, symbols=list(calendars))
    factor = partial(factored_bars, bars, timeframe, calendars, is_first_version=not is_newest)
    factored = factor(actions=actions)
    prices = prices_of_factored(factored, is_first_version=not is_newest)
    as_of = _known_at(factored, actions, newest_at, factor)
    return Market(timeframe, as_of, prices, calendars, simulated)


def read_pinned_market(
    stores: Stores,
    timeframe: Timeframe,
    symbols: tuple[str, ...],
    as_of: datetime | None,
    **options: Any,
) -> Market:
    """The same for a result that will be stored: what arrives from now on is no part of it.

    Its symbols are pinned to what was read; where bars were written meanwhile, what is pinned is
    read once more.
    """
    stamp = stores.mirror.stamp(timeframe)
    market = read_market(stores, timeframe, symbols, as_of, **options)
    until = max(market.as_of, min(as_of or market.as_of, stores.clock.now()))
    pin(stores.database, timeframe, market.tickers, until)
    if stores.mirror.stamp(timeframe) == stamp:
        return market
    return read_market(stores, timeframe, symbols, until, **options)


def with_facts(
    stores: Stores,
    market: Market,
    names: Collection[str],
    *,
    since: datetime | None = None,
    is_pinned: bool = False,
) -> Market:
    """`market` with the facts known by its `as_of`, if any of the features `names` needs them.

    For its newest rows those known after `since` are enough: `first_fact_at` tells it. For a
    result that will be stored they are pinned: what is told from now on is no part of it.
    """
    if not has_facts(tuple(names)):
        return market
    if is_pinned:
        pin_facts(stores.database, market.as_of)
    facts = read_known_facts(stores, market.tickers, market.as_of, since=since)
    return replace(market, facts=facts)


def _known_at(
    factored: pl.DataFrame,
    actions: pl.DataFrame,
    newest_at: datetime | None,
    factor: Callable[..., pl.DataFrame],
) -> datetime:
    # When the last of the bars, and of the actions in their factors, was known. No row waits for
    # an action that was told when its quarter was over, but prices are scaled by it all the same.
    waited_until = cast("datetime | None", factored["factor_known_at"].max())
    as_of = max(instant for instant in (newest_at, waited_until) if instant is not None)
    later = actions.filter(pl.col("known_at") > as_of)
    if later.is_empty():
        return as_of
    without = factor(actions=actions.filter(pl.col("known_at") <= as_of))
    if without["factor"].equals(factored["factor"]):
        return as_of
    return cast("datetime", later["known_at"].max())


def _read_versions(
    stores: Stores,
    timeframe: Timeframe,
    symbols: list[str] | None,
    until: datetime,
    is_newest: bool,
) -> tuple[pl.DataFrame, datetime | None]:
    # The version in force at `until`, or the first one; the first real one where an invented bar
    # came before it. The newest version is stamped as the first one was. And when the last of
    # these versions was known.
    first = stores.mirror.read(timeframe, symbols=symbols, as_of=until, is_first_version=True)
    is_invented = is_simulated(pl.col("source"))
    if not is_newest and not _has_inventions(first):
        return first, cast("datetime | None", first["known_at"].max())
    newest = stores.mirror.read(timeframe, symbols=symbols, as_of=until)
    key = ["symbol", "ts"]
    stamps = first.filter(~is_invented).select(*key, first_known_at="known_at")
    if is_newest:
        beside = newest.join(stamps, on=key, how="left", maintain_order="left")
        stamp = pl.coalesce("first_known_at", "known_at").alias("known_at")
        stamped = beside.with_columns(stamp).drop("first_known_at")
        return stamped, cast("datetime | None", newest["known_at"].max())
    later = newest.join(first.filter(is_invented), on=key, how="semi")
    both = pl.concat([first.filter(~is_invented), later]).sort(key)
    return both, cast("datetime | None", both["known_at"].max())


def _without_inventions(
    bars: pl.DataFrame, is_simulation_allowed: bool
) -> tuple[pl.DataFrame, frozenset[str]]:
    # The bars to use, and the symbols of which none was traded.
    if not _has_inventions(bars):
        return bars, frozenset()
    is_real = ~is_simulated(pl.col("source"))
    real = bars.filter(is_real)
    simulated = frozenset({*bars["symbol"].unique()} - {*real["symbol"].unique()})
    if not is_simulation_allowed:
        return real, simulated
    return bars.filter(is_real | pl.col("symbol").is_in(list(simulated))), simulated


def _has_inventions(bars: pl.DataFrame) -> bool:
    return bool(
        _runs(bars, "source").to_frame().select(is_simulated(pl.col("source")).any()).item()
    )


def _runs(bars: pl.DataFrame, name: str) -> pl.Series:
    # The values of a column of texts, once a run of equal ones: few, for rows lie together.
    return bars.select(pl.col(name).rle().struct.field("value").alias(name)).to_series()


def needed_bars(min_bars: int, timeframe: Timeframe, calendar: TradingCalendar) -> int:
    """How many bars a symbol needs to be trained on: `min_bars`, a year of daily bars or three
    months of finer ones, whichever is most.
    """
    sessions = SESSIONS_DAILY if timeframe.is_daily else SESSIONS_INTRADAY
    return max(min_bars, sessions * calendar.bars_per_session(timeframe))


def find_shortfalls(market: Market, min_bars: int, tickers: Collection[str]) -> dict[str, str]:
    """Those of `tickers` that have too few bars to be trained on, and what they lack."""
    counts = dict(market.prices.group_by("symbol").len().iter_rows())
    found = {}
    for ticker in sorted(tickers):
        if ticker not in counts:
            found[ticker] = f"no bar of it is known at {market.as_of:%Y-%m-%d %H:%M}"
            continue
        n, needed = (
            counts[ticker],
            needed_bars(min_bars, market.timeframe, market.calendars[ticker]),
        )
        if n < needed:
            found[ticker] = f"{n} of {needed} bars; it is not trained on, and its own past is short"
    return found


def horizon_lengths(
    market: Market, horizons: tuple[str, ...]
) -> tuple[NDArray[np.int64], dict[str, str]]:
    """(n_horizons,): the bars of each horizon for most symbols, and the symbols that differ."""
    parsed = [Horizon.parse(name) for name in horizons]
    by_calendar = {
        calendar.name: tuple(horizon.bars(market.timeframe, calendar) for horizon in parsed)
        for calendar in market.calendars.values()
    }
    names = Counter(calendar.name for calendar in market.calendars.values())
    lengths = by_calendar[names.most_common(1)[0][0]]
    if any(later <= earlier for earlier, later in pairwise(lengths)):
        shown = ", ".join(f"{name} ({n} bars)" for name, n in zip(horizons, lengths, strict=True))
        raise InvalidSpec(f"two of the horizons {shown} have the same length; keep one of them")
    odd = {
        ticker: f"on {calendar.name} the horizons last other numbers of bars than for most "
        "symbols; train it apart (--symbols)"
        for ticker, calendar in market.calendars.items()
        if by_calendar[calendar.name] != lengths
    }
    return np.array(lengths), odd


def instants(series: pl.Series) -> NDArray[np.datetime64]:
    """A UTC series as datetime64[us]."""
    return series.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
