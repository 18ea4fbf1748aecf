"""Examples: taken, cut by what was known, and shown to a model without their outcomes."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.examples import Examples, Rows
from candlecast.errors import NotFound

START = np.datetime64("2020-01-01", "us")


def days(numbers):
    return START + np.asarray(numbers).astype("timedelta64[D]")


def make(n=6, horizon_bars=(1, 5)):
    """`n` examples, one a day, of two symbols; outcomes end `horizon_bars` days later."""
    bars = np.array(horizon_bars)
    number = np.arange(n)
    return Examples(
        X=np.stack([number, -number], axis=1).astype(float),
        symbol=(number % 2).astype(np.int32),
        as_of=days(number),
        scale=0.01 * (1.0 + number),
        climatology=np.zeros((n, len(bars), 17)),
        feature_names=("up", "down"),
        tickers=("A", "B"),
        horizons=("1D", "1W")[: len(bars)],
        horizon_bars=bars,
        y=number[:, None] * 0.01 + bars * 0.001,
        end_at=days(number[:, None] + bars),
        weight=np.ones(n),
    )


@given(st.lists(st.integers(0, 5)))
def test_taking_rows_takes_them_from_every_array(index):
    examples, taken = make(), make().take(np.array(index, dtype=int))
    assert len(taken) == len(index)
    for name in ("X", "symbol", "as_of", "scale", "climatology", "y", "end_at", "weight"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(examples, name)[index])
    np.testing.assert_array_equal(taken.horizon_bars, examples.horizon_bars)


def test_as_many_rows_as_horizons_do_not_confuse_taking():
    taken = make(n=2).take(np.array([1]))
    assert len(taken) == 1
    assert taken.horizon_bars.tolist() == [1, 5]


def test_a_mask_takes_the_rows_where_it_holds():
    examples = make()
    np.testing.assert_array_equal(examples.take(examples.symbol == 1).as_of, days([1, 3, 5]))


@given(st.integers(-1, 12))
def test_what_is_known_by_an_instant_holds_no_later_stamp_and_no_later_outcome(day):
    instant = days(day)
    examples, known = make(), make().known_by(instant)
    assert (known.as_of <= instant).all()
    np.testing.assert_array_equal(~np.isnan(known.y), known.end_at <= instant)
    assert (~np.isnan(known.y)).any(axis=1).all()
    ended = (examples.end_at <= instant).any(axis=1)
    assert len(known) == ended.sum()
    np.testing.assert_array_equal(known.as_of, examples.as_of[ended])


def test_outcomes_after_the_cut_change_nothing_of_what_was_known():
    examples = make()
    late = examples.end_at > days(4)
    changed = Examples(
        **{f.name: getattr(examples, f.name) for f in fields(Examples) if f.name != "y"},
        y=np.where(late, 99.0, examples.y),
    )
    np.testing.assert_array_equal(examples.known_by(days(4)).y, changed.known_by(days(4)).y)


def test_an_end_that_is_not_known_counts_as_not_come():
    examples = make(n=2, horizon_bars=(1,))
    examples.end_at[0] = np.datetime64("NaT")
    assert len(examples.known_by(days(50))) == 1


def test_without_outcomes_only_rows_remain():
    rows = make().without_outcomes()
    assert type(rows) is Rows
    assert not {"y", "end_at", "weight"} & {name for name in dir(rows) if name[0] != "_"}
    np.testing.assert_array_equal(rows.X, make().X)


def test_targets_are_in_units_of_the_symbols_own_volatility():
    examples = make()
    np.testing.assert_allclose(examples.horizon_scale()[2], [0.03, 0.03 * np.sqrt(5)])
    np.testing.assert_allclose(examples.targets() * examples.horizon_scale(), examples.y)


def test_a_feature_is_found_by_name():
    np.testing.assert_array_equal(make().column("down"), -np.arange(6))
    with pytest.raises(NotFound, match="feature of these rows 'dwn'; did you mean down"):
        make().column("dwn")
