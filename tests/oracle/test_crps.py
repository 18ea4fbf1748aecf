"""Pinball loss and CRPS against loops, closed forms and the integral they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.distribution import LEVELS, N_LEVELS, SCORES


def draw(seed, decimals):
    """Five forecasts with their outcomes; few decimals give atoms and outcomes on quantiles."""
    numbers = np.random.default_rng(seed).standard_t(3, (5, N_LEVELS + 1)).round(decimals)
    return np.sort(numbers[:, 1:]), numbers[:, 0]


cases = st.builds(draw, st.integers(0, 2**32), st.sampled_from([0, 1, 15]))


def loop_pinball(q, y, level):
    return level * (y - q) if y >= q else (1 - level) * (q - y)


@given(cases)
@settings(max_examples=40)
def test_the_crps_is_twice_the_mean_pinball_loss_over_99_percentiles(case):
    q, y = case
    expected = [
        2 * np.mean([loop_pinball(at, value, k / 100) for k, at in enumerate(curve, 1)])
        for curve, value in zip(dist.quantile(q, np.arange(1, 100) / 100), y, strict=True)
    ]
    np.testing.assert_allclose(metrics.crps(q, y), expected, atol=1e-12)


@given(cases)
@settings(max_examples=40)
def test_the_pinball_loss_is_that_of_a_loop(case):
    q, y = case
    table = np.array(
        [
            [loop_pinball(row[i], value, level) for i, level in enumerate(LEVELS)]
            for row, value in zip(q, y, strict=True)
        ]
    )
    np.testing.assert_allclose(metrics.pinball(q, y), table.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(metrics.pinball_by_level(q, y), table.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("y", [0.0, 0.5, -1.5, 3.0])
def test_the_crps_of_a_normal_forecast_is_near_its_closed_form(y):
    density = np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi)
    exact = y * (2 * ndtr(y) - 1) + 2 * density - 1 / np.sqrt(np.pi)  # Gneiting and Raftery 2007
    assert metrics.crps(SCORES[None], np.array([y]))[0] == pytest.approx(exact, rel=0.02)


@given(st.integers(0, 2**32), st.floats(-2, 4))
def test_the_crps_is_near_the_integral_of_the_squared_distance_of_distribution_functions(seed, y):
    q = np.cumsum(np.random.default_rng(seed).uniform(0.01, 0.3, N_LEVELS))
    x = np.linspace(min(q[0] - 2, y - 0.1), max(q[-1] + 2, y + 0.1), 4001)
    distance = (dist.probability_below(np.broadcast_to(q, (len(x), N_LEVELS)), x) - (x >= y)) ** 2
    integral = float(((distance[1:] + distance[:-1]) / 2 * np.diff(x)).sum())
    assert metrics.crps(q[None], np.array([y]))[0] == pytest.approx(integral, rel=0.03, abs=0.01)


def test_the_true_distribution_scores_best():
    random = np.random.default_rng(3)
    y = random.standard_normal(20_000)
    scores = {
        (shift, scale): metrics.crps(
            np.broadcast_to(shift + scale * SCORES, (len(y), N_LEVELS)), y
        ).mean()
        for shift in (-0.2, 0.0, 0.2)
        for scale in (0.8, 1.0, 1.25)
    }
    assert min(scores, key=scores.__getitem__) == (0.0, 1.0)
