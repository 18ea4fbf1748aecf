"""Findings in bars: what is planted is found, what is clean is left alone, and why."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import ACTIONS, BARS
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.errors import NotFound
from candlecast.monitoring.quality import FINDINGS, KINDS, SEVERITIES, check_bars
from candlecast.monitoring.silence import FALSE_ALARMS, expected_runs
from planted_defects import as_bars, findings_of, n_new_elsewhere, plant, recall, synthetic_bars

DAILY, MINUTE, FIVE = (Timeframe.parse(name) for name in ("1d", "1m", "5m"))
MARKETS = {
    "daily": (DAILY, {"n_symbols": 12, "n_sessions": 750, "pace": 1.0}),
    "dense": (FIVE, {"n_symbols": 3, "n_sessions": 250, "pace": 1.0}),
    "thin": (MINUTE, {"n_symbols": 4, "n_sessions": 60, "pace": 0.3}),
}
PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module", params=MARKETS)
def market(request):
    """A clean market: its bars, timeframe, calendars and findings."""
    timeframe, shape = MARKETS[request.param]
    bars, calendars = synthetic_bars(np.random.default_rng(3), timeframe, **shape)
    return request.param, bars, timeframe, calendars, findings_of(bars, timeframe, calendars)


@pytest.fixture(scope="module")
def daily():
    timeframe, shape = MARKETS["daily"]
    return synthetic_bars(np.random.default_rng(4), timeframe, **shape)


def of_kind(findings, kind):
    return findings.filter(pl.col("kind") == kind)


def one(bars, ticker="S00"):
    return bars.filter(pl.col("symbol") == ticker)


def close_of(bars):
    return bars["known_at"].max()


# --- clean, and planted ---------------------------------------------------------------------


def test_clean_markets_raise_no_alarm_over_holidays_half_days_and_quiet_minutes(market):
    _, bars, _, _, findings = market
    assert set(findings["kind"]) <= {"outlier"}  # fat tails come back now and then
    assert len(findings) <= 1e-5 * len(bars) + 1


@pytest.mark.parametrize(
    ("kind", "n_bars", "size", "least"),
    [
        ("gap", {"daily": 1, "dense": 1, "thin": 60}, 0, 1.0),
        ("stale_price", {"daily": 3, "dense": 3, "thin": 4}, 0, 1.0),
        ("zero_volume_run", {"daily": 3, "dense": 3, "thin": 3}, 0, 1.0),
        ("outlier", {"daily": 1, "dense": 2, "thin": 3}, 0.5, 0.9),
        ("impossible", {"daily": 1, "dense": 1, "thin": 1}, 0.01, 1.0),
    ],
)
def test_a_planted_defect_is_found_and_nothing_else_changes(market, kind, n_bars, size, least):
    name, bars, timeframe, calendars, before = market
    spoilt, planted = plant(bars, kind, n_bars[name], size, np.random.default_rng(11))
    found = findings_of(spoilt, timeframe, calendars)
    assert recall(found, kind, planted) >= least
    assert n_new_elsewhere(found, before, kind, planted) == 0


@pytest.mark.parametrize("ratio", [2.0, 3.0, 1.5, 10.0])
def test_an_unadjusted_split_is_found_by_its_odds_and_told_with_its_ratio(daily, ratio):
    bars, calendars = daily
    spoilt, planted = plant(bars, "unadjusted_split", 1, ratio, np.random.default_rng(5))
    found = of_kind(findings_of(spoilt, DAILY, calendars), "unadjusted_split")
    assert recall(found, "unadjusted_split", planted) == 1
    assert len(found) == len(planted)
    told = np.sort(np.maximum(found["value"], 1 / found["value"]))
    np.testing.assert_allclose(told, ratio, rtol=1e-6)


def test_every_finding_says_what_and_where_and_the_frame_is_checked(market):
    _, bars, timeframe, calendars, _ = market
    spoilt, _ = plant(bars, "impossible", 1, 0.02, np.random.default_rng(2))
    findings = findings_of(spoilt, timeframe, calendars)
    FINDINGS.check(findings)
    assert set(findings["kind"]) <= set(KINDS)
    assert set(findings["severity"]) <= set(SEVERITIES)
    assert findings.filter(pl.col("start") > pl.col("end")).is_empty()
    assert findings["message"].str.len_chars().min() > 30


def test_a_symbol_is_judged_by_its_own_bars_alone(daily):
    bars, calendars = daily
    spoilt, _ = plant(bars, "stale_price", 4, 0, np.random.default_rng(8))
    together = findings_of(spoilt, DAILY, calendars)
    as_of = close_of(spoilt)
    for ticker in ("S00", "S07"):
        alone = check_bars(one(spoilt, ticker), DAILY, calendars, as_of=as_of)
        assert alone.equals(together.filter(pl.col("symbol") == ticker))


def test_no_bars_no_findings_and_an_unknown_calendar_is_named():
    assert check_bars(BARS.empty(), DAILY, {}, as_of=datetime(2020, 1, 1, tzinfo=UTC)).is_empty()
    bars, _ = synthetic_bars(np.random.default_rng(1), DAILY, n_symbols=1, n_sessions=3, pace=1)
    with pytest.raises(NotFound, match="S00"):
        check_bars(bars, DAILY, {}, as_of=close_of(bars))


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


# --- impossible bars ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        ({"high": 99.0, "low": 101.0}, "bad"),
        ({"low": -1.0}, "bad"),
        ({"open": 0.0, "low": 0.0}, "bad"),
        ({"volume": -5.0}, "bad"),
        ({"close": float("nan")}, "bad"),
        ({"high": float("inf")}, "bad"),
        ({"high": 100.0 / 1.006, "low": 98.0}, "bad"),
        ({"high": 100.0 / 1.004, "low": 98.0}, "suspect"),
        ({"low": 100.0 * 1.004, "high": 102.0}, "suspect"),
        ({"high": 100.0 / (1 + 5e-7), "low": 98.0}, None),
        ({"high": 100.0, "low": 100.0}, None),
    ],
)
def test_a_bar_is_impossible_by_these_rules(change, severity):
    row = {"symbol": "S00", "ts": datetime(2015, 1, 2, tzinfo=UTC), "volume": 10.0}
    row |= dict.fromkeys(PRICES, 100.0) | change
    calendars = {"S00": trading_calendar("XNYS")}
    bars = as_bars(pl.DataFrame([row]), DAILY, calendars)
    found = findings_of(bars, DAILY, calendars)
    assert found["severity"].to_list() == ([] if severity is None else [severity])
    assert set(found["kind"]) <= {"impossible"}


# --- jumps ----------------------------------------------------------------------------------


def moved(bars, ticker, at, factor, *, n_bars=None):
    """Bars whose prices from `at` on (for `n_bars`) are multiplied by `factor`."""
    ts = one(bars, ticker)["ts"]
    until = ts[-1] if n_bars is None else ts[at + n_bars - 1]
    inside = (pl.col("symbol") == ticker) & pl.col("ts").is_between(ts[at], until)
    changed = (pl.when(inside).then(pl.col(n) * factor).otherwise(n).alias(n) for n in PRICES)
    return bars.with_columns(*changed), ts[at]


def test_a_new_level_is_no_outlier_and_a_large_one_is_merely_noted(daily):
    bars, calendars = daily
    spoilt, at = moved(bars, "S00", 300, 1.8)
    found = findings_of(spoilt, DAILY, calendars).filter(pl.col("symbol") == "S00")
    assert of_kind(found, "outlier").is_empty()
    note = of_kind(found, "extreme_return")
    assert note.select("start", "severity").rows() == [(at, "note")]
    assert note["value"][0] == pytest.approx(0.8, abs=0.15)


def test_a_crash_with_panic_volume_and_a_wide_range_is_no_split(daily):
    bars, calendars = daily
    spoilt, at = moved(bars, "S00", 300, 0.5)
    (split,) = of_kind(findings_of(spoilt, DAILY, calendars), "unadjusted_split").to_dicts()
    assert (split["start"], split["severity"]) == (at, "suspect")
    crash, at = moved(bars, "S00", 300, 0.56)
    is_day = (pl.col("symbol") == "S00") & (pl.col("ts") == at)
    panic = crash.with_columns(
        high=pl.when(is_day).then(pl.col("high") * 1.12).otherwise("high"),
        low=pl.when(is_day).then(pl.col("low") * 0.85).otherwise("low"),
    )
    assert of_kind(findings_of(panic, DAILY, calendars), "unadjusted_split").is_empty()


def split_of(ticker, ex_date, ratio, known_at):
    values = {"symbol": ticker, "ex_date": ex_date, "kind": "split", "value": ratio}
    return ACTIONS.conform(pl.DataFrame([{**values, "source": "files", "known_at": known_at}]))


def test_a_known_split_explains_the_jump_and_a_wrong_or_later_known_one_does_not(daily):
    bars, calendars = daily
    spoilt, at = moved(bars, "S00", 300, 1 / 7)
    as_of = close_of(spoilt)

    def kinds(ratio, known_at=at):
        action = split_of("S00", at, ratio, known_at)
        found = check_bars(spoilt, DAILY, calendars, actions=action, as_of=as_of)
        return set(found.filter(pl.col("symbol") == "S00")["kind"])

    assert kinds(7.0) == set()
    assert kinds(2.0) == {"unadjusted_split", "extreme_return"}
    assert kinds(7.0, known_at=as_of + timedelta(days=1)) == {"unadjusted_split", "extreme_return"}


def test_the_source_s_own_factor_tells_a_split_that_its_prices_do_not_show_as_adjusted(daily):
    bars, calendars = daily
    whole = bars.with_columns(adj_close=pl.col("close"))
    spoilt, at = moved(whole, "S00", 300, 2 / 3)
    found = findings_of(spoilt, DAILY, calendars).filter(pl.col("symbol") == "S00")
    (split,) = of_kind(found, "unadjusted_split").to_dicts()
    assert (split["start"], split["severity"]) == (at, "bad")
    assert split["value"] == pytest.approx(1.5)
    assert "3:2" in split["message"]
    dividends = whole.with_columns(
        adj_close=pl.when(pl.col("ts") < at).then(pl.col("close") * 0.97).otherwise("close")
    )
    assert findings_of(dividends, DAILY, calendars).equals(findings_of(whole, DAILY, calendars))


def test_minutes_are_extreme_sooner_than_days_but_not_over_night():
    rng = np.random.default_rng(9)
    bars, calendars = synthetic_bars(rng, FIVE, n_symbols=1, n_sessions=30, pace=1)
    opens = bars["ts"].to_list()
    first = next(n for n in range(500, len(opens)) if opens[n].date() != opens[n - 1].date())
    over_night, _ = moved(bars, "S00", first, 1.3)
    assert of_kind(findings_of(over_night, FIVE, calendars), "extreme_return").is_empty()
    within, at = moved(bars, "S00", first + 5, 1.3)
    notes = of_kind(findings_of(within, FIVE, calendars), "extreme_return")
    assert notes["start"].to_list() == [at]
