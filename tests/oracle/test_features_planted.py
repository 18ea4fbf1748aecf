"""What is planted into drawn prices is found: a spread, a beta, a price that all trade at."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from candlecast.domain.market import trading_calendar
from candlecast.features.compute import compute
from price_frames import DAILY, prices_of, stamped

N_SESSIONS = 2000
N_STEPS = 60


def bars_of(symbol, paths, volume=None):
    """PRICES columns of one symbol from what is traded at within each session."""
    days = trading_calendar("XNYS").sessions
    days = days[days >= np.datetime64("2004-01-02")][: len(paths)].astype("datetime64[us]")
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(paths),
            "ts": pl.Series(days).dt.replace_time_zone("UTC"),
            "open": paths[:, 0],
            "high": paths.max(axis=1),
            "low": paths.min(axis=1),
            "close": paths[:, -1],
            "volume": np.full(len(paths), 1e5) if volume is None else volume,
        }
    )


def prices_from(*frames):
    return prices_of(stamped(pl.concat(frames), DAILY, trading_calendar("XNYS")))


def walk(rng, deviation=0.01):
    steps = rng.normal(0, deviation / np.sqrt(N_STEPS), (N_SESSIONS, N_STEPS))
    return 50 * np.exp(np.cumsum(steps).reshape(N_SESSIONS, N_STEPS))


def test_a_spread_is_found_by_its_bounce_and_by_the_ranges():
    rng = np.random.default_rng(3)
    middle = walk(rng)
    sides = rng.choice([-0.5, 0.5], middle.shape)
    wide = bars_of("WIDE", middle * (1 + 0.02 * sides))
    narrow = bars_of("NARROW", middle * (1 + 0.001 * sides))
    names = ["roll_spread_ratio", "roll_spread", "corwin_schultz_spread"]
    means = compute(prices_from(narrow, wide), names).group_by("symbol").mean().sort("symbol")
    assert means["corwin_schultz_spread"][1] == pytest.approx(0.02, rel=0.25)
    assert means["corwin_schultz_spread"][0] < 0.01
    assert means["roll_spread"][1] == pytest.approx(0.02, rel=0.25)
    assert means["roll_spread"][0] < 0.01
    assert means["roll_spread_ratio"][1] > means["roll_spread_ratio"][0] + 0.5


def test_a_planted_beta_is_found():
    rng = np.random.default_rng(4)
    market = rng.normal(0, 0.01, N_SESSIONS)
    betas = {"CALM": 0.5, "LIKE": 1.0, "WILD": 1.5}
    frames = []
    for symbol, beta in betas.items():
        own = beta * market + rng.normal(0, 0.002, N_SESSIONS)
        frames.append(bars_of(symbol, 50 * np.cumprod(1 + own)[:, None]))
    found = compute(prices_from(*frames), ["market_beta_126", "market_correlation_126"])
    for symbol, beta in betas.items():
        own = found.filter(pl.col("symbol") == symbol)
        assert own["market_beta_126"].mean() == pytest.approx(beta, rel=0.05)
        assert own["market_correlation_126"].min() > 0.8
    mean = found.group_by("ts").agg(pl.col("market_beta_126").mean())["market_beta_126"]
    assert (mean - 1).abs().max() < 1e-9


def test_the_price_that_most_is_traded_at_is_the_point_of_control():
    rng = np.random.default_rng(5)
    base = 50 + rng.uniform(-5, 5, N_SESSIONS)
    is_busy = rng.random(N_SESSIONS) < 0.3
    base[is_busy] = 52
    paths = base[:, None] + rng.normal(0, 0.01, (N_SESSIONS, N_STEPS))
    prices = prices_from(bars_of("BUSY", paths, np.where(is_busy, 1e6, 1e4)))
    names = ["volume_poc", "value_area_low", "value_area_high"]
    found = compute(prices, names).drop_nulls()
    assert (found["volume_poc"] - 52).abs().max() < 0.3
    assert (found["value_area_high"] - found["value_area_low"]).max() < 1.0


def test_volume_that_comes_with_rises_is_told_from_volume_that_comes_with_falls():
    rng = np.random.default_rng(6)
    middle = walk(rng)
    change = np.diff(middle[:, -1], prepend=middle[0, 0])
    bought = bars_of("BOUGHT", middle, np.where(change > 0, 2e5, 1e5))
    sold = bars_of("SOLD", middle, np.where(change < 0, 2e5, 1e5))
    found = compute(prices_from(bought, sold), ["signed_volume_imbalance"]).drop_nulls()
    means = found.group_by("symbol").mean().sort("symbol")["signed_volume_imbalance"]
    assert means[0] > 0.1
    assert means[1] < -0.1
