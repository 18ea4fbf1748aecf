"""Correlations by date, R², confusion and class scores beside scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from candlecast import metrics

NAN = float("nan")
seeds = st.integers(0, 2**32)


@given(seeds, st.booleans())
@settings(max_examples=30, deadline=None)
def test_correlations_by_date_are_those_of_each_date_alone(seed, is_ranked):
    random = np.random.default_rng(seed)
    when = np.sort(random.integers(0, 8, 60))[random.permutation(60)]
    x, y = random.integers(-3, 4, 60) * 0.5, random.standard_normal(60).round(1)
    x[random.random(60) < 0.1] = NAN
    found = metrics.correlations_by_date(x, y, when, is_ranked=is_ranked)
    expected = []
    for date in np.unique(when):
        own = (when == date) & ~np.isnan(x)
        is_told = own.sum() > 1 and np.ptp(x[own]) > 0 and np.ptp(y[own]) > 0
        correlation = spearmanr if is_ranked else pearsonr
        expected.append(correlation(x[own], y[own])[0] if is_told else NAN)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_constant_forecast_has_no_correlation_however_large_it_is():
    when, y = np.repeat([1, 2], 5), np.arange(10.0)
    for value in (0.0, 1e-9, 1 / 3, 1e6 / 7):
        found = metrics.correlations_by_date(np.full(10, value), y, when)
        assert np.isnan(found).all()
    assert len(metrics.correlations_by_date(np.empty(0), np.empty(0), np.empty(0, int))) == 0


def test_the_information_ratio_is_mean_over_deviation():
    values = np.array([0.1, NAN, 0.3, -0.2])
    known = values[~np.isnan(values)]
    assert metrics.information_ratio(values) == pytest.approx(known.mean() / known.std(ddof=1))
    assert np.isnan(metrics.information_ratio(np.array([0.1])))
    assert np.isnan(metrics.information_ratio(np.array([0.1, 0.1])))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_r_squared_is_that_of_scikit_learn(seed):
    from sklearn.metrics import r2_score

    random = np.random.default_rng(seed)
    x, y = random.standard_normal((2, 30))
    assert metrics.r_squared(x, y) == pytest.approx(r2_score(y, x))
    x[3], y[5] = NAN, NAN
    known = ~np.isnan(x) & ~np.isnan(y)
    assert metrics.r_squared(x, y) == pytest.approx(r2_score(y[known], x[known]))
    assert np.isnan(metrics.r_squared(x, np.ones(30)))


@given(seeds, st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_confusion_and_class_scores_are_those_of_scikit_learn(seed, n_classes):
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    random = np.random.default_rng(seed)
    came, said = random.integers(0, n_classes, (2, 40))
    counts = metrics.confusion(came, said, n_classes)
    labels = range(n_classes)
    np.testing.assert_array_equal(counts, confusion_matrix(came, said, labels=labels))
    expected = precision_recall_fscore_support(came, said, labels=labels, zero_division=np.nan)
    for ours, theirs in zip(metrics.class_scores(counts), expected[:3], strict=True):
        is_told = ~np.isnan(ours)
        np.testing.assert_allclose(ours[is_told], np.asarray(theirs)[is_told])


def test_a_class_that_nobody_said_has_no_precision_and_an_unknown_outcome_counts_nowhere():
    counts = metrics.confusion(np.array([0, 1, -1]), np.array([0, 0, 0]), 3)
    assert counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    precision, recall, f1 = metrics.class_scores(counts)
    np.testing.assert_array_equal(precision, [0.5, NAN, NAN])
    np.testing.assert_array_equal(recall, [1, 0, NAN])
    np.testing.assert_allclose(f1, [2 / 3, 0, NAN])
