"""Walk-forward splits: test spans in time order, each trained on what was known before it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.market import Instants
from candlecast.domain.specs import SplitSpec
from candlecast.errors import NotEnoughHistory


@dataclass(frozen=True)
class Split:
    """One test span, the rows with `start` <= as_of < `stop`, and what may train for it.

    Training examples are those of `Examples.known_by(train_until)`: rows stamped and outcomes
    ended by `train_until`, which lies the embargo before `start`. So no training interval
    [as_of, end_at] comes nearer to the test span than the embargo (López de Prado 2018, ch. 7).
    """

    number: int
    start: np.datetime64
    stop: np.datetime64
    train_until: np.datetime64

    def test_rows(self, as_of: Instants) -> NDArray[np.intp]:
        """Positions of the rows of the test span, whether or not their outcome is known."""
        return np.flatnonzero((as_of >= self.start) & (as_of < self.stop))


def walk_forward_splits(as_of: Instants, spec: SplitSpec) -> list[Split]:
    """The splits of rows stamped `as_of`, oldest first, numbered from 1.

    Spans are cut by distinct instants, so rows of one instant stay together; they follow one
    another without a gap and end with the newest row.
    """
    instants = np.unique(as_of.astype("datetime64[us]"))
    test_size = spec.test_size or len(instants) // (spec.n_splits + 1)
    first = len(instants) - spec.n_splits * test_size
    if test_size < 1 or first < 1:
        needed = spec.n_splits * (spec.test_size or 1) + 1
        raise NotEnoughHistory(
            f"{spec.n_splits} splits of {spec.test_size or 'at least 1'} test instants need "
            f"{needed} instants, there are {len(instants)}; lower n_splits or test_size, or "
            f"bring more history"
        )
    embargo = np.timedelta64(round(spec.embargo_days * 86_400e6), "us")
    if instants[first] - embargo < instants[0]:
        raise NotEnoughHistory(
            f"an embargo of {spec.embargo_days:g} days leaves nothing of the {first} instants "
            f"before the first test span at {instants[first]}; shorten it or bring more history"
        )
    end = instants[-1] + np.timedelta64(1, "us")
    edges = np.append(instants[first::test_size], end)
    return [
        Split(number, start, stop, start - embargo)
        for number, (start, stop) in enumerate(pairwise(edges), 1)
    ]
