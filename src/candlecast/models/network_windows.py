"""Windows behind rows as the inputs of a network, gathered and normalised a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.catalog import FEATURES
from candlecast.domain.examples import Rows
from candlecast.domain.normalising import Normaliser
from candlecast.domain.sequences import Sequences
from candlecast.domain.specs import TensorSpec
from candlecast.errors import InvalidSpec
from candlecast.models.network_operations import Inputs, Sizes

BATCH_ROWS: Final = 128
ROW_MULTIPLE: Final = 8
"""Batches are filled up to a multiple: kernels for one row round otherwise than those for many."""


def sequences_of(rows: Rows) -> Sequences:
    """The windows of `rows`; InvalidSpec where they carry none."""
    if rows.sequences is None:
        raise InvalidSpec(
            "a network looks at windows, and these rows carry none; "
            "attach them with pipelines.sequences.with_sequences"
        )
    return rows.sequences


@dataclass(frozen=True)
class WindowReader:
    """Inputs of rows in the units of the training span."""

    spec: TensorSpec
    normaliser: Normaliser

    @classmethod
    def fitted(cls, rows: Rows) -> WindowReader:
        """In the units of all that was known when the newest of `rows` was made."""
        source = sequences_of(rows).source
        newest: datetime = rows.as_of.max().astype("datetime64[us]").item()
        return cls(source.spec, source.fit_normaliser(newest.replace(tzinfo=UTC)))

    def sizes(self, n_horizons: int) -> Sizes:
        """The lengths of what a network of these windows takes and gives."""
        spec = self.spec
        return Sizes(spec.n_steps, len(spec.timeframes), len(spec.features), n_horizons)

    def check(self, rows: Rows) -> Sequences:
        """The windows of `rows`; InvalidSpec where they are others than those learnt from."""
        sequences = sequences_of(rows)
        if sequences.source.spec != self.spec:
            raise InvalidSpec(
                f"the network looks at {self.spec.n_steps} steps of "
                f"{', '.join(self.spec.timeframes)} with {len(self.spec.features)} features; "
                "these rows carry other windows"
            )
        return sequences

    def inputs(self, sequences: Sequences, rows: NDArray[np.integer]) -> Inputs:
        """The inputs of the rows at these positions."""
        tensors = sequences.tensors(rows)
        values = tensors.values.copy()
        for place in range(values.shape[2]):
            self.normaliser.apply(values[:, :, place], place)
        mask = tensors.mask & self.normaliser.is_learnt
        values[~mask] = 0.0
        age = np.stack([np.log1p(tensors.age_bars), np.isnan(tensors.age_bars)], axis=-1)
        return Inputs(
            values,
            mask.astype(np.float32),
            np.nan_to_num(age, nan=0.0).astype(np.float32),
        )

    def batches(self, sequences: Sequences) -> Iterator[tuple[slice, Inputs]]:
        """All rows in order: where a batch lies among them, and its inputs.

        The newest window stands in for the rows that a batch lacks to a multiple of eight.
        """
        for start in range(0, len(sequences), BATCH_ROWS):
            stop = min(start + BATCH_ROWS, len(sequences))
            n_filled = -(-(stop - start) // ROW_MULTIPLE) * ROW_MULTIPLE
            places = np.minimum(np.arange(start, start + n_filled), stop - 1)
            yield slice(start, stop), self.inputs(sequences, places)


def has_bars(inputs: Inputs) -> NDArray[np.bool_]:
    """(n_rows,) whether there is any bar to look at."""
    return np.asarray(inputs.mask.any(axis=(1, 2)))


def shown_features(
    features: tuple[str, ...], *, max_warmup_bars: int | None = None
) -> tuple[str, ...]:
    """Those of `features` that are made of prices alone, for a source of others may be silent.

    Of these the ones that are known after `max_warmup_bars`, where there are any.
    """
    entries = [FEATURES.get(name) for name in features]
    priced = [entry for entry in entries if entry.table == "ohlcv"] or entries
    quick = [
        entry for entry in priced if max_warmup_bars is None or entry.warmup_bars <= max_warmup_bars
    ]
    return tuple(entry.name for entry in quick or priced)
