"""Sums over trailing windows of what was known, exact whatever history is given.

1. Amounts are integers. Their running sums may pass the width of an integer and wrap around; the
   difference of two of them is right all the same, as long as the window's own sum fits.
2. So a window's sum does not depend on what came before or after it, bit by bit.
3. A window is a span of time: it holds the items with start < known_at <= end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray

Integers: TypeAlias = NDArray[np.int64]
NANO: Final = 1_000_000_000


def microseconds(instants: pl.Series) -> Integers:
    """Instants as integers since 1970."""
    return instants.to_physical().to_numpy().astype(np.int64, copy=False)


def runs_of(names: pl.Series) -> list[tuple[str, int, int]]:
    """Each run of equal names with the places of its first row and of the row behind its last."""
    runs = names.rle().struct.unnest()
    ends = np.cumsum(runs["len"].to_numpy().astype(np.int64))
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return list(zip(runs["value"], starts.tolist(), ends.tolist(), strict=True))


class Items:
    """Integer amounts, each with its group and the instant from which on it was known.

    Parameters
    ----------
    groups : name of each item's group, sorted
    known_at : (n_items,) microseconds, ascending within a group
    amounts : columns of (n_items,) integers
    """

    def __init__(
        self, groups: pl.Series, known_at: Integers, amounts: Mapping[str, Integers]
    ) -> None:
        self._spans = {name: (start, end) for name, start, end in runs_of(groups)}
        self._known_at = known_at
        self._amounts = amounts
        self._running: dict[str, Integers] = {}

    def places(self, group: str, instants: Integers) -> Integers:
        """Behind which item each of `instants` falls: (n,) places for `between`."""
        start, end = self._spans.get(group, (0, 0))
        found = np.searchsorted(self._known_at[start:end], instants, side="right")
        return np.asarray(start + found, dtype=np.int64)

    def between(self, name: str, after: Integers, until: Integers) -> Integers:
        """(n,): the sum of the amounts `name` of the items between two places."""
        if name not in self._running:
            amounts = self._amounts[name]
            self._running[name] = np.concatenate([[0], np.cumsum(amounts, dtype=np.int64)])
        running = self._running[name]
        return running[until] - running[after]


def last_known(ts: Integers, known_at: Integers, instants: Integers) -> Integers:
    """(n,): which item is about the latest `ts` among those known at each instant; -1 for none.

    Items in any order; `ts` are distinct.
    """
    order = np.lexsort((ts, known_at))
    is_latest = ts[order] == np.maximum.accumulate(ts[order])
    latest = np.maximum.accumulate(np.where(is_latest, np.arange(len(order)), 0))
    found = np.searchsorted(known_at[order], instants, side="right") - 1
    if not len(order):
        return found
    return np.where(found >= 0, order[latest[found]], -1)


def parted(amounts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n,) and (n,): whole units, and billionths of one: floats whose sums are exact as well."""
    whole = np.floor(amounts)
    return whole, np.rint((amounts - whole) * NANO)


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """(n,): part over whole, NaN where the whole is 0."""
    found = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
