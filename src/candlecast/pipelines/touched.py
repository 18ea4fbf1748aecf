"""Which coarser buckets a change of finer bars touches, and what to read to make them anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.buckets import find_buckets
from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from candlecast.errors import NotFound
from candlecast.store.bars import read_ends
from candlecast.store.coverage import SPANS
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

MOST_BARS: Final = 5_000_000
"""How many finer bars are worked on at a time, roughly."""


@dataclass(frozen=True)
class Window:
    """The buckets of one timeframe that a span touches: the first and the last stamp, and from
    when until when finer bars are needed.
    """

    first_ts: datetime
    last_ts: datetime
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, eq=False)
class Task:
    """Symbols of one calendar with the same span, and what is to be made of their bars of
    `timeframe`.
    """

    timeframe: Timeframe
    tickers: list[str]
    calendar: TradingCalendar
    windows: Mapping[Timeframe, Window]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From when until when finer bars are needed for all windows."""
        windows = self.windows.values()
        return min(w.start_at for w in windows), max(w.end_at for w in windows)


def calendars_of(stores: Stores, symbols: Iterable[str]) -> dict[str, TradingCalendar]:
    """The calendar of each symbol; NotFound for one that is not stored."""
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    for ticker in symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    return {ticker: trading_calendar(known[ticker].calendar) for ticker in symbols}


def spans_behind(
    stores: Stores,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    targets: Sequence[Timeframe],
) -> pl.DataFrame:
    """Each symbol's span from the newest bar of that target which is furthest behind, or from its
    first bar, to its last.
    """
    spans = read_ends(stores.database, timeframe, symbols).with_columns(start_at="last")
    for target in targets:
        newest = read_ends(stores.database, target, symbols).select("symbol", newest="last")
        # A session may open before the midnight that its daily bar is stamped with.
        reached = pl.col("newest").dt.offset_by("-1d" if target.is_daily else "0m")
        begin = pl.max_horizontal("first", reached)
        spans = (
            spans.join(newest, on="symbol", how="left", maintain_order="left")
            .with_columns(start_at=pl.min_horizontal("start_at", begin))
            .drop("newest")
        )
    after = pl.col("last") + timedelta(minutes=timeframe.minutes)
    return spans.select("symbol", "start_at", end_at=after)


def find_tasks(
    stores: Stores, timeframe: Timeframe, spans: pl.DataFrame, targets: Sequence[Timeframe]
) -> Iterator[Task]:
    """What there is to do where bars of `timeframe` changed within `spans`."""
    now = stores.clock.now()
    calendars = calendars_of(stores, spans["symbol"].unique())
    names = pl.Series([calendars[ticker].name for ticker in spans["symbol"]], dtype=pl.String)
    groups = spans.select(*SPANS, calendar=names).group_by("calendar", "start_at", "end_at")
    for name, start, end, tickers in groups.agg("symbol").sort("start_at", "end_at").iter_rows():
        calendar = trading_calendar(name)
        windows = {}
        for target in targets:
            window = _window(start, end, target, calendar, now)
            if window is not None:
                windows[target] = window
        if not windows:
            continue
        task = Task(timeframe, sorted(set(tickers)), calendar, windows)
        begin, stop = task.span
        n_at_once = max(1, MOST_BARS * timedelta(minutes=timeframe.minutes) // (stop - begin))
        for place in range(0, len(task.tickers), n_at_once):
            yield replace(task, tickers=task.tickers[place : place + n_at_once])


def _window(
    start: datetime, end: datetime, target: Timeframe, calendar: TradingCalendar, now: datetime
) -> Window | None:
    # None where the span touches no session, or no bucket that has ended.
    first, after = (np.datetime64(edge.replace(tzinfo=None), "us") for edge in (start, end))
    next_session = np.searchsorted(calendar.closes, first, side="right")
    last_session = np.searchsorted(calendar.opens, after, side="left") - 1
    if next_session > last_session:
        return None
    first = max(first, calendar.opens[next_session])
    last = min(after, calendar.closes[last_session]) - np.timedelta64(1, "us")
    buckets = find_buckets(np.array([first, last]), target, calendar)
    ts, start_at, end_at = (
        [at.replace(tzinfo=UTC) for at in edge.tolist()]
        for edge in (buckets.ts, buckets.start_at, buckets.end_at)
    )
    return Window(ts[0], ts[1], start_at[0], end_at[1]) if end_at[0] <= now else None
