"""Metrics: known values, bounds, and what is missing left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, spearmanr

from candlecast import metrics
from candlecast.domain.distribution import LEVELS, MEDIAN, N_LEVELS, SCORES
from candlecast.errors import InvalidSpec

NAN = float("nan")
seeds = st.integers(0, 2**32)


def forecasts(seed, n=40):
    random = np.random.default_rng(seed)
    return np.sort(random.standard_normal((n, N_LEVELS)), axis=1), random.standard_normal(n)


@given(seeds)
def test_losses_are_not_negative_and_grow_with_the_unit(seed):
    q, y = forecasts(seed)
    for loss in (metrics.pinball, metrics.crps):
        assert (loss(q, y) >= 0).all()
        np.testing.assert_allclose(loss(3 * q + 1, 3 * y + 1), 3 * loss(q, y), atol=1e-12)
        np.testing.assert_allclose(loss(-q[:, ::-1], -y), loss(q, y), atol=1e-12)


def test_a_certain_and_right_forecast_costs_nothing_a_wrong_one_its_error():
    q, y = np.full((3, N_LEVELS), 0.1), np.array([0.1, 0.3, -0.3])
    np.testing.assert_allclose(metrics.crps(q, y), [0, 0.2, 0.4], atol=1e-15)
    np.testing.assert_allclose(metrics.pinball(q, y), [0, 0.1, 0.2], atol=1e-15)


def test_more_rows_than_fit_a_chunk_are_scored_alike():
    q, y = forecasts(1, 2 * metrics.CHUNK_ROWS + 5)
    alone = [metrics.crps(q[i : i + 1], y[i : i + 1])[0] for i in (0, 2047, 2048, len(y) - 1)]
    np.testing.assert_allclose(metrics.crps(q, y)[[0, 2047, 2048, -1]], alone)


def test_a_missing_forecast_or_outcome_scores_nothing_and_spoils_no_other():
    q, y = forecasts(2, 3)
    clean = metrics.crps(q, y)
    q[0], y[1] = NAN, NAN
    for loss in (metrics.pinball, metrics.crps, metrics.pit):
        assert np.isnan(loss(q, y)).tolist() == [True, True, False]
    assert metrics.crps(q, y)[2] == clean[2]
    np.testing.assert_allclose(
        metrics.pinball_by_level(q, y).mean(), metrics.pinball(q[2:], y[2:]).mean()
    )


def test_the_pit_of_the_truth_is_uniform_and_the_bands_cover_what_they_say():
    y = np.random.default_rng(5).standard_normal(20_000)
    pits = metrics.pit(np.broadcast_to(SCORES, (len(y), N_LEVELS)), y)
    assert kstest(pits, "uniform").pvalue > 0.01
    for level in (0.5, 0.8, 0.95):
        assert metrics.coverage(pits, level) == pytest.approx(level, abs=0.012)


def test_an_outcome_on_the_edge_of_a_band_lies_in_it():
    q = np.broadcast_to(SCORES, (N_LEVELS, N_LEVELS))
    pits = metrics.pit(q, SCORES)
    assert metrics.coverage(pits, 0.8) == pytest.approx(11 / 17)
    assert metrics.coverage(pits, 0.95) == pytest.approx(15 / 17)


def test_coverage_leaves_out_what_is_missing():
    assert metrics.coverage(np.array([0.5, 0.01, NAN]), 0.8) == 0.5
    assert np.isnan(metrics.coverage(np.array([NAN]), 0.8))
    with pytest.raises(InvalidSpec, match="between 0 and 1"):
        metrics.coverage(np.array([0.5]), 80)


def test_a_hit_is_the_likelier_side_of_zero():
    prob_up = np.array([0.6, 0.6, 0.4, 0.4, 0.6, 0.5, NAN, 0.6])
    y = np.array([0.1, -0.1, -0.1, 0.1, 0.0, -0.1, 0.1, NAN])
    np.testing.assert_array_equal(metrics.hits(prob_up, y), [1, 0, 1, 0, 0, 1, NAN, NAN])
    assert metrics.hit_rate(prob_up, y) == 0.5


def test_the_brier_score_is_the_squared_distance_from_what_came():
    scores = metrics.brier(
        np.array([0.7, 0.7, 0.7, NAN, 1.0]), np.array([0.1, -0.1, NAN, 0.1, 0.1])
    )
    np.testing.assert_allclose(scores, [0.09, 0.49, NAN, NAN, 0])


def test_a_uniform_forecast_of_five_ranks_scores_0_16_as_in_m6():
    scores = metrics.rps(np.full((6, 5), 0.2), np.array([0, 1, 2, 3, 4, -1]))
    np.testing.assert_allclose(scores, [0.24, 0.12, 0.08, 0.12, 0.24, NAN])
    assert metrics.average(scores) == pytest.approx(0.16)


def test_a_rank_shared_by_ties_is_scored_by_its_share_of_each_class():
    forecast = np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [1, 0, 0, 0, 0]])
    whole = np.eye(5)[[3, 1]]
    np.testing.assert_allclose(
        metrics.rps(forecast, whole), metrics.rps(forecast, np.array([3, 1])), atol=1e-15
    )
    halved = np.array([[0, 0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(metrics.rps(halved, halved), 0)
    np.testing.assert_allclose(metrics.rps(forecast[1:], halved), (1 + 0.5**2) / 5)


def test_a_rank_missed_by_more_costs_more():
    certain = np.eye(5)[[0, 0, 0]]
    np.testing.assert_allclose(metrics.rps(certain, np.array([0, 1, 4])), [0, 0.2, 0.8])


@given(seeds)
def test_the_information_coefficient_is_spearmans(seed):
    random = np.random.default_rng(seed)
    x, y = random.standard_normal(30).round(1), random.standard_normal(30).round(1)
    assert metrics.information_coefficient(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert metrics.information_coefficient(x, np.exp(3 * x)) == pytest.approx(1)
    with_gap = metrics.information_coefficient(np.append(x, NAN), np.append(y, 9.0))
    assert with_gap == pytest.approx(metrics.information_coefficient(x, y))


def test_without_variation_there_is_no_correlation_and_no_sharpe_ratio():
    assert np.isnan(metrics.information_coefficient(np.ones(5), np.arange(5.0)))
    assert np.isnan(metrics.information_coefficient(np.array([]), np.array([])))
    assert np.isnan(metrics.sharpe(np.full(9, 0.001), 252))
    assert np.isnan(metrics.sharpe(np.array([0.1]), 252))


def test_the_sharpe_ratio_is_annualised():
    returns = np.array([0.01, -0.01, 0.02, NAN, 0.0])
    known = returns[~np.isnan(returns)]
    expected = known.mean() / known.std(ddof=1) * np.sqrt(252)
    assert metrics.sharpe(returns, 252) == pytest.approx(expected)


@given(seeds)
def test_the_drawdown_is_the_worst_fall_from_an_earlier_peak(seed):
    returns = np.random.default_rng(seed).normal(0, 0.1, 30).clip(-0.9)
    wealth = [1.0]
    for simple in returns:
        wealth.append(wealth[-1] * (1 + simple))
    falls = [1 - wealth[j] / wealth[i] for i in range(31) for j in range(i, 31)]
    assert metrics.max_drawdown(returns) == pytest.approx(max(falls))


def test_wealth_that_only_grows_never_falls():
    assert metrics.max_drawdown(np.array([0.1, NAN, 0.2])) == 0
    assert metrics.max_drawdown(np.array([])) == 0
    assert metrics.max_drawdown(np.array([-0.25])) == pytest.approx(0.25)


def test_skill_is_the_share_of_the_loss_saved():
    assert metrics.skill([1.0, 2.0, NAN], [2.0, 4.0, 9.0]) == 0.5
    assert metrics.skill([2.0, 3.0], [2.0, NAN]) == 0
    assert np.isnan(metrics.skill([0.0], [0.0]))


def test_the_median_alone_pays_half_the_absolute_error():
    q, y = forecasts(3)
    assert LEVELS[MEDIAN] == 0.5
    expected = np.abs(y - q[:, MEDIAN]).mean() / 2
    assert metrics.pinball_by_level(q, y)[MEDIAN] == pytest.approx(expected)
