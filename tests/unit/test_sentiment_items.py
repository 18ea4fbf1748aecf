"""Sums over trailing windows are exact, whatever comes before and after them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.features.fact_items import Items, last_known, parted, ratio, runs_of

HUGE = 2**62
item = st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(-HUGE, HUGE))


def items_of(rows):
    rows = sorted(rows)
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    groups, known_at, amounts = (list(column) for column in columns)
    return Items(
        pl.Series(groups, dtype=pl.String),
        np.array(known_at, dtype=np.int64),
        {"amount": np.array(amounts, dtype=np.int64)},
    )


@settings(max_examples=100)
@given(
    rows=st.lists(item, max_size=20),
    group=st.sampled_from("abcd"),
    bounds=st.tuples(st.integers(-1, 10), st.integers(0, 10)),
)
def test_a_window_sum_is_right_though_the_running_sum_has_wrapped_around(rows, group, bounds):
    start, end = min(bounds), max(bounds)
    found = items_of(rows)
    after, until = (found.places(group, np.array([at])) for at in (start, end))
    (total,) = found.between("amount", after, until).tolist()
    expected = sum(amount for name, at, amount in rows if name == group and start < at <= end)
    assert (total - expected) % 2**64 == 0
    assert total == expected or not -(2**63) <= expected < 2**63


@settings(max_examples=100)
@given(
    known=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), unique_by=lambda row: row[0]),
    instants=st.lists(st.integers(-1, 10)),
)
def test_the_last_known_value_is_about_the_latest_time_among_those_known(known, instants):
    ts, known_at = (np.array([row[i] for row in known], dtype=np.int64) for i in (0, 1))
    found = last_known(ts, known_at, np.array(instants, dtype=np.int64))
    for instant, place in zip(instants, found.tolist(), strict=True):
        told = [i for i, (_, at) in enumerate(known) if at <= instant]
        assert place == max(told, key=lambda i: known[i][0], default=-1)


@settings(max_examples=100)
@given(amounts=st.lists(st.floats(-1e13, 1e13), max_size=20), order=st.permutations(range(20)))
def test_amounts_in_parts_have_one_sum_in_any_order_to_a_billionth_each(amounts, order):
    whole, billionths = parted(np.array(amounts, dtype=np.float64))
    shuffled = [i for i in order if i < len(amounts)]
    for part in (whole, billionths):
        assert part.sum() == part[shuffled].sum() == sum(map(Fraction, part), Fraction(0))
    told = sum(map(Fraction, whole), Fraction(0)) + sum(map(Fraction, billionths)) / 10**9
    exact = sum(map(Fraction, amounts), Fraction(0))
    assert abs(told - exact) <= Fraction(len(amounts) + 1, 10**9)


def test_runs_are_named_in_order_and_nothing_has_none():
    assert runs_of(pl.Series(["a", "a", "b", "a"])) == [("a", 0, 2), ("b", 2, 3), ("a", 3, 4)]
    assert runs_of(pl.Series([], dtype=pl.String)) == []


def test_a_ratio_to_nothing_is_no_number():
    np.testing.assert_array_equal(ratio(np.ones(2), np.array([0.0, 4.0])), [np.nan, 0.25])
