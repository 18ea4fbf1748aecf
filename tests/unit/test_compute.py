"""Evaluating a feature set: order, stamps, late bars, windows, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.domain.frames import FEATURES as FRAME
from candlecast.domain.frames import PRICES
from candlecast.domain.market import trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.errors import InvalidSpec, NotFound
from candlecast.features.compute import compute, newest, standard_set
from candlecast.features.plan import Plan
from candlecast.validation.causality import audit_features
from price_frames import DAILY, daily_bars

MIXED = ("return_rank_21", "rsi_14", "har_5", "market_return_1")


def healed(symbol, place, delay):
    """PRICES of first versions, of which one bar of `symbol` came in `delay` late."""
    bars = daily_bars()
    row = pl.int_range(pl.len()).over("symbol")
    is_late = (pl.col("symbol") == symbol) & (row == place)
    known_at = pl.when(is_late).then(pl.col("known_at") + delay).otherwise("known_at")
    calendars = dict.fromkeys(bars["symbol"].unique(), trading_calendar("XNYS"))
    stamped = bars.with_columns(known_at.alias("known_at"))
    return PRICES.check(make_prices(stamped, DAILY, calendars, is_first_version=True))


def test_columns_come_in_the_order_asked_for_and_once(prices):
    columns = compute(prices, [*MIXED, "rsi_14"]).columns
    assert columns == ["symbol", "ts", "as_of", *MIXED]


def test_the_standard_set_is_sorted_and_holds_no_levels():
    names = standard_set()
    assert list(names) == sorted(names)
    assert {"har_1", "har_5", "har_22", "ewma_ratio"} <= set(names)
    assert not {"atr", "obv", "volume", "close_price"} & set(names)
    assert not {n for n in names if FEATURES.get(n).table != "ohlcv"}


def test_an_unknown_feature_names_the_close_ones(prices):
    with pytest.raises(NotFound, match="did you mean rsi_14"):
        compute(prices, ["rsi_41"])


def test_a_feature_that_names_what_does_not_exist_is_refused(prices, monkeypatch):
    broken = Feature("broken", lambda: pl.col("prophecy") + 1, 0)
    monkeypatch.setitem(FEATURES._entries, "broken", broken)
    with pytest.raises(InvalidSpec, match=r"broken.*prophecy"):
        compute(prices, ["broken"])


@pytest.mark.parametrize("scope", ["universe", "market"])
def test_a_feature_of_all_symbols_does_not_see_columns_of_facts(prices, monkeypatch, scope):
    broken = Feature("broken", lambda: pl.col("volume_profile") + 1, 0, scope=scope)
    monkeypatch.setitem(FEATURES._entries, "broken", broken)
    with pytest.raises(InvalidSpec, match=rf"scope {scope} names \['volume_profile'\]"):
        compute(prices, ["broken"])


SINGLE = {
    "mean": lambda: pl.col("close").mean(),
    "first": lambda: pl.col("close").first(),
    "constant": lambda: pl.lit(1.0),
    "mean_and_column": lambda: pl.col("close") - pl.col("close").mean(),
}


@pytest.mark.parametrize("names", [["mean"], ["mean", "first", "constant"], list(SINGLE)])
def test_one_number_a_segment_stands_beside_each_of_its_rows(prices, monkeypatch, names):
    for name in names:
        monkeypatch.setitem(FEATURES._entries, name, Feature(name, SINGLE[name], 0))
    values = compute(prices, names)
    for name in names:
        expected = prices.select(SINGLE[name]().over("segment").alias(name))[name]
        np.testing.assert_allclose(values[name], expected, rtol=1e-12, atol=1e-9)


OWN = {
    "drift_of_market": Feature(
        "drift_of_market",
        lambda: pl.col("market_simple_return_1").rolling_sum(30) / pl.col("scale"),
        90,
        scope="market",
        settling_bars=0,
    ),
    "profile_before": Feature("profile_before", lambda: pl.col("volume_profile").shift(5), 70),
    "ups": Feature(
        "ups",
        lambda: (pl.col("close") > pl.col("open")).cast(pl.UInt8).diff(),
        1,
        settling_bars=0,
    ),
    "with_volume": Feature(
        "with_volume", lambda: pl.rolling_corr("close", "volume", window_size=20), 20
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_features_of_the_user_are_the_same_in_the_newest_row(prices, monkeypatch, name):
    monkeypatch.setitem(FEATURES._entries, name, OWN[name])
    alive = prices.filter(pl.col("symbol") != "SYN03")  # the others end on one day
    last = compute(alive, [name]).group_by("symbol", maintain_order=True).last()
    assert last[name].null_count() == 0
    np.testing.assert_allclose(newest(alive, [name])[name], last[name], rtol=1e-6, atol=1e-9)


def test_what_is_no_finite_number_becomes_null(prices, monkeypatch):
    wild = Feature("wild", lambda: (pl.col("close") * 0).log() * (pl.col("ts").dt.day() - 5), 0)
    monkeypatch.setitem(FEATURES._entries, "wild", wild)
    assert compute(prices, ["wild"])["wild"].null_count() == len(prices)


def test_no_prices_give_no_rows_but_every_column():
    for function in (compute, newest):
        empty = FRAME.check(function(PRICES.empty(), standard_set()))
        assert empty.shape == (0, 3 + len(standard_set()))
        assert set(empty.dtypes[3:]) == {pl.Float64}


def test_a_row_of_one_symbol_is_stamped_when_its_bar_was_known(prices):
    assert compute(prices, ["rsi_14"])["as_of"].equals(prices["known_at"])


def test_a_row_compared_with_others_waits_for_the_last_of_them(prices):
    delayed = prices.with_columns(
        pl.when(pl.col("symbol") == "SYN03")
        .then(pl.col("known_at") + timedelta(minutes=15))
        .otherwise("known_at")
        .alias("known_at")
    )
    stamps = delayed.with_columns(pl.col("known_at").max().over("ts"))["known_at"]
    assert compute(delayed, ["market_return_1"])["as_of"].equals(stamps)


def test_what_healed_a_gap_is_no_part_of_the_past_of_rows_known_before_it(prices):
    names = ["rsi_14", "har_22", "return_5"]
    frame = healed("SYN00", 200, timedelta(days=30))
    assert audit_features(compute, frame, names) == []
    late = frame.row(200, named=True)
    without = prices.filter((pl.col("symbol") != "SYN00") | (pl.col("ts") != late["ts"]))
    values = compute(frame, names)
    others = values.filter((pl.col("symbol") != "SYN00") | (pl.col("ts") != late["ts"]))
    assert others.equals(compute(without, names))
    assert values.row(200)[2:] == (late["known_at"], None, None, None)
    taken_as_known = frame.with_columns(segment=prices["segment"])
    before = late["known_at"] - timedelta(days=20)
    assert audit_features(compute, taken_as_known, names, [before]) != []


def test_one_late_bar_does_not_delay_the_market(prices):
    before, after = (
        compute(prices, MIXED),
        compute(healed("SYN00", 200, timedelta(days=400)), MIXED),
    )
    others = pl.col("symbol") != "SYN00"
    assert after.filter(others)["as_of"].equals(before.filter(others)["as_of"])
    assert after.filter(others).null_count().equals(before.filter(others).null_count())
    assert audit_features(compute, healed("SYN00", 200, timedelta(days=400)), MIXED) == []


def test_with_a_late_bar_the_newest_rows_are_the_last_ones_too():
    frame = healed("SYN00", 500, timedelta(days=400))
    last = compute(frame, MIXED).group_by("symbol", maintain_order=True).last()
    again = newest(frame, MIXED)
    assert again.select("symbol", "ts", "as_of").equals(last.select("symbol", "ts", "as_of"))
    for name in MIXED:
        assert (again[name] - last[name]).abs().max() < 1e-6


def test_bars_before_the_window_change_nothing_in_the_newest_rows(prices):
    n_bars = Plan.of(MIXED).window_bars
    is_late = pl.col("symbol") == "SYN03"  # it ends earlier: the others' bars of then are needed
    place = pl.int_range(pl.len()).reverse().over("symbol") - 10
    wild = pl.when((place >= n_bars) & ~is_late).then(pl.col("close") * 1e6).otherwise("close")
    changed = prices.with_columns(wild.alias("close"))
    assert not changed.equals(prices)
    assert newest(changed, MIXED).equals(newest(prices, MIXED))


@pytest.mark.parametrize("n_ended", [1, 2, 3])
def test_however_many_symbols_ended_early_the_newest_rows_are_the_last_ones(prices, n_ended):
    length = pl.len().over("symbol") - 7 * pl.col("symbol").rank("dense").clip(0, n_ended)
    ended = prices.filter(pl.int_range(pl.len()).over("symbol") < length)
    names = [*MIXED, "market_beta_126", "market_correlation_126"]
    last = compute(ended, names).group_by("symbol", maintain_order=True).last()
    again = newest(ended, names)
    assert again.select("symbol", "ts", "as_of").equals(last.select("symbol", "ts", "as_of"))
    for name in names:
        np.testing.assert_allclose(again[name], last[name], rtol=1e-6, atol=1e-9)


def test_with_less_history_than_the_window_the_newest_rows_are_those_of_all_history(prices):
    short = prices.filter(pl.int_range(pl.len()).over("symbol") < 250)
    last = compute(short, FEATURES.names()).group_by("symbol", maintain_order=True).last()
    again = newest(short, FEATURES.names())
    assert again.select(pl.all().is_null()).equals(last.select(pl.all().is_null()))
    for name in FEATURES.names():
        np.testing.assert_allclose(again[name], last[name], rtol=1e-9, atol=1e-12)


def test_a_symbol_that_ended_is_compared_with_those_of_its_own_last_bar(prices):
    columns = ["market_volatility_5", "market_return_5", "return_rank_21"]
    ended = prices.filter((pl.col("symbol") != "SYN01") | (pl.col("segment") < 0)).vstack(
        prices.filter(pl.col("symbol") == "SYN01").head(100)
    )
    ended = PRICES.check(ended.sort("symbol", "ts"))
    last = compute(ended, columns).group_by("symbol", maintain_order=True).last()
    again = newest(ended, columns)
    assert again["ts"].n_unique() == 3
    assert again.select("symbol", "ts", "as_of").equals(last.select("symbol", "ts", "as_of"))
    for name in columns:
        assert (again[name] - last[name]).abs().max() < 1e-6


def test_a_symbol_alone_is_its_own_market(prices):
    alone = prices.filter(pl.col("symbol") == "SYN00")
    values = compute(
        alone, ["return_rank_21", "market_dispersion_1", "market_return_1", "return_1"]
    )
    warm = values.drop_nulls()
    assert len(warm) == len(alone) - 60
    assert warm["return_rank_21"].abs().max() == 0
    assert warm["market_dispersion_1"].abs().max() == 0
    assert warm["market_return_1"].equals(warm["return_1"], check_names=False)


def test_a_real_gap_starts_the_warm_up_anew_and_a_short_one_does_not(prices):
    gappy = prices.filter(pl.col("symbol") == "SYN02")
    assert gappy["segment"].n_unique() == 2
    is_null = compute(gappy, ["return_1"])["return_1"].is_null()
    assert is_null.sum() == 2 * FEATURES.get("return_1").warmup_bars
    assert is_null[120:180].all()
