"""What forecasts rest on: planted features are found, and deleting what matters costs."""

from dataclasses import replace

import numpy as np
import pytest

from candlecast.domain import distribution as dist
from candlecast.errors import InvalidSpec
from candlecast.models import explain
from candlecast.models.changed_windows import masked, swapped
from markets import FEATURES, make_examples

EXAMPLES = make_examples(seed=2, n_days=400, volatility_signal=0.6)


class Known:
    """The true scale from har_1, and, where it `looks`, from the newest bar of its window."""

    def __init__(self, looks=False):
        self.looks = looks

    def signal(self, rows):
        if self.looks:
            tensors = rows.sequences.tensors(np.arange(len(rows)))
            return tensors.values[:, -1, 0, 0] * tensors.mask[:, -1, 0]
        return np.nan_to_num(rows.column("har_1"))

    def predict(self, rows):
        spread = np.exp(0.6 * self.signal(rows)) / np.exp(0.36)
        return spread[:, None, None] * rows.horizon_scale()[..., None] * dist.SCORES


class Telling(Known):
    """Says what each feature adds."""

    def importances(self):
        return {"har_1": 1.0}

    def contributions(self, rows):
        found = np.zeros((len(rows), len(rows.horizons), len(rows.feature_names)))
        found[..., rows.feature_names.index("har_1")] = 0.6 * self.signal(rows)[:, None]
        return found


class Looking(Known):
    """Says at which bar it looks."""

    def attention(self, rows):
        mask = rows.sequences.tensors(np.arange(len(rows))).mask
        shares = np.where(mask, 0.1, 0.0) / mask.sum(axis=(1, 2), keepdims=True)
        shares[:, -1, 0] += 0.9
        return shares


class Wrapped:
    """As a calibrated model keeps the one it calibrates."""

    def __init__(self, model):
        self.model = model

    def predict(self, rows):
        return self.model.predict(rows)


def test_only_the_planted_feature_costs_anything_when_it_is_permuted():
    found = explain.permutation_importances(Known(), EXAMPLES, seed=1)
    assert set(found) == set(FEATURES)
    assert found["har_1"] > 0.05
    assert all(found[name] == 0 for name in FEATURES if name != "har_1")
    assert explain.permutation_importances(Known(), EXAMPLES, seed=1) == found


def test_a_feature_that_only_windows_show_is_permuted_there():
    found = explain.permutation_importances(Known(looks=True), EXAMPLES, seed=1)
    assert found["har_1"] > 0.05
    assert all(found[name] == 0 for name in FEATURES if name != "har_1")


def test_values_change_places_within_a_block_of_dates_only():
    order = explain._shuffled(EXAMPLES.as_of, 50, 4)
    block = np.unique(EXAMPLES.as_of, return_inverse=True)[1] // 50
    assert sorted(order) == list(range(len(EXAMPLES)))
    assert (block[order] == block).all()
    assert (order != np.arange(len(order))).mean() > 0.9


def test_a_sample_is_whole_dates_all_over_the_span_with_known_outcomes():
    few = explain.sampled(EXAMPLES, 150)
    assert 120 <= len(few) <= 180
    assert (np.unique(few.as_of, return_counts=True)[1] == 3).all()
    assert few.as_of[0] == EXAMPLES.as_of[0]
    known = EXAMPLES.as_of[~np.isnan(EXAMPLES.y).all(axis=1)]
    assert few.as_of[-1] == known[-1]
    assert len(explain.sampled(EXAMPLES, 10**6)) == len(known)


def test_the_loss_is_the_mean_over_the_horizons_in_units_of_the_scale():
    loss = explain.mean_loss(Known(), EXAMPLES)
    doubled = replace(EXAMPLES, y=2 * EXAMPLES.y, scale=2 * EXAMPLES.scale)
    np.testing.assert_allclose(explain.mean_loss(Known(), doubled), loss)
    one = replace(EXAMPLES, y=np.where([[True, False]], EXAMPLES.y, np.nan))
    two = replace(EXAMPLES, y=np.where([[False, True]], EXAMPLES.y, np.nan))
    first, second = (explain.mean_loss(Known(), part) for part in (one, two))
    both = ~np.isnan(first) & ~np.isnan(second)
    np.testing.assert_allclose(loss[both], ((first + second) / 2)[both])


@pytest.mark.parametrize(
    ("model", "kind"), [(Telling(), "contributions"), (Looking(looks=True), "attention")]
)
def test_deleting_what_a_model_points_at_costs_more_than_deleting_at_random(model, kind):
    found = explain.deletion_test(Wrapped(model), EXAMPLES, n_deleted=1, seed=3)
    assert found.kind == kind
    assert found.loss < found.loss_random < found.loss_top
    assert found.difference == pytest.approx(found.loss_top - found.loss_random)
    assert 0 < found.interval[0] < found.difference < found.interval[1]


def test_a_model_that_points_at_noise_is_found_out():
    class Lying(Telling):
        def contributions(self, rows):
            rng = np.random.default_rng(0)
            return rng.standard_normal((len(rows), 2, len(rows.feature_names)))

    found = explain.deletion_test(Lying(), EXAMPLES, n_deleted=1)
    assert found.interval[0] < 0 < found.interval[1]


def test_a_model_that_says_nothing_is_refused():
    with pytest.raises(InvalidSpec, match="says nothing"):
        explain.deletion_test(Known(), EXAMPLES)
    with pytest.raises(InvalidSpec, match="at least 1"):
        explain.deletion_test(Telling(), EXAMPLES, n_deleted=0)


def test_what_a_model_knows_is_found_inside_what_wraps_it():
    knows = Telling()
    assert explain.attributed(Wrapped(Wrapped(knows))) is knows
    assert explain.attributed(Wrapped(Known())) is None
    assert explain.attentive(Wrapped(knows)) is None
    assert explain.gains(Wrapped(knows)) == {"har_1": 1.0}
    assert explain.gains(Known()) == {}
    (row, *_) = explain.named_contributions(knows, EXAMPLES.take(np.array([5])))
    expected = 0.6 * EXAMPLES.X[5, 0]
    assert row == [{"har_1": pytest.approx(expected)}] * 2
    mean = explain.mean_contributions(knows, EXAMPLES)
    assert mean["har_1"] == pytest.approx(np.abs(0.6 * EXAMPLES.X[:, 0]).mean())


def test_importances_are_ranked_by_their_mean_over_the_folds():
    found = explain.ranked({1: {"a": 0.2, "b": 0.5}, 2: {"a": 0.4, "b": 0.5, "c": 0.3}})
    assert found == [
        ("b", pytest.approx(0.5), pytest.approx(0.0)),
        ("a", pytest.approx(0.3), pytest.approx(0.1)),
        ("c", pytest.approx(0.15), pytest.approx(0.15)),
    ]
    assert explain.ranked({}) == []


def test_changed_windows_differ_where_they_should_and_nowhere_else():
    rows = EXAMPLES.take(np.arange(60))
    before = rows.sequences.tensors(np.arange(60))
    order = np.arange(60)[::-1]
    after = swapped(rows.sequences, "har_5", order).take(np.arange(10, 40)).tensors(np.arange(30))
    own, other = before.values[10:40], before.values[order[10:40]]
    np.testing.assert_array_equal(after.values[..., 0], own[..., 0])
    both = before.mask[10:40] & before.mask[order[10:40]]
    np.testing.assert_array_equal(after.values[..., 1][both], other[..., 1][both])
    is_deleted = np.random.default_rng(1).random((60, 8)) < 0.3
    cut = masked(rows.sequences, is_deleted).tensors(np.arange(60))
    np.testing.assert_array_equal(cut.mask[:, :, 0], before.mask[:, :, 0] & ~is_deleted)
    assert (cut.values[~cut.mask] == 0).all()
    np.testing.assert_array_equal(cut.values[cut.mask], before.values[cut.mask])


def test_exchanges_that_close_at_different_hours_share_their_dates():
    shifted = EXAMPLES.as_of + EXAMPLES.symbol * np.timedelta64(2, "h")
    hours = replace(EXAMPLES, as_of=shifted)
    few = explain.sampled(hours, 150)
    np.testing.assert_array_equal(few.X, explain.sampled(EXAMPLES, 150).X)
    together, apart = (
        explain.permutation_importances(Known(), examples, seed=1) for examples in (EXAMPLES, hours)
    )
    assert together == apart
