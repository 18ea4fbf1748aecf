"""What every feature of the catalogue promises."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import FEATURES
from candlecast.domain.frames import FEATURES as FRAME
from candlecast.features.compute import compute, newest, standard_set
from candlecast.validation.causality import audit_features
from fact_frames import seeded_facts
from price_frames import daily_prices

NAMES = tuple(name for name in FEATURES.names() if not FEATURES.get(name).origin)
OF_PRICES = tuple(name for name in NAMES if FEATURES.get(name).table == "ohlcv")
every_feature = pytest.mark.parametrize("name", NAMES)
every_feature_of_prices = pytest.mark.parametrize("name", OF_PRICES)
SMALL = daily_prices(seed=2, n_symbols=3, n_sessions=330)
KNOWN_AT = SMALL["known_at"].unique().sort()
PRICE, VOLUME = 1e3, 1e6
UNITS = {
    "Expr : quote currency": PRICE,
    "Expr : units": VOLUME,
    "Expr : log return per million of the quote currency": 1 / (PRICE * VOLUME),
}
RANGE = re.compile(r"in [\[(](-?[\d.]+), (-?[\d.]+)[\])]")


def unit_of(name):
    """By how much values grow when prices and volumes are counted in smaller units."""
    text = inspect.getdoc(FEATURES.get(name).expression) or ""
    return next((unit for start, unit in UNITS.items() if start in text), 1.0)


@pytest.fixture(scope="module")
def facts(prices):
    return seeded_facts(prices, 1)


@pytest.fixture(scope="module")
def nasty_facts(nasty):
    return seeded_facts(nasty, 1)


@pytest.fixture(scope="module")
def values(prices, facts):
    return compute(prices, NAMES, facts)


@pytest.fixture(scope="module")
def nasty_values(nasty, nasty_facts):
    return compute(nasty, NAMES, nasty_facts)


@pytest.fixture(scope="module")
def last_values(values, nasty_values):
    """The last row of each symbol, fair or nasty, out of all history."""
    frames = [f.group_by("symbol", maintain_order=True).last() for f in (values, nasty_values)]
    return pl.concat(frames)


@pytest.fixture(scope="module")
def newest_values(prices, facts, nasty, nasty_facts):
    return pl.concat([newest(prices, NAMES, facts), newest(nasty, NAMES, nasty_facts)])


def in_other_units(frame, facts, price, volume):
    """The values of all features when prices and volumes are counted in other units."""
    prices = (pl.col(name) * price for name in ("open", "high", "low", "close"))
    traded = (pl.col(name) * volume for name in ("volume", "large_volume"))
    told = replace(facts, large_trades=facts.large_trades.with_columns(traded))
    return compute(frame.with_columns(*prices, pl.col("volume") * volume), NAMES, told)


@pytest.fixture(scope="module")
def values_of_larger(prices, facts, nasty, nasty_facts):
    fair = in_other_units(prices, facts, PRICE, VOLUME)
    return fair, in_other_units(nasty, nasty_facts, PRICE, VOLUME)


@pytest.fixture(scope="module")
def values_of_minute(prices, facts):
    return in_other_units(prices, facts, 1e-9, 1e-6)


def test_the_result_is_a_features_frame_with_a_row_for_every_bar(values, prices):
    FRAME.check(values)
    assert values.select("symbol", "ts").equals(prices.select("symbol", "ts"))
    assert tuple(values.columns[3:]) == NAMES


@settings(max_examples=6, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(cut=st.integers(150, len(KNOWN_AT) - 2), seed=st.integers(0, 10**6))
def test_the_future_changes_nothing_in_the_past_of_any_feature(cut, seed):
    facts = seeded_facts(SMALL, seed)
    findings = audit_features(compute, SMALL, NAMES, [KNOWN_AT[cut]], facts=facts, seed=seed)
    assert findings == []


@every_feature
def test_the_warm_up_is_null_and_as_long_as_declared(name, values, prices):
    warmup_bars = FEATURES.get(name).warmup_bars
    age = prices.select(pl.int_range(pl.len()).over("segment")).to_series()
    column = values[name]
    assert column.filter(age < warmup_bars).null_count() == (age < warmup_bars).sum()
    n_missing = column.filter(age >= warmup_bars).null_count()
    assert n_missing == 0 if name in OF_PRICES else n_missing < (age >= warmup_bars).sum()


@every_feature
def test_the_newest_value_is_the_last_one_of_all_history(name, last_values, newest_values):
    key = ["symbol", "ts", "as_of"]
    assert newest_values.select(key).equals(last_values.select(key))
    unit = last_values["close_price"] if unit_of(name) == PRICE else unit_of(name)
    found, expected = newest_values[name] / unit, last_values[name] / unit
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_newest_values_of_a_thin_symbol_are_the_last_ones_of_all_history(prices):
    # Its bars reach back further than as many of the others: the market needs theirs as well.
    is_kept = (pl.col("symbol") != "SYN00") | (pl.col("session") % 4 == 0)
    thin = prices.filter(is_kept & (pl.col("symbol") != "SYN03"))
    last = compute(thin, OF_PRICES).group_by("symbol", maintain_order=True).last()
    found = newest(thin, OF_PRICES)
    for name in OF_PRICES:
        np.testing.assert_allclose(
            found[name], last[name], rtol=1e-6, atol=1e-9 * unit_of(name), err_msg=name
        )


@every_feature
def test_no_value_is_nan_or_infinite_whatever_the_prices(name, nasty_values):
    assert nasty_values[name].is_finite().all()
    assert nasty_values[name].dtype == pl.Float64


@every_feature_of_prices
def test_after_the_warm_up_a_value_is_missing_only_where_nothing_happens(name, nasty, nasty_values):
    entry = FEATURES.get(name)
    is_warm = nasty.select(pl.int_range(pl.len()).over("segment")).to_series() >= entry.warmup_bars
    does_move = ~nasty["symbol"].is_in(["ALL_CONSTANT", "CEASED"])
    traded = nasty.select(pl.col("volume").rolling_max(20, min_samples=1).over("segment") > 0)
    does_trade = traded.to_series() | entry.is_input
    assert nasty_values.filter(is_warm & does_move & does_trade)[name].null_count() == 0


@every_feature
def test_a_model_sees_only_what_states_its_range_and_keeps_it(name, values, nasty_values):
    entry = FEATURES.get(name)
    if not entry.is_input:
        assert name not in standard_set()
        return
    stated = RANGE.search(inspect.getdoc(entry.expression) or "")
    assert stated, "say in the docstring, under Returns, in which range the values lie"
    low, high = float(stated[1]), float(stated[2])
    for column in (values[name], nasty_values[name]):
        assert column.min() >= low - 1e-9
        assert column.max() <= high + 1e-9


@every_feature
def test_a_model_sees_no_levels_of_price_or_volume(
    name, values, nasty_values, values_of_larger, values_of_minute
):
    fair, nasty = values_of_larger
    if FEATURES.get(name).is_input:
        np.testing.assert_allclose(fair[name], values[name], rtol=1e-9, atol=1e-9)
        if name in OF_PRICES:  # trades are counted in billionths
            np.testing.assert_allclose(values_of_minute[name], values[name], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(nasty[name], nasty_values[name], rtol=1e-6, atol=1e-7)
    else:
        found = fair[name] / unit_of(name)
        np.testing.assert_allclose(found, values[name], rtol=1e-8, atol=1e-12)


ZERO = (
    *("rsi_14", "adx_14", "stochastic_14", "williams_r_14", "cci_20", "mfi_14", "obv_change_21"),
    *("adx", "cci", "obv", "momentum_10", "poc_distance_63", "signed_volume_imbalance"),
    *("roll_spread", "corwin_schultz_spread", "volatility_20", "simple_return_20"),
)
HALF = (
    *("bollinger_position_20", "range_position_63", "downside_share_22"),
    "value_area_position_63",
)
NEUTRAL = dict.fromkeys(ZERO, 0.0) | dict.fromkeys(HALF, 0.5)
NEUTRAL |= dict.fromkeys(("rsi", "stoch_k", "stoch_d", "mfi"), 50.0) | {"williams_r": -50.0}


@pytest.mark.parametrize("name", NEUTRAL)
def test_an_oscillator_is_neutral_where_the_price_stands_still(name, nasty_values):
    always = nasty_values.filter(pl.col("symbol") == "ALL_CONSTANT")[name].drop_nulls()
    awhile = nasty_values.filter(pl.col("symbol") == "FROZEN_FOR_LONG")[name][250:295]
    for column in (always, awhile):
        assert len(column)
        assert (column - NEUTRAL[name]).abs().max() < 1e-12


def test_nothing_given_is_changed():
    before, facts = SMALL.clone(), seeded_facts(SMALL, 1)
    compute(SMALL, NAMES, facts)
    newest(SMALL, NAMES, facts)
    assert SMALL.equals(before)
    assert SMALL.schema == before.schema


@every_feature
def test_it_is_computed_alone_as_among_others(name, prices, facts, values):
    alone = compute(prices, [name], facts)[name]
    assert alone.equals(values[name], null_equal=True)


@every_feature
def test_it_says_what_it_is_and_what_comes_back(name):
    entry = FEATURES.get(name)
    text = inspect.getdoc(entry.expression) or ""
    assert FEATURES.describe(name).endswith((".", "?"))
    assert "Returns\n-------\nExpr : " in text
    assert entry.expression.__name__ == name


@every_feature_of_prices
def test_it_says_where_its_value_is_missing_or_neutral(name):
    text = inspect.getdoc(FEATURES.get(name).expression) or ""
    described = text.partition("Expr : ")[2].partition("References")[0]
    assert "null" in described or " where " in described
