"""Examples: taken, cut by what was known, and shown to a model without their outcomes."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.examples import Examples, Rows, session_dates
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


@pytest.mark.parametrize("length", [-1, 1])
def test_a_mask_of_other_rows_is_refused(length):
    examples = make()
    for value in (True, False):
        with pytest.raises(IndexError):
            examples.take(np.full(len(examples) + length, value))


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


calendars = st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True)


@given(st.lists(calendars, min_size=1, max_size=4), st.integers(4, 23))
def test_where_all_close_together_dates_are_the_instants_themselves(sessions, hour):
    as_of = np.concatenate([days(own) for own in sessions]) + np.timedelta64(hour, "h")
    symbol = np.repeat(np.arange(len(sessions)), [len(own) for own in sessions])
    found = np.unique(session_dates(as_of, symbol), return_inverse=True)[1]
    np.testing.assert_array_equal(found, np.unique(as_of, return_inverse=True)[1])


def shifted(n_dates, hours, step):
    """Rows of as many symbols as there are `hours`, each closing at its own hour of a date."""
    when = START + np.arange(n_dates)[:, None] * np.timedelta64(step, "h")
    as_of = (when + np.array(hours) * np.timedelta64(1, "h")).ravel()
    examples = make(n=len(as_of), horizon_bars=(1,))
    symbol = np.tile(np.arange(len(hours), dtype=np.int32), n_dates)
    return replace(examples, as_of=as_of, symbol=symbol, tickers=tuple("ABCD"[: len(hours)]))


def test_outcomes_of_exchanges_that_close_at_different_hours_are_of_one_date():
    # Wellington, London, New York, and what is always open and ends its day at midnight.
    apart, together = (shifted(50, hours, 24) for hours in ((4, 16, 21, 24), (21,) * 4))
    assert apart.n_effective(0) == together.n_effective(0) == pytest.approx(50 * 4 / 1.9)
    np.testing.assert_array_equal(apart.dates(), np.repeat(days(range(50)), 4))


def test_instants_of_bars_within_a_day_stay_apart():
    hourly = shifted(50, (4, 5, 6), 1)
    np.testing.assert_array_equal(hourly.dates(), hourly.as_of)
    assert make(n=0).n_effective(0) == 0.0


def test_a_feature_is_found_by_name():
    np.testing.assert_array_equal(make().column("down"), -np.arange(6))
    with pytest.raises(NotFound, match="feature of these rows 'dwn'; did you mean down"):
        make().column("dwn")
