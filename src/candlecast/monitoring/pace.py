"""How many bars a symbol usually has: by time of day, between any two instants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.market import Instants, Timeframe, TradingCalendar
from candlecast.monitoring.places import BUCKET_MINUTES, instants


@dataclass(frozen=True, eq=False)
class Pace:
    """How many bars a symbol should have between two instants.

    `opens` are those of the sessions since its first bar, `n_slots` how many bars fit into each,
    `before` the bars to be expected before each session, `profile` those before each slot of a
    session, and `step` is the length of a bar.
    """

    opens: Instants
    n_slots: NDArray[np.int64]
    before: NDArray[np.float64]
    profile: NDArray[np.float64]
    step: np.timedelta64

    def place(self, moments: Instants) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Session and slot of the first slot that begins at or after each moment."""
        session = np.maximum(np.searchsorted(self.opens, moments, side="right") - 1, 0)
        slot = np.maximum(-((self.opens[session] - moments) // self.step), 0)
        is_over = slot >= self.n_slots[session]
        is_next = is_over & (session + 1 < len(self.opens))
        slot = np.where(is_next, 0, np.minimum(slot, self.n_slots[session]))
        return session + is_next, slot

    def expected(self, start: Instants, end: Instants) -> NDArray[np.float64]:
        """Bars to be expected that begin in start <= ts < end."""
        begin, stop = self.place(start), self.place(end)
        at = [self.before[session] + self.profile[slot] for session, slot in (begin, stop)]
        return np.maximum(at[1] - at[0], 0)

    def n_slots_between(self, start: Instants, end: Instants) -> NDArray[np.int64]:
        """Slots that begin in start <= ts < end."""
        begin, stop = self.place(start), self.place(end)
        before = np.concatenate([[0], np.cumsum(self.n_slots)])
        slots: NDArray[np.int64] = before[stop[0]] + stop[1] - before[begin[0]] - begin[1]
        return np.maximum(slots, 0)

    def n_sessions(self, start: Instants, end: Instants) -> NDArray[np.int64]:
        """Whole sessions within start <= t < end."""
        begin, stop = self.place(start), self.place(end)
        whole: NDArray[np.int64] = stop[0] - begin[0] - (begin[1] > 0)
        return np.maximum(whole, 0)

    def first_and_last(self, start: Instants, end: Instants) -> tuple[Instants, Instants]:
        """The `ts` of the first and the last slot within start <= ts < end."""
        session, slot = self.place(start)
        until, beyond = self.place(end)
        is_before = (beyond == 0) & (until > 0)
        last_slot = np.where(is_before, self.n_slots[until - is_before], beyond) - 1
        first = self.opens[session] + slot * self.step
        return first, self.opens[until - is_before] + last_slot * self.step


def make_pace(
    bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar, as_of: datetime
) -> Pace:
    """The pace of one symbol's `bars` (with places, within sessions), as far as `as_of`."""
    ts = instants(bars["ts"])
    until = max(np.datetime64(as_of.replace(tzinfo=None), "us"), ts[-1])
    opens = calendar.sessions.astype("datetime64[us]") if timeframe.is_daily else calendar.opens
    first = max(int(np.searchsorted(opens, ts[0], side="right")) - 1, 0)
    span = slice(first, int(np.searchsorted(opens, until, side="right")) + 1)
    step = np.timedelta64(timeframe.minutes, "m")
    if timeframe.is_daily:
        n_slots, profile = np.ones(len(opens[span]), np.int64), np.array([0.0, 1.0])
    else:
        n_slots = -((calendar.opens[span] - calendar.closes[span]) // step).astype(np.int64)
        profile = _profile(bars, n_slots, first, timeframe)
    before = np.concatenate([[0.0], np.cumsum(profile[n_slots])[:-1]])
    return Pace(opens[span], n_slots, before, profile, step)


def _profile(
    bars: pl.DataFrame, n_slots: NDArray[np.int64], first: int, timeframe: Timeframe
) -> NDArray[np.float64]:
    # Share of the sessions with a bar, by time of day, among sessions with any bar at all.
    per_bucket = max(1, BUCKET_MINUTES // timeframe.minutes)
    seen = n_slots[np.unique(bars["session"].to_numpy()) - first]
    n_all = int(n_slots.max(initial=1))
    bucket = np.arange(n_all) // per_bucket
    n_longer = np.bincount(seen, minlength=n_all + 1)[::-1].cumsum()[::-1]
    offered = np.bincount(bucket, n_longer[1:])
    filled = np.bincount(bucket[bars["slot"].to_numpy()], minlength=len(offered))
    share = np.minimum(filled / np.maximum(offered, 1), 1)
    return np.concatenate([[0.0], np.cumsum(share[bucket])])
