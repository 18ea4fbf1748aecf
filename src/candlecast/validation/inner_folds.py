"""Models fitted fold by fold within training examples, each on what was known before its fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from candlecast.domain.catalog import Forecaster
from candlecast.domain.distribution import FloatArray, check_quantiles
from candlecast.domain.examples import Examples
from candlecast.errors import NotEnoughHistory
from candlecast.validation.splits import Split
from candlecast.validation.walk_forward import Fit, check_known


def fitted_folds(
    fit: Fit, examples: Examples, splits: Iterable[Split]
) -> Iterator[tuple[Examples, Forecaster]]:
    """The test rows of each split, oldest first, with a fresh model that saw no outcome of theirs.

    NotEnoughHistory when a fold has nothing to train on; LeakageError should an outcome that is
    used reach past the end of a fold's training.
    """
    for split in splits:
        training = check_known(split.training(examples), split.train_until)
        if not len(training):
            raise NotEnoughHistory(
                f"no outcome was known by {split.train_until}, so the inner fold from "
                f"{split.start} has nothing to train on; ask for fewer folds or bring more history"
            )
        yield examples.take(split.test_rows(examples.as_of)), fit(training)


def forecast(model: Forecaster, rows: Examples) -> FloatArray:
    """(n_rows, n_horizons, 17) quantiles of `rows`, whose outcomes `model` does not see."""
    return check_quantiles(model.predict(rows.without_outcomes()))
