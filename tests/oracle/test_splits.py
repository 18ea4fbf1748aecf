"""Splits against brute force: every pair of a training and a test row is looked at."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from candlecast.domain.examples import Examples
from candlecast.domain.specs import SplitSpec
from candlecast.errors import NotEnoughHistory
from candlecast.validation.splits import walk_forward_splits

START = np.datetime64("2020-01-01", "us")


@st.composite
def cases(draw):
    """Rows with outcomes of any length, some unknown, and a split of any shape."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, n_horizons = draw(st.integers(8, 60)), draw(st.integers(1, 3))
    hours = np.sort(random.integers(0, 24 * draw(st.integers(3, 60)), n))
    as_of = START + hours.astype("timedelta64[h]")
    length = random.integers(1, draw(st.sampled_from([3, 30, 300])), (n, n_horizons))
    y = random.standard_normal((n, n_horizons))
    y[random.random(y.shape) < 0.2] = np.nan
    examples = Examples(
        X=np.arange(n, dtype=float)[:, None],
        symbol=np.zeros(n, dtype=np.int32),
        as_of=as_of,
        scale=np.ones(n),
        climatology=np.zeros((n, n_horizons, 17)),
        feature_names=("row",),
        tickers=("A",),
        horizons=("1h", "1D", "1W")[:n_horizons],
        horizon_bars=np.array([1, 24, 168])[:n_horizons],
        y=y,
        end_at=as_of[:, None] + length.astype("timedelta64[h]"),
        weight=np.ones(n),
    )
    spec = SplitSpec(
        n_splits=draw(st.integers(1, 5)),
        test_size=draw(st.none() | st.integers(1, 8)),
        embargo_days=draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
    )
    return examples, spec


def splits_of(case):
    try:
        return walk_forward_splits(case[0].as_of, case[1])
    except NotEnoughHistory:
        assume(False)


@given(cases())
@settings(max_examples=60)
def test_no_training_interval_comes_nearer_to_a_test_row_than_the_embargo(case):
    examples, spec = case
    embargo = np.timedelta64(round(spec.embargo_days * 86_400), "s")
    for split in splits_of(case):
        training = examples.known_by(split.train_until)
        tested = split.test_rows(examples.as_of)
        tested_from = examples.as_of[tested]
        tested_to = np.maximum(examples.end_at[tested].max(axis=1), tested_from)
        for stamp, ends, outcomes in zip(training.as_of, training.end_at, training.y, strict=True):
            end = ends[~np.isnan(outcomes)].max()
            touches = (stamp <= tested_to + embargo) & (end > tested_from - embargo)
            assert not touches.any()


@given(cases())
@settings(max_examples=60)
def test_training_misses_no_outcome_that_the_embargo_allows(case):
    examples, spec = case
    for split in splits_of(case):
        training = examples.known_by(split.train_until)
        n_allowed = sum(
            end <= split.start - np.timedelta64(round(spec.embargo_days * 86_400), "s")
            for ends, outcomes in zip(examples.end_at, examples.y, strict=True)
            for end, outcome in zip(ends, outcomes, strict=True)
            if not np.isnan(outcome)
        )
        assert (~np.isnan(training.y)).sum() == n_allowed


@given(cases())
@settings(max_examples=60)
def test_test_spans_follow_one_another_up_to_the_newest_row(case):
    examples, spec = case
    splits = splits_of(case)
    tested = np.concatenate([split.test_rows(examples.as_of) for split in splits])
    np.testing.assert_array_equal(tested, np.arange(tested[0], len(examples)))
    instants = sorted(set(examples.as_of.tolist()))
    size = spec.test_size or len(instants) // (spec.n_splits + 1)
    assert len(splits) == spec.n_splits
    for number, split in enumerate(splits):
        mine = {examples.as_of[row].item() for row in split.test_rows(examples.as_of)}
        start = len(instants) - (spec.n_splits - number) * size
        assert sorted(mine) == instants[start : start + size]
