"""Sample weights against a twin that looks at every pair of labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.specs import LabelSpec
from candlecast.labels.weights import average_uniqueness, sample_weights

UNTIL = datetime(2021, 1, 1, tzinfo=UTC)
START = np.datetime64("2020-01-01", "us")
UNIQUE = LabelSpec(weighting="uniqueness")


def days(numbers):
    return START + (np.asarray(numbers, float) * 86_400e6).astype("m8[us]")


def naive_uniqueness(symbol, as_of, end_at):
    """Pair by pair: at each instant of a label's life, one over how many live."""
    result = np.full(len(as_of), np.nan)
    for row in range(len(as_of)):
        own = [k for k in range(len(as_of)) if symbol[k] == symbol[row] and not np.isnat(end_at[k])]
        instants = sorted({as_of[k] for k in own})
        if np.isnat(end_at[row]):
            continue
        lived = [t for t in instants if as_of[row] <= t < end_at[row]] or [as_of[row]]
        shares = []
        for instant in lived:
            n_alive = sum(
                as_of[k] <= instant < end_at[k] or (instant == as_of[k] >= end_at[k]) for k in own
            )
            shares.append(1 / n_alive)
        result[row] = sum(shares) / len(shares)
    return result


@st.composite
def labels(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = draw(st.integers(1, 40))
    symbol = rng.choice(draw(st.sampled_from([["A"], ["A", "B", "C"]])), n)
    as_of = days(rng.integers(0, draw(st.sampled_from([5, 60])), n))
    end_at = as_of[:, None] + (rng.integers(0, 20, (n, 2)) * 86_400_000_000).astype("m8[us]")
    end_at[rng.random((n, 2)) < 0.1] = np.datetime64("NaT")
    return symbol, as_of, end_at


@given(labels())
@settings(max_examples=50)
def test_uniqueness_is_that_of_the_twin(drawn):
    symbol, as_of, end_at = drawn
    for column in end_at.T:
        expected = naive_uniqueness(symbol, as_of, column)
        np.testing.assert_allclose(average_uniqueness(symbol, as_of, column), expected, atol=1e-12)


@given(labels(), st.sampled_from([0.0, 30.0]), st.sampled_from(["equal", "uniqueness"]))
@settings(max_examples=30)
def test_weights_are_means_over_horizons_that_halve_with_age(drawn, half_life_days, weighting):
    symbol, as_of, end_at = drawn
    spec = LabelSpec(weighting=weighting, half_life_days=half_life_days)
    weights = sample_weights(symbol, as_of, end_at, spec, UNTIL)
    raw = np.ones(len(as_of))
    if weighting == "uniqueness":
        for row in range(len(as_of)):
            shares = [naive_uniqueness(symbol, as_of, column)[row] for column in end_at.T]
            known = [share for share in shares if not np.isnan(share)]
            raw[row] = sum(known) / len(known) if known else 0.0
    if half_life_days:
        ages = [(UNTIL - at.astype(object).replace(tzinfo=UTC)) / timedelta(days=1) for at in as_of]
        raw *= np.exp2(-np.array(ages) / half_life_days)
    expected = raw * len(raw) / raw.sum() if raw.sum() else np.ones(len(raw))
    np.testing.assert_allclose(weights, expected, rtol=1e-9)
    assert weights.mean() == pytest.approx(1.0)


def test_labels_of_one_bar_share_nothing():
    at = days(range(50))
    end_at = np.append(at[1:], at[-1] + np.timedelta64(1, "D"))
    assert (average_uniqueness(np.zeros(50), at, end_at) == 1.0).all()


def test_labels_of_five_bars_share_with_four_others():
    at = days(range(50))
    shares = average_uniqueness(np.zeros(50), at, at + np.timedelta64(5, "D"))
    np.testing.assert_allclose(shares[4:46], 1 / 5)
    assert (shares[:4] > 1 / 5).all()


def test_another_symbol_shares_nothing():
    at = np.concatenate([days(range(30)), days(range(30))])
    end_at, code = at + np.timedelta64(7, "D"), np.repeat([0, 1], 30)
    alone = average_uniqueness(code[:30], at[:30], end_at[:30])
    assert np.array_equal(average_uniqueness(code, at, end_at), np.tile(alone, 2))


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(1)
    at = days(rng.permutation(60))
    end_at, code = at + np.timedelta64(9, "D"), rng.integers(0, 3, 60)
    order = rng.permutation(60)
    whole = sample_weights(code, at, end_at[:, None], UNIQUE, UNTIL)
    again = sample_weights(code[order], at[order], end_at[order, None], UNIQUE, UNTIL)
    np.testing.assert_allclose(again, whole[order], rtol=1e-12)


def test_very_old_rows_do_not_lose_the_mean():
    at = days([0.0, 1.0])
    spec = LabelSpec(half_life_days=0.01)
    long_after = UNTIL + timedelta(days=20_000)
    weights = sample_weights(np.zeros(2), at, at[:, None], spec, long_after)
    assert weights.sum() == pytest.approx(2.0)
    assert weights[1] > weights[0]


def test_no_rows_have_no_weights():
    nothing = np.empty(0, "M8[us]")
    assert sample_weights(np.empty(0), nothing, nothing[:, None], UNIQUE, UNTIL).shape == (0,)
    assert (
        sample_weights(np.empty(0), nothing, nothing, LabelSpec(half_life_days=1), UNTIL).size == 0
    )
