"""Features against TA-Lib and against naive twins that loop over the bars."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain import volatility
from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute
from price_frames import daily_prices


def last(x, n, function, n_least=None):
    """`function` of the last `n` values at each bar; NaN with fewer than `n_least` of them."""
    out = np.full(len(x), np.nan)
    for i in range(len(x)):
        window = x[max(0, i - n + 1) : i + 1]
        window = window[~np.isnan(window)]
        if len(window) >= (n_least or n):
            out[i] = function(window)
    return out


def back(x, n):
    return np.concatenate([np.full(n, np.nan), x[:-n]])


def weighted(x, decay=0.94):
    out = np.full(len(x), np.nan)
    for i in range(1, len(x)):
        weights = decay ** np.arange(i)[::-1]
        out[i] = (weights * x[1 : i + 1]).sum() / weights.sum()
    return out


def ratio(variance, scale):
    with np.errstate(divide="ignore"):
        return np.clip(np.log(np.sqrt(variance)) - np.log(scale), -3, 3)


def moved(change, n, scale):
    return np.clip(change / (scale * math.sqrt(n)), -10, 10)


def columns_of(segment):
    o, h, low, c, v = (segment[n].to_numpy() for n in ("open", "high", "low", "close", "volume"))
    r = np.log(c) - np.log(back(c, 1))
    inside = 0.5 * np.log(h / low) ** 2 - (2 * math.log(2) - 1) * np.log(c / o) ** 2
    bar = np.log(o / back(c, 1)) ** 2 + np.maximum(inside, 0)
    variance = 0.8 * weighted(r**2) + 0.2 * last(r**2, 252, np.mean, 60)
    scale = np.where(np.arange(len(c)) >= 60, np.sqrt(variance), np.nan)
    return SimpleNamespace(o=o, h=h, l=low, c=c, v=v, r=r, bar=bar, s=scale, segment=segment)


def har(n, n_least):
    return lambda x: ratio(last(x.bar, n, np.mean, n_least), x.s)


def amihud(x):
    illiquidity = np.abs(x.r) / (x.c * x.v)
    short, long = (last(illiquidity, n, np.mean, n // 4) for n in (21, 252))
    return np.clip(np.log(short / long), -3, 3)


def downside(x):
    losses = last(np.minimum(x.r, 0) ** 2, 22, np.sum, 1)
    return losses / last(x.r**2, 22, np.sum, 1)


def volume_z(x):
    level = np.clip(np.log(x.v / last(x.v, 63, np.mean, 1)), -3, 3)
    mean = last(level, 63, np.mean, 20)
    return np.clip((level - mean) / last(level, 63, lambda w: np.std(w, ddof=1), 20), -5, 5)


def slope(x):
    place = np.arange(21)
    return last(np.log(x.c), 21, lambda w: np.polyfit(place, w, 1)[0])


def bands(x, width):
    upper, middle, lower = talib.BBANDS(x.c, 20, width, width)
    return upper, middle, lower


def percent_b(x):
    upper, _, lower = bands(x, 2.0)
    return np.clip((x.c - lower) / (upper - lower), -1, 2)


def turn(x):
    dates = x.segment["ts"]
    length = dates.dt.month_end().dt.day().to_numpy()
    return np.cos(2 * np.pi * dates.dt.day().to_numpy() / length)


TWINS = {
    "absolute_ewma_ratio": lambda x: ratio(weighted(np.abs(x.r)) ** 2, x.s),
    "absolute_return_1": lambda x: moved(np.abs(x.r), 1, x.s),
    "adx_14": lambda x: talib.ADX(x.h, x.l, x.c, 14) / 100,
    "amihud_21": amihud,
    "atr_level_14": lambda x: talib.ATR(x.h, x.l, x.c, 14),
    "atr_ratio_14": lambda x: ratio((talib.ATR(x.h, x.l, x.c, 14) / x.c) ** 2, x.s),
    "bollinger_position_20": percent_b,
    "bollinger_width_20": lambda x: ratio((bands(x, 1.0)[0] / bands(x, 1.0)[1] - 1) ** 2, x.s),
    "cci_20": lambda x: talib.CCI(x.h, x.l, x.c, 20) / 100,
    "day_of_week": lambda x: (x.segment["ts"].dt.weekday().to_numpy() - 4) / 3,
    "downside_share_22": downside,
    "ema_distance_20": lambda x: moved(np.log(x.c / talib.EMA(x.c, 20)), 20, x.s),
    "ewma_ratio": lambda x: ratio(weighted(x.r**2), x.s),
    "har_1": har(1, 1),
    "har_5": har(5, 2),
    "har_22": har(22, 11),
    "har_66": har(66, 33),
    "har_252": har(252, 126),
    "high_distance_252": lambda x: moved(np.log(x.c / last(x.h, 252, np.max, 126)), 252, x.s),
    "macd_12_26": lambda x: moved(talib.MACD(x.c, 12, 26, 9)[0] / x.c, 1, x.s),
    "mfi_14": lambda x: talib.MFI(x.h, x.l, x.c, x.v, 14) / 50 - 1,
    "obv_change_21": lambda x: (
        (talib.OBV(x.c, x.v) - back(talib.OBV(x.c, x.v), 21)) / last(x.v, 21, np.sum, 1)
    ),
    "obv_level_63": lambda x: talib.OBV(x.c, x.v) - back(talib.OBV(x.c, x.v), 63),
    "overnight_gap": lambda x: moved(np.log(x.o / back(x.c, 1)), 1, x.s),
    "parkinson_ratio_10": lambda x: ratio(
        last(np.log(x.h / x.l) ** 2 / (4 * math.log(2)), 10, np.mean, 5), x.s
    ),
    "quarter_ago_63": lambda x: ratio(last(back(x.bar, 60), 6, np.max, 1), x.s),
    "range_position_63": lambda x: (
        (x.c - last(x.l, 63, np.min)) / (last(x.h, 63, np.max) - last(x.l, 63, np.min))
    ),
    "rate_of_change_10": lambda x: moved(talib.ROCP(x.c, 10), 10, x.s),
    "return_1": lambda x: moved(x.r, 1, x.s),
    "return_5": lambda x: moved(np.log(x.c / back(x.c, 5)), 5, x.s),
    "return_21": lambda x: moved(np.log(x.c / back(x.c, 21)), 21, x.s),
    "rsi_14": lambda x: talib.RSI(x.c, 14) / 50 - 1,
    "sma_distance_50": lambda x: moved(np.log(x.c / talib.SMA(x.c, 50)), 50, x.s),
    "stochastic_14": lambda x: talib.STOCH(x.h, x.l, x.c, 14, 3, 0, 3, 0)[0] / 50 - 1,
    "trend_slope_21": lambda x: moved(slope(x) * 21, 21, x.s),
    "turn_of_month": turn,
    "vol_of_vol_22": lambda x: last(ratio(x.bar, x.s), 22, lambda w: np.std(w, ddof=1), 11),
    "volatility_level": lambda x: np.log(x.s),
    "volume_level": lambda x: x.v,
    "volume_z_63": volume_z,
    "williams_r_14": lambda x: talib.WILLR(x.h, x.l, x.c, 14) / 50 + 1,
}


@pytest.fixture(scope="module")
def computed(prices):
    return compute(prices, FEATURES.names())


@pytest.fixture(scope="module")
def segments(prices):
    return [columns_of(part) for part in prices.partition_by("segment", maintain_order=True)]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", TWINS)
def test_a_feature_of_one_symbol_agrees_with_its_twin(name, computed, segments):
    warmup_bars = FEATURES.get(name).warmup_bars
    for x, values in zip(segments, by_segment(computed[name], segments), strict=True):
        np.testing.assert_allclose(
            values[warmup_bars:], TWINS[name](x)[warmup_bars:], rtol=1e-9, atol=1e-10
        )


def by_segment(column, segments):
    lengths = [len(x.c) for x in segments]
    return np.split(column.to_numpy(), np.cumsum(lengths)[:-1])


def test_every_feature_of_one_symbol_has_a_twin():
    alone = {name for name in FEATURES.names() if FEATURES.get(name).scope == "symbol"}
    assert alone == set(TWINS)


MARKETS = {
    "market_return_1": ("return_1", np.mean),
    "market_return_5": ("return_5", np.mean),
    "market_dispersion_1": ("return_1", np.std),
    "market_volatility_1": ("har_1", np.median),
    "market_volatility_5": ("har_5", np.median),
}


@pytest.mark.parametrize("name", MARKETS)
def test_a_feature_of_the_market_agrees_with_its_twin(name, computed):
    source, function = MARKETS[name]
    for part in computed.partition_by("ts"):
        members = part[source].drop_nulls().to_numpy()
        for value, own in part.select(name, source).iter_rows():
            assert value is None if own is None else value == pytest.approx(function(members))


@pytest.mark.parametrize(
    ("name", "source"), [("return_rank_21", "return_21"), ("volatility_rank_5", "har_5")]
)
def test_a_rank_counts_the_members_below(name, source, computed):
    for part in computed.partition_by("ts"):
        members = part[source].drop_nulls().to_numpy()
        for rank, own in part.select(name, source).iter_rows():
            if own is None:
                assert rank is None
            else:
                below = (members < own).sum() + 0.5 * (members == own).sum()
                assert rank == pytest.approx(below / len(members) - 0.5)


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
        har=volatility.har_component(5),
    )
    np.testing.assert_allclose(shared["scale"], x.s, rtol=1e-10)
    np.testing.assert_allclose(shared["ewma"][20:], weighted(x.r**2)[20:], rtol=1e-10)
    np.testing.assert_allclose(shared["long"], last(x.r**2, 252, np.mean, 60), rtol=1e-10)
    np.testing.assert_allclose(shared["bar"], x.bar, rtol=1e-10)
    np.testing.assert_allclose(shared["har"], last(x.bar, 5, np.mean, 2), rtol=1e-10)


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
    )
    assert means["night"][0] == pytest.approx(0.2e-4, rel=0.1)
    assert means["range"][0] == pytest.approx(0.8e-4, rel=0.08)
    assert means["day"][0] == pytest.approx(0.8e-4, rel=0.08)
    assert means["bar"][0] == pytest.approx(1e-4, rel=0.08)
