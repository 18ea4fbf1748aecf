"""Every label against a twin that walks each path bar by bar, on awkward bars."""

from __future__ import annotations

from functools import partial

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import LABELS
from candlecast.domain.market import Timeframe, trading_calendar
from label_prices import SYMBOLS, awkward_prices
from label_twins import (
    Market,
    assert_same,
    barrier_twin,
    direction_twin,
    forward_twin,
    realised_twin,
    regime_twin,
    rotation_twin,
)

# What exchange_calendars asks of pandas for Hong Kong.
pytestmark = pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated")

MARKETS = {
    "daily": ("1d", "XNYS", 130, 0.9, ("1D", "1W", "1M")),
    "hours round the clock": ("1h", "24/7", 7, 0.9, ("6h", "1D")),
    "minutes with a lunch break": ("5m", "XHKG", 4, 0.6, ("30m", "2h", "1D")),
    "quarters before and after holidays": ("15m", "XNYS", 7, 0.7, ("30m", "1D")),
}
markets = st.sampled_from(sorted(MARKETS))
seeds = st.integers(0, 10**6)


def drawn(name, seed, choice):
    """A market of `MARKETS` and one of its horizons."""
    timeframe, calendar, n_sessions, share, horizons = MARKETS[name]
    length = Timeframe.parse(timeframe)
    prices = awkward_prices(
        seed, timeframe=length, calendar=calendar, n_sessions=n_sessions, share=share
    )
    horizon = horizons[choice % len(horizons)]
    return prices, Market(prices, length, trading_calendar(calendar), horizon)


def labels_of(kind, prices, market, **parameters):
    return LABELS.get(kind).compute(
        prices,
        timeframe=market.timeframe,
        horizons=(market.horizon.name,),
        calendars=dict.fromkeys(SYMBOLS, market.calendar),
        **parameters,
    )


@settings(max_examples=8)
@given(markets, seeds, st.integers(0, 5), st.booleans(), st.booleans())
def test_forward_returns_are_those_of_the_twin(name, seed, choice, is_simple, is_scaled):
    prices, market = drawn(name, seed, choice)
    chosen = {"is_simple": is_simple, "is_scaled": is_scaled}
    labels = labels_of("forward_return", prices, market, **chosen)
    assert_same(labels, market, partial(forward_twin, market, **chosen))


@settings(max_examples=12)
@given(
    markets, seeds, st.integers(0, 5), st.sampled_from([0.3, 1.0, 2.0]), st.sampled_from([0.5, 1.0])
)
def test_barriers_are_those_of_the_twin(name, seed, choice, upper, lower):
    prices, market = drawn(name, seed, choice)
    labels = labels_of("triple_barrier", prices, market, upper=upper, lower=lower)
    assert_same(labels, market, lambda row: barrier_twin(market, row, upper, lower))


@pytest.mark.parametrize("kind", ["triple_barrier", "regime_change", "realised_volatility"])
def test_the_twins_see_every_kind_of_outcome(kind):
    values, is_early = set(), False
    for name in MARKETS:
        prices, market = drawn(name, 1, 1)
        labels = labels_of(kind, prices, market)
        values |= {None if v is None else (v > 0) - (v < 0) for v in labels["value"]}
        due = pl.Series([market.due_at(row) for row in market.rows], dtype=labels["end_at"].dtype)
        is_early |= bool((labels["end_at"] < due).any())
    assert values >= ({None, 1} if kind == "realised_volatility" else {None, -1, 0, 1})
    assert is_early == (kind == "triple_barrier")


@settings(max_examples=8)
@given(markets, seeds, st.integers(0, 5))
def test_realised_volatility_is_that_of_the_twin(name, seed, choice):
    prices, market = drawn(name, seed, choice)
    labels = labels_of("realised_volatility", prices, market)
    assert_same(labels, market, partial(realised_twin, market))


@settings(max_examples=8)
@given(markets, seeds, st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.2]))
def test_regimes_are_those_of_the_twin(name, seed, choice, threshold):
    prices, market = drawn(name, seed, choice)
    labels = labels_of("regime_change", prices, market, threshold=threshold)
    assert_same(labels, market, lambda row: regime_twin(market, row, threshold))


@settings(max_examples=6)
@given(markets, seeds, st.integers(0, 5), st.sampled_from(SYMBOLS), st.sampled_from([0.0, 0.25]))
def test_rotations_are_those_of_the_twin(name, seed, choice, leader, threshold):
    prices, market = drawn(name, seed, choice)
    labels = labels_of("sector_rotation", prices, market, leader=leader, threshold=threshold)
    assert_same(labels, market, lambda row: rotation_twin(market, row, leader, threshold))


@settings(max_examples=6)
@given(markets, seeds, st.integers(0, 5), st.sampled_from(["scaled", "fixed:0.004"]))
def test_directions_are_those_of_the_twin(name, seed, choice, threshold):
    prices, market = drawn(name, seed, choice)
    labels = labels_of("price_direction", prices, market, threshold=threshold)
    past = [(row["symbol"], *forward_twin(market, row)[:2]) for row in market.rows]
    past = [(symbol, value, known) for symbol, value, known in past if value is not None]

    def twin(row):
        fixed = (-0.0040080213975388218, 0.003992021269537453)  # ln(1 - 0.004), ln(1 + 0.004)
        bounds = fixed if threshold != "scaled" else market.past_terciles(row, past)
        return direction_twin(market, row, bounds)

    assert_same(labels, market, twin)
