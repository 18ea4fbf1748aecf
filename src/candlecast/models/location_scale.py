"""What the location-and-scale models share: from two regressions to quantiles.

1. Targets are returns in units of the symbol's own forecast volatility (`Examples.targets`).
2. A location is fitted on the earlier rows and kept only if it proves itself on the later ones.
3. A scale is fitted, always positive, to half the distance from the location and half the way that
   the price went, which is the less noisy one and misses what reverses.
4. The residuals give the shape (`models.shape`): quantiles = (location + scale * shape) * units.

Drift and shape are shrunk to what is plausible beforehand, by as much as the independent
outcomes are few: years of daily bars hold only dozens of separate months.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import LEVELS, FloatArray, uncrossed
from candlecast.domain.examples import Examples, Rows
from candlecast.errors import FitFailed, NotFitted
from candlecast.models.artifact import read_json, write_json
from candlecast.models.evidence import (
    MAX_TARGET,
    MIN_DISTANCE,
    date_blocks,
    mixed,
    proven_slope,
    shrunk_drift,
)
from candlecast.models.regression import Constant, Inputs, Regressor
from candlecast.models.shape import Shape, ShapeInputs

HOLDOUT_SHARE: Final = 0.3
MIN_EXAMPLES: Final = 40


class LocationScale(ABC):
    """A distribution by location and scale, fitted for each horizon on its own.

    Parameters
    ----------
    seed : int, for those regressions that draw at random.

    Notes
    -----
    A missing feature is given the mean of the training rows: in examples where a source of facts
    was absent, in rows also where a symbol is too young for it. The scale is itself uncertain:
    residuals are those of the fitted scale, so its errors stand in the tails of their quantiles.

    Raises
    ------
    NotFitted when asked before `fit`; NotFound when a feature is missing; FitFailed when a
    horizon has fewer than 40 examples.
    """

    has_own_shape: ClassVar[bool] = True
    """Whether the shape depends on the row and its symbol, or is one for all."""
    is_flexible: ClassVar[bool] = True
    """Whether the scale fits its training rows so closely that the shape has to be learnt from rows
    that it was not fitted on."""
    inner_fold: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    """While a horizon is fitted: its rows whose outcome was known before the last 30 % of its
    dates, and the rows of these."""

    def __init__(self, *, seed: int = 7) -> None:
        self.seed = seed
        self.feature_names: tuple[str, ...] = ()
        self._locations: list[Regressor] = []
        self._scales: list[Regressor] = []
        self._drifts: list[float] = []
        self._shrinkage: list[float] = []
        self._shapes: list[Shape] = []
        self._gains: FloatArray = np.empty(0)
        self._neutral: FloatArray = np.empty(0)
        self.inner_fold = np.empty(0, dtype=bool), np.empty(0, dtype=bool)

    @abstractmethod
    def fit_location(self, inputs: Inputs, target: FloatArray, weight: FloatArray) -> Regressor:
        """A regressor of the centred target, or `Constant(0)` where the kind has none."""

    @abstractmethod
    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """A regressor of the positive distance from the location."""

    @abstractmethod
    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """The regressor that `Regressor.save` described."""

    def prepared(self, X: FloatArray) -> Inputs:
        """`X` (n_rows, n_features) in the form that this kind fits all its regressions on."""
        return Inputs(X, np.arange(len(X)))

    def uses(self, rows: Rows) -> tuple[str, ...]:
        """The features this kind looks at; all by default."""
        return rows.feature_names

    def fit(self, examples: Examples) -> Self:
        """Fit every horizon on the examples whose outcome is known."""
        self.feature_names = self.uses(examples)
        X, targets = examples.matrix(self.feature_names), examples.targets()
        spreads = examples.spreads()
        n_known = np.maximum((~np.isnan(X)).sum(axis=0), 1)
        self._neutral = np.nansum(X, axis=0) / n_known  # 0 where a source is absent altogether
        inputs = self.prepared(np.where(np.isnan(X), self._neutral, X))
        self._locations, self._scales, self._drifts, self._shrinkage = [], [], [], []
        self._shapes = []
        for horizon in range(targets.shape[1]):
            known = ~np.isnan(targets[:, horizon])
            if known.sum() < MIN_EXAMPLES:
                raise FitFailed(
                    f"horizon {examples.horizons[horizon]} has {known.sum()} examples and needs "
                    f"{MIN_EXAMPLES}; ingest more history or ask for fewer splits"
                )
            aims = targets[known, horizon], spreads[known, horizon]
            self._fit_horizon(inputs.take(known), *aims, examples.take(known), horizon)
        self._gains = self._mean_importances()
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
        standard = np.empty((*location.shape, len(LEVELS)))
        for horizon, (regressor, shape) in enumerate(zip(self._scales, self._shapes, strict=True)):
            scale = regressor.predict(X)
            found = self._shape_quantiles(shape, X, scale, rows, horizon)
            standard[:, horizon] = location[:, horizon, None] + scale[:, None] * found
        return uncrossed(standard * rows.horizon_scale()[..., None])

    def importances(self) -> dict[str, float]:
        """The share of each feature in the gain of the scales, the mean over horizons."""
        shares = (float(share) for share in self._gains)
        return dict(zip(self.feature_names, shares, strict=False))

    def contributions(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, n_features): what each feature adds to the log of the scale."""
        if not self._scales:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        X = rows.matrix(self.feature_names)
        X = np.where(np.isnan(X), self._neutral, X)
        found = np.stack([regressor.contributions(X) for regressor in self._scales], axis=1)
        placed = np.zeros((*found.shape[:2], len(rows.feature_names)))
        placed[..., [rows.feature_names.index(name) for name in self.feature_names]] = found
        return placed

    def save(self, folder: Path) -> None:
        """Write model.json, and beside it the files of regressors that need them."""
        state = {
            "feature_names": list(self.feature_names),
            "seed": self.seed,
            "drifts": self._drifts,
            "shrinkage": self._shrinkage,
            "shapes": [shape.state() for shape in self._shapes],
            "gains": self._gains.tolist(),
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
        model._shapes = [Shape.from_state(shape) for shape in state["shapes"]]
        model._gains, model._neutral = np.array(state["gains"]), np.array(state["neutral"])
        model._locations = [model.load_regressor(folder, s) for s in state["locations"]]
        model._scales = [model.load_regressor(folder, s) for s in state["scales"]]
        return model

    def _fit_horizon(
        self, inputs: Inputs, target: FloatArray, spread: FloatArray, rows: Examples, horizon: int
    ) -> None:
        # Weights sum to the number of independent outcomes: a penalty is worth so many of them.
        n_effective = rows.n_effective(horizon)
        weight = rows.weight * (n_effective / rows.weight.sum())
        days = np.unique(rows.as_of)
        cut = days[int(len(days) * (1 - HOLDOUT_SHARE))]
        self.inner_fold = rows.end_at[:, horizon] <= cut, rows.as_of > cut
        drift = shrunk_drift(target, weight, int(rows.horizon_bars[horizon]))
        centred = np.clip(target - drift, -MAX_TARGET, MAX_TARGET)
        regressor, shrinkage = self._proven_location(inputs, centred, rows, horizon)
        residual = target - drift - shrinkage * regressor.predict(inputs.X)
        distance = np.clip(np.abs(residual), MIN_DISTANCE, MAX_TARGET)
        aim = mixed(distance, spread, weight)
        scaler = self.fit_scale(inputs, aim, weight)
        if self.has_own_shape:
            scale = self._honest_scale(inputs, aim, weight, rows, horizon)
            seen = ~np.isnan(scale) if scale is not None else np.ones(len(inputs), dtype=bool)
            scale = scaler.predict(inputs.X) if scale is None else scale[seen]
            part = rows.take(seen)
            told = ShapeInputs(inputs.X[seen], scale, part.climatology[:, horizon])
            shape = Shape.fitted(told, residual[seen] / scale, part, horizon)
        else:
            shape = Shape.pooled(residual / scaler.predict(inputs.X), n_effective)
        self._locations.append(regressor)
        self._scales.append(scaler)
        self._drifts.append(drift)
        self._shrinkage.append(shrinkage)
        self._shapes.append(shape)

    def _honest_scale(
        self, inputs: Inputs, aim: FloatArray, weight: FloatArray, rows: Examples, horizon: int
    ) -> FloatArray | None:
        # (n_rows,) of every second half year by the others, so that both have seen all regimes;
        # of the later rows by the earlier where there are too few for that. Others are NaN.
        block, is_inside = date_blocks(rows, horizon)
        halves = is_inside & (block % 2 == 0), is_inside & (block % 2 == 1)
        pairs = [halves, halves[::-1]]
        if min(half.sum() for half in halves) < MIN_EXAMPLES:
            pairs = [self.inner_fold]
        if not self.is_flexible or min(half.sum() for half in pairs[0]) < MIN_EXAMPLES:
            return None
        scale, outer = np.full(len(inputs), np.nan), self.inner_fold
        self.inner_fold = outer[0][:0], outer[1][:0]
        for one, other in pairs:
            scaler = self.fit_scale(inputs.take(one), aim[one], weight[one])
            scale[other] = scaler.predict(inputs.X[other])
        self.inner_fold = outer
        return scale

    def _shape_quantiles(
        self, shape: Shape, X: FloatArray, scale: FloatArray, rows: Rows, horizon: int
    ) -> FloatArray:
        if not self.has_own_shape:
            return shape.bins
        return shape.quantiles(ShapeInputs(X, scale, rows.climatology[:, horizon]), rows)

    def _mean_importances(self) -> FloatArray:
        found = [shares for r in self._scales if len(shares := r.importances())]
        return np.mean(found, axis=0) if found else np.empty(0)

    def _proven_location(
        self, inputs: Inputs, centred: FloatArray, rows: Examples, horizon: int
    ) -> tuple[Regressor, float]:
        early, late = self.inner_fold
        if early.sum() < MIN_EXAMPLES or late.sum() < MIN_EXAMPLES:
            return Constant(0.0), 0.0
        weight = rows.weight[early] * (rows.n_effective(horizon) / rows.weight.sum())
        regressor = self.fit_location(inputs.take(early), centred[early], weight)
        guess = regressor.predict(inputs.X[late])
        trust = proven_slope(
            guess, centred[late], rows.dates()[late], int(rows.horizon_bars[horizon])
        )
        return (regressor, trust) if trust else (Constant(0.0), 0.0)
