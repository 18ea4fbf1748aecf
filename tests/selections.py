"""Feature selections over examples whose truth is known: columns of noise beside one signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.specs import SplitSpec
from candlecast.models.selection import Selection, select_features
from candlecast.validation.splits import walk_forward_splits

SPLITS = SplitSpec(n_splits=2, holdout_share=0.0)
PENALTY = 50.0


class LogDistances:
    """Gaussian, its scale by least squares on the log distances of all horizons: quick to fit."""

    def __init__(self, examples: Examples) -> None:
        distance = np.abs(examples.targets())
        is_known = ~np.isnan(distance)
        row = np.nonzero(is_known)[0]
        Z = np.column_stack([np.ones(len(row)), examples.X[row]])
        gram = Z.T @ Z + PENALTY * np.eye(Z.shape[1])
        self.slopes = np.linalg.solve(gram, Z.T @ np.log(np.maximum(distance[is_known], 0.05)))

    def predict(self, rows: Rows) -> np.ndarray:
        scale = np.exp(np.clip(self.slopes[0] + rows.X @ self.slopes[1:], -2, 2))
        return (scale[:, None] * rows.horizon_scale())[..., None] * 1.5 * dist.SCORES


def judged(examples: Examples, seed: int = 1) -> Selection:
    """What a log-linear model makes of the features of `examples`."""
    splits = walk_forward_splits(examples.as_of, SPLITS)
    return select_features(LogDistances, examples, splits, seed)


def with_noise(examples: Examples, n_noise: int, seed: int) -> Examples:
    """Further columns: half of them white, half slow, as indicators are."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((len(examples), n_noise))
    slow = np.cumsum(noise[:, ::2], axis=0)
    noise[:, ::2] = slow / slow.std(axis=0)
    names = tuple(f"noise_{number}" for number in range(n_noise))
    X = np.column_stack([examples.X, noise])
    return replace(examples, X=X, feature_names=(*examples.feature_names, *names))
