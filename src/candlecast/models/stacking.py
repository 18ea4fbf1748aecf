"""Stacking: how much each member counts is learnt from forecasts of outcomes it had not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.catalog import MODELS, Model
from candlecast.domain.distribution import LEVELS, FloatArray, crps_weights
from candlecast.domain.examples import Examples
from candlecast.errors import InvalidSpec
from candlecast.models.ensemble import Ensemble, Members, averaged
from candlecast.validation.splits import inner_splits
from candlecast.validation.walk_forward import Fit, fitted_folds, forecast_quantiles

MAX_ROWS: Final = 50_000
"""Rows that weights are learnt from at most, spread evenly over time: more would not move them."""


@MODELS.register("stacking")
class Stacking(Ensemble):
    """Averaged quantiles, weighted by how the members fared out of fold, for each horizon.

    Every member forecasts `n_folds` later parts of the training examples, each part by a fresh
    one fitted on what was known, less the embargo, when the part began. The weights, not negative
    and summing to 1, have the least mean pinball loss on these forecasts, in units of the
    symbol's own volatility. They are mixed with equal ones, as if these had seen `prior`
    independent outcomes. Then every member is fitted on all examples.

    Parameters
    ----------
    n_folds : int, parts that are forecast; members are fitted so many times and once more.
    prior : float >= 0, independent outcomes that equal weights are worth.
    embargo_days : float >= 0, kept free between training labels and each part.
    seed, members : as in `Ensemble`, which tells shapes and errors. NotEnoughHistory also when
        the examples are too few for the folds.

    References
    ----------
    Wolpert (1992), Stacked generalization, Neural Networks 5(2); Breiman (1996), Stacked
    regressions, Machine Learning 24(1), for weights that are not negative.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "n_folds": {"low": 2, "high": 6},
        "prior": {"low": 10.0, "high": 1000.0, "log": True},
    }

    def __init__(
        self,
        *,
        seed: int = 7,
        n_folds: int = 4,
        prior: float = 50.0,
        embargo_days: float = 0.0,
        members: Members = (),
    ) -> None:
        super().__init__(seed=seed, members=members)
        if n_folds < 1 or prior < 0 or embargo_days < 0:
            raise InvalidSpec("n_folds is at least 1, prior and embargo_days are not negative")
        self._n_folds, self._prior, self._embargo_days = n_folds, prior, embargo_days

    def fit_weights(self, examples: Examples) -> FloatArray:
        """What each member counts at each horizon, by its forecasts out of fold."""
        later, quantiles = self.out_of_fold(examples)
        return np.array(
            [self._learnt(quantiles, later, h) for h in range(len(examples.horizons))],
        )

    def combined(self, quantiles: FloatArray) -> FloatArray:
        """The average at each level."""
        return averaged(quantiles, self.weights)

    def out_of_fold(self, examples: Examples) -> tuple[Examples, FloatArray]:
        """The rows of all folds, and the members' (n_rows, n_horizons, n_members, 17) forecasts,
        by models that saw no outcome of theirs nor any that overlaps them.
        """
        splits = inner_splits(examples.as_of, self._n_folds, embargo_days=self._embargo_days)
        rows = np.concatenate([split.test_rows(examples.as_of) for split in splits])
        by_member = []
        for make in self._make_members:
            folds = fitted_folds(_fit_by(make), examples, splits)
            found = [forecast_quantiles(model, examples.take(test)) for test, model in folds]
            by_member.append(np.concatenate(found))
        return examples.take(rows), np.stack(by_member, axis=2)

    def _learnt(self, quantiles: FloatArray, later: Examples, horizon: int) -> FloatArray:
        n_members = quantiles.shape[2]
        equal = np.full(n_members, 1 / n_members)
        n_effective = later.n_effective(horizon)
        rows = _spread(np.flatnonzero(~np.isnan(later.y[:, horizon])))
        if not len(rows) or later.weight[rows].sum() <= 0:
            return equal
        units = later.horizon_scale()[rows, horizon]
        y, curves = later.y[rows, horizon] / units, quantiles[rows, horizon] / units[:, None, None]
        trust = n_effective / (n_effective + self._prior)
        best = best_weights(curves, y, later.weight[rows])
        return np.asarray(trust * best + (1 - trust) * equal)


def _fit_by(make: Callable[[], Model]) -> Fit:
    return lambda past: make().fit(past)


def best_weights(quantiles: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """(n_members,), not negative and summing to 1: the weighted average of (n_rows, n_members, 17)
    `quantiles` with the least pinball loss, rows counting `weight`, levels what they are to CRPS.
    """
    from scipy.optimize import minimize  # half a second, which no other ensemble needs

    n_members = quantiles.shape[1]
    share = weight[:, None] / weight.sum() * crps_weights().mean(axis=1)

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        error = y[:, None] - np.einsum("nkl,k->nl", quantiles, weights)
        slope = np.where(error > 0, LEVELS, LEVELS - 1) * share
        return float((slope * error).sum()), -np.einsum("nl,nkl->k", slope, quantiles)

    start = np.full(n_members, 1 / n_members)
    scale = loss(start)[0] or 1.0
    found = minimize(
        lambda weights: tuple(part / scale for part in loss(weights)),
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 200},
    )
    solved = np.clip(np.nan_to_num(found.x), 0.0, None)
    candidates = [start, *np.eye(n_members)]
    if solved.sum() > 0:
        candidates.append(solved / solved.sum())
    # The loss has kinks, at which the solver may stop early: it is never worse than these.
    return np.asarray(min(candidates, key=lambda weights: loss(weights)[0]))


def _spread(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    if len(rows) <= MAX_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MAX_ROWS).astype(np.intp)]
