"""What forecasts rest on: permuted features, contributions, attention, and what deleting costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from candlecast import metrics
from candlecast.domain.catalog import Attentive, Attributed, Forecaster
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples, Rows
from candlecast.errors import InvalidSpec
from candlecast.models.changed_windows import masked, swapped
from candlecast.validation.significance import mean_interval

MAX_ROWS: Final = 4000
"""Rows that are asked about again and again: of more, evenly spaced dates are taken."""
BLOCK_DATES: Final = 252
N_DRAWS: Final = 5
ATTENTION, CONTRIBUTIONS = "attention", "contributions"


@dataclass(frozen=True)
class DeletionTest:
    """What it costs to take away what a model says it looks at, against as much at random.

    The `n_deleted` cells of a row with the most attention, or features with the largest
    contributions (`kind`), are deleted; the losses are the mean CRPS in units of each row's
    forecast volatility. `difference` is top minus random, and `interval` its 95 % block-bootstrap
    interval over dates, None with too little data. Above zero, what is pointed at matters more.
    """

    kind: str
    n_deleted: int
    loss: float
    loss_top: float
    loss_random: float
    difference: float
    interval: tuple[float, float] | None
    n_rows: int


def attributed(model: object) -> Attributed | None:
    """The part of `model`, calibrated or not, that knows its features' shares; None: none does."""
    found = _inner(model, Attributed)
    return found if isinstance(found, Attributed) else None


def attentive(model: object) -> Attentive | None:
    """The part of `model`, calibrated or not, that knows its attention; None: none does."""
    found = _inner(model, Attentive)
    return found if isinstance(found, Attentive) else None


def gains(model: object) -> dict[str, float]:
    """The share of each feature in what `model`, calibrated or not, has learnt; empty: none knows.

    Some forests know their gains and no contributions.
    """
    found = _inner(model, _Weighing)
    return found.importances() if isinstance(found, _Weighing) else {}


def sampled(examples: Examples, max_rows: int = MAX_ROWS) -> Examples:
    """Whole dates of `examples`, evenly spaced, that hold about `max_rows` with a known outcome."""
    known = examples.take(np.asarray(~np.isnan(examples.y).all(axis=1)))
    if len(known) <= max_rows:
        return known
    dates, where = np.unique(known.dates(), return_inverse=True)
    n_kept = max(1, round(len(dates) * max_rows / len(known)))
    is_kept = np.zeros(len(dates), dtype=bool)
    is_kept[np.linspace(0, len(dates) - 1, n_kept).round().astype(int)] = True
    return known.take(is_kept[where])


def mean_loss(model: Forecaster, examples: Examples) -> FloatArray:
    """(n_rows,): the CRPS over the horizons' mean, in units of the row's forecast volatility."""
    quantiles = model.predict(examples.without_outcomes())
    unit = examples.horizon_scale()
    losses = [metrics.crps(quantiles[:, h], examples.y[:, h]) for h in range(unit.shape[1])]
    scaled = np.column_stack(losses) / unit
    n_known = (~np.isnan(scaled)).sum(axis=1)
    return np.asarray(np.nansum(scaled, axis=1) / np.where(n_known > 0, n_known, np.nan))


def permutation_importances(
    model: Forecaster, examples: Examples, *, seed: int, block_dates: int = BLOCK_DATES
) -> dict[str, float]:
    """How much of the CRPS each feature saves on `examples` the model has not seen, as a share.

    The values of one feature change places among the rows of a block of `block_dates` dates, in X
    and in the windows; what the loss grows by, over the loss, is the feature's importance (Breiman
    2001, Machine Learning 45). It can be negative: the feature did harm.
    """
    before = metrics.average(mean_loss(model, examples))
    order = _shuffled(examples.dates(), block_dates, seed)
    found = {}
    for name in _names(examples):
        loss = metrics.average(mean_loss(model, _permuted(examples, name, order)))
        found[name] = loss / before - 1
    return found


def mean_contributions(model: Attributed, examples: Examples) -> dict[str, float]:
    """Each feature's mean absolute contribution to the log of the scale, over rows and horizons."""
    contributions = model.contributions(examples.without_outcomes())
    mean = np.abs(contributions).mean(axis=(0, 1))
    return dict(zip(examples.feature_names, map(float, mean), strict=True))


def named_contributions(model: Attributed, rows: Rows) -> list[list[dict[str, float]]]:
    """What each feature adds to the log of the scale, by row and horizon, the largest first."""
    found = model.contributions(rows)
    order = np.argsort(-np.abs(found), axis=2, kind="stable")
    names = rows.feature_names
    return [
        [
            {names[at]: float(values[at]) for at in own if values[at] != 0}
            for values, own in zip(row, ranks, strict=True)
        ]
        for row, ranks in zip(found, order, strict=True)
    ]


def deletion_test(
    model: Forecaster, examples: Examples, *, n_deleted: int = 5, seed: int = 7
) -> DeletionTest:
    """The test of a model that says what it looks at, on `examples` that it has not seen.

    InvalidSpec where it says nothing of the kind.
    """
    kind, weights = _looked_at(model, examples)
    if n_deleted < 1:
        raise InvalidSpec(f"n_deleted is {n_deleted}; delete at least 1")
    rng = np.random.default_rng(seed)
    top = mean_loss(model, _without(examples, kind, _largest(weights, n_deleted)))
    draws = [
        mean_loss(model, _without(examples, kind, _drawn(weights, n_deleted, rng)))
        for _ in range(N_DRAWS)
    ]
    by_chance = np.mean(draws, axis=0)
    difference = top - by_chance
    interval = mean_interval(
        difference, examples.dates(), horizon_bars=int(examples.horizon_bars.max()), seed=seed
    )
    return DeletionTest(
        kind,
        n_deleted,
        metrics.average(mean_loss(model, examples)),
        metrics.average(top),
        metrics.average(by_chance),
        metrics.average(difference),
        interval,
        len(examples),
    )


def ranked(by_fold: Mapping[int, Mapping[str, float]]) -> list[tuple[str, float, float]]:
    """Feature, mean and standard deviation over the folds, the most important first."""
    names = dict.fromkeys(name for found in by_fold.values() for name in found)
    table = np.array([[found.get(name, 0.0) for name in names] for found in by_fold.values()])
    if not len(names):
        return []
    means, deviations = table.mean(axis=0), table.std(axis=0)
    order = sorted(range(len(names)), key=lambda at: (-means[at], list(names)[at]))
    listed = list(names)
    return [(listed[at], float(means[at]), float(deviations[at])) for at in order]


@runtime_checkable
class _Weighing(Protocol):
    def importances(self) -> dict[str, float]:
        """The share of each feature in what was learnt."""
        ...


def _inner(model: object, capability: type) -> object | None:
    # A calibrated model, and whatever else wraps one, keeps it under this name.
    found: object | None = model
    while found is not None and not isinstance(found, capability):
        found = getattr(found, "model", None)
    return found


def _names(rows: Rows) -> tuple[str, ...]:
    shown = rows.sequences.source.spec.features if rows.sequences is not None else ()
    return tuple(dict.fromkeys((*rows.feature_names, *shown)))


def _shuffled(dates: NDArray[np.datetime64], block_dates: int, seed: int) -> NDArray[np.intp]:
    # Which row gives its value to each row: of the same block of dates.
    rng = np.random.default_rng(seed)
    block = np.unique(dates, return_inverse=True)[1] // block_dates
    order = np.arange(len(dates))
    for number in range(int(block.max(initial=-1)) + 1):
        own = np.flatnonzero(block == number)
        order[own] = own[rng.permutation(len(own))]
    return order


def _permuted(examples: Examples, name: str, order: NDArray[np.intp]) -> Examples:
    changed = examples
    if name in examples.feature_names:
        X = examples.X.copy()
        column = examples.feature_names.index(name)
        X[:, column] = X[order, column]
        changed = replace(changed, X=X)
    if changed.sequences is not None and name in changed.sequences.source.spec.features:
        changed = replace(changed, sequences=swapped(changed.sequences, name, order))
    return changed


def _looked_at(model: Forecaster, examples: Examples) -> tuple[str, FloatArray]:
    # (n_rows, n_things): the weight of each thing that could be deleted; NaN where there is none.
    rows = examples.without_outcomes()
    looks = attentive(model)
    if looks is not None and rows.sequences is not None:
        weights = looks.attention(rows)
        mask = rows.sequences.tensors(np.arange(len(rows))).mask
        return ATTENTION, np.where(mask, weights, np.nan).reshape(len(rows), -1)
    knows = attributed(model)
    if knows is None:
        raise InvalidSpec(
            f"{type(model).__name__} says nothing of what it looks at; take a model with "
            "contributions or attention"
        )
    weights = np.abs(knows.contributions(rows)).mean(axis=1)
    return CONTRIBUTIONS, np.where(np.isnan(rows.X), np.nan, weights)


def _largest(weights: FloatArray, n: int) -> NDArray[np.bool_]:
    return _chosen(np.where(np.isnan(weights), -np.inf, weights), weights, n)


def _drawn(weights: FloatArray, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    return _chosen(np.where(np.isnan(weights), -1.0, rng.random(weights.shape)), weights, n)


def _chosen(worth: FloatArray, weights: FloatArray, n: int) -> NDArray[np.bool_]:
    first = np.argsort(-worth, axis=1, kind="stable")[:, :n]
    is_chosen = np.zeros(weights.shape, dtype=bool)
    np.put_along_axis(is_chosen, first, True, axis=1)
    return is_chosen & ~np.isnan(weights)


def _without(examples: Examples, kind: str, is_deleted: NDArray[np.bool_]) -> Examples:
    if kind == CONTRIBUTIONS:
        return replace(examples, X=np.where(is_deleted, np.nan, examples.X))
    assert examples.sequences is not None
    return replace(examples, sequences=masked(examples.sequences, is_deleted))
