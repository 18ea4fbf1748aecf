"""Adjusted prices against a twin that walks the bars, and against LEAN's own factor files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action_frames import DAILY, XNYS, actions_of, day, raw_bars
from candlecast.domain.adjustment import judged_actions, placed_actions, with_factors
from candlecast.domain.market import FixedClock, Timeframe
from candlecast.domain.prices import make_prices
from candlecast.domain.sources import Request
from candlecast.providers.actions import ActionFilesProvider
from price_frames import stamped

LEAN = Path(__file__).parents[3] / "shared" / "data" / "lean"
SYMBOLS = ("AAPL", "FB", "IBM", "IWM", "QQQ", "SPY")
N_DAYS = 14
WEEKDAYS = XNYS.sessions[np.searchsorted(XNYS.sessions, np.datetime64("2020-01-02")) :][:N_DAYS]
FIRST = day("2019-12-31")

action = st.tuples(
    st.integers(0, 24),  # days after FIRST, weekends too
    st.sampled_from(["split", "dividend"]),
    st.floats(0.1, 8),
    st.integers(-3, 6),  # days from the ex-date to when it was known
)


@st.composite
def markets(draw, has_given=True):
    """Raw bars with holes and a few adjusted closes, and up to six actions on distinct keys."""
    closes = draw(st.lists(st.floats(5, 200), min_size=N_DAYS, max_size=N_DAYS))
    share = st.one_of(st.none(), st.none(), st.floats(0.1, 2)) if has_given else st.none()
    given_factors = draw(st.lists(share, min_size=N_DAYS, max_size=N_DAYS))
    adjusted = [None if f is None else f * c for f, c in zip(given_factors, closes, strict=True)]
    missing = draw(st.sets(st.integers(1, N_DAYS - 1), max_size=5))
    found = draw(st.lists(action, max_size=6, unique_by=lambda row: row[:2]))
    rows = [
        (
            (FIRST + timedelta(days=after)).date().isoformat(),
            kind,
            value,
            (FIRST + timedelta(days=after + lag)).date().isoformat(),
        )
        for after, kind, value, lag in found
    ]
    return raw_bars(closes, given=adjusted, missing=missing), actions_of(*rows)


def twin(bars, actions):
    """The factor of each bar of one symbol: bar by bar, action by action."""
    rows = sorted(
        (row["ex_date"], row["kind"], row["value"]) for row in actions.iter_rows(named=True)
    )
    factors, factor, before = [], 1.0, None
    for bar in bars.iter_rows(named=True):
        price = None if before is None else before["close"]
        shares, paid = 1.0, 0.0
        for ex_date, kind, value in rows:
            if before is None or not before["ts"] < ex_date <= bar["ts"]:
                continue
            if kind == "split":
                shares *= value
                factor *= value
            elif value * shares < price:
                paid += value * shares
                if paid < price:
                    factor *= (price - paid + value * shares) / (price - paid)
        if bar["adj_close"] is not None:
            factor = bar["adj_close"] / bar["close"]
        factors.append(factor)
        before = bar
    return factors


def factors_of(bars, actions):
    return with_factors(bars, placed_actions(actions, DAILY, {"A": XNYS}))["factor"]


def prices_of(bars, actions, **options):
    return make_prices(bars, DAILY, {"A": XNYS}, actions=actions, **options)


@settings(max_examples=50)
@given(markets())
def test_the_factor_is_that_of_a_walk_over_the_bars(market):
    np.testing.assert_allclose(factors_of(*market), twin(*market), rtol=1e-12)


@settings(max_examples=40)
@given(markets(), st.integers(1, N_DAYS))
def test_what_comes_later_changes_no_earlier_price(market, n_days):
    bars, actions = market
    last = raw_bars([1.0] * n_days)["ts"][-1]
    whole = prices_of(bars, actions).filter(pl.col("ts") <= last)
    without = prices_of(bars, actions.filter(pl.col("ex_date") <= last))
    cut = prices_of(bars.filter(pl.col("ts") <= last), actions)
    assert whole.equals(without.filter(pl.col("ts") <= last))
    assert whole.equals(cut)


@settings(max_examples=40)
@given(markets(has_given=False))
def test_returns_are_those_of_classical_back_adjustment(market):
    bars, actions = market
    judged = judged_actions(bars, placed_actions(actions, DAILY, {"A": XNYS}))
    ahead = bars["ts"].to_list()
    # Backwards from the newest bar: every price before an ex-date is divided by its multiplier.
    back = [
        row["close"]
        / np.prod(
            [
                a["multiplier"]
                for a in judged.to_dicts()
                if a["effective_at"] > row["ts"] and a["effective_at"] <= ahead[-1]
            ]
        )
        for row in bars.iter_rows(named=True)
    ]
    forward = prices_of(bars, actions)["close"].to_numpy()
    np.testing.assert_allclose(
        forward[1:] / forward[:-1], np.divide(back[1:], back[:-1]), rtol=1e-12
    )
    assert back[-1] == bars["close"][-1]


@settings(max_examples=40)
@given(markets(has_given=False), st.integers(0, 30))
def test_a_row_of_training_uses_nothing_that_was_known_later_than_it(market, n_days):
    bars, actions = market
    instant = FIRST + timedelta(days=n_days, hours=22)
    whole = prices_of(bars, actions, is_first_version=True)
    known = pl.col("known_at") <= instant
    then = prices_of(bars.filter(known), actions.filter(known), is_first_version=True)
    past = whole.filter(known)
    assert past.equals(then.join(past, on=["symbol", "ts"], how="semi"))
    assert (whole["known_at"] >= bars["known_at"]).all()


@settings(max_examples=40)
@given(markets())
def test_money_stays_the_same_and_the_raw_close_can_be_had_back(market):
    bars, actions = market
    prices = prices_of(bars, actions)
    money = bars["close"] * bars["volume"]
    np.testing.assert_allclose(prices["close"] * prices["volume"], money, rtol=1e-12)
    np.testing.assert_allclose(prices["close"] / prices["factor"], bars["close"], rtol=1e-12)


def test_a_hand_made_year_of_events_gives_the_total_returns_of_a_holder_who_reinvests():
    # 7:1 after a dividend of 3.05 on 600, then one of 0.47 on 95, as a holder lives through them.
    closes = [600.0, 596.95, 645.57, 93.70, 95.0, 94.53]
    rows = (
        ("2020-01-03", "dividend", 3.05),
        ("2020-01-07", "split", 7.0),
        ("2020-01-09", "dividend", 0.47),
    )
    prices = prices_of(raw_bars(closes), actions_of(*rows))["close"].to_numpy()
    truth = [1.0, 645.57 / 596.95, 93.70 * 7 / 645.57, 95.0 / 93.70, 1.0]
    np.testing.assert_allclose(prices[1:] / prices[:-1], truth, rtol=1e-12)


def lean(name):
    if not (LEAN / name).is_file():
        pytest.skip(f"NOT CHECKED: {LEAN / name} is absent")
    return LEAN / name


def lean_bars(name, timeframe):
    bars = pl.read_parquet(lean(name)).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")), adj_close=pl.lit(None)
    )
    opens = bars["ts"].dt.replace_time_zone(None).to_numpy()
    is_session = np.isin(opens.astype("M8[D]"), XNYS.sessions)
    return stamped(bars.filter(is_session), timeframe, XNYS)


def lean_actions():
    provider = ActionFilesProvider(lean("factor_files.parquet"))
    fetched = provider.fetch_actions(Request(), FixedClock(datetime(2026, 1, 1, tzinfo=UTC)))
    assert fetched.failures == {}
    return fetched.rows


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_returns_of_raw_bars_and_events_are_those_of_leans_own_factors(symbol):
    bars = lean_bars("equities_daily_raw.parquet", DAILY).filter(symbol=symbol)
    prices = make_prices(bars, DAILY, {symbol: XNYS}, actions=lean_actions())
    factors = pl.read_parquet(lean("factor_files.parquet")).filter(symbol=symbol)
    until = factors.with_columns(ts=pl.col("date").cast(pl.Datetime("us", "UTC"))).sort("ts")
    beside = prices.join_asof(until, on="ts", strategy="forward")  # they hold up to their date
    raw, own = (
        bars["close"].to_numpy(),
        (beside["price_factor"] * beside["split_factor"]).to_numpy(),
    )
    back, forward = raw * own, prices["close"].to_numpy()
    # Over a hole of months LEAN knows the closes before the dividends within it; we do not.
    is_near = prices["session"].diff().slice(1).to_numpy() <= 20
    assert (~is_near).sum() == (symbol in {"FB", "QQQ"})
    error = np.abs((forward[1:] / forward[:-1]) / (back[1:] / back[:-1]) - 1)
    assert len(error) > 2000
    assert error[is_near].max() < 1e-6


def test_the_split_of_apple_leaves_no_jump_in_daily_and_hourly_bars():
    actions = lean_actions()
    split = actions.filter(symbol="AAPL", kind="split").filter(pl.col("ex_date").dt.year() == 2014)
    assert (split["ex_date"].item(), round(split["value"].item(), 3)) == (day("2014-06-09"), 7.0)
    for name, timeframe in (("daily", DAILY), ("hour", Timeframe.parse("1h"))):
        bars = lean_bars(f"equities_{name}_raw.parquet", timeframe).filter(symbol="AAPL")
        near = bars.filter(pl.col("ts").is_between(day("2014-05-20"), day("2014-07-01")))
        prices = make_prices(near, timeframe, {"AAPL": XNYS}, actions=actions)
        jumps = [f["close"].log().diff().abs().max() for f in (near, prices)]
        assert jumps[0] > 1.8
        assert jumps[1] < 0.04
