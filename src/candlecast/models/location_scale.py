"""What the location-and-scale models share: from two regressions to quantiles.

1. Targets are returns in units of the symbol's own forecast volatility (`Examples.targets`).
2. A location is fitted on the earlier rows and kept only if it proves itself on the later ones.
3. A scale is fitted to the distance from the location, in log-linear form: always positive.
4. The residuals' quantiles give the shape: quantiles = (location + scale * shape) * units.

Drift and shape are shrunk to what is plausible beforehand, by as much as the independent
outcomes are few: years of daily bars hold only dozens of separate months.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np

from candlecast.domain.distribution import LEVELS, SCORES, FloatArray, uncrossed
from candlecast.domain.examples import Examples, Rows
from candlecast.errors import FitFailed, NotFitted
from candlecast.models.artifact import read_json, write_json

HOLDOUT_SHARE: Final = 0.3
MIN_LOCATION_T: Final = 2.5
MAX_TARGET: Final = 8.0
MIN_DISTANCE: Final = 1e-3
MIN_EXAMPLES: Final = 40
DRIFT_PRIOR: Final = 0.5 / 252**0.5
"""Plausible mean over standard deviation of a bar's return: a yearly ratio of one half."""
SHAPE_PRIOR: Final = 50.0
"""Independent outcomes that the Gaussian shape is worth beside the residuals' own."""
GAUSSIAN_SHAPE: Final = SCORES * np.sqrt(np.pi / 2)
"""Quantiles of a Gaussian in units of its mean distance from the centre."""


class Regressor(Protocol):
    """One number from a row of features."""

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        ...

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """The state as plain values; larger parts go to files called `name` in `folder`."""
        ...


class Constant:
    """The same number for every row."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, X: FloatArray) -> FloatArray:
        """`value` for each row."""
        return np.full(len(X), self.value)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """The value."""
        return {"value": self.value}


class LocationScale(ABC):
    """A distribution by location and scale, fitted for each horizon on its own.

    Parameters
    ----------
    seed : int, for those regressions that draw at random.

    Notes
    -----
    A missing feature is given the mean of the training rows: in examples where a source of facts
    was absent, in rows also where a symbol is too young for it.

    Raises
    ------
    NotFitted when asked before `fit`; NotFound when a feature is missing; FitFailed when a
    horizon has fewer than 40 examples.
    """

    def __init__(self, *, seed: int = 7) -> None:
        self.seed = seed
        self.feature_names: tuple[str, ...] = ()
        self._locations: list[Regressor] = []
        self._scales: list[Regressor] = []
        self._drifts: list[float] = []
        self._shrinkage: list[float] = []
        self._shapes = np.empty((0, len(LEVELS)))
        self._neutral = np.empty(0)

    @abstractmethod
    def fit_location(self, X: FloatArray, target: FloatArray, weight: FloatArray) -> Regressor:
        """A regressor of the centred target, or `Constant(0)` where the kind has none."""

    @abstractmethod
    def fit_scale(self, X: FloatArray, distance: FloatArray, weight: FloatArray) -> Regressor:
        """A regressor of the positive distance from the location."""

    @abstractmethod
    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """The regressor that `Regressor.save` described."""

    def uses(self, rows: Rows) -> tuple[str, ...]:
        """The features this kind looks at; all by default."""
        return rows.feature_names

    def fit(self, examples: Examples) -> Self:
        """Fit every horizon on the examples whose outcome is known."""
        self.feature_names = self.uses(examples)
        X, targets = examples.matrix(self.feature_names), examples.targets()
        n_known = np.maximum((~np.isnan(X)).sum(axis=0), 1)
        self._neutral = np.nansum(X, axis=0) / n_known  # 0 where a source is absent altogether
        X = np.where(np.isnan(X), self._neutral, X)
        self._locations, self._scales, self._drifts, self._shrinkage = [], [], [], []
        shapes = []
        for horizon in range(targets.shape[1]):
            known = ~np.isnan(targets[:, horizon])
            if known.sum() < MIN_EXAMPLES:
                raise FitFailed(
                    f"horizon {examples.horizons[horizon]} has {known.sum()} examples and needs "
                    f"{MIN_EXAMPLES}; ingest more history or ask for fewer splits"
                )
            rows = examples.take(known)
            shapes.append(self._fit_horizon(X[known], targets[known, horizon], rows, horizon))
        self._shapes = np.array(shapes)
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return."""
        if not self._scales:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        X = rows.matrix(self.feature_names)
        X = np.where(np.isnan(X), self._neutral, X)
        parts = zip(self._drifts, self._shrinkage, self._locations, strict=True)
        location = np.column_stack(
            [drift + shrinkage * regressor.predict(X) for drift, shrinkage, regressor in parts]
        )
        scale = np.column_stack([regressor.predict(X) for regressor in self._scales])
        standard = location[..., None] + scale[..., None] * self._shapes
        return uncrossed(standard * rows.horizon_scale()[..., None])

    def save(self, folder: Path) -> None:
        """Write model.json, and beside it the files of regressors that need them."""
        state = {
            "feature_names": list(self.feature_names),
            "seed": self.seed,
            "drifts": self._drifts,
            "shrinkage": self._shrinkage,
            "shapes": self._shapes.tolist(),
            "neutral": self._neutral.tolist(),
            "locations": [r.save(folder, f"location_{i}") for i, r in enumerate(self._locations)],
            "scales": [r.save(folder, f"scale_{i}") for i, r in enumerate(self._scales)],
        }
        write_json(folder / "model.json", state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder / "model.json")
        model = cls(seed=state["seed"])
        model.feature_names = tuple(state["feature_names"])
        model._drifts, model._shrinkage = state["drifts"], state["shrinkage"]
        model._shapes, model._neutral = np.array(state["shapes"]), np.array(state["neutral"])
        model._locations = [model.load_regressor(folder, s) for s in state["locations"]]
        model._scales = [model.load_regressor(folder, s) for s in state["scales"]]
        return model

    def _fit_horizon(
        self, X: FloatArray, target: FloatArray, rows: Examples, horizon: int
    ) -> FloatArray:
        # Weights sum to the number of independent outcomes: a penalty is worth so many of them.
        n_effective = rows.n_effective(horizon)
        weight = rows.weight * (n_effective / rows.weight.sum())
        n_bars = int(rows.horizon_bars[horizon])
        drift = _shrunk_drift(target, weight, n_bars)
        centred = np.clip(target - drift, -MAX_TARGET, MAX_TARGET)
        regressor, shrinkage = self._proven_location(X, centred, rows, horizon)
        location = drift + shrinkage * regressor.predict(X)
        distance = np.clip(np.abs(target - location), MIN_DISTANCE, MAX_TARGET)
        scale = self.fit_scale(X, distance, weight)
        self._locations.append(regressor)
        self._scales.append(scale)
        self._drifts.append(drift)
        self._shrinkage.append(shrinkage)
        shape = np.quantile((target - location) / scale.predict(X), LEVELS)
        trust = n_effective / (n_effective + SHAPE_PRIOR)
        return np.asarray(trust * shape + (1 - trust) * GAUSSIAN_SHAPE)

    def _proven_location(
        self, X: FloatArray, centred: FloatArray, rows: Examples, horizon: int
    ) -> tuple[Regressor, float]:
        # Direction is nearly unpredictable: a location that is not clearly right on rows it was
        # not fitted on would only add noise to every forecast.
        days = np.unique(rows.as_of)
        cut = days[int(len(days) * (1 - HOLDOUT_SHARE))]
        early, late = rows.end_at[:, horizon] <= cut, rows.as_of > cut
        if early.sum() < MIN_EXAMPLES or late.sum() < MIN_EXAMPLES:
            return Constant(0.0), 0.0
        weight = rows.weight[early] * (rows.n_effective(horizon) / rows.weight.sum())
        regressor = self.fit_location(X[early], centred[early], weight)
        guess = regressor.predict(X[late])
        slope, t_value = _clustered_slope(
            guess, centred[late], rows.as_of[late], int(rows.horizon_bars[horizon])
        )
        if t_value <= MIN_LOCATION_T:
            return Constant(0.0), 0.0
        return regressor, min(slope, 1.0)


def _shrunk_drift(target: FloatArray, weight: FloatArray, n_bars: int) -> float:
    # A mean return is the least certain number there is: shrunk to zero by what is plausible.
    prior = DRIFT_PRIOR**2 * n_bars
    error = float(np.average(target**2, weights=weight)) / float(weight.sum())
    return float(np.average(target, weights=weight)) * prior / (prior + error)


def _clustered_slope(
    guess: FloatArray, target: FloatArray, when: np.ndarray[Any, Any], horizon_bars: int
) -> tuple[float, float]:
    # Regression through the origin; errors are summed over blocks of dates as long as the
    # horizon, because outcomes of one day, and overlapping outcomes, are not independent.
    power = float(guess @ guess)
    if power <= 0:
        return 0.0, 0.0
    slope = float(guess @ target) / power
    block = np.unique(when, return_inverse=True)[1] // (2 * horizon_bars)
    sums = np.bincount(block, weights=guess * (target - slope * guess))
    error = float(np.sqrt((sums**2).sum())) / power
    return slope, slope / error if error > 0 else 0.0
