"""Which bars are asked for, which must be there by an instant, where they begin; coarser ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.buckets import find_buckets
from candlecast.domain.frames import BARS, UNSTAMPED
from candlecast.domain.market import Symbol, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.resample import resample


@dataclass(frozen=True)
class Question:
    """Bars of one symbol, called `name` there, that open in start <= ts < end, told at `now`."""

    symbol: Symbol
    name: str
    timeframe: Timeframe
    start: datetime | None
    end: datetime
    now: datetime


def published_until(instant: datetime, timeframe: Timeframe, calendar: TradingCalendar) -> datetime:
    """The end of the span of bars that had closed by `instant`: all those with ts before it."""
    at = np.datetime64(instant.astimezone(UTC).replace(tzinfo=None), "us")
    if timeframe.is_daily:
        later = int(np.searchsorted(calendar.closes, at, side="right"))
        return _aware(calendar.sessions[min(later, len(calendar.sessions) - 1)])
    index = int(np.searchsorted(calendar.opens, at, side="right")) - 1
    if index < 0 or at >= calendar.closes[index]:
        return _aware(at)
    step = np.timedelta64(timeframe.minutes, "m")
    return _aware(calendar.opens[index] + (at - calendar.opens[index]) // step * step)


def places(
    at: pl.Series, timeframe: Timeframe, calendar: TradingCalendar
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each instant: is it within a session, and does an intraday bar begin there?"""
    instants = at.dt.replace_time_zone(None).to_numpy()
    begins = find_buckets(instants, timeframe, calendar).start_at
    return ~np.isnat(begins), begins == instants


def built_from(
    bars: pl.DataFrame,
    finer: Timeframe,
    target: Timeframe,
    symbol: Symbol,
    until: datetime,
) -> pl.DataFrame:
    """UNSTAMPED bars of `target` that have ended by `until`, from all `finer` ones that have."""
    calendars = {symbol.ticker: trading_calendar(symbol.calendar)}
    known = BARS.conform(bars.with_columns(known_at="ts"))
    return UNSTAMPED.conform(resample(known, finer, target, calendars, as_of=until))


def _aware(instant: np.datetime64) -> datetime:
    naive: datetime = instant.astype("datetime64[us]").astype(datetime)
    return naive.replace(tzinfo=UTC)
