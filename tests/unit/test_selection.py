"""Feature selection: noise is dropped, a signal is kept, and time keeps its structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from candlecast.domain.examples import Examples
from candlecast.errors import InvalidSpec
from candlecast.models.selection import MIN_SHADOWS, select_features, shuffled, turned
from candlecast.validation.splits import walk_forward_splits
from markets import make_examples
from selections import SPLITS, judged, with_noise


def test_noise_is_dropped_and_the_signal_kept() -> None:
    kept = []
    for seed in range(3):
        noisy = with_noise(make_examples(seed=seed, n_days=160, volatility_signal=0.5), 15, seed)
        kept.extend(judged(noisy, seed).kept)
    assert kept.count("har_1") == 3
    assert len(kept) <= 3 + 2


def test_of_pure_noise_nothing_is_kept() -> None:
    noisy = with_noise(make_examples(seed=1, n_days=160, volatility_signal=0.0), 15, 1)
    assert judged(noisy).kept == ()


def test_the_same_seed_gives_the_same_selection_and_nothing_given_is_changed() -> None:
    examples = make_examples(seed=2, n_days=120, volatility_signal=0.5)
    before = examples.X.copy()
    first, second = judged(examples, 4), judged(examples, 4)
    assert first == second
    assert first.n_shadows >= MIN_SHADOWS
    assert list(first.importances.values()) == sorted(first.importances.values(), reverse=True)
    np.testing.assert_array_equal(examples.X, before)


def test_importances_come_from_rows_that_the_model_was_not_fitted_on() -> None:
    examples = make_examples(seed=2, n_days=120)
    asked, fitted = [], []

    class Asking:
        def predict(self, rows):
            asked.append(rows.as_of)
            return rows.climatology

    def fit(past: Examples) -> Asking:
        fitted.append(past)
        return Asking()

    splits = walk_forward_splits(examples.as_of, SPLITS)
    found = select_features(fit, examples, splits, 1)
    assert set(found.importances.values()) == {0.0}
    assert found.kept == ()
    for number, past in enumerate(fitted):
        split = splits[number % len(splits)]
        assert past.end_at[~np.isnan(past.y)].max() <= split.train_until
        assert past.X.shape[1] == 2 * examples.X.shape[1]
    assert {day for times in asked for day in np.unique(times)} == {
        day
        for split in splits
        for day in np.unique(examples.as_of[split.test_rows(examples.as_of)])
    }


def test_shuffling_moves_blocks_and_keeps_what_lies_within_them() -> None:
    rng = np.random.default_rng(3)
    as_of = np.repeat(np.arange(200).astype("M8[D]").astype("M8[us]"), 3)
    values = np.arange(600.0)
    moved = shuffled(values, as_of, 10, rng)
    assert sorted(moved) == values.tolist()
    assert (np.diff(moved) == 1).mean() > 0.95
    assert (moved == values).mean() < 0.2
    assert np.abs(np.corrcoef(moved, values)[0, 1]) < 0.9


def test_shadows_are_as_slow_as_their_features_but_lie_elsewhere() -> None:
    rng = np.random.default_rng(3)
    walk = np.cumsum(rng.standard_normal(1000))
    for _ in range(20):
        shadow = turned(walk, rng)
        shift = int(np.flatnonzero(shadow == walk[0])[0])
        assert 100 <= shift <= 900
        np.testing.assert_array_equal(np.roll(shadow, -shift), walk)


def test_nothing_to_select_from_is_named() -> None:
    examples = make_examples(seed=2, n_days=120)
    bare = replace(examples, X=examples.X[:, :0], feature_names=())
    with pytest.raises(InvalidSpec, match="at least one feature"):
        judged(bare)
