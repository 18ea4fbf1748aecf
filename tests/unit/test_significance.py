"""Significance: rarely wrong without skill, seldom blind with it, silent with too little data."""

import time

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from candlecast.domain.climatology import expanding_quantiles
from candlecast.domain.distribution import SCORES
from candlecast.errors import InvalidSpec
from candlecast.metrics import crps
from candlecast.validation import significance
from candlecast.validation.significance import (
    NO_SKILL,
    SKILL,
    TOO_LITTLE_DATA,
    block_length,
    mean_interval,
    reference_margin,
    skill_test,
)

DATES = np.datetime64("2000-01-01", "us") + np.arange(4000).astype("timedelta64[D]")


def run(score, reference, when=None, **options):
    when = DATES[: len(score)] if when is None else when
    chosen = {"horizon_bars": 1, "seed": 1, "margin": 0.0, **options}
    return skill_test(np.asarray(score), np.asarray(reference), when, **chosen)


def losses(seed, n, saved=0.0):
    """Heavy-tailed, autocorrelated losses of two forecasters, of whom one saves a share."""
    random = np.random.default_rng(seed)
    volatility = np.exp(0.3 * lfilter([0.2], [1, -0.98], random.standard_normal(n)))
    noise = lfilter([1], [1, -0.3], random.standard_t(4, n)) * 0.05
    reference = volatility * (1 + np.abs(random.standard_normal(n)))
    return reference * (1 - saved) + volatility * noise, reference


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(significance, "N_RESAMPLES", 399)


@pytest.mark.parametrize("n", [100, 400, 1500])
def test_without_skill_about_one_in_a_hundred_tests_says_skill(n, few_resamples):
    n_runs = 400
    found = sum(run(*losses(seed, n)).verdict == SKILL for seed in range(n_runs))
    assert found <= binom.ppf(0.999, n_runs, 0.015)


def test_a_real_saving_is_found(few_resamples):
    found = [run(*losses(seed, 1500, saved=0.03)).verdict for seed in range(20)]
    assert found == [SKILL] * 20


def test_the_interval_holds_the_true_skill_about_as_often_as_it_says(few_resamples):
    tests = [run(*losses(seed, 400, saved=0.05)) for seed in range(300)]
    holds = sum(test.skill_interval[0] <= 0.05 <= test.skill_interval[1] for test in tests)
    assert binom.ppf(0.001, 300, 0.95) <= holds <= binom.ppf(0.9999, 300, 0.97)


def test_a_margin_must_be_exceeded():
    score, reference = losses(4, 2000, saved=0.03)
    assert run(score, reference, margin=0.01).verdict == SKILL
    assert run(score, reference, margin=0.03).verdict == NO_SKILL
    test = run(score, reference, margin=0.05)
    assert test.verdict == NO_SKILL
    assert test.p_value > 0.9
    assert test.skill == run(score, reference).skill
    assert test.mean_difference == pytest.approx((0.95 * reference - score).mean())


def test_a_larger_skill_has_a_smaller_p_value():
    score, reference = losses(4, 600)
    p_values = [
        run(score * (1 - s), reference).p_value for s in (-0.05, -0.01, 0, 0.005, 0.01, 0.05)
    ]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[0] > 0.95
    assert p_values[-1] < 0.001


def test_symbols_of_one_date_count_as_one():
    score, reference = losses(7, 300, saved=0.02)
    many = run(np.tile(score, 40), np.tile(reference, 40), np.tile(DATES[:300], 40))
    alone = run(score, reference)
    assert (many.n_dates, many.p_value) == (300, alone.p_value)
    assert many.skill_interval == pytest.approx(alone.skill_interval)


def test_rows_without_a_score_are_left_out_in_any_order():
    score, reference = losses(8, 300, saved=0.02)
    gaps = np.concatenate([score, [np.nan, 1.0, np.nan]])
    others = np.concatenate([reference, [1.0, np.nan, np.nan]])
    when = np.concatenate([DATES[:300], DATES[[5, 900, 901]]])
    order = np.random.default_rng(0).permutation(303)
    shuffled = run(gaps[order], others[order], when[order], horizon_bars=1)
    plain = run(score, reference)
    assert shuffled.n_dates == 300
    assert shuffled.p_value == pytest.approx(plain.p_value)
    assert shuffled.skill_interval == pytest.approx(plain.skill_interval)


def test_the_same_seed_gives_the_same_answer():
    score, reference = losses(9, 200, saved=0.01)
    assert run(score, reference) == run(score, reference)
    assert run(score, reference).skill_interval != run(score, reference, seed=2).skill_interval


@pytest.mark.parametrize(("n", "horizon_bars"), [(59, 1), (0, 1), (100, 7), (300, 21)])
def test_too_little_data_is_no_verdict(n, horizon_bars):
    score, reference = losses(1, n, saved=0.5) if n else (np.array([]), np.array([]))
    test = run(score, reference, horizon_bars=horizon_bars)
    assert test.verdict == TOO_LITTLE_DATA
    assert test.p_value is None
    assert test.skill_interval is None
    assert test.n_dates == n


def test_a_forecaster_who_is_the_reference_has_no_skill():
    _, reference = losses(1, 200)
    test = run(reference, reference)
    assert (test.verdict, test.skill, test.p_value) == (NO_SKILL, 0, 1)
    assert run(reference * 0.9, np.full(200, 5.0) * 0 + reference).verdict == SKILL


def test_a_constant_saving_is_certain():
    test = run(np.full(100, 0.9), np.ones(100))
    assert test.verdict == SKILL
    assert test.skill_interval == pytest.approx((0.1, 0.1))


def test_a_reference_without_loss_cannot_be_beaten():
    assert run(np.zeros(100), np.zeros(100)).verdict == TOO_LITTLE_DATA


@pytest.mark.parametrize("margin", [-0.1, 1.0])
def test_a_margin_is_a_share(margin):
    with pytest.raises(InvalidSpec, match=r"\[0, 1\)"):
        run(np.ones(100), np.ones(100), margin=margin)


def test_blocks_hold_two_horizons_and_grow_with_the_dates():
    assert block_length(100, 1) == 10
    assert block_length(100, 21) == 42
    assert block_length(3000, 21) == 55


def test_the_interval_of_a_hit_rate_is_that_of_a_coin_and_stays_a_rate():
    hits = (np.random.default_rng(3).random(2000) < 0.6).astype(float)
    low, high = mean_interval(hits, DATES[:2000], horizon_bars=1, seed=1)
    assert low < 0.6 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 2000), rel=0.4)
    narrow = mean_interval(hits, DATES[:2000], horizon_bars=1, seed=1, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    rare = np.zeros(100)
    rare[50] = 1
    low, _ = mean_interval(np.append(rare, np.nan), DATES[:101], horizon_bars=1, seed=1)
    assert low == 0
    assert mean_interval(hits[:50], DATES[:50], horizon_bars=1, seed=1) is None


def test_the_margin_falls_with_what_is_known_and_grows_with_the_horizon():
    assert reference_margin(np.array([500, 1000]), 1) == pytest.approx(0.0015)
    assert reference_margin(1000, 21) == pytest.approx(0.021)
    assert reference_margin(np.array([0, 1]), 5) == 0.5
    assert reference_margin(np.array([]), 5) == 0
    assert reference_margin([100, 500], [1, 21]) == pytest.approx((0.01 + 0.042) / 2)


def oracle_scores(seed, n):
    """CRPS of who knows the constant distribution, and of who estimates it from the past."""
    y = np.random.default_rng(seed).standard_normal(n)
    known_at = DATES[1 : n + 1]
    climatology = expanding_quantiles(y, known_at, DATES[:n])
    n_known = np.arange(n)
    rows = n_known >= n // 6
    truth = np.broadcast_to(SCORES, climatology.shape)
    return crps(truth, y)[rows], crps(climatology, y)[rows], n_known[rows]


def test_merely_knowing_a_constant_distribution_is_no_skill(few_resamples):
    plain, careful, gaps, margins = [], [], [], []
    for seed in range(0, 100, 5):
        truth, climatology, known = map(
            np.concatenate, zip(*[oracle_scores(seed + i, 1000) for i in range(5)], strict=True)
        )
        when, margin = np.tile(DATES[:834], 5), reference_margin(known, 1)
        plain.append(run(truth, climatology, when).verdict)
        careful.append(run(truth, climatology, when, margin=margin).verdict)
        gaps.append(1 - truth.sum() / climatology.sum())
        margins.append(margin)
    assert np.mean(gaps) == pytest.approx(np.mean(margins), rel=0.25)
    assert plain.count(SKILL) > 5
    assert careful.count(SKILL) == 0


def test_five_thousand_resamples_of_three_thousand_dates_take_a_moment():
    score, reference = losses(2, 3000)
    run(score, reference)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        run(score, reference)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.2
