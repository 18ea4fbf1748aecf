"""Timeframes, horizons and calendars: half-days, summer time, markets that never close."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.market import (
    ALWAYS_OPEN,
    MINUTES,
    FixedClock,
    Horizon,
    SystemClock,
    Timeframe,
    trading_calendar,
)
from candlecast.errors import InvalidSpec, NotFound

DAILY, HOURLY, MINUTE = (Timeframe.parse(name) for name in ("1d", "1h", "1m"))


def at(*texts):
    return np.array(texts, dtype="datetime64[us]")


@pytest.fixture(scope="module")
def new_york():
    return trading_calendar("XNYS")


@pytest.fixture(scope="module")
def always():
    return trading_calendar(ALWAYS_OPEN)


@pytest.mark.parametrize("name", MINUTES)
def test_a_timeframe_is_written_as_it_is_read(name):
    assert str(Timeframe.parse(name)) == name
    assert Timeframe.parse(name).is_daily == (name == "1d")


def test_timeframes_sort_by_length():
    assert sorted([DAILY, MINUTE, HOURLY]) == [MINUTE, HOURLY, DAILY]


def test_an_unknown_timeframe_names_the_close_ones():
    with pytest.raises(NotFound, match=r"unknown timeframe '1D'; did you mean 1d"):
        Timeframe.parse("1D")


def test_a_timeframe_of_odd_length_is_refused():
    with pytest.raises(InvalidSpec, match=r"no timeframe has 7 minutes; use 1m, 5m"):
        Timeframe(7)


@given(st.integers(1, 9999), st.sampled_from("mhDWM"))
def test_a_horizon_is_written_so_that_it_is_read_as_the_same(count, unit):
    horizon = Horizon(count, unit)
    assert Horizon.parse(horizon.name) == horizon


@pytest.mark.parametrize(
    ("text", "name", "minutes"),
    [("1D", "1D", None), ("1d", "1D", None), ("5D", "5d", None), ("1w", "1W", None),
     ("1M", "1M", None), ("1m", "1m", 1), ("4h", "4h", 240), (" 30m ", "30m", 30)],
)  # fmt: skip
def test_each_horizon_has_one_name(text, name, minutes):
    horizon = Horizon.parse(text)
    assert (str(horizon), horizon.minutes) == (name, minutes)


@pytest.mark.parametrize("text", ["", "D", "0D", "1", "1y", "-1D", "1.5h", "10000m", "1D2h", "١m"])
def test_what_is_no_horizon_is_refused_with_the_forms_there_are(text):
    with pytest.raises(InvalidSpec, match="use 1D, 1W, 1M or a count"):
        Horizon.parse(text)


@pytest.mark.parametrize(
    ("text", "timeframe", "n_new_york", "n_always"),
    [("1D", DAILY, 1, 1), ("1W", DAILY, 5, 7), ("1M", DAILY, 21, 30), ("2W", DAILY, 10, 14),
     ("1D", HOURLY, 7, 24), ("1D", MINUTE, 390, 1440), ("4h", HOURLY, 4, 4),
     ("30m", MINUTE, 30, 30)],
)  # fmt: skip
def test_a_horizon_counts_bars_of_its_calendar(
    text, timeframe, n_new_york, n_always, new_york, always
):
    assert Horizon.parse(text).bars(timeframe, new_york) == n_new_york
    assert Horizon.parse(text).bars(timeframe, always) == n_always


@pytest.mark.parametrize(("text", "timeframe"), [("30m", HOURLY), ("4h", DAILY), ("90m", HOURLY)])
def test_a_horizon_of_broken_bars_is_refused(text, timeframe, new_york):
    with pytest.raises(InvalidSpec, match="no whole number"):
        Horizon.parse(text).bars(timeframe, new_york)


def test_a_daily_bar_ends_at_the_close_of_its_session(new_york):
    ts = at("2020-11-25", "2020-11-27", "2020-03-06", "2020-03-09", "2020-11-28", "2020-11-26")
    assert new_york.close_at(ts, DAILY).astype(str).tolist() == [
        "2020-11-25T21:00:00.000000",
        "2020-11-27T18:00:00.000000",  # the half-day after Thanksgiving
        "2020-03-06T21:00:00.000000",
        "2020-03-09T20:00:00.000000",  # summer time has begun
        "NaT",  # a Saturday
        "NaT",  # a holiday
    ]


def test_an_intraday_bar_ends_after_its_length_or_with_the_session(new_york):
    ts = at("2020-11-25T14:30", "2020-11-25T20:30", "2020-11-27T17:30", "2020-11-28T12:00")
    assert new_york.close_at(ts, HOURLY).astype(str).tolist() == [
        "2020-11-25T15:30:00.000000",
        "2020-11-25T21:00:00.000000",
        "2020-11-27T18:00:00.000000",
        "2020-11-28T13:00:00.000000",
    ]


def test_a_market_that_never_closes_ends_its_day_at_midnight(always):
    assert always.close_at(at("2020-02-29"), DAILY) == at("2020-03-01")
    assert np.diff(always.session_index(at("2020-02-29", "2020-03-01"))).tolist() == [1]


@pytest.mark.parametrize(
    ("start", "horizon", "end"),
    [
        ("2020-11-25T21:00", "1D", "2020-11-27T18:00"),  # over a holiday to a half-day
        ("2020-11-27T18:00", "1D", "2020-11-30T21:00"),  # from a half-day's close to a close
        ("2020-11-25T20:30", "1D", "2020-11-27T18:00"),  # never past the close
        ("2020-03-06T21:00", "1D", "2020-03-09T20:00"),  # into summer time
        ("2020-03-06T15:30", "1D", "2020-03-09T14:30"),  # an hour after the open, by the wall clock
        ("2020-11-25T20:30", "1h", "2020-11-27T15:00"),  # half an hour each side of a holiday
        ("2020-11-25T20:30", "30m", "2020-11-25T21:00"),
        ("2020-11-25T15:00", "7h", "2020-11-27T15:30"),
        ("2020-11-28T12:00", "1D", "2020-11-30T21:00"),  # a Saturday counts from Friday's close
        ("2020-11-25T14:30", "1D", "2020-11-25T21:00"),  # so does the very open
        ("2020-11-20T21:00", "1W", "2020-11-30T21:00"),
    ],
)
def test_a_horizon_ends_in_trading_time(start, horizon, end, new_york):
    assert new_york.advance(at(start), Horizon.parse(horizon)) == at(end)


@pytest.mark.parametrize(
    ("start", "horizon", "end"),
    [("2020-02-28", "1D", "2020-02-29"), ("2020-02-28", "1W", "2020-03-06"),
     ("2020-02-28", "1M", "2020-03-29"), ("2020-02-28T23:00", "2h", "2020-02-29T01:00"),
     ("2020-02-28T12:00", "1D", "2020-02-29T12:00")],
)  # fmt: skip
def test_where_nothing_closes_trading_time_is_clock_time(start, horizon, end, always):
    assert always.advance(at(start), Horizon.parse(horizon)) == at(end)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60))
def test_advancing_twice_is_advancing_by_the_sum(session, first, second):
    calendar = trading_calendar("XNYS")
    close = calendar.closes[session : session + 1]
    for unit, factor in (("D", 1), ("m", 17)):
        one, two, both = (Horizon(n * factor, unit) for n in (first, second, first + second))
        assert calendar.advance(calendar.advance(close, one), two) == calendar.advance(close, both)


@given(st.integers(0, 10_000), st.integers(0, 23_400), st.integers(1, 3000))
def test_time_only_moves_forward_and_ends_while_the_market_is_open(session, seconds, minutes):
    calendar = trading_calendar("XNYS")
    start = calendar.opens[session : session + 1] + np.timedelta64(seconds, "s")
    end = calendar.advance(start, Horizon(minutes, "m"))
    index = np.searchsorted(calendar.closes, end)
    assert (end > start).all()
    assert ((calendar.opens[index] < end) & (end <= calendar.closes[index])).all()


def test_past_the_end_of_the_calendar_there_is_no_instant(new_york):
    last = new_york.closes[-1:]
    assert np.isnat(new_york.advance(last, Horizon.parse("1D"))).all()
    assert np.isnat(new_york.advance(last, Horizon.parse("1m"))).all()
    assert np.isnat(new_york.advance(at("NaT"), Horizon.parse("1D"))).all()


def test_the_sessions_that_follow_leave_out_weekends_and_holidays(new_york):
    following = new_york.following(datetime(2020, 11, 25, 23, tzinfo=UTC), 3)
    assert following.astype(str).tolist() == ["2020-11-27", "2020-11-30", "2020-12-01"]


def test_a_calendar_that_knows_fewer_years_gives_those():
    shanghai = trading_calendar("XSHG")
    assert str(shanghai.sessions[0]) == "1990-12-03"
    assert shanghai.session_index(at("2020-01-02")) >= 0


def test_an_unknown_calendar_names_the_close_ones():
    with pytest.raises(NotFound, match=r"unknown calendar 'XNY'; did you mean .*XNYS"):
        trading_calendar("XNY")


def test_a_calendar_that_cannot_be_built_says_so():
    with pytest.raises(NotFound, match=r"'XBEL' cannot be built.*use another"):
        trading_calendar("XBEL")


def test_clocks_are_aware_and_a_fixed_one_stands_still():
    instant = datetime(2013, 3, 1, 21, tzinfo=UTC)
    assert FixedClock(instant).now() == FixedClock(instant).now() == instant
    assert SystemClock().now().tzinfo is UTC
