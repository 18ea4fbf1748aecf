"""The twin of every feature of one symbol, and what it means that they agree."""

from __future__ import annotations

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute
from input_twins import TWINS
from naive_windows import columns_of
from shown_twins import SHOWN_TWINS, UNITS

ALONE = TWINS | SHOWN_TWINS


def segments_of(prices):
    """The columns of each segment of PRICES."""
    return [columns_of(part) for part in prices.partition_by("segment", maintain_order=True)]


def by_segment(column: pl.Series, segments):
    """The values of a column, a segment at a time."""
    lengths = [len(x.c) for x in segments]
    return np.split(column.to_numpy(), np.cumsum(lengths)[:-1])


def assert_agree(name, values, expected):
    """After the warm-up: to nine digits, of the largest value where the unit is a currency's."""
    warmup_bars = FEATURES.get(name).warmup_bars
    values, expected = values[warmup_bars:], np.asarray(expected)[warmup_bars:]
    size = np.nanmax(np.abs(expected), initial=0.0) if name in UNITS else 1.0
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9 * size, err_msg=name)


def assert_all_agree(prices):
    """All features of one symbol at once."""
    computed, segments = compute(prices, tuple(ALONE)), segments_of(prices)
    columns = {name: by_segment(computed[name], segments) for name in ALONE}
    for number, x in enumerate(segments):
        for name, twin in ALONE.items():
            assert_agree(name, columns[name][number], twin(x))
