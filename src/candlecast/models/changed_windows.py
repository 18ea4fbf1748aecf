"""Windows with one feature of other rows, or without some of their cells, gathered as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.normalising import Normaliser
from candlecast.domain.sequences import Sequences, Tensors, WindowSource
from candlecast.domain.specs import TensorSpec


@dataclass(eq=False)
class ChangedWindows:
    """Windows of a source that are changed when they are gathered."""

    source: WindowSource
    spec: TensorSpec
    change: Callable[[NDArray[np.integer]], Tensors]

    def take(self, rows: NDArray[np.integer]) -> Tensors:
        """The changed tensors of these rows."""
        return self.change(rows)

    def fit_normaliser(self, until: datetime) -> Normaliser:
        """The units of the windows as they were."""
        return self.source.fit_normaliser(until)


def swapped(sequences: Sequences, feature: str, order: NDArray[np.integer]) -> Sequences:
    """`sequences` in which row i shows the `feature` of row order[i], where both have a bar."""
    column = sequences.source.spec.features.index(feature)

    def change(rows: NDArray[np.integer]) -> Tensors:
        own, other = sequences.tensors(rows), sequences.tensors(order[rows])
        values = own.values.copy()
        both = own.mask & other.mask
        values[..., column] = np.where(both, other.values[..., column], values[..., column])
        return replace(own, values=values)

    return _changed(sequences, change)


def masked(sequences: Sequences, is_deleted: NDArray[np.bool_]) -> Sequences:
    """`sequences` without some cells: `is_deleted` (n_rows, n_steps * n_timeframes)."""

    def change(rows: NDArray[np.integer]) -> Tensors:
        own = sequences.tensors(rows)
        mask = own.mask & ~is_deleted[rows].reshape(own.mask.shape)
        return replace(own, values=own.values * mask[..., None], mask=mask)

    return _changed(sequences, change)


def _changed(sequences: Sequences, change: Callable[[NDArray[np.integer]], Tensors]) -> Sequences:
    source = ChangedWindows(sequences.source, sequences.source.spec, change)
    return Sequences(source, np.arange(len(sequences)))
