"""Where each bar's horizon ends, in rows and in time, and when its outcome was known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain import volatility
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.market import Horizon, Instants, Timeframe, TradingCalendar
from candlecast.errors import InvalidSpec, NotFound
from candlecast.labels.confidence import confidence
from candlecast.labels.paths import RangeMax

MAX_SESSIONS: Final = 1 << 20
"""More than any calendar has: symbol and session make one ordered key."""
Places: TypeAlias = NDArray[np.intp]
"""(n_bars,) positions of rows of PRICES, -1 where there is none."""


@dataclass(frozen=True, eq=False)
class Window:
    """One horizon counted from every bar; arrays of shape (n_bars,) in the order of PRICES.

    `n_bars` is its nominal length. `due_at` is when it ends by the calendar, `last` the newest bar
    of the symbol that closed by then (the bar itself, if no other), and `ended` the one whose close
    is the outcome, -1 where it is missing or has not come. `seen_at` is when the outcome was known
    and that no other bar is: not before `due_at`, nor before the bar itself.
    """

    horizon: Horizon
    n_bars: NDArray[np.int64]
    due_at: Instants
    last: Places
    ended: Places
    seen_at: Instants


class Outcome(NamedTuple):
    """What a label says of every bar, (n_bars,) each: NaN `value` where nothing is known.

    `distance` tells how far the deciding quantity is from where the answer would change, in
    units of volatility; NaN where there is none.
    """

    value: FloatArray
    end_at: Instants
    distance: FloatArray


@dataclass(frozen=True, eq=False)
class Bars:
    """PRICES as arrays of one length; `code` numbers the symbols and `calendars` in their order."""

    prices: pl.DataFrame
    timeframe: Timeframe
    calendars: tuple[TradingCalendar, ...]
    code: NDArray[np.int64]
    session: NDArray[np.int64]
    close_at: Instants
    known_at: Instants
    log_close: FloatArray

    @classmethod
    def of(
        cls,
        prices: pl.DataFrame,
        timeframe: Timeframe,
        calendars: Mapping[str, TradingCalendar],
    ) -> Bars:
        """The bars of PRICES; NotFound when a ticker has no calendar."""
        code = prices["symbol"].rle_id().cast(pl.Int64).to_numpy()
        first = np.flatnonzero(np.diff(code, prepend=-1))
        tickers = tuple(prices["symbol"].gather(first))
        for ticker in tickers:
            if ticker not in calendars:
                raise NotFound.among("symbol with a calendar", ticker, calendars)
        return cls(
            prices,
            timeframe,
            tuple(calendars[ticker] for ticker in tickers),
            code,
            prices["session"].to_numpy(),
            prices["close_at"].dt.replace_time_zone(None).to_numpy(),
            prices["known_at"].dt.replace_time_zone(None).to_numpy(),
            prices["close"].log().to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.code)

    def log_of(self, column: str) -> FloatArray:
        """The logarithm of a price, (n_bars,)."""
        return self.prices[column].log().to_numpy()

    @cached_property
    def volatility(self) -> FloatArray:
        """Forecast standard deviation of the next bar's log return, as known at each bar.

        NaN while warming up, where nothing moves, and for bars that came late: what was known
        then had no place for them.
        """
        expression = volatility.scale().over("segment")
        if not self.is_late.any():
            return self.prices.select(expression).to_series().fill_null(np.nan).to_numpy()
        result = np.full(len(self), np.nan)
        in_time = self.prices.filter(pl.Series(~self.is_late))
        known = in_time.select(expression).to_series().fill_null(np.nan)
        result[~self.is_late] = known.to_numpy()
        return result

    @cached_property
    def first_known_at(self) -> Instants:
        """When the first bar of the same symbol was known that is not earlier than this one."""
        is_before = (self.known_at[1:] < self.known_at[:-1]) & (self.code[1:] == self.code[:-1])
        if not is_before.any():
            return self.known_at
        frame = pl.DataFrame({"code": self.code, "known_at": self.known_at})
        least = pl.col("known_at").reverse().cum_min().reverse().over("code")
        return frame.select(least).to_series().to_numpy()

    @cached_property
    def is_late(self) -> NDArray[np.bool_]:
        """Whether a bar was known only after a later bar of its symbol."""
        return self.known_at > self.first_known_at

    @cached_property
    def _n_absent(self) -> NDArray[np.int64]:
        # Sessions without a bar, counted from the beginning of the frame.
        is_same = self.code[1:] == self.code[:-1]
        absent = np.where(is_same, np.maximum(np.diff(self.session) - 1, 0), 0)
        return np.concatenate([np.zeros(min(1, len(self)), np.int64), np.cumsum(absent)])

    @cached_property
    def markets(self) -> list[tuple[TradingCalendar, Places, Instants, Places]]:
        """Each calendar, its rows in order, their distinct `close_at`, and which one each has."""
        names = np.array([calendar.name for calendar in self.calendars])
        by_name = {calendar.name: calendar for calendar in self.calendars}
        found = []
        for name in sorted(by_name):
            rows = np.flatnonzero((names == name)[self.code])
            closes, which = _distinct(self.close_at[rows])
            found.append((by_name[name], rows, closes, which))
        return found

    def returns(self, window: Window) -> FloatArray:
        """Log return from each bar's close to the close its horizon ends with, NaN without one."""
        change = self.log_close[window.ended] - self.log_close
        return np.where(window.ended >= 0, change, np.nan)

    def unit(self, window: Window) -> FloatArray:
        """The volatility known at each bar times the root of the horizon's bars."""
        return np.asarray(self.volatility * np.sqrt(window.n_bars))

    def is_whole(self, ended: Places) -> NDArray[np.bool_]:
        """Whether there is a last bar, and no session without a bar before it."""
        return np.asarray((ended >= 0) & (self._n_absent[ended] == self._n_absent))

    def known_through(self, ended: Places) -> Instants:
        """When a bar and all that follow it up to its `ended` (its own row at least) were known."""
        if not self.is_late.any():
            return self.known_at[ended]
        rows = np.arange(len(self))
        longest = int((ended - rows).max(initial=0)) + 1
        latest = RangeMax(self.known_at.astype(np.int64), longest).between(rows, ended)
        return np.asarray(latest.astype("M8[us]"))

    def window(self, horizon: Horizon) -> Window:
        """The horizon from every bar; InvalidSpec if it is no whole number of bars."""
        n = len(self)
        n_bars, due_at = np.empty(n, np.int64), np.empty(n, "M8[us]")
        last, ended = np.empty(n, np.intp), np.empty(n, np.intp)
        for calendar, rows, closes, which in self.markets:
            ends = calendar.advance(closes, horizon)
            if np.isnat(ends).any():
                raise InvalidSpec(f"horizon {horizon} ends after the calendar {calendar.name} does")
            n_bars[rows] = horizon.bars(self.timeframe, calendar)
            due_at[rows] = due = ends[which]
            if self.timeframe.is_daily:
                n_sessions = horizon.sessions(calendar)
                found, is_outcome = self._sessions_later(rows, n_sessions)
            else:
                sessions = np.searchsorted(calendar.closes, ends)
                found, is_outcome = self._last_until(rows, due, sessions[which])
            last[rows] = found
            ended[rows] = np.where(is_outcome, found, -1)
        return Window(horizon, n_bars, due_at, last, ended, self._seen_at(due_at, ended))

    def _seen_at(self, due_at: Instants, ended: Places) -> Instants:
        seen = np.maximum(due_at, self.known_at)
        seen = np.where(ended >= 0, np.maximum(seen, self.known_at[ended]), seen)
        if self.timeframe.is_daily:
            return seen
        # That a bar was the last one is known when a later one is.
        is_inferred = (ended >= 0) & (self.close_at[ended] < due_at)
        rows = np.flatnonzero(is_inferred)
        seen[rows] = np.maximum(seen[rows], self.first_known_at[ended[rows] + 1])
        return seen

    def _sessions_later(self, rows: Places, n_sessions: int) -> tuple[Places, NDArray[np.bool_]]:
        # The same symbol's last bars at most `n_sessions` later, and whether just as many.
        keys = self.code[rows] * MAX_SESSIONS + self.session[rows]
        found = np.searchsorted(keys, keys + n_sessions, side="right") - 1
        return rows[found], keys[found] == keys + n_sessions

    def _last_until(
        self, rows: Places, due_at: Instants, session: NDArray[np.intp]
    ) -> tuple[Places, NDArray[np.bool_]]:
        # The same symbol's last bars that closed by `due_at`, and whether they did so in its
        # `session` and a later bar proves that they are the last.
        first = self.close_at[rows].min()
        closed = (self.close_at[rows] - first).astype(np.int64)
        asked = (due_at - first).astype(np.int64)
        span = int(asked.max()) + 1
        keys, wanted = self.code[rows] * span + closed, self.code[rows] * span + asked
        found = np.searchsorted(keys, wanted, side="right") - 1
        following = np.minimum(found + 1, len(keys) - 1)
        is_same = self.code[rows[following]] == self.code[rows]
        is_proven = (keys[found] == wanted) | ((following > found) & is_same)
        return rows[found], is_proven & (self.session[rows[found]] == session)


def make_labels(
    bars: Bars, horizons: Sequence[str], outcome: Callable[[Window], Outcome]
) -> pl.DataFrame:
    """LABELS of what `outcome` says of each of `horizons`, one row a bar and horizon."""
    names = sorted({Horizon.parse(text).name for text in horizons})
    if not len(bars):
        return FRAME.empty()
    lengths, found = [], []
    for name in names:
        window = bars.window(Horizon.parse(name))
        lengths.append(window.n_bars)
        found.append(outcome(window))
    values, ends, distances = (_interleaved(arrays) for arrays in zip(*found, strict=True))
    of_bar = np.repeat(np.arange(len(bars), dtype=np.uint32), len(names))
    of_name = np.tile(np.arange(len(names), dtype=np.uint32), len(bars))
    clear = np.where(np.isnan(values), np.nan, confidence(distances))
    return pl.DataFrame(
        {
            "symbol": bars.prices["symbol"].gather(of_bar),
            "ts": bars.prices["ts"].gather(of_bar),
            "horizon": pl.Series(names, dtype=pl.String).gather(of_name),
            "horizon_bars": pl.Series(_interleaved(lengths), dtype=pl.Int64),
            "value": pl.Series(values, dtype=pl.Float64).fill_nan(None),
            "end_at": pl.Series(ends, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "confidence": pl.Series(clear, dtype=pl.Float64).fill_nan(None),
        },
        schema=FRAME.columns,
    )


def _distinct(instants: Instants) -> tuple[Instants, Places]:
    # Sorted distinct values, and which of them each is; quicker than np.unique on many rows.
    series = pl.Series(instants)
    distinct = series.unique().sort()
    closes = distinct.to_numpy()
    return closes, np.searchsorted(closes, instants)


def _interleaved(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    # One value a bar and horizon: all horizons of the first bar, then those of the second.
    return np.stack(columns, axis=1).reshape(-1)
