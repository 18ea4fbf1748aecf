"""What every feature of the catalogue promises."""

from __future__ import annotations

import inspect
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import FEATURES
from candlecast.domain.frames import FEATURES as FRAME
from candlecast.features.compute import compute, newest, standard_set
from candlecast.validation.causality import audit_features
from price_frames import daily_prices

NAMES = FEATURES.names()
every_feature = pytest.mark.parametrize("name", NAMES)
SMALL = daily_prices(seed=2, n_symbols=3, n_sessions=330)
KNOWN_AT = SMALL["known_at"].unique().sort()
RANGE = re.compile(r"in [\[(](-?[\d.]+), (-?[\d.]+)[\])]")


@pytest.fixture(scope="module")
def values(prices: pl.DataFrame) -> pl.DataFrame:
    return compute(prices, NAMES)


@pytest.fixture(scope="module")
def nasty_values(nasty: pl.DataFrame) -> pl.DataFrame:
    return compute(nasty, NAMES)


@pytest.fixture(scope="module")
def last_values(values, nasty_values):
    """The last row of each symbol, fair or nasty, out of all history."""
    frames = [f.group_by("symbol", maintain_order=True).last() for f in (values, nasty_values)]
    return pl.concat(frames)


@pytest.fixture(scope="module")
def newest_values(prices, nasty):
    return pl.concat([newest(prices, NAMES), newest(nasty, NAMES)])


def in_other_units(frame, price, volume):
    """The values of all features when prices and volumes are counted in other units."""
    prices = (pl.col(name) * price for name in ("open", "high", "low", "close"))
    return compute(frame.with_columns(*prices, pl.col("volume") * volume), NAMES)


@pytest.fixture(scope="module")
def values_of_larger(prices, nasty):
    return in_other_units(prices, 1e3, 1e6), in_other_units(nasty, 1e3, 1e6)


@pytest.fixture(scope="module")
def values_of_minute(prices):
    return in_other_units(prices, 1e-9, 1e-6)


def test_the_result_is_a_features_frame_with_a_row_for_every_bar(values, prices):
    FRAME.check(values)
    assert values.select("symbol", "ts").equals(prices.select("symbol", "ts"))
    assert tuple(values.columns[3:]) == NAMES


@every_feature
@settings(max_examples=4)
@given(cut=st.integers(150, len(KNOWN_AT) - 2))
def test_the_future_changes_nothing_in_the_past(name, cut):
    assert audit_features(compute, SMALL, [name], [KNOWN_AT[cut]]) == []


@every_feature
def test_the_warm_up_is_null_and_as_long_as_declared(name, values, prices):
    warmup_bars = FEATURES.get(name).warmup_bars
    age = prices.select(pl.int_range(pl.len()).over("segment")).to_series()
    column = values[name]
    assert column.filter(age < warmup_bars).null_count() == (age < warmup_bars).sum()
    assert column.filter(age >= warmup_bars).null_count() == 0


@every_feature
def test_the_newest_value_is_the_last_one_of_all_history(name, last_values, newest_values):
    key = ["symbol", "ts", "as_of"]
    assert newest_values.select(key).equals(last_values.select(key))
    np.testing.assert_allclose(newest_values[name], last_values[name], rtol=1e-6, atol=1e-9)


@every_feature
def test_no_value_is_nan_or_infinite_whatever_the_prices(name, nasty_values):
    assert nasty_values[name].is_finite().all()
    assert nasty_values[name].dtype == pl.Float64


@every_feature
def test_after_the_warm_up_a_value_is_missing_only_where_nothing_moves(name, nasty, nasty_values):
    is_warm = nasty.select(pl.int_range(pl.len()).over("segment")).to_series()
    is_warm = is_warm >= FEATURES.get(name).warmup_bars
    does_move = ~nasty["symbol"].is_in(["ALL_CONSTANT", "CEASED"])
    assert nasty_values.filter(is_warm & does_move)[name].null_count() == 0


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
    if not FEATURES.get(name).is_input:
        assert (fair[name] / values[name]).median() > 100
        return
    np.testing.assert_allclose(fair[name], values[name], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(values_of_minute[name], values[name], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(nasty[name], nasty_values[name], rtol=1e-6, atol=1e-7)


ZERO = ("rsi_14", "adx_14", "stochastic_14", "williams_r_14", "cci_20", "mfi_14", "obv_change_21")
HALF = ("bollinger_position_20", "range_position_63", "downside_share_22")
NEUTRAL = dict.fromkeys(ZERO, 0.0) | dict.fromkeys(HALF, 0.5)


@pytest.mark.parametrize("name", NEUTRAL)
def test_an_oscillator_is_neutral_where_the_price_stands_still(name, nasty_values):
    always = nasty_values.filter(pl.col("symbol") == "ALL_CONSTANT")[name].drop_nulls()
    awhile = nasty_values.filter(pl.col("symbol") == "FROZEN_FOR_LONG")[name][250:295]
    assert always.unique().to_list() == [NEUTRAL[name]]
    assert awhile.unique().to_list() == [NEUTRAL[name]]


@every_feature
def test_nothing_given_is_changed(name):
    before = SMALL.clone()
    compute(SMALL, [name])
    newest(SMALL, [name])
    assert SMALL.equals(before)
    assert SMALL.schema == before.schema


@every_feature
def test_it_is_computed_alone_as_among_others(name, prices, values):
    assert compute(prices, [name])[name].equals(values[name], null_equal=True)


@every_feature
def test_it_says_what_it_is_and_what_comes_back(name):
    entry = FEATURES.get(name)
    text = inspect.getdoc(entry.expression) or ""
    assert FEATURES.describe(name).endswith(".")
    assert "Returns\n-------\nExpr : " in text
    assert entry.expression.__name__ == name
