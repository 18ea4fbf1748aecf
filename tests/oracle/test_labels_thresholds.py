"""A direction and a forecast made at the same bar have the same thresholds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import LABELS
from candlecast.domain.market import Horizon, trading_calendar
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, LabelSpec
from candlecast.domain.thresholds import class_bounds
from candlecast.labels.direction import past_returns
from candlecast.labels.horizons import Bars
from candlecast.pipelines.dataset import make_training_set
from candlecast.pipelines.universe import Market
from price_frames import DAILY, daily_prices

PRICES = daily_prices(seed=11, n_symbols=4, n_sessions=420)
CALENDARS = dict.fromkeys(PRICES["symbol"].unique(), trading_calendar("XNYS"))
MARKET = Market(DAILY, PRICES["known_at"].max(), PRICES, CALENDARS)
KEY = ["symbol", "ts", "horizon"]


def training_set(threshold):
    labels = LabelSpec(threshold=threshold)
    spec = ExperimentSpec(min_bars=1, labels=labels, features=FeatureSpec(("return_21",)))
    made = make_training_set(spec, MARKET)
    return (
        made,
        class_bounds(made.examples.climatology, spec.labels.threshold),
        spec.labels.horizons,
    )


@pytest.mark.parametrize("threshold", ["scaled", "fixed:0.015"])
def test_they_are_the_same_numbers_at_every_bar_a_model_sees(threshold):
    made, (lower, upper), horizons = training_set(threshold)
    bars = Bars.of(PRICES, DAILY, CALENDARS)
    keys = made.keys.select("symbol", "ts")
    for column, name in enumerate(horizons):
        past = past_returns(bars, bars.window(Horizon.parse(name)))
        own = class_bounds(past, threshold)
        beside = PRICES.select("symbol", "ts", lower=pl.Series(own[0]), upper=pl.Series(own[1]))
        found = keys.join(beside, on=["symbol", "ts"], how="left", maintain_order="left")
        assert np.array_equal(found["lower"], lower[:, column], equal_nan=True)
        assert np.array_equal(found["upper"], upper[:, column], equal_nan=True)
    assert np.isfinite(lower).sum() > 500


@pytest.mark.parametrize("threshold", ["scaled", "fixed:0.015"])
def test_the_classes_are_those_of_the_outcomes_between_the_forecasts_thresholds(threshold):
    made, (lower, upper), horizons = training_set(threshold)
    labels = LABELS.get("price_direction").compute(
        PRICES, timeframe=DAILY, horizons=horizons, calendars=CALENDARS, threshold=threshold
    )
    y = made.examples.y
    expected = np.where(y > upper, 1.0, np.where(y < lower, -1.0, 0.0))
    expected[np.isnan(y)] = np.nan
    for column, name in enumerate(horizons):
        asked = made.keys.select("symbol", "ts", horizon=pl.lit(name))
        found = asked.join(labels, on=KEY, how="left", maintain_order="left")
        assert np.array_equal(found["value"].fill_null(np.nan), expected[:, column], equal_nan=True)
    assert {-1.0, 0.0, 1.0} <= set(expected.ravel())
