"""Missing bars and silent ones: what the calendar, coverage and the symbol's habits say."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.monitoring.quality import check_bars
from candlecast.monitoring.silence import FALSE_ALARMS, expected_runs
from planted_defects import as_bars, findings_of, synthetic_bars

DAILY, MINUTE = (Timeframe.parse(name) for name in ("1d", "1m"))


@pytest.fixture(scope="module")
def daily():
    rng = np.random.default_rng(4)
    return synthetic_bars(rng, DAILY, n_symbols=3, n_sessions=750, pace=1.0)


def of_kind(findings, kind):
    return findings.filter(pl.col("kind") == kind)


def one(bars, ticker="S00"):
    return bars.filter(pl.col("symbol") == ticker)


def close_of(bars):
    return bars["known_at"].max()


# --- gaps -----------------------------------------------------------------------------------


def test_an_absent_bar_within_coverage_was_not_traded_and_one_beside_it_is_missing(daily):
    bars, calendars = daily
    own = one(bars)
    ts = own["ts"]
    hole = own.filter(~pl.col("ts").is_between(ts[100], ts[109]))
    covered = pl.DataFrame({"symbol": ["S00"], "start_at": [ts[50]], "end_at": [ts[105]]})
    found = check_bars(hole, DAILY, calendars, coverage=covered, as_of=close_of(own))
    assert found.select("kind", "start", "end", "n_bars").rows() == [("gap", ts[105], ts[109], 5)]
    whole = covered.with_columns(end_at=pl.lit(ts[110]))
    assert check_bars(hole, DAILY, calendars, coverage=whole, as_of=close_of(own)).is_empty()
    middle = covered.with_columns(start_at=pl.lit(ts[103]), end_at=pl.lit(ts[106]))
    found = check_bars(hole, DAILY, calendars, coverage=middle, as_of=close_of(own))
    assert found.select("start", "end").rows() == [(ts[100], ts[102]), (ts[106], ts[109])]


def test_what_is_due_and_not_there_is_a_stale_feed_and_a_holiday_is_not_due(daily):
    bars, calendars = daily
    own = one(bars)
    last = own["ts"][-1]  # a Friday is followed by a weekend, so count sessions
    sessions = calendars["S00"].following(last, 3)
    due = datetime.fromisoformat(f"{sessions[-1]}T23:00:00+00:00")
    found = check_bars(own, DAILY, calendars, as_of=due)
    assert found.select("kind", "n_bars").rows() == [("gap", 3)]
    assert "stale" in found["message"][0]
    before_open = datetime.fromisoformat(f"{sessions[0]}T12:00:00+00:00")
    assert check_bars(own, DAILY, calendars, as_of=before_open).is_empty()


def test_bars_that_come_late_by_habit_are_not_due_before(daily):
    bars, calendars = daily
    own = one(bars).with_columns(pl.col("known_at") + timedelta(hours=12))
    (session,) = calendars["S00"].following(own["ts"][-1], 1)
    evening = datetime.fromisoformat(f"{session}T23:00:00+00:00")
    assert check_bars(own, DAILY, calendars, as_of=evening).is_empty()
    assert len(check_bars(own, DAILY, calendars, as_of=evening + timedelta(hours=12))) == 1


def test_nothing_is_due_of_a_delisted_symbol(daily):
    bars, calendars = daily
    own = one(bars)
    gone = ACTIONS.conform(
        pl.DataFrame(
            {
                "symbol": ["S00"],
                "ex_date": [own["ts"][-1] + timedelta(days=1)],
                "kind": ["delisting"],
                "value": [0.0],
                "source": ["files"],
                "known_at": [close_of(own)],
            }
        )
    )
    later = close_of(own) + timedelta(days=30)
    assert len(check_bars(own, DAILY, calendars, as_of=later)) == 1
    assert check_bars(own, DAILY, calendars, actions=gone, as_of=later).is_empty()


def test_a_long_suspension_is_one_gap_and_nothing_is_missing_before_the_first_bar(daily):
    bars, calendars = daily
    ts = one(bars)["ts"]
    late = bars.filter((pl.col("symbol") != "S00") | (pl.col("ts") >= ts[300]))
    assert findings_of(late, DAILY, calendars).filter(pl.col("symbol") == "S00").is_empty()
    halted = bars.filter((pl.col("symbol") != "S00") | ~pl.col("ts").is_between(ts[200], ts[399]))
    gaps = of_kind(findings_of(halted, DAILY, calendars), "gap")
    assert gaps.select("symbol", "n_bars").rows() == [("S00", 200)]


def test_an_absent_session_of_minutes_is_a_gap_even_of_a_thin_symbol():
    rng = np.random.default_rng(6)
    bars, calendars = synthetic_bars(rng, MINUTE, n_symbols=1, n_sessions=30, pace=0.2)
    days = bars["ts"].dt.date()
    away = sorted(set(days))[10]
    found = findings_of(bars.filter(pl.col("ts").dt.date() != away), MINUTE, calendars)
    assert found["kind"].to_list() == ["gap"]
    assert found["n_bars"][0] == pytest.approx(78, rel=0.35)  # a fifth of 390 minutes
    assert found["start"][0].date() <= away <= found["end"][0].date()


def test_a_lunch_break_is_a_habit_and_no_gap():
    rng = np.random.default_rng(7)
    bars, calendars = synthetic_bars(rng, MINUTE, n_symbols=1, n_sessions=40, pace=0.9)
    since_midnight = pl.col("ts").dt.hour().cast(pl.Int64) * 60 + pl.col("ts").dt.minute()
    fed = bars.filter(~since_midnight.is_between(17 * 60 + 3, 18 * 60 + 16))
    assert of_kind(findings_of(fed, MINUTE, calendars), "gap").is_empty()


def test_a_market_that_never_closes_may_miss_minutes_across_midnight():
    ts = pl.datetime_range(
        datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 8, tzinfo=UTC), "1m", eager=True
    )
    rng = np.random.default_rng(8)
    close = 100 * np.exp(np.cumsum(1e-4 * rng.standard_normal(len(ts))))
    bars = as_bars(
        pl.DataFrame(
            {"symbol": "BTC-USD", "ts": ts, "volume": 1.0}
            | dict.fromkeys(("open", "high", "low", "close"), close)
        ),
        MINUTE,
        {"BTC-USD": trading_calendar("24/7")},
    )
    start = datetime(2024, 1, 3, 23, 50, tzinfo=UTC)
    end = datetime(2024, 1, 4, 0, 9, tzinfo=UTC)
    hole = bars.filter(~pl.col("ts").is_between(start, end))
    gaps = of_kind(findings_of(hole, MINUTE, {"BTC-USD": trading_calendar("24/7")}), "gap")
    assert gaps.select("start", "end", "n_bars").rows() == [(start, end, 20)]


def test_bars_of_another_market_are_not_called_good_for_want_of_sessions():
    rng = np.random.default_rng(13)
    bars, _ = synthetic_bars(rng, MINUTE, n_symbols=1, n_sessions=5, pace=1)
    (found,) = findings_of(bars, MINUTE, {"S00": trading_calendar("XTKS")}).to_dicts()
    assert (found["kind"], found["n_bars"]) == ("gap", len(bars))
    assert "XTKS" in found["message"]


# --- silences -------------------------------------------------------------------------------


def test_the_longer_a_silence_the_rarer_and_one_fault_does_not_excuse_itself():
    chances = pl.DataFrame({"symbol": ["A"], "n_chances": [10_000]})
    habits = pl.DataFrame({"symbol": ["A"] * 600, "missed": [1.0] * 500 + [2.0] * 90 + [3.0] * 10})
    asked = pl.DataFrame({"symbol": ["A"] * 8, "missed": np.arange(1.0, 9.0)})
    expected = expected_runs(asked, habits, chances).to_numpy()
    assert (np.diff(expected) < 0).all()
    assert expected[0] == pytest.approx(600, rel=0.01)
    assert expected[2] > 1
    assert expected[7] < FALSE_ALARMS
    with_fault = pl.concat([habits, pl.DataFrame({"symbol": ["A"], "missed": [8.0]})])
    again = expected_runs(asked.tail(1), with_fault, chances).item()
    assert again == pytest.approx(expected[7], rel=0.5)


def test_what_has_no_volume_at_all_has_no_run_without_volume(daily):
    bars, calendars = daily
    silent = bars.with_columns(volume=pl.lit(0.0))
    assert of_kind(findings_of(silent, DAILY, calendars), "zero_volume_run").is_empty()


def test_a_symbol_that_often_rests_may_rest_and_one_that_never_does_may_not(daily):
    bars, calendars = daily
    rng = np.random.default_rng(12)
    rests = pl.Series(rng.random(len(bars)) < 0.6)
    volume = pl.when(rests & (pl.col("symbol") == "S00")).then(0.0).otherwise(pl.col("volume"))
    at = bars["ts"].unique().sort()[300:306]
    also = pl.col("ts").is_in(at.implode()) & pl.col("symbol").is_in(["S00", "S01"])
    spoilt = bars.with_columns(volume=pl.when(also).then(0.0).otherwise(volume))
    runs = of_kind(findings_of(spoilt, DAILY, calendars), "zero_volume_run")
    assert runs.select("symbol", "start", "end").rows() == [("S01", at[0], at[-1])]


def test_one_bar_without_volume_is_a_filler_of_who_never_trades_next_to_nothing(daily):
    bars, calendars = daily
    trickle = pl.col("ts").dt.ordinal_day() % 50 == 7  # S01 often trades next to nothing
    thin = bars.with_columns(
        volume=pl.when((pl.col("symbol") == "S01") & trickle).then(1.0).otherwise("volume")
    )
    at = bars["ts"].unique().sort()[400]
    is_there = (pl.col("ts") == at) & pl.col("symbol").is_in(["S00", "S01"])
    spoilt = thin.with_columns(volume=pl.when(is_there).then(0.0).otherwise("volume"))
    runs = of_kind(findings_of(spoilt, DAILY, calendars), "zero_volume_run")
    assert runs.select("symbol", "start", "end").rows() == [("S00", at, at)]
