"""Combinatorial purged cross-validation against brute force, and bugs that others had."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pytest

from candlecast.domain.distribution import SCORES
from candlecast.domain.history import History
from candlecast.errors import InvalidSpec, ModelError, NotEnoughHistory
from candlecast.models.garch import Garch
from candlecast.validation.combinatorial import (
    CombinatorialSpec,
    backtest_paths,
    combinatorial,
    combinatorial_splits,
)
from label_spans import START, daily_examples, outcomes, random_examples

N_CASES = 250


def day(number):
    return START + np.timedelta64(number, "D")


def random_spec(generator):
    n_groups = int(generator.integers(2, 7))
    return CombinatorialSpec(
        n_groups=n_groups,
        n_test_groups=int(generator.integers(1, n_groups)),
        embargo_days=float(generator.choice([0.0, 0.5, 2.0])),
    )


def allowed(examples, is_tested, embargo):
    """The outcomes whose interval overlaps no tested one and whose row no embargo reaches.

    Every outcome is held against every tested row, whose interval ends with the last of its
    known outcomes. Intervals are open at the stamp: an outcome that ends there tells nothing.
    """
    known = np.where(np.isnan(examples.y), examples.as_of[:, None], examples.end_at)
    stamps, reach = examples.as_of[is_tested], known.max(axis=1)[is_tested]
    overlaps = (examples.end_at[:, :, None] > stamps) & (examples.as_of[:, None, None] < reach)
    as_of = examples.as_of[:, None]
    is_embargoed = ((as_of >= stamps) & (as_of < reach + embargo)).any(axis=1)
    is_allowed = ~overlaps.any(axis=2) & ~(is_embargoed | is_tested)[:, None]
    return {*examples.y[is_allowed & ~np.isnan(examples.y)].tolist()}


def test_training_is_exactly_what_overlaps_no_tested_interval_and_no_embargo():
    generator, n_splits, n_outcomes = np.random.default_rng(1), 0, 0
    for _ in range(N_CASES):
        examples, spec = random_examples(generator), random_spec(generator)
        if len({*examples.as_of.tolist()}) < spec.n_groups:
            continue
        embargo = np.timedelta64(round(spec.embargo_days * 24), "h")
        for split in combinatorial_splits(examples.as_of, spec):
            is_tested = np.zeros(len(examples), dtype=bool)
            is_tested[split.test_rows(examples.as_of)] = True
            wanted = allowed(examples, is_tested, embargo)
            assert outcomes(split.training(examples)) == wanted
            n_splits, n_outcomes = n_splits + 1, n_outcomes + len(wanted)
    assert n_splits > 1000
    assert n_outcomes > 10_000


def test_every_choice_of_groups_is_tested_and_groups_are_equal_parts_of_the_instants():
    generator = np.random.default_rng(2)
    for _ in range(50):
        examples, spec = random_examples(generator), random_spec(generator)
        instants = np.unique(examples.as_of)
        if len(instants) < spec.n_groups:
            continue
        parts = np.array_split(instants, spec.n_groups)
        splits = combinatorial_splits(examples.as_of, spec)
        chosen = list(combinations(range(spec.n_groups), spec.n_test_groups))
        assert [split.groups for split in splits] == chosen
        for split in splits:
            stamps = np.unique(examples.as_of[split.test_rows(examples.as_of)])
            wanted = np.concatenate([parts[group] for group in split.groups])
            np.testing.assert_array_equal(stamps, wanted)


@pytest.mark.parametrize(("n_groups", "n_test_groups"), [(2, 1), (6, 2), (6, 3), (7, 5)])
def test_each_path_forecasts_every_group_once_and_no_forecast_is_used_twice(
    n_groups, n_test_groups
):
    spec = CombinatorialSpec(n_groups, n_test_groups)
    chosen = list(combinations(range(n_groups), n_test_groups))
    paths = backtest_paths(spec)
    n_paths = n_test_groups * comb(n_groups, n_test_groups) // n_groups
    assert paths.shape == (n_paths, n_groups)
    assert spec.n_paths == n_paths
    used = Counter((int(number), group) for path in paths for group, number in enumerate(path))
    assert set(used.values()) == {1}
    assert all(group in chosen[number - 1] for number, group in used)
    assert len(used) == len(chosen) * n_test_groups


def split_of(examples, groups, *, n_groups=6, embargo_days=0.0):
    spec = CombinatorialSpec(n_groups, len(groups), embargo_days)
    splits = combinatorial_splits(examples.as_of, spec)
    return next(split for split in splits if split.groups == groups)


def rows(training):
    return training.X[:, 0].astype(int).tolist()


def test_no_training_row_is_lost_where_nothing_overlaps():
    # Positions in a part of the rows, taken for positions in all, have clipped training sets.
    examples = daily_examples(60, n_ahead=1)
    for groups in [(0,), (2,), (5,)]:
        split = split_of(examples, groups)
        tested = split.test_rows(examples.as_of).tolist()
        assert rows(split.training(examples)) == [i for i in range(60) if i not in tested]


def test_the_embargo_begins_where_the_purge_ends():
    # Counted from the last tested row, an embargo shorter than the outcomes does nothing.
    examples = daily_examples(60, n_ahead=5)
    split = split_of(examples, (2,), embargo_days=3)
    trained = rows(split.training(examples))
    assert trained == [*range(16), *range(37, 60)]  # 20 to 29 tested, known by 34, three days


def test_what_lies_between_two_blocks_trains():
    # A purge from the first tested row to the last one would take it all away.
    examples = daily_examples(60, n_ahead=2)
    split = split_of(examples, (0, 5), embargo_days=1)
    assert rows(split.training(examples)) == list(range(12, 49))
    assert split.blocks == ((day(0), day(10)), (day(50), day(59) + np.timedelta64(1, "us")))


def test_neighbouring_groups_are_one_block():
    split = split_of(daily_examples(60, n_ahead=2), (1, 2, 4))
    assert split.blocks == ((day(10), day(30)), (day(40), day(50)))


def test_an_outcome_that_spans_a_whole_block_is_unknown_while_a_shorter_one_of_its_row_stays():
    examples = daily_examples(60, n_ahead=1)
    long = np.concatenate([examples.end_at, examples.as_of[:, None] + np.timedelta64(15, "D")], 1)
    both = np.concatenate([examples.y, examples.y + 100], axis=1)
    vars(examples).update(end_at=long, y=both, horizons=("1D", "3W"))
    training = split_of(examples, (2,)).training(examples)
    assert outcomes(training) == {*range(20), *range(100, 106), *range(44, 60), *range(144, 160)}


def with_history(n_days, n_ahead, *, missing=()):
    """A row a day of two symbols; bar i of a symbol returns i, and its row knows it."""
    one = daily_examples(n_days, n_ahead)
    both = one.take(np.repeat(np.arange(n_days), 2))
    symbol = np.tile(np.arange(2), n_days).astype(np.int32)
    at = np.repeat(np.arange(n_days), 2) + symbol * n_days
    returns = np.tile(np.arange(n_days, dtype=float), 2)
    returns[[0, n_days]] = np.nan
    start = symbol.astype(np.intp) * n_days
    history = History(returns, start, at, returns**2)
    given = replace(
        both, symbol=symbol, tickers=("A", "B"), horizon_bars=np.array([n_ahead]), history=history
    )
    return given.take(~np.isin(at, missing))


def bars_known(rows):
    """Of each symbol, the bars whose return any of its rows knows, and whose variance."""
    found = []
    for values in (rows.history.returns, rows.history.variances**0.5):
        spans = zip(rows.symbol, rows.history.start, rows.history.at, strict=True)
        parts = [(symbol, values[start : at + 1]) for symbol, start, at in spans]
        found.append(
            [
                {*np.concatenate([v[~np.isnan(v)] for s, v in parts if s == symbol])}
                for symbol in range(2)
            ]
        )
    assert found[0] == found[1]
    return found[0]


def test_no_history_behind_a_training_row_reaches_into_a_block_its_outcomes_or_the_embargo():
    examples = with_history(60, n_ahead=5)
    for groups, blocks in {(2,): [(20, 37)], (1, 4): [(10, 27), (40, 57)], (5,): []}.items():
        training = split_of(examples, groups, embargo_days=3).training(examples)
        last = 45 if groups == (5,) else 59
        # A row's own bar ends with it: the first after a block overlaps the embargo.
        inside = {bar for first, end in blocks for bar in range(first, end + 1)}
        early = {bar for first, _ in blocks for bar in range(first - 4, first)}
        wanted = {bar for bar in range(1, last + 1) if bar not in inside} - early
        assert bars_known(training) == [wanted, wanted]
        assert (training.history.start <= training.history.at).all()
    assert not np.isnan(examples.history.returns[1:60]).any()


def test_a_history_that_no_tested_row_shares_stays_whole():
    examples = with_history(60, n_ahead=1, missing=range(60, 100))  # the second begins at 40
    history = examples.history
    history.start[examples.symbol == 1] = 90
    training = split_of(examples, (2,)).training(examples)
    assert {*training.history.start[training.symbol == 1].tolist()} == {90}
    assert bars_known(training)[1] == {*range(30, 60)}


def test_garch_is_fitted_on_no_return_of_a_tested_block():
    generator = np.random.default_rng(7)
    examples = with_history(600, n_ahead=1)
    examples.history.returns[:] = generator.standard_normal(1200) * 0.01
    split = split_of(examples, (2,), embargo_days=1)
    rows = split.test_rows(examples.as_of)
    returns = examples.history.returns.copy()
    returns[examples.history.at[rows] + 1] *= 6
    spoilt = replace(examples, history=replace(examples.history, returns=returns))
    honest, other = (Garch().fit(split.training(each)) for each in (examples, spoilt))
    assert honest.parameters("A") == other.parameters("A")
    assert Garch().fit(spoilt).parameters("A") != Garch().fit(examples).parameters("A")


class Constant:
    """The same normal distribution for every row."""

    def __init__(self, n_horizons=1):
        self.n_horizons = n_horizons

    def predict(self, rows):
        return np.broadcast_to(SCORES, (len(rows), self.n_horizons, len(SCORES)))


def test_every_split_is_fitted_on_its_training_and_asked_for_its_test_rows():
    examples, told, fitted = daily_examples(60, n_ahead=3), [], []

    def fit(training):
        fitted.append(rows(training))
        return Constant()

    spec = CombinatorialSpec(n_groups=4)
    made = list(combinatorial(fit, examples, spec, lambda *done: told.append(done)))
    splits = combinatorial_splits(examples.as_of, spec)
    assert [split for split, _, _ in made] == splits
    assert fitted == [rows(split.training(examples)) for split in splits]
    assert all(len(tested) == len(quantiles) == 30 for _, tested, quantiles in made)
    assert told == [(number, 6) for number in range(1, 7)]
    with pytest.raises(ModelError, match="returned shape"):
        list(combinatorial(lambda _: Constant(2), examples, spec))


def test_what_cannot_be_split_is_told():
    with pytest.raises(InvalidSpec, match="2 of 2 groups cannot be tested"):
        CombinatorialSpec(2, 2)
    with pytest.raises(InvalidSpec, match="not negative"):
        CombinatorialSpec(embargo_days=-1.0)
    with pytest.raises(NotEnoughHistory, match="6 groups need as many instants, there are 5"):
        combinatorial_splits(daily_examples(5, n_ahead=1).as_of, CombinatorialSpec())
    with pytest.raises(NotEnoughHistory, match=r"leaves nothing to train on .* \(0,\) are tested"):
        list(combinatorial(lambda _: Constant(), daily_examples(9, 30), CombinatorialSpec(2, 1)))


@pytest.mark.parametrize(("n_groups", "n_test_groups"), [(20, 10), (1_001, 1), (10**9, 10**6)])
def test_more_choices_than_anyone_waits_for_are_refused(n_groups, n_test_groups):
    with pytest.raises(InvalidSpec, match="use fewer groups"):
        CombinatorialSpec(n_groups, n_test_groups)


@pytest.mark.parametrize("days", [-1.0, 1e9, float("inf"), float("nan")])
def test_an_embargo_without_an_end_is_refused(days):
    with pytest.raises(InvalidSpec, match="at most 36,500"):
        CombinatorialSpec(embargo_days=days)
