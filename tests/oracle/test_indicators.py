"""Features against TA-Lib, pandas and naive twins that loop over the bars."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain import volatility
from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute
from candlecast.features.volume_profile import volume_profiles
from feature_twins import ALONE, assert_agree, by_segment, segments_of
from input_twins import TWINS
from naive_windows import columns_of, last, weighted
from price_frames import daily_prices
from shown_twins import SHOWN_TWINS

MARKETS = {
    "market_return_1": ("return_1", np.mean),
    "market_return_5": ("return_5", np.mean),
    "market_dispersion_1": ("return_1", np.std),
    "market_simple_return_1": ("simple_return_1", np.mean),
    "market_volatility_1": ("har_1", np.median),
    "market_volatility_5": ("har_5", np.median),
}
RANKS = {"return_rank_21": "return_21", "volatility_rank_5": "har_5"}
MOVES_WITH_MARKET = ("market_beta_126", "market_correlation_126")
NAMES = tuple(name for name in FEATURES.names() if FEATURES.get(name).table == "ohlcv")


@pytest.fixture(scope="module", params=["prices", "nasty"])
def frame(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def computed(frame):
    return compute(frame, NAMES)


@pytest.fixture(scope="module")
def segments(frame):
    return segments_of(frame)


def test_every_feature_of_prices_has_a_twin():
    assert set(NAMES) == {*ALONE, *MARKETS, *RANKS, *MOVES_WITH_MARKET}


def test_what_is_shown_and_what_models_see_have_twins_of_their_own():
    alone = [name for name in NAMES if FEATURES.get(name).scope == "symbol"]
    assert {name for name in alone if FEATURES.get(name).is_input} == set(TWINS)
    assert {name for name in alone if not FEATURES.get(name).is_input} == set(SHOWN_TWINS)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero encountered:RuntimeWarning")
@pytest.mark.parametrize("name", ALONE)
def test_a_feature_of_one_symbol_agrees_with_its_twin(name, computed, segments):
    for x, values in zip(segments, by_segment(computed[name], segments), strict=True):
        assert_agree(name, values, ALONE[name](x))


def test_the_volume_profiles_of_all_segments_at_once_are_those_of_each(frame):
    parts = frame.partition_by("segment", maintain_order=True)
    each = pl.concat([volume_profiles(part) for part in parts])
    mixed = frame.sort("ts", "symbol")
    at_once = mixed.with_columns(volume_profiles(mixed)).sort("symbol", "ts")["volume_profile"]
    assert volume_profiles(frame).equals(each, null_equal=True)
    assert at_once.equals(each, null_equal=True)
    assert each.count() > len(frame) / 2


@pytest.mark.parametrize("name", MARKETS)
def test_a_feature_of_the_market_agrees_with_its_twin(name, computed):
    source, function = MARKETS[name]
    for part in computed.partition_by("ts"):
        members = part[source].drop_nulls().to_numpy()
        for value, own in part.select(name, source).iter_rows():
            if value is None:
                assert own is None
            else:
                assert value == pytest.approx(function(members))


@pytest.mark.parametrize("name", RANKS)
def test_a_rank_counts_the_members_below(name, computed):
    for part in computed.partition_by("ts"):
        members = part[RANKS[name]].drop_nulls().round(6).to_numpy()
        for rank, own in part.select(name, RANKS[name]).iter_rows():
            if own is None:
                assert rank is None
            else:
                here = round(own, 6)
                below = (members < here).sum() + 0.5 * (members == here).sum()
                assert rank == pytest.approx(below / len(members) - 0.5)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_beta_and_correlation_agree_with_those_of_pandas(computed, segments):
    names = ("simple_return_1", "market_simple_return_1", *MOVES_WITH_MARKET)
    columns = [by_segment(computed[name], segments) for name in names]
    for returns, returns_of_market, beta, correlation in zip(*columns, strict=True):
        frame = pl.DataFrame({"own": returns, "market": returns_of_market}).to_pandas()
        own, market = (frame[name].rolling(126) for name in frame)
        moves = [rolling.var() > volatility.LEAST_VARIANCE for rolling in (own, market)]
        betas = (own.cov(frame["market"]) / market.var()).clip(-5, 5).where(moves[1], 0)
        correlations = own.corr(frame["market"]).where(moves[0] & moves[1], 0)
        np.testing.assert_allclose(beta[126:], betas[126:], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(correlation[126:], correlations[126:], rtol=1e-6, atol=1e-8)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_the_shared_volatilities_agree_with_their_twins(seed):
    prices = daily_prices(seed=seed, n_symbols=1, n_sessions=150)
    x = columns_of(prices)
    shared = prices.select(
        scale=volatility.scale(),
        ewma=volatility.ewma_variance(),
        long=volatility.long_run_variance(),
        bar=volatility.bar_variance(),
    )
    np.testing.assert_allclose(shared["scale"], x.s, rtol=1e-10)
    np.testing.assert_allclose(shared["ewma"][20:], weighted(x.r**2)[20:], rtol=1e-10)
    np.testing.assert_allclose(shared["long"], last(x.r**2, 252, np.mean, 60), rtol=1e-10)
    np.testing.assert_allclose(shared["bar"], x.bar, rtol=1e-10)
    har = compute(prices, ["har_5"])["har_5"].to_numpy()
    expected = np.log(np.sqrt(last(x.bar, 5, np.mean, 2)) / x.s).clip(-3, 3)
    np.testing.assert_allclose(har[60:], expected[60:], rtol=1e-10, atol=1e-12)


def test_the_volatility_of_what_stands_still_is_null():
    still = pl.DataFrame({"close": [100.0] * 80})
    assert still.select(volatility.scale()).to_series().null_count() == 80
    rng = np.random.default_rng(6)
    walk = np.exp(np.cumsum(rng.normal(0, 0.02, 400)))
    ceased = pl.DataFrame({"close": np.concatenate([walk, np.full(600, walk[-1])])})
    scale = ceased.select(volatility.scale()).to_series()
    assert scale[60:600].null_count() == 0
    assert scale[-200:].null_count() == 200


def test_the_variance_estimators_are_right_on_average():
    # Nights of variance 1/5, days of 4/5 of 1e-4; a finite number of steps hides some range.
    rng = np.random.default_rng(4)
    n_bars, n_steps = 2500, 1000
    steps = rng.normal(0, 0.01 * math.sqrt(0.8 / n_steps), (n_bars, n_steps))
    steps[:, 0] = rng.normal(0, 0.01 * math.sqrt(0.2), n_bars)
    path = np.exp(np.cumsum(steps).reshape(n_bars, n_steps))
    columns = {"open": path[:, 0], "high": path.max(1), "low": path.min(1), "close": path[:, -1]}
    means = pl.DataFrame(columns).select(
        day=volatility.garman_klass_variance().mean(),
        range=volatility.parkinson_variance().mean(),
        bar=volatility.bar_variance().mean(),
        night=volatility.overnight_variance().mean(),
        trendless=volatility.rogers_satchell_variance().mean(),
        all=volatility.yang_zhang_variance(20).mean(),
    )
    assert means["night"][0] == pytest.approx(0.2e-4, rel=0.1)
    assert means["range"][0] == pytest.approx(0.8e-4, rel=0.08)
    assert means["day"][0] == pytest.approx(0.8e-4, rel=0.08)
    assert means["bar"][0] == pytest.approx(1e-4, rel=0.08)
    assert means["trendless"][0] == pytest.approx(0.8e-4, rel=0.08)
    assert means["all"][0] == pytest.approx(1e-4, rel=0.08)
