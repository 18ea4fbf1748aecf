"""Walk-forward splits: whole instants, consecutive spans, an embargo, a clear refusal."""

import numpy as np
import pytest

from candlecast.domain.specs import SplitSpec
from candlecast.errors import InvalidSpec, NotEnoughHistory
from candlecast.validation.splits import (
    before_holdout,
    inner_splits,
    newest_training,
    walk_forward_splits,
)
from markets import make_examples

START = np.datetime64("2020-01-01", "us")


def whole(**fields):
    """Splits of the whole history, without a holdout."""
    return SplitSpec(**{"holdout_share": 0.0, **fields})


def days(numbers):
    return START + np.asarray(numbers).astype("timedelta64[D]")


def test_without_a_size_the_history_is_cut_into_equal_parts_and_the_first_trains():
    splits = walk_forward_splits(days(np.arange(60)), whole(n_splits=5))
    assert [split.start for split in splits] == list(days([10, 20, 30, 40, 50]))
    assert [split.number for split in splits] == [1, 2, 3, 4, 5]
    assert splits[0].train_until == days(9)


def test_what_does_not_divide_goes_to_the_first_training_span():
    splits = walk_forward_splits(days(np.arange(63)), whole(n_splits=5))
    assert [split.start for split in splits] == list(days([13, 23, 33, 43, 53]))


def test_a_given_size_counts_distinct_instants_back_from_the_newest():
    as_of = np.repeat(days([0, 1, 2, 5, 6, 7, 8]), 3)
    first, second = walk_forward_splits(as_of, whole(n_splits=2, test_size=2))
    assert (first.start, second.start) == (days(5), days(7))
    assert first.test_rows(as_of).tolist() == list(range(9, 15))
    assert second.test_rows(as_of).tolist() == list(range(15, 21))


def test_the_embargo_may_be_a_part_of_a_day():
    (split,) = walk_forward_splits(days(np.arange(9)), whole(n_splits=1, embargo_days=0.25))
    assert split.start - split.train_until == np.timedelta64(6, "h")


@pytest.mark.parametrize(
    ("n", "spec", "message"),
    [
        (
            5,
            whole(n_splits=5),
            "5 splits of at least 1 test instants need 6 instants, there are 5",
        ),
        (0, whole(n_splits=1), "need 2 instants, there are 0"),
        (
            20,
            whole(n_splits=2, test_size=10),
            "need 21 instants, there are 20; lower n_splits, test_size",
        ),
        (
            12,
            whole(n_splits=5, embargo_days=9),
            "embargo of 9 days leaves nothing of the 2 instants",
        ),
        (
            20,
            whole(n_splits=4, test_size=4, holdout_share=0.25),
            "need 17 instants, there are 15 before the holdout of 5; lower",
        ),
    ],
)
def test_too_little_history_is_told_in_numbers(n, spec, message):
    with pytest.raises(NotEnoughHistory, match=message):
        walk_forward_splits(days(np.arange(n)), spec)


def test_the_newest_fifth_is_the_holdout_and_comes_after_the_other_spans():
    splits = walk_forward_splits(days(np.arange(75)), SplitSpec(n_splits=5))
    assert [split.start for split in splits] == list(days([10, 20, 30, 40, 50, 60, 70]))
    assert [split.is_holdout for split in splits] == [False] * 5 + [True] * 2
    assert [split.number for split in splits] == list(range(1, 8))
    assert splits[-1].stop > days(74) > splits[-1].start


def test_a_rolling_scheme_trains_on_the_last_instants_before_the_embargo():
    rolling = whole(n_splits=2, test_size=5, scheme="rolling", train_size=7, embargo_days=2)
    first, second = walk_forward_splits(days(np.arange(30)), rolling)
    assert (first.train_from, first.train_until) == (days(11), days(18))
    assert (second.train_from, second.train_until) == (days(16), days(23))
    (short,) = walk_forward_splits(days(np.arange(6)), whole(n_splits=1, test_size=2))
    assert short.train_from == days(0)


def test_a_rolling_window_longer_than_the_past_takes_all_of_it():
    rolling = whole(n_splits=1, test_size=5, scheme="rolling", train_size=500)
    (split,) = walk_forward_splits(days(np.arange(30)), rolling)
    assert split.train_from == days(0)


def test_what_serves_is_trained_on_the_holdout_too_but_on_no_more_than_rolls():
    examples = make_examples(seed=1, n_days=60)
    newest = examples.as_of[-1]
    everything = newest_training(examples, newest, SplitSpec())
    assert len(everything) == len(examples.known_by(newest))
    rolling = SplitSpec(scheme="rolling", train_size=20)
    stamps = np.unique(newest_training(examples, newest, rolling).as_of)
    # The newest of the twenty instants before has an outcome of one day by now.
    np.testing.assert_array_equal(stamps, np.unique(examples.as_of)[-21:-1])


def test_what_search_sees_has_the_same_spans_and_nothing_of_the_holdout():
    examples = make_examples(seed=1, n_days=100)
    spec = SplitSpec(n_splits=3)
    seen = before_holdout(examples, spec)
    wanted = [s for s in walk_forward_splits(examples.as_of, spec) if not s.is_holdout]
    found = walk_forward_splits(seen.as_of, whole(n_splits=3))
    assert [split.start for split in found] == [split.start for split in wanted]
    held_from = wanted[-1].stop
    assert seen.as_of.max() < held_from
    assert (seen.end_at[~np.isnan(seen.y)] <= held_from).all()
    n_allowed = (~np.isnan(examples.y) & (examples.end_at <= held_from)).sum()
    assert (~np.isnan(seen.y)).sum() == n_allowed
    assert before_holdout(examples, whole()) is examples


def test_inner_spans_are_the_newest_share_or_as_long_as_the_first_training_span():
    stamps = np.repeat(days(np.arange(40)), 2)
    quarters = inner_splits(stamps, 2, test_share=0.25)
    assert [split.start for split in quarters] == list(days([30, 35]))
    assert quarters[0].train_until == days(30)
    thirds = inner_splits(stamps, 3, embargo_days=1)
    assert [split.start for split in thirds] == list(days([10, 20, 30]))
    assert thirds[0].train_until == days(9)
    with pytest.raises(InvalidSpec, match="it lies between 0 and 1"):
        inner_splits(stamps, 2, test_share=1.5)
