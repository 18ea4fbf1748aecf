"""Times as files write them, turned into instants."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.frames import INSTANT
from candlecast.errors import BadFrame
from candlecast.providers.instants import parse_instants

MOMENT = datetime(2024, 3, 28, 14, 30, tzinfo=UTC)
DAY = datetime(2024, 3, 28, tzinfo=UTC)


def read(values, *, zone="UTC", is_daily=False, dtype=None):
    parsed = parse_instants(pl.Series("ts", values, dtype=dtype), zone=zone, is_daily=is_daily)
    assert parsed.dtype == INSTANT
    return parsed.to_list()


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-28 14:30:00",
        "2024-03-28T14:30:00",
        "2024-03-28T14:30:00Z",
        "2024-03-28T14:30:00.000000Z",
        "2024-03-28 14:30:00 UTC",
        "2024-03-28 14:30:00+00:00",
        "2024-03-28 14:30:00+00",
        "2024-03-28 10:30:00-0400",
        "2024-03-28T23:30:00+09:00",
        " 2024-03-28 14:30 ",
        "2024/03/28 14:30",
        "03/28/2024 14:30",
        "28/03/2024 14:30:00",
        "28.03.2024 14:30",
        "20240328 143000",
        "1711636200",
        "1711636200000",
        "1711636200000000",
        "1711636200000000000",
    ],
)
def test_every_usual_way_to_write_an_instant_is_read(text):
    assert read([text]) == [MOMENT]


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-28",
        "2024/3/28",
        "20240328",
        "03/28/2024",
        "28/03/2024",
        "28.03.2024",
        "28-Mar-2024",
        "Mar 28, 2024",
        "2024-03-28 00:00:00-04:00",
        "2024-03-28T20:00:00Z",
        "2024-03-28 23:59:59+14:00",
    ],
)
def test_a_daily_bar_is_stamped_with_the_date_as_it_is_written(text):
    assert read([text], is_daily=True) == [DAY]
    assert read([text], is_daily=True, zone="Asia/Tokyo") == [DAY]


def test_offsets_may_change_within_a_column():
    winter, summer = "2024-01-02 09:30:00-05:00", "2024-07-02 09:30:00-04:00"
    assert [instant.hour for instant in read([winter, summer])] == [14, 13]


def test_a_local_time_that_does_not_exist_is_null_and_a_doubled_one_the_first():
    zone = "America/New_York"
    gap, doubled = read(["2024-03-10 02:30:00", "2024-11-03 01:30:00"], zone=zone)
    assert gap is None
    assert doubled == datetime(2024, 11, 3, 5, 30, tzinfo=UTC)


def test_day_and_month_are_told_apart_by_the_whole_column():
    assert read(["01/02/2024", "13/02/2024"], is_daily=True)[0] == datetime(2024, 2, 1, tzinfo=UTC)
    assert read(["01/02/2024", "02/13/2024"], is_daily=True)[0] == datetime(2024, 1, 2, tzinfo=UTC)
    assert read(["01/01/2024", "02/02/2024"], is_daily=True)[1] == datetime(2024, 2, 2, tzinfo=UTC)
    with pytest.raises(BadFrame, match="is the day or the month first"):
        read(["01/02/2024", "02/03/2024"], is_daily=True)


def test_what_cannot_be_read_is_null_and_spoils_nothing_else():
    assert read(["2024-03-28", "soon", None, ""], is_daily=True) == [DAY, None, None, None]
    assert read(["1711636200", "x"]) == [MOMENT, None]
    assert read(["nothing", "at all"]) == [None, None]
    assert read([None, None], dtype=pl.String) == [None, None]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_typed_times_are_converted(unit, zone):
    moment = MOMENT.astimezone(ZoneInfo(zone)) if zone else MOMENT.replace(tzinfo=None)
    assert read([moment], dtype=pl.Datetime(unit, zone)) == [MOMENT]
    assert read([moment], dtype=pl.Datetime(unit, zone), is_daily=True) == [DAY]


def test_dates_and_dates_as_numbers_are_read():
    assert read([date(2024, 3, 28)], is_daily=True) == [DAY]
    assert read([date(2024, 3, 28)], zone="America/New_York") == [DAY + timedelta(hours=4)]
    assert read([20240328], is_daily=True) == [DAY]


def test_a_type_that_is_no_time_is_refused():
    with pytest.raises(BadFrame, match="of type Boolean"):
        read([True])


instants = st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1))  # noqa: DTZ001 - made aware


@given(st.lists(instants, min_size=1), st.sampled_from(["s", "ms", "us", "ns"]))
def test_counts_of_any_unit_come_back_as_the_instants_they_were(moments, unit):
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    whole = [moment.replace(microsecond=0, tzinfo=UTC) for moment in moments]
    counts = [int(moment.timestamp()) * scale for moment in whole]
    assert read(counts) == whole
    if unit != "ns":  # beyond what a float can tell apart
        assert read([float(count) for count in counts]) == whole


@given(st.lists(instants, min_size=1))
def test_iso_text_comes_back_as_the_instants_it_was(moments):
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    assert read([moment.isoformat(timespec="microseconds") for moment in aware]) == aware
    days = [moment.replace(hour=0, minute=0, second=0, microsecond=0) for moment in aware]
    assert read([f"{moment.date()}" for moment in aware], is_daily=True) == days
