"""The distribution: everything derived from 17 quantiles agrees with everything else."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr

from candlecast.domain import distribution as dist
from candlecast.domain.distribution import LABELS, LEVELS, MEDIAN, N_LEVELS, SCORES
from candlecast.errors import BadFrame, InvalidSpec

values = st.floats(-2, 2, allow_subnormal=False).map(lambda x: round(x, 6))


def draw(seed, decimals, shape=(3,)):
    """Distributions of heavy-tailed draws; few decimals give atoms, equal neighbours."""
    random = np.random.default_rng(seed)
    return np.sort(random.standard_t(3, (*shape, N_LEVELS)).round(decimals) * 0.1, axis=-1)


seeds, roughness = st.integers(0, 2**32), st.sampled_from([0, 1, 2, 6])
any_quantiles = st.builds(draw, seeds, roughness)
smooth_quantiles = st.builds(lambda seed: draw(seed, 15) + 1e-4 * SCORES, seeds)
paths = st.builds(draw, seeds, roughness, st.just((2, 3)))


def normal(mean, deviation):
    return np.atleast_1d(mean)[:, None] + np.atleast_1d(deviation)[:, None] * SCORES


def test_the_levels_are_symmetric_about_the_median():
    assert LEVELS[MEDIAN] == 0.5
    np.testing.assert_allclose(LEVELS + LEVELS[::-1], 1)
    assert N_LEVELS == 17


@given(any_quantiles)
def test_the_quantile_function_goes_through_the_quantiles(q):
    np.testing.assert_allclose(dist.quantile(q, LEVELS), q, atol=1e-12)
    np.testing.assert_array_equal(dist.quantile(q, 0.5), q[:, MEDIAN])


@given(any_quantiles, st.lists(st.floats(1e-6, 1 - 1e-6), min_size=2, max_size=8))
def test_the_quantile_function_never_falls(q, levels):
    assert (np.diff(dist.quantile(q, sorted(levels)), axis=1) >= -1e-12).all()


@given(any_quantiles, st.lists(values, min_size=2, max_size=8))
def test_the_distribution_function_never_falls_and_stays_within_0_and_1(q, points):
    below = np.stack([dist.probability_below(q, x) for x in sorted(points)])
    assert (np.diff(below, axis=0) >= -1e-12).all()
    assert ((below >= 0) & (below <= 1)).all()


@given(smooth_quantiles, st.floats(0.001, 0.999))
def test_distribution_and_quantile_functions_are_inverse(q, level):
    np.testing.assert_allclose(dist.probability_below(q, dist.quantile(q, level)), level, atol=1e-9)


@given(any_quantiles, values)
def test_the_distribution_function_is_the_least_level_whose_quantile_is_above(q, x):
    below = dist.probability_below(q, x)
    for row, level in zip(q, below, strict=True):
        if 1e-9 < level < 1 - 1e-9:
            slack = 1e-7 * (1 + np.abs(row).max())
            assert dist.quantile(row, level) <= x + slack
            assert dist.quantile(row, min(level + 1e-6, 1 - 1e-12)) >= x - slack


def test_an_atom_is_below_itself():
    q = np.repeat([-0.1, 0.0, 0.1], [4, 9, 4])
    assert dist.probability_below(q, 0.0) == pytest.approx(LEVELS[12])
    assert dist.probability_below(q, -1e-9) == pytest.approx(LEVELS[4], abs=1e-6)


def test_a_certain_return_lies_below_all_that_is_greater():
    q = np.full(N_LEVELS, 0.01)
    assert dist.probability_below(q, [0.009, 0.01, 0.011]).tolist() == [0, 1, 1]
    assert dist.std(q) == 0
    assert dist.mean(q) == pytest.approx(0.01)


def test_what_is_missing_stays_missing():
    q = np.vstack([np.full(N_LEVELS, np.nan), SCORES, np.zeros(N_LEVELS)])
    assert np.isnan(dist.probability_below(q, [0.0, np.nan, np.nan])).all()
    assert np.isnan(dist.mean(q)).tolist() == [True, False, False]


def test_of_normal_quantiles_all_is_known_exactly():
    q = normal([0.01, -0.02], [0.03, 0.1])
    np.testing.assert_allclose(dist.mean(q), [0.01, -0.02], atol=1e-14)
    np.testing.assert_allclose(dist.std(q), [0.03, 0.1])
    np.testing.assert_allclose(dist.prob_up(q), ndtr([0.01 / 0.03, -0.2]))
    np.testing.assert_allclose(
        dist.value_at_risk(q), [-0.01, 0.02] + 1.6448536 * np.array([0.03, 0.1])
    )
    np.testing.assert_allclose(
        dist.expected_shortfall(q), [-0.01, 0.02] + 2.0627128 * np.array([0.03, 0.1])
    )


@given(any_quantiles, st.floats(-1, 1), st.floats(0.1, 3))
def test_moving_and_stretching_a_distribution_moves_and_stretches_its_numbers(q, shift, factor):
    moved = shift + factor * q
    np.testing.assert_allclose(dist.mean(moved), shift + factor * dist.mean(q), atol=1e-9)
    np.testing.assert_allclose(dist.std(moved), factor * dist.std(q), atol=1e-7)
    shortfall = dist.expected_shortfall(moved, 0.1)
    np.testing.assert_allclose(
        shortfall, factor * dist.expected_shortfall(q, 0.1) - shift, atol=1e-9
    )


@given(any_quantiles, st.floats(0.005, 0.995))
def test_the_shortfall_is_no_less_than_the_value_at_risk_and_the_mean_loss(q, tail):
    shortfall = dist.expected_shortfall(q, tail)
    assert (shortfall >= dist.value_at_risk(q, tail) - 1e-9).all()
    assert (shortfall >= -dist.mean(q) - 1e-9).all()


@given(any_quantiles)
def test_the_shortfalls_of_both_halves_make_up_the_mean(q):
    lower = -dist.expected_shortfall(q, 0.5)
    upper = dist.expected_shortfall(-q[:, ::-1], 0.5)
    np.testing.assert_allclose((lower + upper) / 2, dist.mean(q), atol=1e-9)


@given(any_quantiles, st.floats(0.01, 0.97))
def test_a_wider_band_holds_a_narrower_one(q, level):
    lower, upper = dist.band(q, level)
    outer_lower, outer_upper = dist.band(q, level + 0.02)
    assert (outer_lower <= lower + 1e-12).all()
    assert (lower <= upper + 1e-12).all()
    assert (upper <= outer_upper + 1e-12).all()


@pytest.mark.parametrize(("level", "low", "high"), [(0.5, 5, 11), (0.8, 3, 13), (0.95, 1, 15)])
def test_the_bands_that_are_shown_are_stored_quantiles(level, low, high):
    q = np.sort(np.random.default_rng(1).standard_normal((5, N_LEVELS)))
    lower, upper = dist.band(q, level)
    np.testing.assert_allclose(lower, q[:, low], atol=1e-12)
    np.testing.assert_allclose(upper, q[:, high], atol=1e-12)


@given(any_quantiles, st.floats(-1, 1), st.floats(0, 1))
def test_the_probabilities_of_the_labels_sum_to_one(q, lower, width):
    probabilities = dist.class_probabilities(q, lower, lower + width)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    chosen, confidence = dist.label(probabilities)
    np.testing.assert_array_equal(confidence, probabilities.max(axis=1))
    assert set(chosen) <= set(LABELS)


@given(smooth_quantiles)
def test_up_is_bullish_when_the_thresholds_are_zero(q):
    probabilities = dist.class_probabilities(q, 0.0, 0.0)
    np.testing.assert_allclose(probabilities[:, 2], dist.prob_up(q))
    np.testing.assert_allclose(probabilities[:, 1], 0, atol=1e-12)


def test_a_tie_is_neutral():
    chosen, confidence = dist.label(np.array([[0.4, 0.2, 0.4], [0.4, 0.4, 0.2], [1 / 3] * 3]))
    assert chosen.tolist() == ["Bearish", "Neutral", "Neutral"]
    assert confidence.tolist() == [0.4, 0.4, 1 / 3]


@given(paths)
def test_a_path_never_crosses_and_is_exact_at_the_fitted_horizons(q):
    horizons = [1, 5, 21]
    np.testing.assert_allclose(dist.path(q, horizons, horizons), q, atol=1e-9)
    whole = dist.path(q, horizons, np.arange(22))
    assert whole.shape == (2, 22, N_LEVELS)
    assert (np.diff(whole, axis=-1) >= -1e-12).all()
    np.testing.assert_array_equal(whole[:, 0], 0)


def test_between_horizons_the_spread_grows_with_the_square_root_of_time():
    q = normal([0.0, 0.0], [0.01, 0.02])[None]
    steps = dist.path(q, [1, 4], [1, 2, 3, 4])[0]
    np.testing.assert_allclose(steps, 0.01 * np.sqrt([1, 2, 3, 4])[:, None] * SCORES)


@pytest.mark.parametrize(
    ("horizons", "steps"), [([1, 5], [6]), ([5, 1], [1]), ([0, 5], [1]), ([5], [-1])]
)
def test_a_path_leads_from_now_to_the_last_horizon(horizons, steps):
    with pytest.raises(InvalidSpec, match="horizons ascend"):
        dist.path(np.zeros((len(horizons), N_LEVELS)), horizons, steps)


def test_a_path_within_one_horizon_starts_now():
    q = normal(0.04, 0.02)[None]
    np.testing.assert_allclose(dist.path(q, [4], [1])[0, 0], 0.01 + 0.01 * SCORES)


@given(any_quantiles)
def test_rounding_as_stored_keeps_the_order_and_is_done_once(q):
    stored = dist.as_stored(q)
    assert (np.diff(stored, axis=1) >= 0).all()
    np.testing.assert_array_equal(dist.as_stored(stored), stored)
    np.testing.assert_allclose(stored, q, rtol=1e-7, atol=1e-40)


@given(any_quantiles, st.floats(0.01, 1000))
def test_prices_are_the_last_close_carried_along(q, close):
    prices = dist.prices(q, np.full(3, close))
    np.testing.assert_allclose(np.log(prices / close), q, atol=1e-12)
    assert (np.diff(prices, axis=1) >= 0).all()


@given(any_quantiles, st.permutations(range(N_LEVELS)))
def test_uncrossing_sorts(q, order):
    np.testing.assert_array_equal(dist.uncrossed(q[:, order]), q)


@given(any_quantiles)
def test_ordered_quantiles_pass_the_check_and_disordered_ones_do_not(q):
    assert dist.check_quantiles(q) is q
    assume((q[:, 0] < q[:, -1]).any())
    with pytest.raises(BadFrame, match="quantiles cross"):
        dist.check_quantiles(q[:, ::-1])


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (np.zeros((2, 16)), r"need 17 levels, got shape \(2, 16\)"),
        (np.array(1.0), "need 17 levels"),
        (np.append(SCORES[:-1], np.nan), "missing or infinite"),
        (np.append(SCORES[:-1], np.inf), "missing or infinite"),
    ],
)
def test_what_are_no_quantiles_is_refused(q, message):
    with pytest.raises(BadFrame, match=message):
        dist.check_quantiles(q)


@pytest.mark.parametrize(
    "ask",
    [
        lambda q: dist.quantile(q, 0.0),
        lambda q: dist.quantile(q, [0.5, 1.0]),
        lambda q: dist.band(q, 1.0),
        lambda q: dist.expected_shortfall(q, 0.0),
    ],
)
def test_a_level_lies_between_0_and_1(ask):
    with pytest.raises(InvalidSpec, match="between 0 and 1"):
        ask(normal(0, 1))


@given(paths)
def test_more_dimensions_give_the_same_numbers(q):
    flat = q.reshape(6, N_LEVELS)
    for number in (dist.mean, dist.std, dist.prob_up, dist.value_at_risk, dist.expected_shortfall):
        np.testing.assert_allclose(number(q).reshape(6), number(flat), atol=1e-12)
    np.testing.assert_allclose(
        dist.quantile(q, [0.1, 0.7]).reshape(6, 2), dist.quantile(flat, [0.1, 0.7]), atol=1e-12
    )
