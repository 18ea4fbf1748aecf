"""Walk-forward splits: test spans in time order, each trained on what was known before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.examples import Examples
from candlecast.domain.market import Instants
from candlecast.domain.specs import SplitSpec
from candlecast.errors import InvalidSpec, NotEnoughHistory


@dataclass(frozen=True)
class Split:
    """One test span, the rows with `start` <= as_of < `stop`, and what may train for it.

    Training examples are rows stamped from `train_from` on whose stamps and outcomes were known
    by `train_until`, which lies the embargo before `start`. So no training interval
    [as_of, end_at] comes nearer to the test span than the embargo (López de Prado 2018, ch. 7).
    `is_holdout` says that the span belongs to the final holdout.
    """

    number: int
    start: np.datetime64
    stop: np.datetime64
    train_from: np.datetime64
    train_until: np.datetime64
    is_holdout: bool = False

    def test_rows(self, as_of: Instants) -> NDArray[np.intp]:
        """Positions of the rows of the test span, whether or not their outcome is known."""
        return np.flatnonzero((as_of >= self.start) & (as_of < self.stop))

    def training(self, examples: Examples) -> Examples:
        """Those of `examples` that may train for the span, with what was known of them by then."""
        return _between(examples, self.train_from, self.train_until)


def walk_forward_splits(as_of: Instants, spec: SplitSpec) -> list[Split]:
    """The splits of rows stamped `as_of`, oldest first, numbered from 1.

    Spans are cut by distinct instants, so rows of one instant stay together; they follow one
    another without a gap and end with the newest row. The first `n_splits` end where the holdout
    begins; those of the holdout are as long, the last of them perhaps shorter.
    """
    instants = np.unique(as_of.astype("datetime64[us]"))
    n_before = _n_before_holdout(len(instants), spec)
    test_size = spec.test_size or n_before // (spec.n_splits + 1)
    first = n_before - spec.n_splits * test_size
    if test_size < 1 or first < 1:
        needed = spec.n_splits * (spec.test_size or 1) + 1
        n_held = len(instants) - n_before
        where = f" before the holdout of {n_held}" if n_held else ""
        raise NotEnoughHistory(
            f"{spec.n_splits} splits of {spec.test_size or 'at least 1'} test instants need "
            f"{needed} instants, there are {n_before}{where}; lower n_splits, test_size or "
            f"holdout_share, or bring more history"
        )
    embargo = embargo_span(spec.embargo_days)
    if instants[first] - embargo < instants[0]:
        raise NotEnoughHistory(
            f"an embargo of {spec.embargo_days:g} days leaves nothing of the {first} instants "
            f"before the first test span at {instants[first]}; shorten it or bring more history"
        )
    places = [*range(first, n_before, test_size), *range(n_before, len(instants), test_size)]
    edges = np.append(instants[places], instants[-1] + np.timedelta64(1, "us"))
    return [
        Split(
            number,
            start,
            stop,
            _train_from(instants, start - embargo, spec),
            start - embargo,
            is_holdout=number > spec.n_splits,
        )
        for number, (start, stop) in enumerate(pairwise(edges), 1)
    ]


def newest_training(examples: Examples, until: np.datetime64, spec: SplitSpec) -> Examples:
    """What trains a model that serves from `until` on: no holdout is kept from it."""
    return _between(examples, _train_from(np.unique(examples.as_of), until, spec), until)


def before_holdout(examples: Examples, spec: SplitSpec) -> Examples:
    """`examples` as search and selection may see them: no row and no outcome of the holdout.

    Walking through them with `holdout_share` 0 gives the same `n_splits` test spans, but outcomes
    that end within the holdout are unknown.
    """
    instants = np.unique(examples.as_of)
    n_before = _n_before_holdout(len(instants), spec)
    if n_before == len(instants):
        return examples
    kept = examples.take(examples.as_of < instants[n_before])
    is_known = kept.end_at <= instants[n_before]
    return replace(kept, y=np.where(is_known, kept.y, np.nan))


def inner_splits(
    as_of: Instants, n_folds: int, *, test_share: float | None = None, embargo_days: float = 0.0
) -> list[Split]:
    """Splits within training examples, for early stopping, calibration, stacking and search.

    `n_folds` test spans in time order, together the newest `test_share` of the instants (by
    default each as long as the first training span). Each is trained on what was known when it
    begins, less the embargo: the outcome of no training row reaches into it.
    """
    if test_share is not None and not 0 < test_share < 1:
        raise InvalidSpec(f"test_share is {test_share}; it lies between 0 and 1")
    n_instants = len(np.unique(as_of))
    size = None if test_share is None else max(1, round(n_instants * test_share) // n_folds)
    spec = SplitSpec(n_folds, test_size=size, embargo_days=embargo_days, holdout_share=0.0)
    return walk_forward_splits(as_of, spec)


def _n_before_holdout(n_instants: int, spec: SplitSpec) -> int:
    return n_instants - round(n_instants * spec.holdout_share)


def _train_from(instants: Instants, until: np.datetime64, spec: SplitSpec) -> np.datetime64:
    # A rolling scheme counts `train_size` instants back from `until`.
    n_earlier = int(np.searchsorted(instants, until))
    oldest: np.datetime64 = instants[max(0, n_earlier - (spec.train_size or n_earlier))]
    return oldest


def _between(examples: Examples, start: np.datetime64, until: np.datetime64) -> Examples:
    known = examples.known_by(until)
    is_recent = known.as_of >= start
    return known if is_recent.all() else known.take(is_recent)


def embargo_span(days: float) -> np.timedelta64:
    """An embargo of `days`, which may be a part of one."""
    return np.timedelta64(round(days * 86_400e6), "us")
