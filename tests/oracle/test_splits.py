"""Splits against brute force, on thousands of random spans: every pair of rows is looked at."""

from itertools import chain

import numpy as np
import pytest

from candlecast.domain.specs import SplitSpec
from candlecast.errors import NotEnoughHistory
from candlecast.validation.splits import before_holdout, inner_splits, walk_forward_splits
from label_spans import outcomes, random_examples

N_CASES = 400


def spans(days):
    return np.timedelta64(round(days * 86_400), "s")


def random_spec(generator):
    train_size = int(generator.integers(1, 30)) if generator.random() < 0.5 else None
    return SplitSpec(
        n_splits=int(generator.integers(1, 6)),
        test_size=int(generator.integers(1, 8)) if generator.random() < 0.5 else None,
        embargo_days=float(generator.choice([0.0, 0.5, 1.0, 3.0])),
        scheme="expanding" if train_size is None else "rolling",
        train_size=train_size,
        holdout_share=float(generator.choice([0.0, 0.2, 0.4])),
    )


@pytest.fixture(scope="module")
def cases():
    """Examples and a spec that cuts them, with its splits."""
    generator = np.random.default_rng(1)
    found = []
    for _ in range(N_CASES):
        examples, spec = random_examples(generator), random_spec(generator)
        try:
            found.append((examples, spec, walk_forward_splits(examples.as_of, spec)))
        except NotEnoughHistory:
            continue
    assert len(found) > N_CASES / 3
    assert {spec.scheme for _, spec, _ in found} == {"expanding", "rolling"}
    return found


def allowed(examples, start, embargo, train_size):
    """The outcomes that had ended the embargo before `start`, of the last instants before it."""
    until = start - embargo
    earlier = np.unique(examples.as_of[examples.as_of < until])
    recent = earlier if train_size is None else earlier[-train_size:]
    is_allowed = (examples.end_at <= until) & np.isin(examples.as_of, recent)[:, None]
    return {*examples.y[is_allowed & ~np.isnan(examples.y)].tolist()}


def test_training_is_exactly_what_the_embargo_and_the_rolling_window_allow(cases):
    n_outcomes = 0
    for examples, spec, splits in cases:
        for split in splits:
            wanted = allowed(examples, split.start, spans(spec.embargo_days), spec.train_size)
            assert outcomes(split.training(examples)) == wanted
            n_outcomes += len(wanted)
    assert n_outcomes > 10_000


def test_no_training_interval_comes_nearer_to_a_test_row_than_the_embargo(cases):
    for examples, spec, splits in cases:
        for split in splits:
            training, embargo = split.training(examples), spans(spec.embargo_days)
            tested_from = examples.as_of[split.test_rows(examples.as_of)]
            is_known = ~np.isnan(training.y)
            ends = training.end_at[is_known]
            assert not (ends[:, None] > (tested_from - embargo)[None, :]).any()
            assert not (training.as_of[:, None] >= tested_from[None, :]).any()


def test_test_spans_follow_one_another_to_the_newest_row_and_the_holdout_is_the_newest_share(cases):
    for examples, spec, splits in cases:
        tested = np.concatenate([split.test_rows(examples.as_of) for split in splits])
        np.testing.assert_array_equal(tested, np.arange(tested[0], len(examples)))
        instants = sorted({*examples.as_of.tolist()})
        n_held = round(len(instants) * spec.holdout_share)
        n_before = len(instants) - n_held
        size = spec.test_size or n_before // (spec.n_splits + 1)
        spans_of = [
            sorted({*examples.as_of[split.test_rows(examples.as_of)].tolist()}) for split in splits
        ]
        development, holdout = spans_of[: spec.n_splits], spans_of[spec.n_splits :]
        assert [len(span) for span in development] == [size] * spec.n_splits
        assert list(chain(*development)) == instants[n_before - spec.n_splits * size : n_before]
        assert list(chain(*holdout)) == instants[n_before:]
        assert all(len(span) == size for span in holdout[:-1])
        is_held = [split.is_holdout for split in splits]
        assert is_held == [False] * spec.n_splits + [True] * -(-n_held // size)


def test_the_same_spec_gives_the_same_splits(cases):
    for examples, spec, splits in cases[:50]:
        again = walk_forward_splits(examples.as_of[::-1].copy(), spec)
        assert again == splits


def test_what_search_sees_touches_no_row_and_no_outcome_of_the_holdout(cases):
    for examples, spec, splits in cases:
        held_from = next((split.start for split in splits if split.is_holdout), None)
        seen = before_holdout(examples, spec)
        if held_from is None:
            assert seen is examples
            continue
        wanted = (examples.end_at <= held_from) & (examples.as_of < held_from)[:, None]
        assert outcomes(seen) == {*examples.y[wanted & ~np.isnan(examples.y)].tolist()}
        assert seen.X[:, 0].tolist() == np.flatnonzero(examples.as_of < held_from).tolist()


def test_inner_folds_know_nothing_of_their_test_span():
    generator, n_outcomes = np.random.default_rng(2), 0
    for _ in range(N_CASES):
        examples = random_examples(generator)
        days = float(generator.choice([0.0, 1.0]))
        n_folds = int(generator.integers(1, 4))
        share = float(generator.uniform(0.1, 0.6)) if generator.random() < 0.5 else None
        try:
            splits = inner_splits(examples.as_of, n_folds, test_share=share, embargo_days=days)
        except NotEnoughHistory:
            continue
        assert len(splits) == n_folds
        for split in splits:
            wanted = allowed(examples, split.start, spans(days), None)
            assert outcomes(split.training(examples)) == wanted
            n_outcomes += len(wanted)
        assert splits[-1].stop > examples.as_of.max()
    assert n_outcomes > 10_000
