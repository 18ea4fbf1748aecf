"""The features of one timeframe laid out so that the window of any row is found at once.

The newest row known at an instant is the one of the latest ts among those with an as_of no later.
Where bars came late as_of does not ascend with ts, so the rows of a symbol are looked up by the
smallest as_of from each of them on: that one ascends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.errors import BadFrame, LeakageError, NotEnoughHistory, NotFound

Single: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

MAX_MISSED_SESSIONS: Final = 1
"""A newest bar is stale once more trading time than so many usual sessions and one further bar has
passed since it closed. Thin symbols may be silent for a session, and a vendor's daily bars may
come a day late; more is missing data."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The features of one timeframe as arrays; rows by symbol, segment and ts.

    Attributes
    ----------
    tickers : the symbols, ascending; `starts` (n_symbols + 1,) their first rows, and the end
    calendars : of each ticker
    values : (n, n_features), NaN where a feature is not known; `is_complete` (n,) where all are
    as_of : (n,) from when on a row may be seen, `close_at` (n,) when its bar ended: microseconds
        since 1970
    segment_start : (n,) the first row of the row's segment
    by_ts : (n,) the rows by symbol and ts; `seen_from` (n,) when one of them, or one of a later
        ts, is first known: ascending within a symbol
    is_ordered : whether as_of ascends within all segments, so that windows are slices
    """

    timeframe: Timeframe
    tickers: tuple[str, ...]
    starts: Integers
    calendars: tuple[TradingCalendar, ...]
    values: Single
    is_complete: Flags
    as_of: Integers
    close_at: Integers
    segment_start: Integers
    by_ts: Integers
    seen_from: Integers
    is_ordered: bool

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """One timeline of several of the same timeframe, whose symbols ascend from each to next."""
        first = parts[0]
        if len(parts) == 1:
            return first
        tickers = tuple(ticker for part in parts for ticker in part.tickers)
        if list(tickers) != sorted(set(tickers)):
            raise BadFrame("timelines to be joined share symbols, or are out of order; sort them")
        lengths = [len(part.as_of) for part in parts]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        moved = list(zip(parts, offsets, strict=False))
        ends = [part.starts[1:] + offset for part, offset in moved]
        plain = ("values", "is_complete", "as_of", "close_at", "seen_from")
        return cls(
            first.timeframe,
            tickers,
            np.concatenate([first.starts[:1], *ends]),
            tuple(calendar for part in parts for calendar in part.calendars),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in plain},
            segment_start=np.concatenate([part.segment_start + offset for part, offset in moved]),
            by_ts=np.concatenate([part.by_ts + offset for part, offset in moved]),
            is_ordered=all(part.is_ordered for part in parts),
        )

    def newest(self, codes: Integers, until: Integers) -> Integers:
        """(n,) the row of the latest ts that each symbol (-1: none) has known by `until`, or -1."""
        start, end = self.starts[codes], self.starts[codes + 1]
        place = _last_until(self.seen_from, start, np.where(codes < 0, start, end), until)
        return np.where(place < start, -1, self.by_ts[np.maximum(place, 0)])

    def window(self, newest: Integers, until: Integers, n_steps: int) -> Integers:
        """(n, n_steps) rows up to `newest`, in its segment and known by `until`; -1 for none."""
        index = newest[:, None] + np.arange(1 - n_steps, 1)
        first = np.where(newest < 0, 0, self.segment_start[newest])
        index[index < first[:, None]] = -1
        if not self.is_ordered:
            is_later = (index >= 0) & (self.as_of[index] > until[:, None])
            has_later = is_later.any(axis=1)
            if has_later.any():
                index[has_later] = self._compacted(newest[has_later], until[has_later], n_steps)
        return index

    def age_bars(self, codes: Integers, newest: Integers, until: Integers) -> tuple[Single, Flags]:
        """(n,) how many usual bars' trading time passed since `newest` closed, and if it is stale.

        NaN, and stale, where there is no newest row.
        """
        names = [calendar.name for calendar in self.calendars]
        age, most = np.full(len(codes), np.nan), np.zeros(len(codes))
        for name in set(names):
            calendar = self.calendars[names.index(name)]
            own = np.array([other == name for other in names])[codes] & (newest >= 0)
            n_bars = calendar.bars_per_session(self.timeframe)
            closed, asked = self.close_at[newest[own]], until[own]
            age[own] = (_sessions_by(calendar, asked) - _sessions_by(calendar, closed)) * n_bars
            most[own] = MAX_MISSED_SESSIONS * n_bars + 1
        return age.astype(np.float32), ~(age <= most + 1e-6)

    def _compacted(self, newest: Integers, until: Integers, n_steps: int) -> Integers:
        # As many rows further back as it takes to find `n_steps` that were known.
        first, width = self.segment_start[newest], 2 * n_steps
        while True:
            index = newest[:, None] - np.arange(width)
            is_known = index >= first[:, None]
            is_known &= self.as_of[np.maximum(index, 0)] <= until[:, None]
            rank = is_known.cumsum(axis=1)
            if ((rank[:, -1] >= n_steps) | (newest - width < first)).all():
                break
            width *= 2
        rows, columns = np.nonzero(is_known & (rank <= n_steps))
        found = np.full((len(newest), n_steps), -1)
        found[rows, n_steps - rank[rows, columns]] = index[rows, columns]
        return found


def make_timeline(
    timeframe: Timeframe,
    prices: pl.DataFrame,
    features: pl.DataFrame,
    names: Sequence[str],
    calendars: Mapping[str, TradingCalendar],
) -> Timeline:
    """The features `names` of FEATURES, row by row those of PRICES, ready for look-ups.

    NotEnoughHistory without rows, BadFrame where the two frames have other rows, LeakageError
    where a row is stamped before its bar was known.
    """
    if prices.is_empty():
        raise NotEnoughHistory(f"there are no {timeframe} bars; ingest or derive some")
    if not features.select("symbol", "ts").equals(prices.select("symbol", "ts")):
        raise BadFrame("FEATURES have other rows than PRICES; compute them from these PRICES")
    known_at, as_of, close_at = (
        frame[name].to_physical().to_numpy()
        for frame, name in ((prices, "known_at"), (features, "as_of"), (prices, "close_at"))
    )
    if (as_of < known_at).any():
        raise LeakageError(f"{timeframe} features are stamped before their bars were known")
    as_of = np.maximum(as_of, close_at)  # no bar is seen before it has ended
    tickers, codes, starts = _runs(prices["symbol"])
    for ticker in tickers:
        if ticker not in calendars:
            raise NotFound.among("symbol with a calendar", ticker, calendars)
    segment = prices["segment"].to_numpy()
    order = np.lexsort((segment, codes))  # stable: by ts within a segment
    by_ts = np.empty_like(order)
    by_ts[order] = np.arange(len(order))
    is_first = np.diff(segment[order], prepend=0) != 0
    is_first[starts[:-1]] = True
    columns = features.select(pl.col(*names).cast(pl.Float32)).to_numpy()
    placed = as_of[order]
    return Timeline(
        timeframe,
        tickers,
        starts,
        tuple(calendars[ticker] for ticker in tickers),
        values=np.ascontiguousarray(columns)[order],
        is_complete=np.isfinite(columns).all(axis=1)[order],
        as_of=placed,
        close_at=close_at[order],
        segment_start=np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0)),
        by_ts=by_ts,
        seen_from=_seen_from(as_of, codes),
        is_ordered=bool(((np.diff(placed) >= 0) | is_first[1:]).all()),
    )


def _runs(symbols: pl.Series) -> tuple[tuple[str, ...], Integers, Integers]:
    runs = symbols.rle().struct.unnest()
    lengths = runs["len"].to_numpy().astype(np.int64)
    codes = np.repeat(np.arange(len(lengths)), lengths)
    return tuple(runs["value"]), codes, np.concatenate([[0], np.cumsum(lengths)])


def _seen_from(as_of: Integers, codes: Integers) -> Integers:
    # The smallest as_of of a row and those of its symbol after it: the row of the latest ts among
    # those known by an instant is the last one whose value here is no later than that.
    if not ((np.diff(as_of) < 0) & (np.diff(codes) == 0)).any():
        return as_of
    frame = pl.DataFrame({"as_of": as_of, "code": codes})
    return frame.select(pl.col("as_of").cum_min(reverse=True).over("code"))["as_of"].to_numpy()


def _last_until(values: Integers, low: Integers, high: Integers, until: Integers) -> Integers:
    # The last place in low <= place < high whose value, they ascend there, is no later than
    # `until`; low - 1 where there is none. All bisections take their steps together.
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) // 2
        is_past = values[np.minimum(middle, len(values) - 1)] <= until
        is_open = low < high
        low, high = (
            np.where(is_open & is_past, middle + 1, low),
            np.where(is_open & ~is_past, middle, high),
        )
    return low - 1


def _sessions_by(calendar: TradingCalendar, instants: Integers) -> NDArray[np.float64]:
    # How many sessions, and which part of one, lie before each instant.
    opens, closes = calendar.opens.view(np.int64), calendar.closes.view(np.int64)
    index = np.maximum(np.searchsorted(opens, instants) - 1, 0)
    share = (instants - opens[index]) / (closes[index] - opens[index])
    elapsed: NDArray[np.float64] = index + np.clip(share, 0.0, 1.0)
    return elapsed
