"""What labels are computed with: confidence, exact sums, extremes, first touches."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.labels.confidence import confidence, from_thresholds, side
from candlecast.labels.paths import RangeMax, Sums


def test_confidence_is_that_of_a_normal_distribution():
    found = confidence(np.array([0.0, 1.0, 2.0, np.inf, np.nan]))
    np.testing.assert_allclose(found, [0.0, 0.6826895, 0.9544997, 1.0, np.nan], atol=1e-7)
    value = np.array([-2.0, 0.0, 0.4, 2.0, np.nan])
    np.testing.assert_allclose(from_thresholds(value, -1.0, 1.0), [1.0, 1.0, 0.6, 1.0, np.nan])
    np.testing.assert_array_equal(side(value, -1.0, 0.3), [-1.0, 0.0, 1.0, 1.0, np.nan])


def test_sums_depend_on_what_is_summed_alone():
    rng = np.random.default_rng(3)
    values = rng.standard_normal(400) * 10.0 ** rng.integers(-9, 2, 400)
    first = rng.integers(0, 399, 50)
    last = np.minimum(first + rng.integers(-1, 60, 50), 399)
    found = Sums(values).between(first, last)
    expected = [values[a : b + 1].sum() for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    behind = Sums(np.concatenate([rng.standard_normal(77) * 1e3, values]))
    assert np.array_equal(behind.between(first + 77, last + 77), found)


@pytest.mark.parametrize("max_length", [None, 40])
def test_extremes_and_first_touches_are_those_of_slices(max_length):
    rng = np.random.default_rng(4)
    values = rng.standard_normal(300)
    first = rng.integers(0, 299, 80)
    last = np.minimum(first + rng.integers(0, 40, 80), 299)
    table, level = RangeMax(values, max_length), rng.normal(1.5, 1.0, 80)
    tops, touches = table.between(first, last), table.first_reaching(first, last, level)
    for k, (a, b) in enumerate(zip(first, last, strict=True)):
        part = values[a : b + 1]
        assert tops[k] == part.max()
        reached = np.flatnonzero(part >= level[k])
        assert touches[k] == (a + reached[0] if len(reached) else b + 1)
