"""Feature selection by what the forecasts lose, out of sample, when a feature is shuffled.

1. Every feature gets shadows: copies turned in time by a tenth of the rows at least, as slow or
   quick as the feature itself but of no use. The model is fitted with both, fold by fold, each
   time on what was known before the fold.
2. On the rows of the fold each column is shuffled in turn. Its importance is the share by which
   the pinball loss grows, averaged over folds and horizons.
3. A feature is kept when it is worth more than every shadow in every round taken together.

A slow drift can look like a signal by chance, and does so more often than noise: that is why
shadows are turned and not shuffled. What is shuffled in step 2 moves in blocks of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast import metrics
from candlecast.domain.catalog import Forecaster
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples
from candlecast.errors import InvalidSpec
from candlecast.validation.splits import Split
from candlecast.validation.walk_forward import Fit, fitted_folds, forecast_quantiles

MIN_SHADOWS: Final = 99
"""Shadows over all rounds: a feature without any use passes all of them once in a hundred."""
MIN_BLOCKS: Final = 8
MAX_ROWS: Final = 20_000
"""Rows of a fold that are forecast at most, whole instants spread evenly."""
SHADOW: Final = "shadow_of_"


@dataclass(frozen=True)
class Selection:
    """What each feature is worth out of sample, the most valuable first.

    `importances`: by name, the share by which the pinball loss grows without it; `bar` what the
    best of `n_shadows` shadows seemed to be worth; `kept` the features above it.
    """

    importances: dict[str, float]
    bar: float
    n_shadows: int

    @property
    def kept(self) -> tuple[str, ...]:
        """The features that are worth more than any shadow and than nothing, as given."""
        floor = max(self.bar, 0.0)
        return tuple(name for name, value in self.importances.items() if value > floor)


def select_features(
    fit: Fit,
    examples: Examples,
    splits: Sequence[Split],
    seed: int,
    n_repeats: int = 1,
) -> Selection:
    """Judge every feature of `examples`, which hold no row that a later judgement needs.

    `fit` makes a fresh model that takes any number of features. Deterministic for `seed`; each of
    `n_repeats` shuffles every column once more. InvalidSpec when there is no feature.
    """
    names = examples.feature_names
    if not names or n_repeats < 1:
        raise InvalidSpec("feature selection needs at least one feature and one repeat")
    rng = np.random.default_rng(seed)
    n_rounds = max(1, -(-MIN_SHADOWS // len(names)))
    totals = np.zeros(len(names))
    shadows: list[float] = []
    for _ in range(n_rounds):
        found = _round(fit, _with_shadows(examples, rng), splits, rng, n_repeats)
        totals += found[: len(names)] / n_rounds
        shadows.extend(found[len(names) :])
    order = np.argsort(-totals, kind="stable")
    ranked = {names[place]: float(totals[place]) for place in order}
    return Selection(ranked, float(max(shadows)), len(shadows))


def shuffled(
    values: FloatArray, dates: NDArray[np.datetime64], n_bars: int, rng: np.random.Generator
) -> FloatArray:
    """`values` of rows in the order of time, in blocks of at least `n_bars` dates that change
    places, turned by a random number of rows, so that they fall on other symbols as well.
    """
    starts = np.flatnonzero(np.append(True, dates[1:] != dates[:-1]))
    n_blocks = max(2, min(len(starts) // max(n_bars, 1), 50 * MIN_BLOCKS))
    edges = starts[np.arange(1, n_blocks) * len(starts) // n_blocks]
    blocks = np.split(values, edges)
    moved = np.concatenate([blocks[place] for place in rng.permutation(len(blocks))])
    return np.roll(moved, int(rng.integers(len(moved))))


def turned(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """`values` of rows in the order of time, the end put before the beginning: from a tenth of the
    rows to nine.
    """
    n_rows = len(values)
    return np.roll(values, int(rng.integers(n_rows // 10, max(n_rows * 9 // 10, n_rows // 10 + 1))))


def _with_shadows(examples: Examples, rng: np.random.Generator) -> Examples:
    names = tuple(f"{SHADOW}{name}" for name in examples.feature_names)
    X = np.column_stack([examples.X, *(turned(column, rng) for column in examples.X.T)])
    return replace(examples, X=X, feature_names=(*examples.feature_names, *names))


def _round(
    fit: Fit,
    examples: Examples,
    splits: Sequence[Split],
    rng: np.random.Generator,
    n_repeats: int,
) -> FloatArray:
    # (2 n_features,): what each column is worth, averaged over folds by their rows.
    worth, n_rows = np.zeros(len(examples.feature_names)), 0
    for tested, model in fitted_folds(fit, examples, splits):
        rows = _spread(examples.take(tested))
        worth += len(rows) * _worth(model, rows, rng, n_repeats)
        n_rows += len(rows)
    return worth / max(n_rows, 1)


def _worth(
    model: Forecaster, rows: Examples, rng: np.random.Generator, n_repeats: int
) -> FloatArray:
    base = _losses(model, rows)
    n_bars = 2 * int(rows.horizon_bars.max())
    X, dates = rows.X.copy(), rows.dates()
    asked = replace(rows, X=X)
    worth = np.zeros(X.shape[1])
    for place in range(X.shape[1]):
        for _ in range(n_repeats):
            X[:, place] = shuffled(rows.X[:, place], dates, n_bars, rng)
            grown = _losses(model, asked) / base - 1
            worth[place] += metrics.average(grown) / n_repeats
        X[:, place] = rows.X[:, place]
    return worth


def _losses(model: Forecaster, rows: Examples) -> FloatArray:
    # (n_horizons,): the mean pinball loss in units of the symbols' own volatility.
    quantiles, units = forecast_quantiles(model, rows), rows.horizon_scale()
    losses = (
        metrics.average(metrics.pinball(quantiles[:, h], rows.y[:, h]) / units[:, h])
        for h in range(len(rows.horizons))
    )
    return np.array(list(losses))


def _spread(rows: Examples) -> Examples:
    if len(rows) <= MAX_ROWS:
        return rows
    step = -(-len(rows) // MAX_ROWS)
    return rows.take(np.unique(rows.dates(), return_inverse=True)[1] % step == 0)
