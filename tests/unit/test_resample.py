"""Buckets follow the sessions, end when their last minutes are told, and hide nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.buckets import coarser_timeframes, find_buckets, is_multiple
from candlecast.domain.frames import BARS
from candlecast.domain.market import MINUTES, Timeframe, trading_calendar
from candlecast.domain.resample import open_bars, resample, resample_all
from candlecast.errors import BadFrame, InvalidSpec, NotFound

M1, M5, M10, H1, H4, D1 = map(Timeframe.parse, ("1m", "5m", "10m", "1h", "4h", "1d"))
LATER = datetime(2039, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NEW_YORK = {"A": trading_calendar("XNYS")}
ALWAYS = {"A": trading_calendar("24/7")}
OPEN = datetime(2021, 3, 12, 14, 30, tzinfo=UTC)


def bars(opens, **columns):
    values = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 1.0, "source": "a"}
    known_at = [ts + MINUTE for ts in opens]
    frame = {"symbol": "A", "ts": opens, "known_at": known_at, **values, **columns}
    return BARS.conform(pl.DataFrame(frame, schema_overrides=BARS.columns))


def minutes(count, start=OPEN):
    return [start + number * MINUTE for number in range(count)]


def made(frame, target, calendars=NEW_YORK, **how):
    return resample(frame, M1, target, calendars, as_of=how.pop("as_of", LATER), **how)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "opens", "closes", "hours"),
    [
        ("2021-03-12", "14:30", "21:00", 7),
        ("2021-03-15", "13:30", "20:00", 7),  # the clocks have changed
        ("2021-11-05", "13:30", "20:00", 7),
        ("2021-11-08", "14:30", "21:00", 7),  # and back
        ("2020-11-27", "14:30", "18:00", 4),  # a half-day
    ],
)
def test_hours_begin_at_the_open_and_the_last_ends_at_the_close(day, opens, closes, hours):
    first, end = at(f"{day}T{opens}"), at(f"{day}T{closes}")
    frame = bars(minutes((end - first) // MINUTE, first))
    hourly = made(frame, H1)
    assert hourly["ts"].to_list() == [first + number * 60 * MINUTE for number in range(hours)]
    assert hourly["known_at"].to_list()[-1] == end
    assert hourly["volume"].to_list()[:-1] == [60.0] * (hours - 1)
    daily = made(frame, D1)
    assert daily.select("ts", "known_at", "volume").row(0) == (at(day), end, float(len(frame)))


def test_a_market_that_never_closes_counts_from_midnight_utc():
    frame = bars(minutes(2 * 1440, at("2021-03-13T00:00")))
    assert made(frame, H4, ALWAYS)["ts"].dt.hour().to_list() == [0, 4, 8, 12, 16, 20] * 2
    assert made(frame, D1, ALWAYS)["ts"].to_list() == [at("2021-03-13"), at("2021-03-14")]


def test_bars_outside_the_session_are_left_out():
    opens = [OPEN - MINUTE, OPEN, at("2021-03-12T20:59"), at("2021-03-12T21:00"), at("2021-03-13")]
    frame = bars(opens, volume=[1.0, 10.0, 100.0, 1000.0, 10000.0])
    for target in coarser_timeframes(M1):
        assert made(frame, target)["volume"].sum() == 110.0
    outside = frame.filter(pl.col("volume").is_in([1.0, 1000.0, 10000.0]))
    everything = resample_all(outside, M1, NEW_YORK, as_of=LATER)
    assert [len(frame) for frame in everything.values()] == [0] * 7
    assert open_bars(outside, M1, D1, NEW_YORK, as_of=OPEN).is_empty()


def test_a_bucket_is_open_until_its_end_and_then_closed():
    frame = bars(minutes(7))
    for as_of, n_closed, forming in ((4, 0, OPEN + 5 * MINUTE), (5, 1, OPEN + 5 * MINUTE)):
        told = OPEN + as_of * MINUTE
        assert len(made(frame, M5, as_of=told)) == n_closed
        shown = open_bars(frame, M1, M5, NEW_YORK, as_of=told)
        assert shown["ts"].to_list() == [forming]
        assert shown["volume"].item() == 2.0
    assert len(made(frame, M5, as_of=OPEN + 10 * MINUTE)) == 2
    assert open_bars(frame, M1, M5, NEW_YORK, as_of=OPEN + 10 * MINUTE).is_empty()


def test_a_bucket_whose_last_minute_is_missing_ends_when_it_cannot_arrive_any_more():
    frame = bars([OPEN, OPEN + 9 * MINUTE])
    delay = 15 * MINUTE
    assert made(frame, M5, as_of=OPEN + 10 * MINUTE, delay=delay)["ts"].to_list() == [
        OPEN + 5 * MINUTE  # its last minute is there
    ]
    whole = made(frame, M5, as_of=OPEN + 20 * MINUTE, delay=delay)
    assert whole["known_at"].to_list() == [OPEN + 20 * MINUTE, OPEN + 10 * MINUTE]
    assert made(frame, M5)["known_at"].to_list() == [OPEN + 5 * MINUTE, OPEN + 10 * MINUTE]


def test_a_late_component_makes_the_whole_bar_late():
    frame = bars(minutes(5), known_at=[OPEN + number * MINUTE for number in (1, 90, 3, 4, 5)])
    assert made(frame, M5)["known_at"].item() == OPEN + 90 * MINUTE


def test_vwap_is_weighted_by_volume_and_unknown_where_a_traded_component_lacks_it():
    volume = [1.0, 3.0, 0.0, 0.0, 0.0]
    known = bars(minutes(5), volume=volume, vwap=[10.0, 20.0, None, 99.0, None])
    assert made(known, M5)["vwap"].item() == 17.5
    lacking = bars(minutes(5), volume=volume, vwap=[10.0, None, 10.0, 10.0, 10.0])
    assert made(lacking, M5)["vwap"].item() is None
    untraded = bars(minutes(5), volume=0.0, vwap=10.0)
    assert made(untraded, M5)["vwap"].item() is None


def test_trade_counts_add_up_and_are_unknown_where_one_is():
    assert made(bars(minutes(5), trade_count=[1, 2, 3, 0, 4]), M5)["trade_count"].item() == 10
    partly = made(bars(minutes(10), trade_count=[1, None, *[1] * 8]), M5)
    assert partly["trade_count"].to_list() == [None, 5]
    assert made(bars(minutes(5)), M5)["trade_count"].item() is None


def test_the_adjusted_close_is_the_close_times_the_last_known_factor():
    close = [10.0, 20.0, 30.0, 40.0, 50.0]
    frame = bars(minutes(5), close=close, adj_close=[5.0, 10.0, None, 10.0, None])
    assert made(frame, M5)["adj_close"].item() == 12.5
    assert made(bars(minutes(5), close=close), M5)["adj_close"].item() is None


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        (["a"] * 5, "a"),
        (["a", "b", "a", "b", "b"], "mixed"),
        (["a", "mixed", "a", "a", "a"], "mixed"),
        (["a", "synthetic", "a", "a", "a"], "simulated"),
        (["synthetic"] * 5, "synthetic"),
        (["synthetic@1m", "simulated", "synthetic", "synthetic", "simulated"], "simulated"),
    ],
)
def test_the_source_is_that_of_the_components_and_never_hides_a_simulated_one(sources, told):
    assert made(bars(minutes(5), source=sources), M5)["source"].item() == told


def test_no_bars_make_no_bars():
    everything = resample_all(BARS.empty(), M1, {}, as_of=LATER)
    assert [target.name for target in everything] == [name for name in MINUTES if name != "1m"]
    for frame in [*everything.values(), made(BARS.empty(), M5)]:
        assert frame.equals(BARS.empty())
    assert open_bars(BARS.empty(), M1, M5, {}, as_of=LATER).equals(BARS.empty())


def test_sums_are_rounded_alike_whatever_else_is_asked_for():
    rng = np.random.default_rng(5)
    frame = bars(minutes(390), volume=rng.lognormal(size=390), vwap=rng.lognormal(size=390))
    everything = resample_all(frame, M1, NEW_YORK, as_of=LATER)
    for target in (H1, H4, D1):
        alone = resample_all(frame, M1, NEW_YORK, as_of=LATER, targets=[target])
        assert list(alone) == [target]
        assert alone[target].equals(everything[target])


@pytest.mark.parametrize(("source", "target"), [("5m", "1m"), ("10m", "15m"), ("1d", "1d")])
def test_bars_that_do_not_add_up_to_others_are_refused(source, target):
    source, target = Timeframe.parse(source), Timeframe.parse(target)
    assert not is_multiple(target, source)
    for function in (resample, open_bars):
        with pytest.raises(InvalidSpec, match=f"{target} bars do not consist of {source} bars"):
            function(BARS.empty(), source, target, {}, as_of=LATER)
    with pytest.raises(InvalidSpec, match="use one of"):
        resample_all(BARS.empty(), source, {}, as_of=LATER, targets=[target])


def test_bars_off_the_grid_of_their_session_are_refused_by_name():
    hours = bars([at("2021-03-12T15:00"), at("2021-03-12T16:00")])
    with pytest.raises(BadFrame, match=r"1h bar of A at 2021-03-12T15:00.*fetch finer bars"):
        resample(hours, H1, H4, NEW_YORK, as_of=LATER)
    assert len(resample(hours, H1, H4, ALWAYS, as_of=LATER)) == 2


def test_unsorted_bars_and_unknown_calendars_are_refused():
    frame = bars(minutes(5))
    with pytest.raises(BadFrame, match="sorted"):
        made(frame.reverse(), M5)
    with pytest.raises(BadFrame, match="sorted"):
        made(pl.concat([frame, frame]), M5)
    other = frame.with_columns(symbol=pl.lit("B"))
    with pytest.raises(BadFrame, match="sorted"):
        made(pl.concat([frame, other, frame]), M5)
    with pytest.raises(NotFound, match="calendar"):
        made(other, M5)


def test_an_instant_lies_in_the_bucket_that_the_bars_around_it_make():
    calendar = NEW_YORK["A"]
    frame = bars(minutes(390))
    opens = frame["ts"].dt.replace_time_zone(None).to_numpy() + np.timedelta64(59, "s")
    for target in coarser_timeframes(M1):
        buckets = find_buckets(opens, target, calendar)
        stamps = np.unique(buckets.ts)
        assert (stamps == made(frame, target)["ts"].dt.replace_time_zone(None).to_numpy()).all()
        assert (buckets.start_at <= opens).all()
        assert (opens < buckets.end_at).all()
        ends = calendar.close_at(buckets.ts, target)
        assert (ends == buckets.end_at).all()
    outside = np.array(["2021-03-12T14:29:59", "2021-03-12T21:00", "2021-03-13T15:00"], dtype="M8")
    for edge in vars(find_buckets(outside, M5, calendar)).values():
        assert np.isnat(edge).all()
