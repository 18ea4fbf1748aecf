"""The closed forms of the distribution against numeric integration and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from candlecast.domain import distribution as dist
from candlecast.domain.distribution import N_LEVELS, SCORES


def draw(seed, decimals):
    """17 quantiles of heavy-tailed draws; few decimals give atoms, equal neighbours."""
    return np.sort(np.random.default_rng(seed).standard_t(3, N_LEVELS).round(decimals) * 0.1)


quantiles = st.builds(draw, st.integers(0, 2**32), st.sampled_from([0, 1, 2, 15]))


def curve(q, z):
    """Q(z): linear between the quantiles, continued with the slope of the outer intervals."""
    inside = np.interp(z, SCORES, q)
    low = q[0] + (z - SCORES[0]) * (q[1] - q[0]) / (SCORES[1] - SCORES[0])
    high = q[-1] + (z - SCORES[-1]) * (q[-1] - q[-2]) / (SCORES[-1] - SCORES[-2])
    return np.where(z < SCORES[0], low, np.where(z > SCORES[-1], high, inside))


def expectation(function, low=-12.0, high=12.0):
    """E[function(z)] of a standard normal z within bounds, by Gauss-Legendre between all kinks."""
    edges = np.unique(
        np.clip(np.concatenate([[low, high], SCORES, np.linspace(low, high, 25)]), low, high)
    )
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    z = middle + half * nodes
    return float((function(z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * half * weights).sum())


@given(quantiles)
def test_mean_and_standard_deviation_are_those_of_the_curve(q):
    mean = expectation(lambda z: curve(q, z))
    variance = expectation(lambda z: (curve(q, z) - mean) ** 2)
    assert dist.mean(q) == pytest.approx(mean, abs=1e-10)
    assert dist.std(q) ** 2 == pytest.approx(variance, abs=1e-9)


@given(quantiles, st.floats(0.002, 0.998))
def test_the_shortfall_is_the_mean_of_the_tail_of_the_curve(q, tail):
    loss = -expectation(lambda z: curve(q, z), high=float(ndtri(tail))) / tail
    assert dist.expected_shortfall(q, tail) == pytest.approx(loss, abs=1e-9 / tail)


@given(quantiles, st.floats(0.001, 0.999))
def test_quantiles_between_the_levels_lie_on_the_curve(q, level):
    assert dist.quantile(q, level) == pytest.approx(float(curve(q, ndtri(level))), abs=1e-9)


@given(quantiles, st.floats(-2, 2))
@settings(max_examples=60)
def test_the_distribution_function_is_the_share_of_the_curve_below(q, x):
    low, high = -9.0, 9.0  # the curve never falls: bisect for where it passes x
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if curve(q, np.array(middle)) <= x else (low, middle)
    below = float(dist.probability_below(q, x))
    if curve(q, np.array(low)) == curve(q, np.array(high)):
        assert below == pytest.approx(float(ndtr(low)), abs=1e-6)
    else:
        # On a nearly flat piece rounding decides; there both are right.
        near = curve(q, np.array(ndtri(min(max(below, 1e-15), 1 - 1e-15))))
        assert below == pytest.approx(float(ndtr(low)), abs=1e-6) or near == pytest.approx(
            x, abs=1e-9
        )


def test_two_million_draws_have_the_same_moments_and_tails():
    random = np.random.default_rng(11)
    q = np.sort(random.standard_t(3, 17)) * 0.02
    draws = curve(q, random.standard_normal(2_000_000))
    assert dist.mean(q) == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(2e6))
    assert dist.std(q) == pytest.approx(draws.std(), rel=0.005)
    worst = np.sort(draws)[:100_000]
    assert dist.value_at_risk(q) == pytest.approx(-worst[-1], rel=0.01)
    assert dist.expected_shortfall(q) == pytest.approx(-worst.mean(), rel=0.005)
    assert dist.prob_up(q) == pytest.approx((draws > 0).mean(), abs=0.002)
    probabilities = dist.class_probabilities(q, -0.01, 0.02)
    shares = [
        (draws < -0.01).mean(),
        ((draws >= -0.01) & (draws <= 0.02)).mean(),
        (draws > 0.02).mean(),
    ]
    np.testing.assert_allclose(probabilities, shares, atol=0.002)
