"""Windows of several timeframes behind rows, gathered a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.normalising import Normaliser
from candlecast.domain.specs import TensorSpec


@dataclass(frozen=True, eq=False)
class Tensors:
    """A batch of windows.

    Attributes
    ----------
    values : (batch, sequence, timeframes, features) float32, newest last; without NaN: 0 where
        masked. In units of the normaliser, where the windows have one
    mask : (batch, sequence, timeframes) True where there is a bar with all its features known
    age_bars : (batch, timeframes) float32: how many usual bars' trading time has passed since the
        newest bar closed; NaN where there is none
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    age_bars: NDArray[np.float32]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.values)


class WindowSource(Protocol):
    """Where tensors are gathered from: see `features.timeframes.Windows`."""

    spec: TensorSpec

    def take(self, rows: NDArray[np.integer]) -> Tensors:
        """The tensors of these of its rows, in the order given."""
        ...

    def fit_normaliser(self, until: datetime) -> Normaliser:
        """The units of all that was known by `until`, the end of the training span."""
        ...


@dataclass(frozen=True, eq=False)
class Sequences:
    """The windows of some rows: `index` (n_rows,) are their positions in `source`."""

    source: WindowSource
    index: NDArray[np.integer]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.index)

    def take(self, index: NDArray[Any]) -> Sequences:
        """The same for the rows at `index`, positions or a mask."""
        return replace(self, index=self.index[index])

    def tensors(self, rows: NDArray[np.integer]) -> Tensors:
        """The tensors of the rows at these positions, in the units of the features."""
        return self.source.take(self.index[rows])
