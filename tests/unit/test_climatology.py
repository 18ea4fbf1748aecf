"""Climatology: what a symbol did before, and nothing that it did later."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.climatology import climatology, expanding_quantiles
from candlecast.domain.distribution import LEVELS, MEDIAN, check_quantiles
from candlecast.errors import InvalidSpec

START = np.datetime64("2020-01-01", "us")


def days(numbers):
    return START + np.asarray(numbers).astype("timedelta64[D]")


@given(st.integers(0, 10_000), st.integers(1, 260))
def test_changing_what_becomes_known_later_changes_nothing(seed, day):
    random = np.random.default_rng(seed)
    value, at = random.standard_normal(250), days(np.arange(250))
    asked = days(np.arange(day))
    other = np.where(at > asked[-1], 1e6, value)
    is_known = at <= asked[-1]
    before = expanding_quantiles(value, at, asked)
    np.testing.assert_array_equal(expanding_quantiles(other, at, asked), before)
    np.testing.assert_array_equal(expanding_quantiles(value[is_known], at[is_known], asked), before)


def test_an_outcome_is_known_from_its_very_end_on():
    value, at = np.arange(3.0), days([0, 1, 2])
    asked = np.array([at[2] - np.timedelta64(1, "us"), at[2]])
    quantiles = expanding_quantiles(value, at, asked, min_count=2)
    assert quantiles[:, MEDIAN].tolist() == [0.5, 1.0]


def test_too_few_outcomes_give_no_quantiles():
    value, at = np.random.default_rng(0).standard_normal(101), days(np.arange(101))
    quantiles = expanding_quantiles(value, at, at)
    assert np.isnan(quantiles[:99]).all()
    check_quantiles(quantiles[99:])


def test_the_quantiles_of_many_draws_are_near_the_true_ones():
    random = np.random.default_rng(2)
    value = random.random(20_000)
    quantiles = expanding_quantiles(value, days(np.zeros(20_000, dtype=int)), days([0]))
    np.testing.assert_allclose(quantiles[0], LEVELS, atol=0.012)


def test_asks_may_repeat_in_any_order_and_be_many_or_few():
    random = np.random.default_rng(4)
    value, at = random.standard_normal(400), days(random.permutation(400))
    every = expanding_quantiles(value, at, days(np.arange(400)))
    some = random.integers(0, 400, 700)
    np.testing.assert_array_equal(expanding_quantiles(value, at, days(some)), every[some])
    for day in (99, 250, 399):
        few = expanding_quantiles(value, at, days([day, day]))
        np.testing.assert_allclose(few, every[[day, day]], atol=1e-15)


def test_nothing_known_and_nothing_asked_are_no_errors():
    nothing = np.array([], dtype="datetime64[us]")
    assert np.isnan(expanding_quantiles(np.array([]), nothing, days([1]))).all()
    assert expanding_quantiles(np.array([1.0]), days([0]), nothing).shape == (0, 17)
    never = np.array(["NaT"], dtype="datetime64[us]")
    assert np.isnan(expanding_quantiles(np.array([1.0]), days([0]), never, 1)).all()
    assert np.isnan(expanding_quantiles(np.array([1.0]), never, days([0]), 1)).all()


def test_at_least_one_outcome_is_asked_for():
    with pytest.raises(InvalidSpec, match="at least 1"):
        expanding_quantiles(np.array([1.0]), days([0]), days([0]), min_count=0)


def test_a_frame_without_the_symbol_or_without_rows_gives_no_quantiles():
    labels = pl.DataFrame(
        {
            "symbol": "A",
            "horizon": "1D",
            "value": [1.0, None, 2.0],
            "end_at": pl.Series(days([0, 1, 2])),
        }
    )
    asked = pl.DataFrame({"symbol": ["B", "A"], "horizon": "1D", "as_of": pl.Series(days([5, 5]))})
    quantiles = climatology(labels, asked, min_count=2)
    assert np.isnan(quantiles[0]).all()
    assert quantiles[1, MEDIAN] == 1.5
    assert climatology(labels, asked.head(0)).shape == (0, 17)
    assert np.isnan(climatology(labels.head(0), asked)).all()
