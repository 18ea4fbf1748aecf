"""The test of uniformity: right about the truth, and about what is wrong with a forecast."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from candlecast.validation.uniformity import MOMENTS, uniformity_test

N_DATES, N_SYMBOLS = 600, 6
WHEN = np.repeat(np.datetime64("2020-01-01") + np.arange(N_DATES), N_SYMBOLS)


def outcomes(seed, n_bars=5):
    """Standard normal, correlated across symbols, overlapping for `n_bars` dates."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((N_DATES + n_bars - 1, 1))
    common = sum(steps[k : k + N_DATES] for k in range(n_bars)) / n_bars**0.5
    return (0.7 * common + 0.51**0.5 * rng.standard_normal((N_DATES, N_SYMBOLS))).reshape(-1)


def test_the_truth_is_refused_about_as_rarely_as_it_should_be():
    p_values = [
        uniformity_test(ndtr(outcomes(seed)), WHEN, horizon_bars=5).p_value for seed in range(100)
    ]
    assert 0 <= np.mean(np.array(p_values) < 0.05) <= 0.12
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("moment", "change"),
    [
        ("centre", lambda z: ndtr(z + 0.8)),
        ("width", lambda z: ndtr(1.4 * z)),
        ("skew", lambda z: ndtr((np.exp(0.5 * z) - np.exp(0.125)) / 0.6)),
        ("tails", lambda z: ndtr(z * np.where(np.abs(z) > 1.3, 1.5, 0.85))),
    ],
)
def test_what_is_wrong_is_found_and_named(moment, change):
    found = uniformity_test(change(outcomes(1, 1)), WHEN, horizon_bars=1)
    assert found.p_value < 0.01
    assert found.moments[moment] > 0.05


def test_the_moments_are_means_of_orthonormal_polynomials():
    pits = (np.arange(4000) + 0.5) / 4000
    when = np.arange(4000).astype("M8[D]")
    assert all(abs(v) < 1e-3 for v in uniformity_test(pits, when, horizon_bars=1).moments.values())
    one = uniformity_test(np.full(4000, norm.cdf(0)), when, horizon_bars=1)
    expected = (0.0, -np.sqrt(5) / 2, 0.0, 3 * 3 / 8)
    assert one.moments == pytest.approx(dict(zip(MOMENTS, expected, strict=True)))
    assert one.p_value is None


def test_a_few_dates_say_nothing_and_missing_rows_are_left_out():
    few = uniformity_test(np.full(30, 0.3), WHEN[:30], horizon_bars=1)
    assert (few.p_value, few.n_dates) == (None, 5)
    assert uniformity_test(np.empty(0), WHEN[:0], horizon_bars=1).n_dates == 0
    pits = ndtr(outcomes(2))
    gaps = np.concatenate([pits, np.full(5, np.nan)])
    later = np.concatenate([WHEN, WHEN[-5:] + 1])
    whole = uniformity_test(pits, WHEN, horizon_bars=5)
    assert uniformity_test(gaps, later, horizon_bars=5) == whole
