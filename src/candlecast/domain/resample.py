"""Finer bars to coarser, session by session.

Buckets begin at the session's open (where a market never closes, at midnight UTC) and end with
the session at the latest, so half-days and daylight saving follow from the calendar. Bars outside
the sessions are left out; a bucket without bars gives none.

A bucket has ended when its last minutes have been told: at its end if a finer bar reaches it,
otherwise `delay` later, when nothing can arrive any more in the normal course.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.bar_arrays import MIXED, BarArrays, Values, arrays_of, bars_of
from candlecast.domain.buckets import (
    Integers,
    check_multiples,
    coarser_timeframes,
    is_multiple,
)
from candlecast.domain.frames import BARS
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.errors import BadFrame

NO_DELAY: Final = timedelta(0)
MICROSECONDS: Final = 60_000_000

LAST: Final = frozenset({"close", "reach_at"})
REDUCED: Final = {
    "high": np.maximum,
    "low": np.minimum,
    "volume": np.add,
    "money": np.add,
    "lacks_vwap": np.logical_or,
    "trade_count": np.add,
    "lacks_count": np.logical_or,
    "known_at": np.maximum,
}


def resample(
    bars: pl.DataFrame,
    source: Timeframe,
    target: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    *,
    as_of: datetime,
    delay: timedelta = NO_DELAY,
) -> pl.DataFrame:
    """The bars of `target` that have ended by `as_of`, from bars of `source`.

    Parameters
    ----------
    bars
        BARS as known at `as_of`, in whole buckets.
    source, target
        `target` is a multiple of `source`, or 1d.
    calendars
        The calendar of each ticker.
    delay
        How long after its end a finer bar may still arrive.

    Returns
    -------
    BARS. vwap is weighted by volume, null where a component with volume lacks it; trade_count is
    null where a component lacks it; adj_close is the close times the last known factor. `source`
    is that of the components, ``mixed`` where they differ, ``simulated`` where they differ and
    one was never traded. `known_at` is the latest of the components', but no earlier than the
    moment at which the bucket had ended.

    Raises
    ------
    InvalidSpec
        `target` does not consist of `source` bars.
    BadFrame
        Bars are unsorted, or do not begin on the grid of their own timeframe.
    NotFound
        A ticker without a calendar.
    """
    check_multiples(source, [target])
    if bars.is_empty():
        return BARS.empty()
    return _ended(_coarser(arrays_of(bars, source, calendars), target), as_of, delay)


def resample_all(
    bars: pl.DataFrame,
    source: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    *,
    as_of: datetime,
    delay: timedelta = NO_DELAY,
    targets: Iterable[Timeframe] | None = None,
) -> dict[Timeframe, pl.DataFrame]:
    """What `resample` returns for each of `targets` (by default all that consist of `source`).

    Each is made of the coarsest finer one, which is equal up to the rounding of sums.
    """
    wanted = coarser_timeframes(source) if targets is None else sorted(targets)
    check_multiples(source, wanted)
    if bars.is_empty():
        return {target: BARS.empty() for target in wanted}
    levels = {source: arrays_of(bars, source, calendars)}
    made = {}
    # All steps up to the last, wanted or not: sums are rounded alike whatever was asked for.
    for target in (step for step in coarser_timeframes(source) if wanted and step <= max(wanted)):
        nearest = max(finer for finer in levels if is_multiple(target, finer))
        levels[target] = _coarser(levels[nearest], target)
        if target in wanted:
            made[target] = _ended(levels[target], as_of, delay)
    return made


def open_bars(
    bars: pl.DataFrame,
    source: Timeframe,
    target: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    *,
    as_of: datetime,
    delay: timedelta = NO_DELAY,
) -> pl.DataFrame:
    """BARS: the newest bucket of each symbol where it has not ended by `as_of`, for display only.

    `known_at` is the latest of the components'.
    """
    check_multiples(source, [target])
    if bars.is_empty():
        return BARS.empty()
    level = _coarser(arrays_of(bars, source, calendars), target)
    symbol = level.spread(level.stretches.symbol)
    is_newest = np.append(symbol[1:] != symbol[:-1], True)
    is_forming = _ended_at(level, delay) > _microseconds(as_of)
    return bars_of(level, is_newest & is_forming, level.values["known_at"])


def _coarser(finer: BarArrays, target: Timeframe) -> BarArrays:
    values, stretches = finer.values, finer.stretches
    starts = np.cumsum(finer.n_rows) - finer.n_rows
    number: Integers = _numbers(finer) // (target.minutes // finer.timeframe.minutes)
    is_first = np.empty(len(number), dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=is_first[1:])
    if target.is_daily:
        is_first[:] = False
    is_first[starts[finer.n_rows > 0]] = True
    first: Integers = np.flatnonzero(is_first)
    n_rows: Integers = np.diff(np.searchsorted(first, np.append(starts, len(number))))
    opens, closes = (np.repeat(edge, n_rows) for edge in (stretches.open_at, stretches.close_at))
    is_inside = np.repeat(stretches.is_session, n_rows)
    reduced = _reduced(values, first, finer.sources)
    width = target.minutes * MICROSECONDS
    reduced["ts"] = opens if target.is_daily else opens + number[first] * width
    end_at = closes if target.is_daily else np.minimum(reduced["ts"] + width, closes)
    if finer.end_at is None:
        last = values["ts"][np.append(first, len(number))[1:] - 1]
        reduced["reach_at"] = np.minimum(last + finer.timeframe.minutes * MICROSECONDS, closes)
    if not is_inside.all():
        reduced = {name: value[is_inside] for name, value in reduced.items()}
        end_at, n_rows = end_at[is_inside], np.where(stretches.is_session, n_rows, 0)
    return BarArrays(target, reduced, stretches, n_rows, finer.sources, end_at)


def _numbers(level: BarArrays) -> Integers:
    # How many bars of its timeframe fit between the session's open and each bar.
    step = level.timeframe.minutes * MICROSECONDS
    offset = level.values["ts"] - level.spread(level.stretches.open_at)
    number: Integers = offset // step
    if level.end_at is None:
        is_off = number * step != offset
        if is_off.any():
            is_off &= level.spread(level.stretches.is_session)
            _check_grid(level, np.flatnonzero(is_off))
    return number


def _check_grid(level: BarArrays, off_rows: Integers) -> None:
    if len(off_rows):
        ticker = level.stretches.tickers[level.spread(level.stretches.symbol)[off_rows[0]]]
        at = level.values["ts"][off_rows[0]].astype("datetime64[us]")
        raise BadFrame(
            f"the {level.timeframe} bar of {ticker} at {at} does not begin on the grid of its "
            "session; fetch finer bars, or correct the symbol's calendar"
        )


def _reduced(values: Values, first: Integers, sources: list[str]) -> Values:
    n = len(values["ts"])
    last = np.append(first, n)[1:] - 1
    reduced: Values = {"open": values["open"][first]}
    for name in LAST & values.keys():
        reduced[name] = values[name][last]
    for name in REDUCED.keys() & values.keys():
        reduced[name] = REDUCED[name].reduceat(values[name], first)
    if "factor" in values:
        is_known = ~np.isnan(values["factor"])
        known = np.maximum.reduceat(np.where(is_known, np.arange(n), -1), first)
        has_one = known >= first
        reduced["factor"] = np.where(has_one, values["factor"][known], np.nan)
    if "source" in values:
        low, high = (pick.reduceat(values["source"], first) for pick in (np.minimum, np.maximum))
        n_real = sources.index(MIXED) + 1
        mixture = np.where(high >= n_real, len(sources) - 1, n_real - 1)
        reduced["source"] = np.where(low == high, low, mixture)
    return reduced


def _ended(level: BarArrays, as_of: datetime, delay: timedelta) -> pl.DataFrame:
    ended_at = _ended_at(level, delay)
    known_at = np.maximum(level.values["known_at"], ended_at)
    return bars_of(level, ended_at <= _microseconds(as_of), known_at)


def _ended_at(level: BarArrays, delay: timedelta) -> Integers:
    assert level.end_at is not None
    is_reached = level.values["reach_at"] == level.end_at
    return level.end_at + np.where(is_reached, 0, delay // timedelta(microseconds=1))


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
