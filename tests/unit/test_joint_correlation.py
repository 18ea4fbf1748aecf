"""The shrunk correlation of residuals: positive definite, fair to gaps, near the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.errors import BadFrame, InvalidSpec
from candlecast.models import joint

TARGETS = st.sampled_from(["zero", "constant", "factor"])
NAN = float("nan")


def drawn(rng, n_bars, correlation):
    return rng.multivariate_normal(np.zeros(len(correlation)), correlation, n_bars)


def one_factor(loadings):
    matrix = np.outer(loadings, loadings)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


@given(st.integers(0, 2**32 - 1), TARGETS, st.integers(2, 12), st.integers(0, 80))
@settings(max_examples=60)
def test_any_residuals_give_a_positive_definite_correlation(seed, target, n, n_bars):
    rng = np.random.default_rng(seed)
    residuals = rng.standard_t(2, (n_bars, n))
    residuals[rng.random((n_bars, n)) < 0.4] = NAN
    residuals[:, 0] = [0.0, NAN, 1.0][seed % 3]
    found = joint.correlation(residuals, target=target, overlap_bars=1 + seed % 3)
    assert found.shape == (n, n)
    np.testing.assert_array_equal(np.diag(found), 1)
    np.testing.assert_array_equal(found, found.T)
    assert np.linalg.eigvalsh(found)[0] > 0
    assert (np.abs(off_diagonal(found)) < 1).all()


@pytest.mark.parametrize("target", ["zero", "constant", "factor"])
def test_much_data_tell_the_truth_whatever_the_target(target):
    rng = np.random.default_rng(1)
    truth = np.array([[1, 0.8, -0.3], [0.8, 1, 0.1], [-0.3, 0.1, 1]])
    found = joint.correlation(drawn(rng, 20_000, truth), target=target)
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_few_data_are_shrunk_and_come_nearer_to_the_truth():
    rng = np.random.default_rng(2)
    truth = one_factor(rng.uniform(0.2, 0.9, 60))
    residuals = drawn(rng, 80, truth)
    errors = {
        share: ((joint.correlation(residuals, shrinkage=share) - truth) ** 2).mean()
        for share in (0.0, None)
    }
    assert errors[None] < 0.5 * errors[0.0]


def test_a_target_is_what_full_shrinkage_gives():
    rng = np.random.default_rng(3)
    residuals = drawn(rng, 5000, one_factor(np.array([0.9, 0.7, 0.5, 0.3])))
    goals = {t: joint.correlation(residuals, target=t, shrinkage=1.0) for t in ("zero", "constant")}
    np.testing.assert_array_equal(goals["zero"], np.eye(4))
    (value,) = np.unique(off_diagonal(goals["constant"]))
    sample = joint.correlation(residuals, shrinkage=0.0)
    assert value == pytest.approx(off_diagonal(sample).mean())
    factor = joint.correlation(residuals, target="factor", shrinkage=1.0)
    np.testing.assert_allclose(factor, one_factor(np.array([0.9, 0.7, 0.5, 0.3])), atol=0.05)


def test_pairs_are_measured_on_the_bars_that_both_have():
    rng = np.random.default_rng(4)
    complete = drawn(rng, 4000, np.array([[1, 0.6, 0.6], [0.6, 1, 0.6], [0.6, 0.6, 1]]))
    holed = complete.copy()
    holed[:3000, 2] = NAN
    found = joint.correlation(holed, shrinkage=0.0)
    alone = joint.correlation(complete[3000:], shrinkage=0.0)
    assert found[0, 1] == pytest.approx(joint.correlation(complete, shrinkage=0.0)[0, 1])
    assert found[0, 2] == pytest.approx(alone[0, 2])


def test_a_symbol_that_shares_too_few_bars_takes_the_target():
    rng = np.random.default_rng(5)
    residuals = drawn(rng, 500, one_factor(np.full(4, 0.8)))
    residuals[: -joint.MIN_COMMON + 1, 3] = NAN
    found = joint.correlation(residuals, target="constant")
    np.testing.assert_allclose(found[3, :3], found[0, 1], atol=0.1)
    assert (joint.correlation(residuals, target="zero")[3, :3] == 0).all()


def test_with_a_half_life_the_newest_bars_decide():
    rng = np.random.default_rng(6)
    old, new = (drawn(rng, 1000, np.array([[1, r], [r, 1]])) for r in (-0.8, 0.8))
    residuals = np.concatenate([old, new])
    found = joint.correlation(residuals, half_life_bars=100.0, shrinkage=0.0)
    assert found[0, 1] > 0.75
    assert abs(joint.correlation(residuals, shrinkage=0.0)[0, 1]) < 0.1


def test_sums_show_what_markets_that_close_at_other_hours_have_in_common():
    rng = np.random.default_rng(7)
    news = rng.normal(size=3001)
    residuals = np.column_stack([news[1:], (news[1:] + news[:-1]) / np.sqrt(2)])
    daily, weekly = (
        joint.correlation(residuals, overlap_bars=n, shrinkage=0.0)[0, 1] for n in (1, 10)
    )
    assert daily == pytest.approx(0.71, abs=0.05)
    assert weekly > 0.95


def test_one_mad_bar_does_not_decide():
    rng = np.random.default_rng(8)
    residuals = rng.normal(size=(500, 2))
    residuals[250] = 1e6
    assert abs(joint.correlation(residuals)[0, 1]) < 0.2


def test_a_matrix_that_is_no_correlation_becomes_one_and_others_stay():
    wrong = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    mended = joint.positive_definite(wrong)
    assert np.linalg.eigvalsh(mended)[0] > 0
    np.testing.assert_allclose(np.sign(mended), np.sign(wrong))
    sound = one_factor(np.array([0.5, 0.6]))
    np.testing.assert_array_equal(joint.positive_definite(sound), sound)


@pytest.mark.parametrize(
    "options",
    [{"half_life_bars": 0.0}, {"half_life_bars": NAN}, {"shrinkage": 1.5}, {"overlap_bars": 0}],
)
def test_settings_out_of_bounds_are_refused(options):
    with pytest.raises(InvalidSpec):
        joint.correlation(np.zeros((30, 2)), **options)


@pytest.mark.parametrize("residuals", [np.zeros(3), np.full((3, 2), np.inf)])
def test_residuals_are_a_finite_matrix(residuals):
    with pytest.raises(BadFrame):
        joint.correlation(residuals)
