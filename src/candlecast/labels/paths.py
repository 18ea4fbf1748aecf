"""Sums, extremes and first touches between any two rows, without a loop over rows.

A result depends on the rows asked for alone, bit by bit: bars that are cut off elsewhere, or added,
change no rounding. So a label can be held against one computed again with less history.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray

COARSE: Final = 2.0**32
FINE: Final = 2.0**44


class Sums:
    """Sums of `values` between any two rows, NaN counted as 0.

    Kept as whole numbers of 2^-76 in two parts, for integer sums do not depend on where they
    begin. Exact to 1e-23 a value; values below 1e4 may be summed over 2e5 rows.
    """

    def __init__(self, values: FloatArray) -> None:
        scaled = np.nan_to_num(values) * COARSE
        coarse = np.floor(scaled)
        self._parts = [
            np.concatenate([[0], np.cumsum(part.astype(np.int64))])
            for part in (coarse, np.rint((scaled - coarse) * FINE))
        ]

    def between(self, first: NDArray[np.intp], last: NDArray[np.intp]) -> FloatArray:
        """The sums from row `first` to row `last`, both included; 0 where last = first - 1."""
        coarse, fine = (part[last + 1] - part[first] for part in self._parts)
        return np.asarray(coarse / COARSE + fine / (COARSE * FINE))


class RangeMax:
    """Largest of `values` between any two rows, and the first row to reach a level.

    A sparse table: level l holds at row k the largest of the 2^l values from k on. `max_length`
    is the longest range that will be asked for (all by default).
    """

    def __init__(self, values: NDArray[Any], max_length: int | None = None) -> None:
        length = max(1, len(values) if max_length is None else max_length)
        levels = [values]
        for level in range(length.bit_length() - 1):
            step, finer = 1 << level, levels[-1]
            coarser = finer.copy()
            np.maximum(finer[:-step], finer[step:], out=coarser[:-step])
            levels.append(coarser)
        self._levels = np.stack(levels)

    def between(self, first: NDArray[np.intp], last: NDArray[np.intp]) -> NDArray[Any]:
        """The largest from row `first` to row `last`, both included; first <= last."""
        level = np.frexp(last - first + 1.0)[1] - 1
        until = last + 1 - (1 << level)
        return np.asarray(np.maximum(self._levels[level, first], self._levels[level, until]))

    def first_reaching(
        self, first: NDArray[np.intp], last: NDArray[np.intp], level: FloatArray
    ) -> NDArray[np.intp]:
        """The first row from `first` to `last` whose value is at least `level`; else last + 1."""
        n_levels, n = self._levels.shape
        place = first.copy()
        for depth in range(n_levels - 1, -1, -1):
            largest = self._levels[depth, np.minimum(place, n - 1)]
            place += ((largest < level) & (place < n)).astype(np.intp) << depth
        return np.minimum(place, last + 1)
