"""The log returns and variances behind rows, bar by bar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray


@dataclass(frozen=True, eq=False)
class History:
    """Each row's own bars up to its newest, without copying them.

    Attributes
    ----------
    returns : (n_bars,) log returns of all bars by symbol and ts; NaN for the first of a segment,
        a symbol between two real gaps
    start : (n_rows,) the first bar of the segment of each row's newest bar
    at : (n_rows,) each row's newest bar; row i knows returns[start[i] : at[i] + 1] and no others
    variances : (n_bars,) the variance of each bar from its range and the night before, NaN where
        the return is; None where they are not known
    """

    returns: FloatArray
    start: NDArray[Any]
    at: NDArray[Any]
    variances: FloatArray | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.at)

    def take(self, index: NDArray[Any]) -> History:
        """The same for the rows at `index`, positions or a mask."""
        return replace(self, start=self.start[index], at=self.at[index])
