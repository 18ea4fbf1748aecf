"""Which spans of a symbol's bars are missing, by coverage, stored sessions and the calendar.

Missing is what lies neither in a span that some provider answered to the end, nor in a session
with stored bars of which no provider was asked. Where no market was open nothing is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.market import Symbol, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.sources import Span, is_simulated
from candlecast.pipelines.universe import instants
from candlecast.store.coverage import read_coverage
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

NO_TIMES: Final = np.array([], dtype="datetime64[us]")
HISTORY_DAYS: Final = {1: 7, 5: 59, 10: 59, 15: 59, 30: 59, 60: 729, 240: 729, 1440: 7_300}
"""How far back, by the minutes of a bar, where nothing is said: what free sources offer."""


def find_missing(
    stores: Stores,
    symbols: Sequence[Symbol],
    timeframe: Timeframe,
    span: tuple[datetime | None, datetime],
    recheck: timedelta,
) -> dict[str, list[Span]]:
    """For each ticker the spans to ask for, oldest first; the newest `recheck` anew.

    Without a start it is the first stored bar, or the usual depth of history.
    """
    start, until = span
    known = {symbol.ticker for symbol in read_symbols(stores.database)}
    tickers = [symbol.ticker for symbol in symbols if symbol.ticker in known]
    answered = spans_by_symbol(read_coverage(stores.database, timeframe, tickers))
    stored = stores.mirror.read(timeframe, symbols=tickers) if tickers else None
    times = {} if stored is None else _real_times(stored)
    found = {}
    for symbol in symbols:
        calendar = trading_calendar(symbol.calendar)
        spans = answered.get(symbol.ticker, [])
        own = _stored_sessions(times.get(symbol.ticker, NO_TIMES), calendar, timeframe, spans)
        first = min((begin for begin, _ in (*spans, *own)), default=None)
        usual = until - timedelta(days=HISTORY_DAYS[timeframe.minutes])
        settled = [(begin, min(end, until - recheck)) for begin, end in (*spans, *own)]
        todo = without((start or first or usual, until), settled)
        found[symbol.ticker] = [s for s in todo if was_open(calendar, s, timeframe)]
    return found


def without(span: Span, taken: Iterable[Span]) -> list[Span]:
    """What is left of `span` when all `taken` ones are cut out, in order."""
    left = []
    start, end = span
    for begin, stop in sorted(taken):
        if begin >= end:
            break
        if begin > start:
            left.append((start, begin))
        start = max(start, stop)
    return [*left, (start, end)] if start < end else left


def was_open(calendar: TradingCalendar, span: Span, timeframe: Timeframe) -> bool:
    """Whether a bar of `timeframe` can open, and end, within `span`."""
    start, end = (np.datetime64(instant.replace(tzinfo=None), "us") for instant in span)
    if timeframe.is_daily:
        opens = calendar.sessions.astype("datetime64[us]")
        first = np.searchsorted(opens, start, side="left")
        return bool(first < len(opens) and opens[first] < end and calendar.closes[first] <= end)
    first = np.searchsorted(calendar.closes, start, side="right")
    return bool(first < len(calendar.opens) and calendar.opens[first] < end)


def windows(span: Span, length: timedelta) -> Iterator[Span]:
    """`span` in pieces of at most `length`, in order."""
    start, end = span
    while start < end:
        stop = min(start + length, end)
        yield start, stop
        start = stop


def _real_times(bars: pl.DataFrame) -> dict[str, NDArray[np.datetime64]]:
    # Of each symbol's bars that were traded; no other column is touched.
    real = bars.select("symbol", "ts", "source").filter(~is_simulated(pl.col("source")))
    parts = real.drop("source").partition_by("symbol", as_dict=True, include_key=False)
    return {str(ticker): instants(part["ts"]) for (ticker,), part in parts.items()}


def spans_by_symbol(spans: pl.DataFrame) -> dict[str, list[Span]]:
    """The spans of `store.coverage.read_coverage`, of each symbol in order."""
    found: dict[str, list[Span]] = {}
    for ticker, start, end in spans.iter_rows():
        found.setdefault(ticker, []).append((start, end))
    return found


def _stored_sessions(
    ts: NDArray[np.datetime64],
    calendar: TradingCalendar,
    timeframe: Timeframe,
    answered: Sequence[Span],
) -> list[Span]:
    # Runs of sessions that have bars although no provider answered for any part of them.
    if not len(ts):
        return []
    edges = (
        calendar.sessions.astype("datetime64[us]")
        if timeframe.is_daily
        else np.concatenate([calendar.opens[:1], calendar.closes])
    )
    index = np.unique(np.searchsorted(edges, ts, side="right") - 1)
    index = index[(index >= 0) & (index < len(edges) - 1)]
    for begin, stop in answered:
        low, high = (np.datetime64(i.replace(tzinfo=None), "us") for i in (begin, stop))
        index = index[~((edges[index] < high) & (edges[index + 1] > low))]
    if not len(index):
        return []
    breaks = np.flatnonzero(np.diff(index) > 1)
    firsts = index[np.concatenate([[0], breaks + 1])]
    lasts = index[np.concatenate([breaks, [len(index) - 1]])]
    newest = ts.max() + np.timedelta64(timeframe.minutes, "m")
    ends = np.minimum(edges[lasts + 1], newest)
    return [(_instant(a), _instant(b)) for a, b in zip(edges[firsts], ends, strict=True)]


def _instant(value: np.datetime64) -> datetime:
    moment: datetime = value.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)
