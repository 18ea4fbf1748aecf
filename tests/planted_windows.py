"""Examples whose answer lies in their windows: in a memory of bars, or in one marked cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.normalising import Normaliser
from candlecast.domain.sequences import Sequences, Tensors
from candlecast.domain.specs import TensorSpec

N_MEMORY = 5
SPEC = TensorSpec(("1d",), ("shock",), n_steps=10)
MARKED = TensorSpec(("1h", "1d"), ("mark", "shock"), n_steps=6)
PER_DAY = 10


@dataclass(frozen=True, eq=False)
class GivenWindows:
    """Windows that are given, one for each row."""

    spec: TensorSpec
    values: np.ndarray  # (n_rows, n_steps, n_timeframes, n_features)
    mask: np.ndarray

    def take(self, rows: np.ndarray) -> Tensors:
        mask = self.mask[rows]
        age = np.where(mask.any(axis=1), 0.0, np.nan).astype(np.float32)
        return Tensors(np.where(mask[..., None], self.values[rows], np.float32(0)), mask, age)

    def fit_normaliser(self, until: datetime) -> Normaliser:
        assert until.tzinfo is not None
        flat = [self.values[:, :, place].reshape(-1, len(self.spec.features)) for place in
                range(len(self.spec.timeframes))]  # fmt: skip
        return Normaliser.fit(self.spec, [(part, np.ones(len(part), bool)) for part in flat])


def examples_of(
    windows: GivenWindows, log_volatility: np.ndarray, X: np.ndarray, seed: int
) -> Examples:
    """Gaussian returns of one horizon, ten rows a day, with that volatility."""
    n = len(log_volatility)
    noise = np.random.default_rng(seed).standard_normal(n)
    scale = np.full(n, 0.02)
    y = (scale * np.exp(log_volatility) * noise)[:, None]
    day = np.arange(n) // PER_DAY * np.timedelta64(1, "D")
    as_of = np.datetime64("2010-01-04T21:00", "us") + day
    return Examples(
        X=X,
        symbol=(np.arange(n) % PER_DAY).astype(np.int32),
        as_of=as_of,
        scale=scale,
        climatology=scale[:, None, None] * dist.SCORES,
        feature_names=tuple(f"x{place}" for place in range(X.shape[1])),
        tickers=tuple(f"S{place}" for place in range(PER_DAY)),
        horizons=("1D",),
        horizon_bars=np.array([1]),
        y=y,
        end_at=(as_of + np.timedelta64(1, "D"))[:, None],
        weight=np.ones(n),
        sequences=Sequences(windows, np.arange(n)),
    )


def remembered(seed: int, n: int = 3000) -> Examples:
    """Volatility follows the last five shocks alike, of which X holds the newest."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((n, SPEC.n_steps, 1, 1)).astype(np.float32)
    told = shocks[:, -N_MEMORY:, 0, 0]
    windows = GivenWindows(SPEC, shocks, np.ones(shocks.shape[:3], bool))
    return examples_of(windows, 0.7 * told.mean(axis=1) * N_MEMORY**0.5, told[:, -1:], seed + 1)


def marked(seed: int, n: int = 4000) -> Examples:
    """Volatility is the shock of the one cell, another one in each row, that bears a mark."""
    rng = np.random.default_rng(seed)
    shape = (n, MARKED.n_steps, len(MARKED.timeframes))
    values = rng.standard_normal((*shape, 2)).astype(np.float32)
    cell = rng.integers(0, shape[1] * shape[2], n)
    flat = values.reshape(n, -1, 2)
    flat[..., 0] = 0.0
    flat[np.arange(n), cell, 0] = 1.0
    told = flat[np.arange(n), cell, 1].astype(float)
    windows = GivenWindows(MARKED, values, np.ones(shape, bool))
    return examples_of(windows, 0.8 * told, np.zeros((n, 1)), seed + 1)


def without_cells(examples: Examples, cells: np.ndarray) -> Examples:
    """The same with these cells (n_rows, n_steps, n_timeframes) masked."""
    source = examples.sequences.source
    masked = GivenWindows(source.spec, source.values, source.mask & ~cells)
    return replace(examples, sequences=Sequences(masked, examples.sequences.index))
