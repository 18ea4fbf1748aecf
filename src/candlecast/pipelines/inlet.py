"""Where a feed's thread hands over its ticks: bounded, and nothing is dropped in silence.

When the loop does not keep up the feed's thread waits at the door, so that the pressure goes back
to the vendor, who may end the connection; what was missed then is healed as after any outage.
Only quotes are not queued: the newest of each symbol stands for all before it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import polars as pl

from candlecast.domain.sources import FeedBar, Quote, Tick, Trade

CAPACITY: Final = 100_000
SOURCED: Final = (
    *("symbol", "ts", "open", "high", "low", "close", "volume"),
    *("vwap", "trade_count", "adj_close", "source"),
)


@dataclass(frozen=True, slots=True)
class Alive:
    """The feed vouches that it has handed over all bars that ended by `at`; the last if it ends."""

    at: datetime
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class SourcedBar(FeedBar):
    """A bar that a feed passes on from a source with a name of its own."""

    adj_close: float | None = None
    source: str = ""


Event: TypeAlias = Trade | FeedBar | Alive


def sourced_bars(rows: pl.DataFrame) -> list[SourcedBar]:
    """UNSTAMPED bars of one minute as a feed hands them over."""
    return [SourcedBar(*row) for row in rows.select(*SOURCED).iter_rows()]


class Inlet:
    """A queue from one feed's thread to the loop, open until `close`.

    Parameters
    ----------
    capacity : how many trades and bars may wait; the feed's thread waits where there are more.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._quotes: dict[str, Quote] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_busy = False
        self._n_takes = 0
        self._awaited_take = 0
        self._n_waiting = 0

    def __call__(self, tick: Tick) -> None:
        """Hand over a tick; waits where the queue is full, and gives up once it is closed."""
        if not isinstance(tick, Quote):
            self._put(tick)
            return
        with self._changed:
            self._quotes[tick.symbol] = tick

    def vouch(self, at: datetime, *, is_last: bool = False) -> None:
        """Say that all bars that ended by `at` have been handed over."""
        self._put(Alive(at, is_last))

    def take(self, timeout_seconds: float) -> list[Event]:
        """All that waits, or what comes first within the timeout; what was taken before is done."""
        with self._changed:
            self._is_busy = False
            self._n_takes += 1
            self._changed.notify_all()
            if not self._events:
                self._changed.wait_for(
                    lambda: self._events or self._awaited_take > self._n_takes, timeout_seconds
                )
            events = list(self._events)
            self._events.clear()
            self._is_busy = bool(events)
            self._changed.notify_all()
            return events

    def take_quotes(self) -> dict[str, Quote]:
        """The newest quote of each symbol that had one since the last call."""
        with self._changed:
            quotes, self._quotes = self._quotes, {}
            return quotes

    def wait_until_done(self) -> None:
        """Wait until the loop has dealt with all that was handed over, or the inlet is closed."""
        with self._changed:
            awaited = self._awaited_take = self._n_takes + 1
            self._n_waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: (
                    self._is_closed
                    or (self._n_takes >= awaited and not self._events and not self._is_busy)
                )
            )
            self._n_waiting -= 1

    @property
    def is_awaited(self) -> bool:
        """Whether the feed waits for the loop before it goes on."""
        return self._n_waiting > 0

    def close(self) -> None:
        """Take nothing more; whoever waits is let go. What is inside can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _put(self, event: Event) -> None:
        with self._changed:
            while len(self._events) >= self._capacity and not self._is_closed:
                self._changed.wait()
            if not self._is_closed:
                self._events.append(event)
                self._changed.notify_all()
