"""What a split or dividend does to the factor, by hand; and which actions cannot be true."""

from __future__ import annotations

import polars as pl
import pytest

from action_frames import DAILY, XNYS, actions_of, bars_at, day, raw_bars
from candlecast.domain.adjustment import judged_actions, placed_actions, with_factors
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.errors import BadFrame

FIVE = Timeframe.parse("5m")
# Sessions from 2020-01-02 (Thursday): 2, 3, 6, 7, 8, 9, 10, 13 January.


def placed(actions, timeframe=DAILY, calendar=XNYS, symbols=("A",)):
    return placed_actions(actions, timeframe, dict.fromkeys(symbols, calendar))


def factors(bars, *rows, **options):
    return with_factors(bars, placed(actions_of(*rows)), **options)["factor"].to_list()


def test_a_split_multiplies_the_factor_from_its_ex_date_on():
    bars = raw_bars([700, 707, 101, 102])
    assert factors(bars, ("2020-01-06", "split", 7.0)) == [1, 1, 7, 7]
    assert factors(bars, ("2020-01-06", "split", 0.125)) == [1, 1, 0.125, 0.125]


def test_a_dividend_makes_the_return_across_its_ex_date_a_total_return():
    factor = factors(raw_bars([100, 100, 98, 99]), ("2020-01-06", "dividend", 2.0))
    assert factor == pytest.approx([1, 1, 1 / 0.98, 1 / 0.98])
    assert 98 * factor[2] == pytest.approx(100)


def test_split_and_dividend_of_one_day_take_the_money_for_the_old_share():
    factor = factors(
        raw_bars([100, 100, 49, 49]),
        ("2020-01-06", "split", 2.0),
        ("2020-01-06", "dividend", 2.0),
    )
    assert 49 * factor[2] == pytest.approx(100)


def test_actions_between_two_bars_follow_each_other_by_ex_date():
    # 100, split in two, then 1 for each of the new shares: 49 are worth what 100 were.
    bars = raw_bars([100, 0, 0, 49, 50], missing=(1, 2))
    rows = ("2020-01-03", "split", 2.0), ("2020-01-06", "dividend", 1.0)
    assert factors(bars, *rows)[1] == pytest.approx(100 / 49)
    two = ("2020-01-03", "dividend", 10.0), ("2020-01-06", "dividend", 45.0)
    assert factors(bars, *two)[1] == pytest.approx(100 / 45)


def test_an_action_on_a_day_without_session_counts_from_the_next_one():
    bars = raw_bars([100, 100, 50, 50])
    for ex_date in ("2020-01-04", "2020-01-05", "2020-01-06"):  # Saturday, Sunday, Monday
        assert factors(bars, (ex_date, "split", 2.0)) == [1, 1, 2, 2]
    always = trading_calendar("24/7")
    coin = raw_bars([100, 100, 50, 50], start="2020-01-03", calendar=always)
    found = with_factors(coin, placed(actions_of(("2020-01-05", "split", 2.0)), calendar=always))
    assert found["factor"].to_list() == [1, 1, 2, 2]


@pytest.mark.parametrize("ex_date", ["2019-06-03", "2020-01-02"])
def test_an_action_without_a_bar_before_it_changes_nothing(ex_date):
    bars = raw_bars([100, 101])
    assert factors(bars, (ex_date, "split", 2.0), (ex_date, "dividend", 5.0)) == [1, 1]
    assert judged_actions(bars, placed(actions_of((ex_date, "split", 2.0)))).is_empty()


def test_cancelled_actions_and_delistings_change_nothing():
    rows = ("2020-01-03", "split", 1.0), ("2020-01-06", "dividend", 0.0)
    assert factors(raw_bars([100] * 4), *rows, ("2020-01-07", "delisting", 0.0)) == [1, 1, 1, 1]


def test_of_finer_bars_those_before_the_open_belong_to_the_ex_date():
    opens = [
        "2014-06-06T19:55",  # Friday, the last before the close
        "2014-06-06T23:55",  # after hours
        "2014-06-09T08:00",  # Monday before the open, already split
        "2014-06-09T13:30",
    ]
    bars = bars_at(opens, [645.57, 646.0, 92.4, 92.7], timeframe=FIVE)
    known = placed(actions_of(("2014-06-09", "split", 7.0)), FIVE)
    assert with_factors(bars, known)["factor"].to_list() == [1, 1, 7, 7]


def test_a_session_that_opens_on_the_day_before_in_utc_begins_with_its_own_bars():
    sydney = trading_calendar("XASX")
    opens = ["2020-02-05T04:55", "2020-02-05T23:00", "2020-02-05T23:05", "2020-02-06T00:00"]
    bars = bars_at(opens, [10.0, 5.0, 5.0, 5.0], timeframe=FIVE, calendar=sydney)
    known = placed(actions_of(("2020-02-06", "split", 2.0)), FIVE, sydney)
    assert with_factors(bars, known)["factor"].to_list() == [1, 2, 2, 2]


def test_the_factor_that_a_source_gave_stands_and_is_carried_on_through_actions():
    bars = raw_bars([100, 50, 50, 48, 25], given=[50, 50, 50, None, None])
    rows = (
        ("2020-01-03", "split", 2.0),  # in the given closes already
        ("2020-01-07", "dividend", 2.0),
        ("2020-01-08", "split", 2.0),
    )
    assert factors(bars, *rows) == pytest.approx([0.5, 1, 1, 50 / 48, 100 / 48])


def test_a_gap_in_the_given_factors_is_bridged_and_ends_with_them():
    bars = raw_bars([100, 100, 50, 50, 50], given=[50, None, None, 50, None])
    assert factors(bars, ("2020-01-06", "split", 2.0)) == [0.5, 0.5, 1, 1, 1]
    assert factors(bars) == [0.5, 0.5, 0.5, 1, 1]


def test_symbols_do_not_touch_each_other():
    bars = pl.concat([raw_bars([100, 50]), raw_bars([30, 31], symbol="B")])
    known = placed(actions_of(("2020-01-03", "split", 2.0)), symbols=("A", "B"))
    assert with_factors(bars, known)["factor"].to_list() == [1, 2, 1, 1]
    others = placed(actions_of(("2020-01-03", "split", 2.0, None, "Z")), symbols=("A", "B"))
    assert others.is_empty()


def test_the_factor_tells_when_its_actions_were_known():
    rows = ("2020-01-03", "dividend", 1.0, "2020-01-20"), ("2020-01-07", "split", 2.0)
    bars = raw_bars([100, 100, 100, 50, 50], given=[None, None, None, None, 25])
    found = with_factors(bars, placed(actions_of(*rows)))["factor_known_at"].to_list()
    assert found == [None, *[day("2020-01-20")] * 3, None]


def test_a_bar_that_came_late_lends_its_close_to_nobody():
    late = day("2020-03-01")
    bars = raw_bars([100, 80, 98, 99])
    known_at = pl.when(pl.col("close") == 80).then(late).otherwise("known_at")
    healed = bars.with_columns(known_at=known_at)
    row = ("2020-01-06", "dividend", 2.0)
    without = factors(bars.filter(pl.col("close") != 80), row)
    found = factors(healed, row, is_first_version=True)
    assert [found[0], *found[2:]] == without
    assert factors(healed, row)[2] == pytest.approx(80 / 78)


def test_an_action_before_a_late_bar_is_in_its_factor_too():
    bars = raw_bars([100, 50, 51, 52])
    is_hole = pl.col("close") == 50
    healed = bars.with_columns(
        known_at=pl.when(is_hole).then(day("2020-03-01")).otherwise("known_at")
    )
    assert factors(healed, ("2020-01-03", "split", 2.0), is_first_version=True) == [1, 2, 2, 2]


def test_a_late_bar_has_the_given_factor_of_the_bars_before_it():
    bars = raw_bars([100, 100, 100, 100], given=[50, 50, None, None])
    is_hole = pl.int_range(pl.len()) == 2
    healed = bars.with_columns(
        known_at=pl.when(is_hole).then(day("2020-03-01")).otherwise("known_at")
    )
    assert with_factors(healed, is_first_version=True)["factor"].to_list() == [0.5] * 4


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("dividend", 100.0, "a dividend of 100.0 is not below the close before it, 100.0"),
        ("dividend", -1.0, "a dividend of -1.0; it is never negative"),
        ("dividend", float("nan"), "a dividend of NaN; it is never negative"),
        ("split", 0.0, "a split of 0.0 new shares for one old; it is a positive number"),
        ("split", float("inf"), "a split of inf new shares for one old; it is a positive number"),
    ],
)
def test_an_action_that_cannot_be_true_is_left_out_and_told(kind, value, reason):
    bars = raw_bars([100, 100, 98, 49])
    rows = (
        ("2020-01-03", kind, value),
        ("2020-01-06", "dividend", 2.0),
        ("2020-01-07", "split", 2.0),
    )
    judged = judged_actions(bars, placed(actions_of(*rows)))
    assert judged["reason"].to_list() == [reason, None, None]
    assert judged["multiplier"].to_list() == pytest.approx([1, 1 / 0.98, 2])
    assert judged["reference"].to_list() == [100, 100, 98]
    assert factors(bars, *rows) == pytest.approx([1, 1, 1 / 0.98, 2 / 0.98])


def test_several_dividends_that_eat_up_the_price_are_paid_as_far_as_it_goes():
    bars = raw_bars([100, 0, 0, 20], missing=(1, 2))
    rows = (
        ("2020-01-03", "dividend", 60.0),
        ("2020-01-06", "dividend", 60.0),
        ("2020-01-07", "split", 2.0),
    )
    judged = judged_actions(bars, placed(actions_of(*rows)))
    assert judged["reason"].is_null().to_list() == [True, False, True]
    assert judged["multiplier"].to_list() == pytest.approx([2.5, 1, 2])


def test_without_actions_or_bars_there_is_nothing_to_do():
    none = placed(actions_of())
    assert none.is_empty()
    assert with_factors(raw_bars([1, 2]), none)["factor"].to_list() == [1, 1]
    some = placed(actions_of(("2020-01-03", "split", 2.0)))
    assert with_factors(raw_bars([]), some).is_empty()
    with pytest.raises(BadFrame):
        placed(actions_of().rename({"value": "ratio"}))


def test_an_action_beyond_the_calendar_is_left_out():
    assert placed(actions_of(("2050-12-31", "split", 2.0))).is_empty()
