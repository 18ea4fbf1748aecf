"""When is a silent feed a dead one, and how long until it is tried again?"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from candlecast.domain.bar_builder import MINUTE, minute_of
from candlecast.domain.market import Instants, Symbol, TradingCalendar, trading_calendar
from candlecast.errors import RateLimited

MOST_DOUBLINGS: Final = 4
"""A silence that proved true is believed longer the next time, up to 16 times as long."""
FLIGHT: Final = 2 * MINUTE
"""Bars that may have been on their way when something broke are asked for again."""


class Watchdog:
    """Judges a feed's silence against the calendars of its symbols.

    The feed is judged as a whole: in a session of any of its calendars, silence for `silence`
    means that the connection is dead, whatever it answers to pings. Where asking the vendor's
    archive shows that really nothing was traded (`found_true`), twice as much silence is believed
    until something is heard again.
    """

    def __init__(self, calendars: Collection[str], silence: timedelta, now: datetime) -> None:
        self._calendars = [trading_calendar(name) for name in sorted(set(calendars))]
        self._silence = silence
        self._n_true = 0
        self.heard_at = now

    def hear(self, now: datetime) -> None:
        """Something came in."""
        self.heard_at = max(self.heard_at, now)
        self._n_true = 0

    def found_true(self) -> None:
        """The silence was real."""
        self._n_true = min(self._n_true + 1, MOST_DOUBLINGS)

    def is_dead(self, now: datetime, connected_at: datetime) -> bool:
        """Whether the feed, connected at `connected_at`, has been silent for too long."""
        since = max(self.heard_at, connected_at)
        most = self._silence * 2**self._n_true
        if now - since < most:
            return False
        return any(_open_for(calendar, since, now) >= most for calendar in self._calendars)


class Backoff:
    """How long to wait before the next try: full jitter below a limit that doubles to `cap`.

    The limit is `first` again after a connection that was healthy for `healthy`.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        first: timedelta = timedelta(seconds=1),
        cap: timedelta = timedelta(seconds=60),
        healthy: timedelta = timedelta(seconds=60),
    ) -> None:
        self._generator = generator
        self._first, self._cap, self._healthy = first, cap, healthy
        self._n_failed = 0

    def wait_seconds(self, lasted: timedelta, error: Exception | None) -> float:
        """The wait after a connection that lasted so long and ended with `error`.

        A vendor that says how long to stay away is given at least that time.
        """
        if lasted >= self._healthy:
            self._n_failed = 0
        limit = min(self._cap.total_seconds(), self._first.total_seconds() * 2**self._n_failed)
        self._n_failed = min(self._n_failed + 1, 32)
        jitter = float(self._generator.uniform(0.0, limit))
        asked = error.retry_after_seconds if isinstance(error, RateLimited) else 0.0
        return asked + jitter


class Reconciler:
    """Says which spans of which symbols should be asked for although the feed is alive.

    The feed is judged as a whole, so a symbol that the vendor has silently stopped sending must
    be found otherwise: one without a tick for a third of `every`, its market open, is asked for
    every `every`, and each symbol two minutes after its session has ended.
    """

    def __init__(self, symbols: Collection[Symbol], every: timedelta, now: datetime) -> None:
        self._symbols, self._every = list(symbols), every
        self._began_at = minute_of(now)
        self._checked_at = self._asked_at = now
        self._heard_at = {symbol.ticker: now for symbol in symbols}

    def hear(self, ticker: str, now: datetime) -> None:
        """A tick of `ticker` came in."""
        self._heard_at[ticker] = now

    def due(self, now: datetime) -> list[tuple[list[str], datetime, datetime]]:
        """Tickers and spans to be asked for now, each told once."""
        calendars = {symbol.calendar for symbol in self._symbols}
        found = []
        settled = now - FLIGHT
        for name, open_at, close_at in _sessions_ended(calendars, self._checked_at, settled):
            own = [symbol.ticker for symbol in self._symbols if symbol.calendar == name]
            found.append((own, max(open_at, self._began_at), close_at))
        self._checked_at = max(self._checked_at, settled)
        if now - self._asked_at < self._every:
            return found
        self._asked_at = now
        for symbol in self._symbols:
            since = self._heard_at[symbol.ticker]
            if 3 * (now - since) >= self._every and is_open(symbol.calendar, now):
                found.append(([symbol.ticker], minute_of(since) - FLIGHT, minute_of(now)))
        return found


def is_open(calendar: str, now: datetime) -> bool:
    """Whether `now` lies in a session."""
    known = trading_calendar(calendar)
    index = int(np.searchsorted(known.opens, _naive(now)[0], side="right")) - 1
    return index >= 0 and bool(_naive(now)[0] < known.closes[index])


def _sessions_ended(
    calendars: Collection[str], since: datetime, until: datetime
) -> list[tuple[str, datetime, datetime]]:
    # Calendar, open and close of the sessions that ended in since < close <= until.
    ended = []
    for name in sorted(calendars):
        calendar = trading_calendar(name)
        first, last = np.searchsorted(calendar.closes, _naive(since, until), side="right")
        ended += [
            (name, _aware(calendar.opens[index]), _aware(calendar.closes[index]))
            for index in range(first, last)
        ]
    return ended


def _open_for(calendar: TradingCalendar, since: datetime, now: datetime) -> timedelta:
    # How much of since … now lies in the session that `now` is in; nothing while it is closed.
    start, end = _naive(since, now)
    index = int(np.searchsorted(calendar.opens, end, side="right")) - 1
    if index < 0 or end >= calendar.closes[index]:
        return timedelta(0)
    elapsed: timedelta = (end - max(start, calendar.opens[index])).item()
    return elapsed


def _naive(*instants: datetime) -> Instants:
    naive = [instant.astimezone(UTC).replace(tzinfo=None) for instant in instants]
    return np.array(naive, dtype="datetime64[us]")


def _aware(instant: np.datetime64) -> datetime:
    moment: datetime = instant.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)
