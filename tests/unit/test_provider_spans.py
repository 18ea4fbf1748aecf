"""The span of bars that must have been published, against bars looked at one by one."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.market import MINUTES, Timeframe, trading_calendar
from candlecast.providers.spans import places, published_until

# Without a zone, as calendars have it; with Thanksgiving and a half-day.
FIRST, LAST = (datetime.fromisoformat(day) for day in ("2024-11-25", "2024-12-04"))


def every_bar(timeframe, calendar):
    """When the bars of some days open and close, by counting."""
    chosen = (calendar.opens >= np.datetime64(FIRST)) & (calendar.opens < np.datetime64(LAST))
    bars = []
    for day, start, end in zip(
        *(a[chosen].tolist() for a in (calendar.sessions, calendar.opens, calendar.closes)),
        strict=True,
    ):
        if timeframe.is_daily:
            bars.append((datetime.fromisoformat(str(day)), end))
            continue
        step = timedelta(minutes=timeframe.minutes)
        starts = [start + i * step for i in range(-((start - end) // step))]
        bars += [(ts, min(ts + step, end)) for ts in starts]
    return bars


@pytest.mark.parametrize("name", ["XNYS", "24/7"])
@given(
    instant=st.datetimes(FIRST + timedelta(days=1), LAST - timedelta(days=2)),
    timeframe=st.sampled_from([Timeframe(minutes) for minutes in MINUTES.values()]),
)
def test_all_bars_within_the_span_have_closed_and_no_closed_one_is_outside(
    name, instant, timeframe
):
    calendar = trading_calendar(name)
    told = published_until(instant.replace(tzinfo=UTC), timeframe, calendar).replace(tzinfo=None)
    for ts, closes_at in every_bar(timeframe, calendar):
        assert (ts < told) == (closes_at <= instant)


@pytest.mark.parametrize("name", ["XNYS", "24/7"])
def test_bars_begin_where_counting_begins_them(name):
    calendar = trading_calendar(name)
    minutes = np.arange(np.datetime64(FIRST), np.datetime64(LAST), np.timedelta64(1, "m"))
    at = pl.Series(minutes).dt.replace_time_zone("UTC")
    for timeframe in (Timeframe(1), Timeframe(15), Timeframe(240)):
        is_within, is_begin = places(at, timeframe, calendar)
        assert minutes[is_begin].tolist() == [ts for ts, _ in every_bar(timeframe, calendar)]
        finest = [ts for ts, _ in every_bar(Timeframe(1), calendar)]
        assert minutes[is_within].tolist() == finest
