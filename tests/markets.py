"""Examples of a market whose truth is known, for the tests of models and pipelines."""

from __future__ import annotations

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples

FEATURES = ("har_1", "har_5", "har_22", "noise", "signal")


def make_examples(
    *, seed: int, n_days: int = 500, edge: float = 0.0, volatility_signal: float = 0.3
) -> Examples:
    """Three symbols, two horizons: volatility depends on har_1, direction on `edge` times signal.

    Returns are Gaussian given the features; the newest outcomes are open (NaN).
    """
    rng = np.random.default_rng(seed)
    tickers, bars = ("AAA", "BBB", "CCC"), np.array([1, 5])
    n = n_days * len(tickers)
    as_of = np.repeat(
        np.datetime64("2015-01-01T21:00", "us") + np.arange(n_days) * np.timedelta64(1, "D"), 3
    )
    X = rng.standard_normal((n, len(FEATURES)))
    scale = np.tile([0.01, 0.02, 0.03], n_days)
    spread = np.exp(volatility_signal * X[:, 0]) / np.exp(volatility_signal**2)
    units = scale[:, None] * np.sqrt(bars)
    noise = rng.standard_normal((n, 2))
    y = (edge * X[:, 4, None] + spread[:, None] * noise) * units
    end_at = as_of[:, None] + bars * np.timedelta64(1, "D")
    y[end_at > as_of[-1]] = np.nan
    return Examples(
        X=X,
        symbol=np.tile(np.arange(3, dtype=np.int32), n_days),
        as_of=as_of,
        scale=scale,
        climatology=units[..., None] * 1.1 * dist.SCORES,
        feature_names=FEATURES,
        tickers=tickers,
        horizons=("1D", "1W"),
        horizon_bars=bars,
        y=y,
        end_at=end_at,
        weight=np.ones(n),
    )
