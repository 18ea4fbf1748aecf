"""Deflated Sharpe ratios: the paper's own numbers, simulation, and what they say of luck."""

import math

import numpy as np
import pytest
from scipy.stats import binom, kurtosis, norm, skew

from candlecast.errors import InvalidSpec, NotEnoughHistory
from candlecast.validation.deflation import (
    deflated_sharpe,
    expected_maximum,
    probabilistic_sharpe,
    sharpe_ratio,
)


def test_the_example_of_the_paper_comes_out():
    # Bailey and López de Prado (2014): 100 trials whose yearly ratios vary by 0.5, 1250 days.
    threshold = expected_maximum(100, math.sqrt(0.5 / 250))
    assert threshold == pytest.approx(0.1132, abs=1e-4)
    found = probabilistic_sharpe(2.5 / math.sqrt(250), threshold, n=1250, skew=-3, kurtosis=10)
    assert found == pytest.approx(0.9004, abs=1e-4)


@pytest.mark.parametrize("n_trials", [2, 10, 100, 500])
def test_the_expected_maximum_is_that_of_simulated_trials(n_trials):
    draws = np.random.default_rng(1).standard_normal((4000, n_trials))
    assert expected_maximum(n_trials) == pytest.approx(draws.max(axis=1).mean(), abs=0.07)
    assert expected_maximum(n_trials, 0.3) == pytest.approx(0.3 * expected_maximum(n_trials))


def test_it_is_what_the_formula_says_of_the_moments():
    values = np.random.default_rng(2).standard_t(5, 300) * 0.01 + 0.001
    ratio = values.mean() / values.std(ddof=1)
    spread = math.sqrt(1 - skew(values) * ratio + (kurtosis(values) + 2) / 4 * ratio**2)
    threshold = expected_maximum(7, 1 / math.sqrt(300))
    expected = norm.cdf((ratio - threshold) * math.sqrt(299) / spread)
    assert deflated_sharpe(values, 7) == pytest.approx(expected)
    gaps = np.concatenate([values, [np.nan] * 5])
    assert deflated_sharpe(gaps, 7) == deflated_sharpe(values, 7)
    assert sharpe_ratio(values) == pytest.approx(ratio)


@pytest.mark.parametrize("n_trials", [1, 20, 200])
def test_the_best_of_many_without_skill_is_seldom_found_skilled(n_trials):
    n_runs = 400
    draws = np.random.default_rng(3).standard_normal((n_runs, n_trials, 120))
    ratios = draws.mean(axis=2) / draws.std(axis=2)
    best = draws[np.arange(n_runs), ratios.argmax(axis=1)]
    n_found = sum(deflated_sharpe(values, n_trials) >= 0.95 for values in best)
    assert n_found <= binom.ppf(0.999, n_runs, 0.05)
    if n_trials > 1:
        assert sum(deflated_sharpe(values, 1) >= 0.95 for values in best) > 0.5 * n_runs


def test_true_skill_is_found_and_more_trials_ask_for_more():
    values = np.random.default_rng(4).standard_normal(1000) + 0.15
    found = [deflated_sharpe(values, n_trials) for n_trials in (1, 5, 50, 500, 50_000)]
    assert found[0] > 0.99
    assert found == sorted(found, reverse=True)
    assert deflated_sharpe(values, 50, deviation=0.1) < deflated_sharpe(values, 50)


def test_a_series_that_never_moves_is_certain_and_too_short_a_one_tells_nothing():
    assert deflated_sharpe(np.full(50, 0.1), 10) == 1.0
    assert deflated_sharpe(np.full(50, -0.1), 10) == 0.0
    with pytest.raises(NotEnoughHistory, match="19 values tell no Sharpe ratio"):
        deflated_sharpe(np.ones(19), 1)
    with pytest.raises(InvalidSpec, match="n_trials is 0"):
        expected_maximum(0)
