"""Findings in bars: what is planted is found, what is clean is left alone, and why."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import ACTIONS, BARS
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.errors import NotFound
from candlecast.monitoring.quality import FINDINGS, KINDS, SEVERITIES, check_bars
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
    assert (split["start"], split["severity"]) == (at, "note")
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


@pytest.mark.parametrize(("n_bars", "n_found"), [(49, 0), (50, 1), (300, 1)])
def test_a_symbol_that_never_moved_stands_still(daily, n_bars, n_found):
    bars, calendars = daily
    still = one(bars).head(n_bars).with_columns(pl.lit(7.0).alias(name) for name in PRICES)
    found = of_kind(check_bars(still, DAILY, calendars, as_of=close_of(still)), "stale_price")
    assert found["n_bars"].to_list() == [n_bars] * n_found
    assert set(found["severity"]) <= {"suspect"}
    beside = pl.concat([still, one(bars, "S01")]).sort("symbol", "ts")
    found = of_kind(findings_of(beside, DAILY, calendars), "stale_price")
    assert found["symbol"].to_list() == ["S00"] * n_found
