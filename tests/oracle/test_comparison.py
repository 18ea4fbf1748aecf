"""Diebold-Mariano against a naive twin and on losses whose truth is known; Holm's guard."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom, t

from candlecast.errors import InvalidSpec
from candlecast.validation.comparison import diebold_mariano, holm, long_run_variance

DATES = np.datetime64("2000-01-01", "us") + np.arange(4000).astype("timedelta64[D]")


def run(score, other, when=None, horizon_bars=1):
    when = DATES[: len(score)] if when is None else when
    return diebold_mariano(np.asarray(score), np.asarray(other), when, horizon_bars=horizon_bars)


def losses(seed, n, *, phi=0.0, horizon_bars=1, saved=0.0):
    """Heavy-tailed losses of two forecasters in calm and wild times, correlated over time."""
    random = np.random.default_rng(seed)
    difference = lfilter([1], [1, -phi], random.standard_t(5, n + 300))
    difference = lfilter(np.ones(horizon_bars) / horizon_bars, [1], difference)[300:]
    volatility = np.exp(0.3 * lfilter([0.2], [1, -0.98], random.standard_normal(n)))
    other = 5 + np.abs(random.standard_normal(n))
    return other - volatility * difference - saved, other


def naive(score, other, horizon_bars):
    """The same from the formulas, one autocovariance after the other."""
    d = [b - a for a, b in zip(score, other, strict=True)]
    n, mean = len(d), sum(d) / len(d)
    lag = max(horizon_bars - 1, int(np.ceil(n ** (1 / 3))))
    gamma = [
        sum((d[i] - mean) * (d[i - k] - mean) for i in range(k, n)) / n for k in range(lag + 1)
    ]
    alike = gamma[0] + 2 * sum(gamma[1:])
    falling = gamma[0] + 2 * sum(g * (1 - k / (lag + 1)) for k, g in enumerate(gamma) if k)
    h = lag + 1
    statistic = mean / (max(alike, falling) / n) ** 0.5
    statistic *= ((n + 1 - 2 * h + h * (h - 1) / n) / n) ** 0.5
    return statistic, t.sf(statistic, n - 1), 2 * t.sf(abs(statistic), n - 1)


@pytest.mark.parametrize("horizon_bars", [1, 5, 21])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_the_formulas_say(seed, horizon_bars):
    score, other = losses(seed, 180, phi=0.4, horizon_bars=horizon_bars, saved=0.1)
    test = run(score, other, horizon_bars=horizon_bars)
    expected = naive(score.tolist(), other.tolist(), horizon_bars)
    assert (test.statistic, test.p_better, test.p_value) == pytest.approx(expected)
    assert test.lag >= horizon_bars - 1
    assert test.mean_difference == pytest.approx((other - score).mean())


@pytest.mark.parametrize(
    ("n", "phi", "horizon_bars"), [(150, 0.0, 1), (400, 0.5, 1), (400, 0.0, 5), (1500, 0.3, 21)]
)
def test_a_true_null_hypothesis_is_rejected_about_as_often_as_it_says(n, phi, horizon_bars):
    n_runs = 500
    made = [losses(seed, n, phi=phi, horizon_bars=horizon_bars) for seed in range(n_runs)]
    found = [run(*pair, horizon_bars=horizon_bars) for pair in made]
    for level in (0.01, 0.05):
        most = binom.ppf(0.999, n_runs, 1.4 * level)
        assert sum(test.p_better <= level for test in found) <= most
        assert sum(test.p_value <= level for test in found) <= most
    assert sum(test.p_value <= 0.5 for test in found) >= 0.4 * n_runs


def test_what_is_saved_is_found_and_the_worse_one_is_not_better():
    made = [losses(seed, 1000, phi=0.3, saved=0.35) for seed in range(50)]
    assert sum(run(score, other).p_better <= 0.01 for score, other in made) >= 48
    assert sum(run(other, score).p_better >= 0.99 for score, other in made) >= 48
    assert sum(run(other, score).p_value <= 0.02 for score, other in made) >= 48


def test_swapping_the_two_turns_the_statistic_around():
    score, other = losses(3, 300, saved=0.1)
    one, two = run(score, other), run(other, score)
    assert (one.statistic, one.p_value) == pytest.approx((-two.statistic, two.p_value))
    assert one.p_better == pytest.approx(1 - two.p_better)


def test_symbols_of_one_date_count_as_one_and_rows_without_a_loss_not_at_all():
    score, other = losses(5, 200, saved=0.2)
    many = run(np.tile(score, 30), np.tile(other, 30), np.tile(DATES[:200], 30))
    assert (many.n_dates, many.p_value) == (200, pytest.approx(run(score, other).p_value))
    gaps = run(np.append(score, np.nan), np.append(other, 1.0))
    assert gaps.n_dates == 200


def test_the_variance_of_alternating_losses_is_not_negative():
    alternating = np.resize([1.0, -1.0], 300) + 0.01 * np.random.default_rng(1).normal(size=300)
    assert 0 < long_run_variance(alternating, 7) < 1
    assert np.isfinite(run(alternating, np.zeros(300)).statistic)


@pytest.mark.parametrize(("n", "horizon_bars"), [(0, 1), (10, 1), (60, 21)])
def test_too_little_data_tells_nothing(n, horizon_bars):
    test = run(np.ones(n), np.zeros(n), horizon_bars=horizon_bars)
    assert (test.statistic, test.p_better, test.p_value, test.n_dates) == (None, None, None, n)


def test_equal_losses_are_as_good_and_a_constant_saving_is_certain():
    _, other = losses(1, 100)
    assert (run(other, other).p_better, run(other, other).p_value) == (0.5, 1.0)
    assert run(np.full(100, 0.9), np.ones(100)).p_better == 0.0
    assert run(np.full(100, 1.1), np.ones(100)).p_better == 1.0
    with pytest.raises(InvalidSpec, match="at least 1"):
        run(other, other, horizon_bars=0)


def test_holm_is_what_the_paper_says():
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06, "d": 0.02})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.001}, n_trials=20) == pytest.approx({"a": 0.02})
    assert holm({}) == {}
    with pytest.raises(InvalidSpec, match="2 comparisons were made of 1 trials"):
        holm({"a": 0.1, "b": 0.1}, n_trials=1)


def test_holm_seldom_errs_among_many_and_rejects_all_that_bonferroni_does():
    random, n_false = np.random.default_rng(1), 0
    for _ in range(2000):
        p_values = {str(i): p for i, p in enumerate(random.random(10))} | {"true": 1e-4}
        adjusted = holm(p_values)
        n_false += any(p <= 0.05 for name, p in adjusted.items() if name != "true")
        assert all(adjusted[name] <= min(1.0, 11 * p) + 1e-12 for name, p in p_values.items())
        assert all(adjusted[name] >= p for name, p in p_values.items())
    assert n_false <= binom.ppf(0.999, 2000, 0.05)
