"""Volume profile: at which prices the volume of the last 63 bars was traded.

The range from the lowest low to the highest high of the window is cut into 24 equal bins, and the
volume of each bar is counted in the bin of its typical price, (high + low + close) / 3. Where
nothing was traded in the whole window every bar counts alike: time at price instead of volume.

The point of control is the bin with most volume, the lowest one of equals. The value area grows
from there, each time by the larger of the two bins beside it (the upper one of equals), until it
holds 70 % of the volume (Dalton, Jones and Dalton 1990, Mind over Markets, ch. 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

N_BARS: Final = 63
N_BINS: Final = 24
CHUNK_ROWS: Final = 8192
"""Windows counted at a time: their places take 4 MB."""
WHOLE: Final = 1_000_000_000
"""Shares are counted in billionths, so that equal ones stay equal whatever the unit of volume."""
VALUE_AREA: Final = 700_000_000
EDGE: Final = 1e-9
"""In bins: a price so little below the edge of two bins is in the upper one."""

_COLUMNS: Final = ("high", "low", "close", "volume")
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]


def volume_profiles(prices: pl.DataFrame) -> pl.Series:
    """Of each row of PRICES: the point of control, the first and last bin of the value area.

    The three are one number; see `bin_of`. Null for the first `N_BARS` - 1 bars of a segment, which
    cost nothing.
    """
    rows = prices.select("segment", *_COLUMNS).with_row_index("row").sort("segment", "row")
    place = pl.int_range(pl.len()).over("segment")
    is_complete = rows.select(place >= N_BARS - 1).to_series()
    ends = is_complete.arg_true().to_numpy()
    packed = _packed([rows[name].to_numpy() for name in _COLUMNS], ends)
    found = pl.Series("volume_profile", [None] * len(rows), dtype=pl.Int64)
    return found.scatter(rows["row"].filter(is_complete), packed)


def bin_of(part: str) -> pl.Expr:
    """Number of the bin, from 0, of a `part` of the profile: control, first or last."""
    place = {"control": N_BINS**2, "first": N_BINS, "last": 1}[part]
    return pl.col("volume_profile") // place % N_BINS


def _packed(columns: Sequence[FloatArray], ends: NDArray[np.intp]) -> NDArray[np.int64]:
    # Of the windows that end at the rows `ends`.
    high, low, close, volume = columns
    packed = np.empty(len(ends), dtype=np.int64)
    if not len(ends):
        return packed
    lowest, highest = _extreme(low, np.minimum), _extreme(high, np.maximum)
    typical = sliding_window_view(np.clip((high + low + close) / 3, low, high), N_BARS)
    traded = sliding_window_view(volume, N_BARS)
    for start in range(0, len(ends), CHUNK_ROWS):
        first = ends[start : start + CHUNK_ROWS] - (N_BARS - 1)
        shares = _shares(typical[first], traded[first], lowest[first], highest[first])
        control = shares.argmax(axis=1).astype(np.int32)
        low_bin, high_bin = _value_area(shares, control)
        packed[start : start + len(first)] = (control * N_BINS + low_bin) * N_BINS + high_bin
    return packed


def _extreme(column: FloatArray, pick: np.ufunc) -> FloatArray:
    # Of each window: windows of twice the length at a time, then two that overlap.
    length = 1
    while 2 * length <= N_BARS:
        column, length = pick(column[:-length], column[length:]), 2 * length
    rest = N_BARS - length
    return pick(column[:-rest], column[rest:]) if rest else column


def _shares(
    typical: FloatArray, volume: FloatArray, lowest: FloatArray, highest: FloatArray
) -> IntArray:
    # (n_windows, N_BINS) billionths of the volume.
    n_windows, width = len(typical), highest - lowest
    per_bin = np.divide(N_BINS, width, out=np.zeros(n_windows), where=width > 0)
    place = np.subtract(typical, lowest[:, None])
    place *= per_bin[:, None]
    place += EDGE
    bins = place.astype(np.int32)
    np.minimum(bins, N_BINS - 1, out=bins)
    bins += np.arange(n_windows, dtype=np.int32)[:, None] * N_BINS
    total = _counted(bins, volume)
    is_untraded = total.max(axis=1) <= 0
    if is_untraded.any():
        rows = np.arange(is_untraded.sum(), dtype=np.int32)[:, None] * N_BINS
        total[is_untraded] = _counted(bins[is_untraded] % N_BINS + rows, np.ones(typical.shape))
    total *= WHOLE / total.sum(axis=1, keepdims=True)
    total += 0.5
    return total.astype(np.int32)


def _counted(bins: IntArray, weight: FloatArray) -> FloatArray:
    n_windows = len(bins)
    counted = np.bincount(bins.ravel(), weight[:n_windows].ravel(), n_windows * N_BINS)
    return counted.astype(np.float64, copy=False).reshape(n_windows, N_BINS)


def _value_area(shares: IntArray, control: IntArray) -> tuple[IntArray, IntArray]:
    # All windows grow by a bin at a time; those that hold enough are set aside.
    n_windows = len(shares)
    padded = np.full((n_windows, N_BINS + 2), -1, dtype=np.int32)
    padded[:, 1:-1] = shares
    flat, start = padded.ravel(), np.arange(1, n_windows * (N_BINS + 2), N_BINS + 2, dtype=np.int32)
    window = np.arange(n_windows, dtype=np.int32)
    first, last = np.empty_like(window), np.empty_like(window)
    low = start + control
    high, held = low.copy(), flat[low]
    while len(window):
        is_done = held >= VALUE_AREA
        if is_done.any():
            done, is_short = window[is_done], ~is_done
            first[done], last[done] = low[is_done], high[is_done]
            window, low = window[is_short], low[is_short]
            high, held = high[is_short], held[is_short]
        below, above = flat[low - 1], flat[high + 1]
        is_above = above >= below
        high += is_above
        low -= ~is_above
        held += np.maximum(above, below)
    return first - start, last - start
