"""Combinatorial purged cross-validation: every choice of test groups, each purged on its own.

1. The instants are cut into `n_groups` groups in time order; each choice of `n_test_groups` of
   them is forecast by a model fitted on the others. Neighbours among the chosen are one block.
2. Purge: a training outcome whose interval (as_of, end_at] overlaps the interval of any outcome
   of a test block is unknown to the fit. Each block purges by itself: what lies between two of
   them and touches neither trains.
3. Embargo: rows stamped within the embargo after the last outcome of a block train nothing. It
   begins where the purge ends.
4. The bars behind a training row after a block begin at its symbol's first training row there:
   what is fitted on a row's own history is fitted on no return of a block, of its outcomes or of
   the embargo. The features and windows of the first rows after a block still look back into it,
   as they do after every purge, and the units that a network puts windows into are those of all
   bars up to its newest training row: both are inputs, no outcomes.
5. Every group is forecast C(n_groups - 1, n_test_groups - 1) times; so many backtest paths, each
   of which passes through all groups, can be put together.

A path is no track record: most of its models knew what came after. So it tells how far skill
depends on the span and never enters the ledger (López de Prado 2018, ch. 7 and 12).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.described import Spec
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.history import History
from candlecast.domain.market import Instants
from candlecast.domain.specs import check_embargo
from candlecast.errors import InvalidSpec, NotEnoughHistory
from candlecast.validation.splits import embargo_span
from candlecast.validation.walk_forward import Fit, OnFold, forecast_quantiles

MAX_FITS: Final = 1000


@dataclass(frozen=True)
class CombinatorialSpec(Spec):
    """How many groups there are, how many of them are tested together, and the embargo in days."""

    n_groups: int = 6
    n_test_groups: int = 2
    embargo_days: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.n_test_groups < self.n_groups:
            raise InvalidSpec(
                f"{self.n_test_groups} of {self.n_groups} groups cannot be tested; the test groups "
                "(n_test_groups) are at least 1, and fewer than the groups (n_groups)"
            )
        # So many groups alone are too many, and the number of their choices may have millions of
        # digits.
        is_vast = self.n_groups > MAX_FITS
        if is_vast or math.comb(self.n_groups, self.n_test_groups) > MAX_FITS:
            raise InvalidSpec(
                f"there are more than {MAX_FITS} choices of {self.n_test_groups} of "
                f"{self.n_groups} groups, and each takes a fit; use fewer groups (n_groups) or "
                "test fewer of them together (n_test_groups)"
            )
        check_embargo(self.embargo_days)

    @property
    def n_paths(self) -> int:
        """How often each group is forecast."""
        return math.comb(self.n_groups - 1, self.n_test_groups - 1)


@dataclass(frozen=True)
class CombinatorialSplit:
    """One choice of test `groups` (from 0) and the blocks they make up: start <= as_of < stop."""

    number: int
    groups: tuple[int, ...]
    blocks: tuple[tuple[np.datetime64, np.datetime64], ...]
    embargo: np.timedelta64

    def test_rows(self, as_of: Instants) -> NDArray[np.intp]:
        """Positions of the rows of all blocks."""
        return np.flatnonzero(np.any([_within(as_of, *b) for b in self.blocks], axis=0))

    def training(self, examples: Examples) -> Examples:
        """The rows that may train, with those of their outcomes that overlap no block's."""
        as_of, was_known = examples.as_of, ~np.isnan(examples.y)
        is_kept, is_known = np.ones(len(examples), dtype=bool), was_known.copy()
        for start, stop in self.blocks:
            is_tested = _within(as_of, start, stop)
            ends = examples.end_at[is_tested][was_known[is_tested]]
            last = np.append(ends, as_of[is_tested]).max()
            is_kept &= (as_of < start) | ((as_of >= stop) & (as_of >= last + self.embargo))
            is_known &= (as_of >= start)[:, None] | (examples.end_at <= start)
        is_kept &= is_known.any(axis=1)
        training = replace(examples, y=np.where(is_known, examples.y, np.nan))
        if examples.history is not None:
            training = replace(training, history=self._cut(examples, examples.history, is_kept))
        return training.take(is_kept)

    def _cut(self, rows: Rows, history: History, is_kept: NDArray[np.bool_]) -> History:
        # As after a gap: what follows a block begins with a bar that has no return.
        start, firsts = history.start.copy(), [np.empty(0, dtype=np.intp)]
        for begin, stop in self.blocks:
            is_tested = _within(rows.as_of, begin, stop)
            newest = np.full(len(rows.tickers), -1, dtype=np.intp)
            np.maximum.at(newest, rows.symbol[is_tested], history.at[is_tested])
            # The last bar of an outcome of the block, where no bar is missing.
            reach = np.where(newest < 0, -1, newest + rows.horizon_bars.max())
            is_cut = is_kept & (rows.as_of >= stop) & (start <= reach[rows.symbol])
            segments, segment = np.unique(start[is_cut], return_inverse=True)
            first = np.full(len(segments), len(history.returns), dtype=np.intp)
            np.minimum.at(first, segment, history.at[is_cut])
            start[is_cut] = first[segment]
            firsts.append(first)
        begun = np.concatenate(firsts)
        returns, variances = _without(history.returns, begun), history.variances
        if variances is not None:
            variances = _without(variances, begun)
        return replace(history, start=start, returns=returns, variances=variances)


def combinatorial_splits(as_of: Instants, spec: CombinatorialSpec) -> list[CombinatorialSplit]:
    """A split for each choice of test groups, in the order of the groups, numbered from 1."""
    edges = _edges(as_of, spec.n_groups)
    embargo = embargo_span(spec.embargo_days)
    chosen = combinations(range(spec.n_groups), spec.n_test_groups)
    return [
        CombinatorialSplit(number, groups, _blocks(groups, edges), embargo)
        for number, groups in enumerate(chosen, 1)
    ]


def group_numbers(as_of: Instants, spec: CombinatorialSpec) -> NDArray[np.intp]:
    """(n_rows,): the group of each row, from 0."""
    return np.searchsorted(_edges(as_of, spec.n_groups), as_of, side="right") - 1


def backtest_paths(spec: CombinatorialSpec) -> NDArray[np.intp]:
    """(n_paths, n_groups): the number of the split that forecasts each group on each path."""
    chosen = list(combinations(range(spec.n_groups), spec.n_test_groups))
    testing = [
        [number for number, groups in enumerate(chosen, 1) if group in groups]
        for group in range(spec.n_groups)
    ]
    return np.array(testing, dtype=np.intp).T


def combinatorial(
    fit: Fit, examples: Examples, spec: CombinatorialSpec, on_fold: OnFold | None = None
) -> Iterator[tuple[CombinatorialSplit, NDArray[np.intp], FloatArray]]:
    """Each split with its test rows and their quantiles; only one is held at a time.

    `fit`, `on_fold` and errors are those of `walk_forward`.
    """
    splits = combinatorial_splits(examples.as_of, spec)
    for split in splits:
        training = split.training(examples)
        if not len(training):
            raise NotEnoughHistory(
                f"purging leaves nothing to train on where the groups {split.groups} are tested; "
                "use fewer groups, shorter horizons or more history"
            )
        rows = split.test_rows(examples.as_of)
        model = fit(training)
        quantiles = forecast_quantiles(model, examples.take(rows))
        yield split, rows, quantiles
        if on_fold is not None:
            on_fold(split.number, len(splits))


def _edges(as_of: Instants, n_groups: int) -> Instants:
    # Where each group begins, and the end of the last.
    instants = np.unique(as_of.astype("datetime64[us]"))
    if len(instants) < n_groups:
        raise NotEnoughHistory(
            f"{n_groups} groups need as many instants, there are {len(instants)}; lower "
            "n_groups or bring more history"
        )
    starts = np.array([part[0] for part in np.array_split(instants, n_groups)])
    return np.append(starts, instants[-1] + np.timedelta64(1, "us"))


def _blocks(
    groups: tuple[int, ...], edges: Instants
) -> tuple[tuple[np.datetime64, np.datetime64], ...]:
    firsts = [group for group in groups if group - 1 not in groups]
    lasts = [group for group in groups if group + 1 not in groups]
    return tuple((edges[first], edges[last + 1]) for first, last in zip(firsts, lasts, strict=True))


def _without(values: FloatArray, places: NDArray[np.intp]) -> FloatArray:
    values = values.copy()
    values[places] = np.nan
    return values


def _within(as_of: Instants, start: np.datetime64, stop: np.datetime64) -> NDArray[np.bool_]:
    return np.asarray((as_of >= start) & (as_of < stop))
