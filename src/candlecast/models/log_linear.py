"""A positive number from features: gamma regression with a logarithmic link."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from candlecast.domain.distribution import FloatArray
from candlecast.errors import FitFailed

PENALTY: Final = 6.0
"""On standardised slopes, in units of weight: as good as they are near 0.3 at most beforehand."""
MAX_SCORE: Final = 6.0
MAX_STEP: Final = 0.5
MAX_ITERATIONS: Final = 50
TOLERANCE: Final = 1e-8


def standardiser(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each column; 1 where a column never varies."""
    spread = X.std(axis=0)
    return X.mean(axis=0), np.where(spread > 1e-12, spread, 1.0)


class LogLinear:
    """E[target] = exp(intercept + slopes · standardised features), by penalised quasi-likelihood.

    The quasi-likelihood needs only that the standard deviation grows with the mean, as the
    distances of returns do. Features are clipped at six standard deviations, so that a broken
    bar cannot blow a forecast up.
    """

    def __init__(
        self, centre: FloatArray, spread: FloatArray, intercept: float, slopes: FloatArray
    ) -> None:
        self.centre, self.spread = centre, spread
        self.intercept, self.slopes = intercept, slopes

    @classmethod
    def fitted(cls, X: FloatArray, target: FloatArray, weight: FloatArray) -> Self:
        """The regression of `target` (n_rows,) > 0 on `X` (n_rows, n_features)."""
        (model,) = cls.fitted_to(X, (target,), weight)
        return model

    @classmethod
    def fitted_to(
        cls, X: FloatArray, targets: Sequence[FloatArray], weight: FloatArray
    ) -> tuple[Self, ...]:
        """Regressions of several targets on the same rows.

        Newton's method with expected information, which is constant for this link.
        """
        centre, spread = standardiser(X)
        Z = np.column_stack([np.ones(len(X)), _scores(X, centre, spread)])
        penalty = np.full(Z.shape[1], PENALTY)
        penalty[0] = 0.0
        information = (Z * weight[:, None]).T @ Z + np.diag(penalty)
        found = []
        for target in targets:
            beta = np.zeros(Z.shape[1])
            beta[0] = np.log(np.average(target, weights=weight))
            for _ in range(MAX_ITERATIONS):
                residual = np.minimum(target * np.exp(-Z @ beta), 1e6) - 1
                step = np.linalg.solve(information, Z.T @ (weight * residual) - penalty * beta)
                beta = beta + np.clip(step, -MAX_STEP, MAX_STEP)
                if np.abs(step).max() < TOLERANCE:
                    break
            if not np.isfinite(beta).all():
                raise FitFailed("the scale regression diverged; look for extreme feature values")
            found.append(cls(centre, spread, float(beta[0]), beta[1:]))
        return tuple(found)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The regressor that `save` described."""
        arrays = (np.array(state[key]) for key in ("centre", "spread", "slopes"))
        centre, spread, slopes = arrays
        return cls(centre, spread, state["intercept"], slopes)

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) expected target, > 0."""
        return np.asarray(np.exp(self.intercept + self.scores(X) @ self.slopes))

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Its coefficients."""
        return self.state()

    def importances(self) -> FloatArray:
        """(n_features,) shares of the sizes of the standardised slopes."""
        size = np.abs(self.slopes)
        return np.asarray(size / max(size.sum(), np.finfo(float).tiny))

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features): what each adds to the logarithm against the training mean."""
        return np.asarray(self.scores(X) * self.slopes)

    def state(self) -> dict[str, Any]:
        """Its coefficients as plain values."""
        return {
            "centre": self.centre.tolist(),
            "spread": self.spread.tolist(),
            "intercept": self.intercept,
            "slopes": self.slopes.tolist(),
        }

    def scores(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) standardised and clipped."""
        return _scores(X, self.centre, self.spread)


def _scores(X: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    found = X - centre
    found /= spread
    return np.clip(found, -MAX_SCORE, MAX_SCORE, out=found)
