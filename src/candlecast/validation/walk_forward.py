"""Fit and predict over splits, out-of-sample forecasts for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.catalog import Forecaster
from candlecast.domain.distribution import N_LEVELS, FloatArray, check_quantiles
from candlecast.domain.examples import Examples
from candlecast.domain.specs import SplitSpec
from candlecast.errors import LeakageError, ModelError, NotEnoughHistory
from candlecast.validation.splits import Split, walk_forward_splits

Fit: TypeAlias = Callable[[Examples], Forecaster]
OnFold: TypeAlias = Callable[[int, int], None]
OnModel: TypeAlias = Callable[[int, Forecaster], None]


@dataclass(frozen=True, eq=False)
class Fold:
    """The out-of-sample forecasts of one test span.

    `rows` (n_rows,) positions in the examples, every row of the span; `quantiles`
    (n_rows, n_horizons, 17); `train_until` the instant whose knowledge trained the model.
    """

    number: int
    train_until: np.datetime64
    rows: NDArray[np.intp]
    quantiles: FloatArray
    is_holdout: bool = False


@dataclass(frozen=True, eq=False)
class OutOfSample:
    """The out-of-sample forecasts of a whole run, oldest span first.

    Attributes
    ----------
    rows : (n_rows,) positions in the examples
    quantiles : (n_rows, n_horizons, 17) of the log return
    fold : (n_rows,) the number of the span of each row, from 1
    is_holdout : (n_rows,) whether the span belongs to the final holdout
    """

    rows: NDArray[np.intp]
    quantiles: FloatArray
    fold: NDArray[np.int64]
    is_holdout: NDArray[np.bool_]

    @classmethod
    def of(cls, folds: Sequence[Fold]) -> Self:
        """All rows of `folds`, one after the other."""
        sizes = [len(fold.rows) for fold in folds]
        return cls(
            np.concatenate([fold.rows for fold in folds]),
            np.concatenate([fold.quantiles for fold in folds]),
            np.repeat([fold.number for fold in folds], sizes),
            np.repeat([fold.is_holdout for fold in folds], sizes),
        )


def walk_forward(
    fit: Fit,
    examples: Examples,
    spec: SplitSpec,
    on_fold: OnFold | None = None,
    on_model: OnModel | None = None,
) -> list[Fold]:
    """The folds of a walk-forward run; `fit` makes a fresh model of each span's training examples.

    Rows are forecast whether or not their outcome is known, and the model sees no outcome of
    theirs. `on_fold(done, total)` hears of progress, `on_model(number, model)` of the model of
    each fold. Raises NotEnoughHistory when a span has nothing to train on, BadFrame or ModelError
    when a model does not return quantiles.
    """
    splits = walk_forward_splits(examples.as_of, spec)
    folds = []
    fitted = fitted_folds(fit, examples, splits)
    for done, (split, (rows, model)) in enumerate(zip(splits, fitted, strict=True), 1):
        quantiles = forecast_quantiles(model, examples.take(rows))
        folds.append(Fold(split.number, split.train_until, rows, quantiles, split.is_holdout))
        if on_model is not None:
            on_model(split.number, model)
        if on_fold is not None:
            on_fold(done, len(splits))
    return folds


def fitted_folds(
    fit: Fit, examples: Examples, splits: Iterable[Split]
) -> Iterator[tuple[NDArray[np.intp], Forecaster]]:
    """Of each split the positions of its test rows, and a model that saw no outcome of theirs.

    NotEnoughHistory when a span has nothing to train on; LeakageError should an outcome that is
    used reach past the end of its training.
    """
    for split in splits:
        yield split.test_rows(examples.as_of), fit(_training(examples, split))


def check_known(examples: Examples, instant: np.datetime64) -> Examples:
    """`examples` unchanged; LeakageError when one is stamped or has an outcome after `instant`."""
    is_used = ~np.isnan(examples.y)
    is_late = (examples.as_of > instant) | (is_used & ~(examples.end_at <= instant)).any(axis=1)
    if is_late.any():
        row = int(np.argmax(is_late))
        raise LeakageError(
            f"{int(is_late.sum())} training examples reach past {instant}, the first is of "
            f"{examples.tickers[examples.symbol[row]]} as of {examples.as_of[row]} with outcomes "
            f"at {examples.end_at[row].tolist()}; use Examples.known_by"
        )
    return examples


def _training(examples: Examples, split: Split) -> Examples:
    training = split.training(examples)
    if not len(training):
        raise NotEnoughHistory(
            f"no outcome was known by {split.train_until}, so split {split.number} (from "
            f"{split.start}) has nothing to train on; use fewer splits, shorter horizons or "
            f"more history"
        )
    return check_known(training, split.train_until)


def forecast_quantiles(model: Forecaster, examples: Examples) -> FloatArray:
    """What `model` says of these rows, whose outcomes it is not shown.

    BadFrame or ModelError when that are no (n_rows, n_horizons, 17) quantiles.
    """
    quantiles = check_quantiles(model.predict(examples.without_outcomes()))
    expected = (len(examples), len(examples.horizons), N_LEVELS)
    if quantiles.shape != expected:
        raise ModelError(
            f"{type(model).__name__}.predict returned shape {quantiles.shape}, not {expected}"
        )
    return quantiles
