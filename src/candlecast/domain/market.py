"""Symbol, Timeframe, Horizon, trading calendars, Clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from candlecast.errors import InvalidSpec, NotFound

Instants: TypeAlias = NDArray[np.datetime64]
"""datetime64[us], UTC without saying so; NaT where there is none."""

FIRST_SESSION, LAST_SESSION = "1990-01-01", "2039-12-31"
ALWAYS_OPEN = "24/7"
MINUTES = {"1m": 1, "5m": 5, "10m": 10, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}


class Clock(Protocol):
    """Where time comes from: injected, so that tests and replays can stand still."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that may ask


@dataclass(frozen=True)
class FixedClock:
    """A clock that stands still at `instant`."""

    instant: datetime

    def now(self) -> datetime:
        """Always the same instant."""
        return self.instant


@dataclass(frozen=True)
class Symbol:
    """What is traded: its ticker and the calendar of the place where it trades.

    `providers` are asked in this order (none: whom the user names); `aliases` holds, as
    (provider, name), what a provider calls it where the rules of `domain.tickers` do not fit.
    """

    ticker: str
    asset_class: str = "equity"
    calendar: str = "XNYS"
    currency: str = "USD"
    is_active: bool = True
    providers: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, order=True)
class Timeframe:
    """The length of a bar. ``1d`` is one session, whatever its hours."""

    minutes: int

    def __post_init__(self) -> None:
        if self.minutes not in MINUTES.values():
            raise InvalidSpec(f"no timeframe has {self.minutes} minutes; use {', '.join(MINUTES)}")

    @classmethod
    def parse(cls, text: str) -> Timeframe:
        """The timeframe named `text`, e.g. ``5m`` or ``1d``; NotFound names the close ones."""
        if text not in MINUTES:
            raise NotFound.among("timeframe", text, MINUTES)
        return cls(MINUTES[text])

    @property
    def name(self) -> str:
        """``1m`` … ``1d``."""
        return next(name for name, minutes in MINUTES.items() if minutes == self.minutes)

    @property
    def is_daily(self) -> bool:
        """Whether one bar is one session."""
        return self.minutes == MINUTES["1d"]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Horizon:
    """How far ahead: ``30m``, ``4h``, ``5d``, ``1D``, ``1W``, ``1M``.

    ``m`` and ``h`` count trading time, ``d`` (and ``D``) counts sessions. ``W`` and ``M`` are
    5 and 21 sessions where the calendar rests, 7 and 30 where it is always open.
    """

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Horizon:
        """The horizon named `text`; InvalidSpec says which forms there are."""
        match = re.fullmatch(r"([1-9][0-9]{0,3})([mhdDwWM])", text.strip())
        if match is None:
            raise InvalidSpec(
                f"unknown horizon {text!r}; use 1D, 1W, 1M or a count of minutes, hours or "
                "days such as 30m, 4h, 5d"
            )
        unit = match[2] if match[2] in "mhM" else match[2].upper()
        return cls(int(match[1]), unit)

    @property
    def name(self) -> str:
        """The one way this horizon is written."""
        return f"{self.count}{'d' if self.unit == 'D' and self.count > 1 else self.unit}"

    @property
    def minutes(self) -> int | None:
        """Its length in trading minutes, or None when it counts sessions."""
        return {"m": self.count, "h": self.count * 60}.get(self.unit)

    @property
    def rank(self) -> int:
        """Minutes of calendar time, roughly: what horizons are put in order by."""
        return self.count * {"m": 1, "h": 60, "D": 1440, "W": 7 * 1440, "M": 30 * 1440}[self.unit]

    def sessions(self, calendar: TradingCalendar) -> int:
        """Its length in sessions of `calendar`; only for horizons that count sessions."""
        is_always_open = calendar.name == ALWAYS_OPEN
        per_unit = {"D": 1, "W": 7 if is_always_open else 5, "M": 30 if is_always_open else 21}
        return self.count * per_unit[self.unit]

    def bars(self, timeframe: Timeframe, calendar: TradingCalendar) -> int:
        """Its length in bars of `timeframe` on `calendar` (at least one)."""
        if self.minutes is None:
            return self.sessions(calendar) * calendar.bars_per_session(timeframe)
        if timeframe.is_daily or self.minutes % timeframe.minutes:
            raise InvalidSpec(
                f"horizon {self} is no whole number of {timeframe} bars; "
                f"choose a finer timeframe or another horizon"
            )
        return self.minutes // timeframe.minutes

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class TradingCalendar:
    """When a market is open: one row a session, ascending.

    `sessions` are dates, `opens` and `closes` instants; where a market never closes a session
    ends at the next midnight UTC.
    """

    name: str
    sessions: NDArray[np.datetime64]
    opens: Instants
    closes: Instants

    def bars_per_session(self, timeframe: Timeframe) -> int:
        """How many bars a usual session has; the last may be shorter than the others."""
        if timeframe.is_daily:
            return 1
        return -(-self._usual_minutes // timeframe.minutes)

    def session_index(self, ts: Instants) -> NDArray[np.int64]:
        """Ordinal of the session whose date `ts` falls on; -1 where it is no session."""
        days = ts.astype("datetime64[D]")
        index = np.searchsorted(self.sessions, days)
        found = self.sessions[np.minimum(index, len(self.sessions) - 1)] == days
        return np.where(found, index, -1)

    def close_at(self, ts: Instants, timeframe: Timeframe) -> Instants:
        """When the bars opening at `ts` end; NaT for a daily bar on a day without session."""
        ts = ts.astype("datetime64[us]")
        if timeframe.is_daily:
            index = self.session_index(ts)
            return np.where(index < 0, np.datetime64("NaT"), self.closes[index])
        end = ts + np.timedelta64(timeframe.minutes, "m")
        index = np.searchsorted(self.opens, ts, side="right") - 1
        close = self.closes[np.maximum(index, 0)]
        return np.where((index >= 0) & (ts < close), np.minimum(end, close), end)

    def is_open(self, instant: datetime) -> bool:
        """Whether a session is in progress; its close is no longer part of it."""
        at = np.datetime64(instant.replace(tzinfo=None), "us")
        index = np.searchsorted(self.opens, at, side="right") - 1
        return bool(index >= 0 and at < self.closes[index])

    def advance(self, closes: Instants, horizon: Horizon) -> Instants:
        """The instant `horizon` after each of `closes`, in trading time.

        A horizon in sessions ends that many sessions later at the same time of the session (at
        its close, if that comes earlier); one in minutes counts open minutes only. NaT past the
        end of the calendar.
        """
        index, offset = self._locate(closes.astype("datetime64[us]"))
        if horizon.minutes is None:
            at_close = closes >= self.closes[index]
            until = np.where(at_close, np.timedelta64(1, "D"), offset)
            return self._at(index + horizon.sessions(self), until)
        lengths = self.closes - self.opens
        elapsed = np.concatenate([[np.timedelta64(0, "us")], np.cumsum(lengths)])
        target = elapsed[index] + offset + np.timedelta64(horizon.minutes, "m")
        later = np.searchsorted(elapsed, target, side="left") - 1
        return self._at(later, target - elapsed[np.maximum(later, 0)])

    def following(self, ts: datetime, count: int) -> NDArray[np.datetime64]:
        """The `count` session dates after the date of `ts`."""
        day = np.datetime64(ts.replace(tzinfo=None), "D")
        start = np.searchsorted(self.sessions, day, side="right")
        return self.sessions[start : start + count]

    def _locate(self, instants: Instants) -> tuple[NDArray[np.int64], NDArray[Any]]:
        # A close belongs to the session it ends, hence side="left".
        index = np.maximum(np.searchsorted(self.opens, instants, side="left") - 1, 0)
        return index, np.minimum(instants, self.closes[index]) - self.opens[index]

    def _at(self, index: NDArray[np.int64], offset: NDArray[Any]) -> Instants:
        known = np.minimum(index, len(self.sessions) - 1)
        instant = np.minimum(self.opens[known] + offset, self.closes[known])
        return np.where(index < len(self.sessions), instant, np.datetime64("NaT"))

    @property
    def _usual_minutes(self) -> int:
        lengths = (self.closes - self.opens).astype("timedelta64[m]").astype(np.int64)
        return int(np.median(lengths))


@lru_cache(maxsize=16)
def trading_calendar(name: str) -> TradingCalendar:
    """The calendar `name` (an ISO 10383 code such as XNYS, or ``24/7``); NotFound otherwise."""
    if name == ALWAYS_OPEN:
        days = np.arange(FIRST_SESSION, LAST_SESSION, dtype="datetime64[D]")
        midnights = days.astype("datetime64[us]"), (days + 1).astype("datetime64[us]")
        return TradingCalendar(name, days, *midnights)
    import exchange_calendars as xcals

    known = xcals.get_calendar_names(include_aliases=True)
    if name not in known:
        raise NotFound.among("calendar", name, known)
    schedule = _schedule(name)
    return TradingCalendar(
        name,
        schedule.index.to_numpy().astype("datetime64[D]"),
        schedule["open"].dt.tz_localize(None).to_numpy().astype("datetime64[us]"),
        schedule["close"].dt.tz_localize(None).to_numpy().astype("datetime64[us]"),
    )


def _schedule(name: str) -> Any:
    # Some calendars know fewer years than we ask for: then as many as they know.
    import exchange_calendars as xcals

    try:
        return xcals.get_calendar(name, start=FIRST_SESSION, end=LAST_SESSION).schedule
    except (ValueError, NotImplementedError):
        pass
    try:
        usual = xcals.get_calendar(name)
        start = max(str(usual.bound_min() or FIRST_SESSION)[:10], FIRST_SESSION)
        end = min(str(usual.bound_max() or LAST_SESSION)[:10], LAST_SESSION)
        return xcals.get_calendar(name, start=start, end=end).schedule
    except (ValueError, NotImplementedError) as error:
        raise NotFound(f"calendar {name!r} cannot be built: {error}; use another") from error
