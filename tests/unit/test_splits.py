"""Walk-forward splits: whole instants, consecutive spans, an embargo, a clear refusal."""

import numpy as np
import pytest

from candlecast.domain.specs import SplitSpec
from candlecast.errors import NotEnoughHistory
from candlecast.validation.splits import walk_forward_splits

START = np.datetime64("2020-01-01", "us")


def days(numbers):
    return START + np.asarray(numbers).astype("timedelta64[D]")


def test_without_a_size_the_history_is_cut_into_equal_parts_and_the_first_trains():
    splits = walk_forward_splits(days(np.arange(60)), SplitSpec(n_splits=5))
    assert [split.start for split in splits] == list(days([10, 20, 30, 40, 50]))
    assert [split.number for split in splits] == [1, 2, 3, 4, 5]
    assert splits[0].train_until == days(9)


def test_what_does_not_divide_goes_to_the_first_training_span():
    splits = walk_forward_splits(days(np.arange(63)), SplitSpec(n_splits=5))
    assert [split.start for split in splits] == list(days([13, 23, 33, 43, 53]))


def test_a_given_size_counts_distinct_instants_back_from_the_newest():
    as_of = np.repeat(days([0, 1, 2, 5, 6, 7, 8]), 3)
    first, second = walk_forward_splits(as_of, SplitSpec(n_splits=2, test_size=2))
    assert (first.start, second.start) == (days(5), days(7))
    assert first.test_rows(as_of).tolist() == list(range(9, 15))
    assert second.test_rows(as_of).tolist() == list(range(15, 21))


def test_the_embargo_may_be_a_part_of_a_day():
    (split,) = walk_forward_splits(days(np.arange(9)), SplitSpec(n_splits=1, embargo_days=0.25))
    assert split.start - split.train_until == np.timedelta64(6, "h")


@pytest.mark.parametrize(
    ("n", "spec", "message"),
    [
        (
            5,
            SplitSpec(n_splits=5),
            "5 splits of at least 1 test instants need 6 instants, there are 5",
        ),
        (0, SplitSpec(n_splits=1), "need 2 instants, there are 0"),
        (20, SplitSpec(n_splits=2, test_size=10), "need 21 instants, there are 20; lower n_splits"),
        (
            12,
            SplitSpec(n_splits=5, embargo_days=9),
            "embargo of 9 days leaves nothing of the 2 instants",
        ),
    ],
)
def test_too_little_history_is_told_in_numbers(n, spec, message):
    with pytest.raises(NotEnoughHistory, match=message):
        walk_forward_splits(days(np.arange(n)), spec)
