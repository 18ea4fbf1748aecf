"""Where the buckets of a timeframe begin and end: by the sessions, not by the clock.

A bucket begins a whole number of lengths after its session's open (where a market never closes,
after midnight UTC) and ends with the session at the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.market import MINUTES, Instants, Timeframe, TradingCalendar
from candlecast.errors import BadFrame, InvalidSpec, NotFound

Integers: TypeAlias = NDArray[np.int64]


def is_multiple(target: Timeframe, source: Timeframe) -> bool:
    """Whether bars of `target` consist of whole bars of `source`."""
    return target > source and (target.is_daily or target.minutes % source.minutes == 0)


def coarser_timeframes(source: Timeframe) -> list[Timeframe]:
    """All timeframes whose bars consist of bars of `source`, ascending."""
    return [t for t in map(Timeframe, MINUTES.values()) if is_multiple(t, source)]


def check_multiples(source: Timeframe, targets: Iterable[Timeframe]) -> None:
    """InvalidSpec unless bars of each target consist of whole bars of `source`."""
    for target in targets:
        if not is_multiple(target, source):
            names = ", ".join(map(str, coarser_timeframes(source))) or "none"
            raise InvalidSpec(f"{target} bars do not consist of {source} bars; use one of: {names}")


@dataclass(frozen=True, eq=False)
class Buckets:
    """The buckets that instants fall into: `ts` as the bar is stamped, and the bucket's ends."""

    ts: Instants
    start_at: Instants
    end_at: Instants


def find_buckets(instants: Instants, timeframe: Timeframe, calendar: TradingCalendar) -> Buckets:
    """The bucket of each instant within a session; NaT in all three for the others."""
    at = instants.astype("datetime64[us]")
    index = np.searchsorted(calendar.opens, at, side="right") - 1
    opens, closes = (edge[np.maximum(index, 0)] for edge in (calendar.opens, calendar.closes))
    never = np.datetime64("NaT", "us")
    inside = (index >= 0) & (at < closes)
    if timeframe.is_daily:
        days = calendar.sessions[np.maximum(index, 0)].astype("datetime64[us]")
        return Buckets(*(np.where(inside, edge, never) for edge in (days, opens, closes)))
    width = np.timedelta64(timeframe.minutes, "m").astype("timedelta64[us]")
    start = opens + (at - opens) // width * width
    ends = np.minimum(start + width, closes)
    return Buckets(*(np.where(inside, edge, never) for edge in (start, start, ends)))


@dataclass(frozen=True, eq=False)
class Stretches:
    """Rows sorted by symbol and ts, cut where a session of their symbol begins or ends.

    One row each: how many rows it has (at least one), its symbol (an index into `tickers`),
    whether it lies within a session, and that session's date (midnight UTC), open and close in
    microseconds since 1970; the latter three mean nothing outside.
    """

    tickers: list[str]
    n_rows: Integers
    symbol: Integers
    is_session: NDArray[np.bool_]
    day: Integers
    open_at: Integers
    close_at: Integers


def find_stretches(bars: pl.DataFrame, calendars: Mapping[str, TradingCalendar]) -> Stretches:
    """The stretches of `bars` (at least one, any frame with symbol and ts)."""
    ts = bars["ts"].to_physical().to_numpy()
    runs = bars.select(pl.col("symbol").rle()).unnest("symbol")
    tickers = runs["value"].to_list()
    ends = np.cumsum(runs["len"].to_numpy().astype(np.int64))
    is_back = ts[1:] <= ts[:-1]
    is_back[ends[:-1] - 1] = False
    if is_back.any() or len(set(tickers)) < len(tickers):
        raise BadFrame("bars are not sorted by symbol and ts, or repeated; conform them first")
    parts = []
    for ticker, start, end in zip(tickers, [0, *ends], ends, strict=False):
        if ticker not in calendars:
            raise NotFound.among("symbol with a calendar", ticker, calendars)
        parts.append(_cut(ts[start:end], calendars[ticker]))
    n_rows, is_session, day, open_at, close_at = map(np.concatenate, zip(*parts, strict=True))
    symbol = np.repeat(np.arange(len(tickers)), [len(part[0]) for part in parts])
    return Stretches(tickers, n_rows, symbol, is_session, day, open_at, close_at)


def _cut(ts: Integers, calendar: TradingCalendar) -> list[NDArray[Any]]:
    # What comes before the first session, the session, what comes between, the second session …
    opens, closes = calendar.opens.view(np.int64), calendar.closes.view(np.int64)
    days = calendar.sessions.astype("datetime64[us]").view(np.int64)
    first = int(np.searchsorted(closes, ts[0], side="right"))
    chosen = slice(first, max(first, int(np.searchsorted(opens, ts[-1], side="right"))))
    edges = np.stack([np.searchsorted(ts, edge[chosen]) for edge in (opens, closes)], axis=1)
    n_rows = np.diff(edges.ravel(), prepend=0, append=len(ts))
    is_session = np.arange(len(n_rows)) % 2 == 1
    placed = [np.append(np.repeat(edge[chosen], 2), 0) for edge in (days, opens, closes)]
    has_rows = n_rows > 0
    return [column[has_rows] for column in (n_rows, is_session, *placed)]
