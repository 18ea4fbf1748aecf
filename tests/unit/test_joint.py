"""Joint forecasts: marginals stay, ranks add up, correlations are sound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from candlecast.domain.distribution import LEVELS, SCORES, at_scores, quantile
from candlecast.domain.ranks import class_bounds, expected_rank, shared_classes
from candlecast.errors import BadFrame, InvalidSpec
from candlecast.models import joint

seeds = st.integers(0, 2**32 - 1)


def normal(*scales, mean=0.0):
    """Gaussian quantiles of these standard deviations."""
    return mean + np.array(scales)[:, None] * SCORES


def equal(n, value):
    """The correlation that is the same for all pairs."""
    return np.where(np.eye(n, dtype=bool), 1.0, value)


def random_quantiles(rng, n):
    return np.sort(rng.standard_t(3, (n, len(LEVELS))), axis=1) * rng.uniform(0.01, 1, (n, 1))


def random_correlation(rng, n):
    return np.corrcoef(rng.normal(size=(n, 1)) + rng.normal(size=(n, 50))).reshape(n, n)


# --- scenarios ------------------------------------------------------------------------------


@given(seeds, st.integers(1, 8), st.sampled_from([None, 1.5, 5.0]))
@settings(max_examples=30)
def test_every_marginal_is_kept_exactly(seed, n, degrees_of_freedom):
    rng = np.random.default_rng(seed)
    quantiles = random_quantiles(rng, n)
    drawn = joint.scenarios(
        quantiles,
        random_correlation(rng, n),
        n_scenarios=1000,
        seed=seed,
        degrees_of_freedom=degrees_of_freedom,
    )
    assert drawn.shape == (1024, n)
    levels = (np.arange(1024) + 0.5) / 1024
    np.testing.assert_array_equal(np.sort(drawn, axis=0).T, at_scores(quantiles, norm.ppf(levels)))


def test_the_order_follows_the_correlation_and_not_the_marginals():
    wanted = np.array([[1.0, 0.7, -0.4], [0.7, 1.0, 0.0], [-0.4, 0.0, 1.0]])
    drawn = joint.scenarios(normal(0.1, 2.0, 30.0), wanted, n_scenarios=20_000)
    np.testing.assert_allclose(np.corrcoef(drawn.T), wanted, atol=0.02)


def test_a_student_copula_brings_extremes_together_and_leaves_the_rest():
    pair = normal(1.0, 1.0)
    drawn = {
        df: joint.scenarios(pair, equal(2, 0.0), n_scenarios=20_000, degrees_of_freedom=df)
        for df in (None, 3.0)
    }
    both_low = {df: (d < norm.ppf(0.02)).all(axis=1).mean() for df, d in drawn.items()}
    assert both_low[None] == pytest.approx(0.02**2, abs=2e-4)
    assert both_low[3.0] > 5 * both_low[None]
    assert np.corrcoef(drawn[3.0].T)[0, 1] == pytest.approx(0, abs=0.02)


def test_the_same_seed_gives_the_same_scenarios_and_another_one_others():
    given_ = normal(1.0, 2.0), equal(2, 0.5)
    first = joint.scenarios(*given_, n_scenarios=100, seed=3)
    assert (first == joint.scenarios(*given_, n_scenarios=100, seed=3)).all()
    assert (first != joint.scenarios(*given_, n_scenarios=100, seed=4)).any()


def test_ranks_counted_in_parts_are_those_counted_at_once(monkeypatch):
    rng = np.random.default_rng(4)
    outcomes = np.round(rng.normal(size=(300, 7)), 1)  # some rows tie, some do not
    whole = joint.rank_probabilities(outcomes)
    np.testing.assert_allclose(whole, shared_classes(outcomes, 5).mean(axis=0))
    for most in (1, 50, 7 * 299):
        monkeypatch.setattr(joint, "MOST_COUNTED", most)
        np.testing.assert_allclose(joint.rank_probabilities(outcomes), whole, rtol=1e-12)


def test_symbols_that_move_as_one_always_keep_their_order():
    drawn = joint.scenarios(normal(1.0, 1.0, mean=np.array([[0.0], [0.1]])), equal(2, 1.0))
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 0.1, atol=1e-6)


@pytest.mark.parametrize(
    ("quantiles", "correlation", "options", "error"),
    [
        (normal(1.0)[:, ::-1], equal(1, 0), {}, BadFrame),
        (normal(1.0, 1.0), equal(3, 0), {}, BadFrame),
        (normal(1.0, 1.0), np.array([[1, np.nan], [np.nan, 1]]), {}, BadFrame),
        (normal(1.0, 1.0, 1.0), equal(3, -0.9), {}, InvalidSpec),
        (normal(1.0), equal(1, 0), {"n_scenarios": 0}, InvalidSpec),
        (normal(1.0), equal(1, 0), {"n_scenarios": 10**12}, InvalidSpec),
        (normal(1.0), equal(1, 0), {"degrees_of_freedom": 0.0}, InvalidSpec),
    ],
)
def test_scenarios_refuse_what_makes_no_sense(quantiles, correlation, options, error):
    with pytest.raises(error):
        joint.scenarios(quantiles, correlation, **options)


# --- ranks ----------------------------------------------------------------------------------


@given(seeds, st.integers(1, 23), st.integers(1, 6))
@settings(max_examples=40)
def test_ranks_add_up_by_symbol_and_by_class_with_and_without_ties(seed, n, n_classes):
    rng = np.random.default_rng(seed)
    outcomes = rng.normal(size=(40, n))
    outcomes[::2] = rng.integers(0, 4, (20, n))
    found = joint.rank_probabilities(outcomes, n_classes)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), n / n_classes, atol=1e-12)
    assert (found >= 0).all()
    np.testing.assert_allclose(found, shared_classes(outcomes, n_classes).mean(axis=0), atol=1e-12)


def naive_classes(returns, n_classes):
    """Each symbol's share of each class, place by place."""
    n = len(returns)
    shares = np.zeros((n, n_classes))
    for symbol, value in enumerate(returns):
        places = range((returns < value).sum(), (returns <= value).sum())
        for place in places:
            for tick in range(n_classes):  # a place is as many ticks as there are classes
                shares[symbol, (place * n_classes + tick) // n] += 1 / n_classes / len(places)
    return shares


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=17), st.integers(1, 6))
def test_ties_share_their_places_evenly(values, n_classes):
    returns = np.array(values, dtype=float)
    found = shared_classes(returns, n_classes)
    np.testing.assert_allclose(found, naive_classes(returns, n_classes), atol=1e-12)


def test_a_hundred_symbols_fill_five_classes_of_twenty():
    classes = shared_classes(np.arange(100.0))
    assert (classes[:20, 0] == 1).all()
    assert (classes[80:, 4] == 1).all()
    assert (np.diff(class_bounds(100), axis=0).sum(axis=0) == 20).all()
    np.testing.assert_array_equal(expected_rank(classes[::20]), [1, 2, 3, 4, 5])


def test_exchangeable_symbols_are_anywhere_with_the_same_probability():
    drawn = joint.scenarios(normal(*[0.1] * 10), equal(10, 0.4))
    np.testing.assert_allclose(joint.rank_probabilities(drawn), 0.2, atol=0.01)


def test_a_symbol_that_does_not_move_sits_in_the_middle_and_a_wild_one_at_the_ends():
    drawn = joint.scenarios(normal(0.0, *[0.1] * 40, 5.0), equal(42, 0.0))
    still, *_, wild = joint.rank_probabilities(drawn)
    assert still[2] > 0.75
    assert still[0] + still[4] < 0.001
    assert wild[0] == pytest.approx(0.5, abs=0.02)
    assert wild[4] == pytest.approx(0.5, abs=0.02)


def test_symbols_without_any_width_share_all_classes():
    drawn = joint.scenarios(np.zeros((10, len(LEVELS))), equal(10, 0.0), n_scenarios=10)
    np.testing.assert_allclose(joint.rank_probabilities(drawn), 0.2)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_ranks_of_nothing_are_refused(shape):
    with pytest.raises(BadFrame):
        joint.rank_probabilities(np.zeros(shape))


# --- two Gaussians --------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6, 0.95])
def test_the_better_of_two_gaussians_is_known(correlation):
    means, scales = np.array([0.02, -0.01]), np.array([0.05, 0.12])
    quantiles = means[:, None] + scales[:, None] * SCORES
    drawn = joint.scenarios(quantiles, equal(2, correlation), n_scenarios=40_000)
    width = np.sqrt((scales**2).sum() - 2 * correlation * scales.prod())
    first_is_higher = norm.cdf((means[0] - means[1]) / width)
    found = joint.rank_probabilities(drawn, n_classes=2)
    np.testing.assert_allclose(found[0], [1 - first_is_higher, first_is_higher], atol=0.006)


def test_the_variance_of_two_small_gaussians_is_that_of_their_sum():
    scales, weights = np.array([0.001, 0.003]), np.array([0.7, -0.3])
    drawn = joint.scenarios(scales[:, None] * SCORES, equal(2, 0.5), n_scenarios=40_000)
    cross = 0.5 * scales.prod() * weights.prod()
    wanted = np.sqrt(((scales * weights) ** 2).sum() + 2 * cross) * SCORES
    found = joint.portfolio_quantiles(drawn, weights)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


# --- portfolios -----------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=20)
def test_a_portfolio_of_one_symbol_has_its_quantiles(seed):
    rng = np.random.default_rng(seed)
    quantiles = random_quantiles(rng, 3)
    drawn = joint.scenarios(quantiles, random_correlation(rng, 3), n_scenarios=4000)
    found = joint.portfolio_quantiles(drawn, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(
        found, np.expm1(quantile(quantiles[1], LEVELS)), rtol=0.02, atol=0.02
    )
    half = joint.portfolio_quantiles(drawn, np.array([0.0, 0.5, 0.0]))
    np.testing.assert_allclose(half, found / 2)


def test_what_is_bought_and_sold_alike_loses_nothing():
    drawn = joint.scenarios(normal(0.1, 0.1), equal(2, 1.0))
    hedged = joint.portfolio_quantiles(drawn, np.array([1.0, -1.0]))
    np.testing.assert_allclose(hedged, 0, atol=1e-6)


@pytest.mark.parametrize("weights", [[1.0], [np.nan, 1.0], [[1.0, 0.0]]])
def test_weights_are_one_finite_number_a_symbol(weights):
    with pytest.raises(InvalidSpec):
        joint.portfolio_quantiles(np.zeros((10, 2)), np.array(weights))
