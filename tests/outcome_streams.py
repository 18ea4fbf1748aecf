"""Outcomes whose spread is known, day by day, for the tests of what follows them."""

from __future__ import annotations

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples


def stream(
    seed: int, *, n_days: int, n_symbols: int = 10, spread: np.ndarray | float = 1.0
) -> Examples:
    """Normal outcomes of `spread` (n_days,) for horizons of one bar and of five that overlap."""
    rng = np.random.default_rng(seed)
    bars, n = np.array([1, 5]), n_days * n_symbols
    day = np.repeat(np.arange(n_days), n_symbols)
    as_of = np.datetime64("2015-01-01T21:00", "us") + day * np.timedelta64(1, "D")
    steps = np.broadcast_to(spread, n_days)[:, None] * rng.standard_normal((n_days, n_symbols))
    sums = np.vstack([np.zeros(n_symbols), np.cumsum(steps, axis=0)])
    y = np.full((n, 2), np.nan)
    for h, n_bars in enumerate(bars):
        moved = (sums[n_bars:] - sums[:-n_bars]) / np.sqrt(n_bars)
        y[: moved.size, h] = moved.reshape(-1)
    return Examples(
        X=np.zeros((n, 0)),
        symbol=np.tile(np.arange(n_symbols, dtype=np.int32), n_days),
        as_of=as_of,
        scale=np.ones(n),
        climatology=np.zeros((n, 2, dist.N_LEVELS)),
        feature_names=(),
        tickers=tuple(f"S{i}" for i in range(n_symbols)),
        horizons=("1D", "1W"),
        horizon_bars=bars,
        y=y,
        end_at=as_of[:, None] + bars * np.timedelta64(1, "D"),
        weight=np.ones(n),
    )


def forecasts(examples: Examples) -> np.ndarray:
    """Standard normal ones, for every row and horizon."""
    return np.tile(dist.SCORES, (len(examples), 2, 1))
