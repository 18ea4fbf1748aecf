"""Stacking: weights come from outcomes that no member had seen, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from candlecast import metrics
from candlecast.domain.specs import ModelSpec
from candlecast.errors import InvalidSpec, NotEnoughHistory
from candlecast.models.artifact import make_base_model
from candlecast.models.stacking import Stacking, best_weights
from markets import make_examples

HAR, EWMA = (partial(make_base_model, ModelSpec(kind), 7) for kind in ("har", "ewma"))


class Spy:
    """Climatology that writes down what it was fitted on and asked for; it may remember outcomes.

    One that remembers answers a row it was fitted on with the outcome, to the digit.
    """

    seen: list[tuple]

    def __init__(self, seen: list, *, remembers: bool = False) -> None:
        self.seen, self.remembers = seen, remembers
        self.known: dict = {}

    def fit(self, examples):
        self.fitted = examples
        keys = zip(examples.symbol.tolist(), examples.as_of.tolist(), strict=True)
        self.known = dict(zip(keys, examples.y, strict=True))
        return self

    def predict(self, rows):
        self.seen.append((self.fitted, rows))
        answer = rows.climatology.copy()
        if self.remembers:
            keys = zip(rows.symbol.tolist(), rows.as_of.tolist(), strict=True)
            for row, key in enumerate(keys):
                if key in self.known:
                    answer[row] = np.nan_to_num(self.known[key])[:, None]
        return answer


@pytest.mark.parametrize("embargo_days", [0.0, 3.0])
def test_each_forecast_out_of_fold_is_of_a_model_that_saw_no_overlapping_label(
    embargo_days: float,
) -> None:
    examples, seen = make_examples(seed=2, n_days=120), []
    stacking = Stacking(members=(lambda: Spy(seen),), n_folds=3, embargo_days=embargo_days)
    rows, quantiles = stacking.out_of_fold(examples)
    assert len(seen) == 3
    assert len(rows) == len(quantiles) == sum(len(asked) for _, asked in seen)
    embargo = np.timedelta64(round(embargo_days * 86_400e6), "us")
    for fitted, asked in seen:
        assert not hasattr(asked, "y")
        used = ~np.isnan(fitted.y)
        assert fitted.end_at[used].max() + embargo <= asked.as_of.min()
        assert fitted.as_of.max() < asked.as_of.min()
    later = np.unique(examples.as_of)[-3 * (120 // 4) :]
    assert set(rows.as_of.tolist()) == set(later.tolist())


def test_a_member_that_remembers_its_training_rows_earns_nothing_by_it() -> None:
    examples = make_examples(seed=4, n_days=240)
    honest = Stacking(members=(lambda: Spy([]), EWMA)).fit_weights(examples)
    parrot = Stacking(members=(lambda: Spy([], remembers=True), EWMA)).fit_weights(examples)
    np.testing.assert_array_equal(parrot, honest)


def test_outcomes_after_the_training_span_do_not_move_the_weights() -> None:
    examples = make_examples(seed=4, n_days=240)
    cut = examples.as_of[3 * 200]
    planted = replace(examples, y=np.where(examples.end_at > cut, 9.9, examples.y))
    first = Stacking(members=(HAR, EWMA)).fit_weights(examples.known_by(cut))
    second = Stacking(members=(HAR, EWMA)).fit_weights(planted.known_by(cut))
    np.testing.assert_array_equal(first, second)


def test_the_better_member_counts_more_and_equal_weights_hold_where_little_is_known() -> None:
    examples = make_examples(seed=6, n_days=500, volatility_signal=0.6)
    weights = Stacking(members=(EWMA, HAR)).fit_weights(examples)
    assert weights[0, 1] > 0.85
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    cautious = Stacking(members=(EWMA, HAR), prior=1e9).fit_weights(examples)
    np.testing.assert_allclose(cautious, 0.5, atol=1e-4)


def test_weights_are_at_least_as_good_as_any_on_a_grid() -> None:
    rng = np.random.default_rng(8)
    y = rng.standard_normal(400)
    levels = np.sort(rng.standard_normal((400, 3, 17)), axis=-1) * [[[0.5], [1.0], [2.0]]]
    found = best_weights(levels, y, np.ones(400))

    def loss(weights: np.ndarray) -> float:
        return float(metrics.crps(np.einsum("nkl,k->nl", levels, weights), y).mean())

    grid = [np.array([a, b, 1 - a - b]) / 1 for a in np.arange(0, 1.01, 0.05)
            for b in np.arange(0, 1.001 - a, 0.05)]  # fmt: skip
    assert loss(found) <= min(map(loss, grid)) * 1.002


def test_too_little_history_and_senseless_parameters_are_named() -> None:
    with pytest.raises(NotEnoughHistory, match="splits"):
        Stacking(members=(EWMA,), n_folds=9).fit(make_examples(seed=1, n_days=8))
    with pytest.raises(InvalidSpec, match="n_folds"):
        Stacking(members=(EWMA,), n_folds=0)
