"""How old a forecast is, and whether it still stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

import numpy as np

from candlecast.domain.market import TradingCalendar

State: TypeAlias = Literal["fresh", "stale"]


def fresh_until(as_of: datetime, end_at: datetime, calendar: TradingCalendar) -> datetime:
    """The instant up to which a forecast stands: its own end, or the next session's close.

    Once the session after `as_of` has closed there are newer bars, hence there should be a newer
    forecast; and a forecast whose horizon is over says nothing any more. The earlier one counts.
    """
    instant = np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None), "us")
    following = np.searchsorted(calendar.closes, instant, side="right")
    if following == len(calendar.closes):
        return end_at
    close: datetime = calendar.closes[following].astype("datetime64[us]").item()
    return min(end_at, close.replace(tzinfo=UTC))


def state_at(now: datetime, until: datetime) -> State:
    """``stale`` once the clock has passed `until`."""
    return "stale" if now > until else "fresh"
