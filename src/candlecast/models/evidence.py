"""What training rows are evidence of: drift, direction, and how far the price moves."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples

MAX_TARGET: Final = 8.0
MIN_DISTANCE: Final = 1e-3
MIN_LOCATION_T: Final = 2.5
SPREAD_SHARE: Final = 0.5
"""Of the way the price went in what the scale is fitted to; the rest is how far it got."""
BLOCK_DATES: Final = 126
BLOCK_HORIZONS: Final = 4
DRIFT_PRIOR: Final = 0.5 / 252**0.5
"""Plausible mean over standard deviation of a bar's return: a yearly ratio of one half."""


def shrunk_drift(target: FloatArray, weight: FloatArray, n_bars: int) -> float:
    """The mean target, drawn to zero by what is plausible: no number is less certain."""
    prior = DRIFT_PRIOR**2 * n_bars
    error = float(np.average(target**2, weights=weight)) / float(weight.sum())
    return float(np.average(target, weights=weight)) * prior / (prior + error)


def clustered_slope(
    guess: FloatArray, target: FloatArray, when: np.ndarray[Any, Any], horizon_bars: int
) -> tuple[float, float]:
    """Slope through the origin of `target` on `guess`, and its t-value.

    Errors are summed over blocks of dates as long as the horizon, because outcomes of one day, and
    overlapping outcomes, are not independent.
    """
    power = float(guess @ guess)
    if power <= 0:
        return 0.0, 0.0
    slope = float(guess @ target) / power
    block = np.unique(when, return_inverse=True)[1] // (2 * horizon_bars)
    sums = np.bincount(block, weights=guess * (target - slope * guess))
    error = float(np.sqrt((sums**2).sum())) / power
    return slope, slope / error if error > 0 else 0.0


def proven_slope(
    guess: FloatArray, target: FloatArray, when: np.ndarray[Any, Any], horizon_bars: int
) -> float:
    """How much of `guess` is believed, of rows it was not fitted on: the slope, at most 1, and 0
    unless it is clearly positive. Direction is nearly unpredictable: all else would add noise.
    """
    slope, t_value = clustered_slope(guess, target, when, horizon_bars)
    return min(slope, 1.0) if t_value > MIN_LOCATION_T else 0.0


def date_blocks(rows: Examples, horizon: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(n_rows,) the half year of each row, by number, and whether its outcome ends within it.

    Blocks are longer where half a year is less than four horizons: most outcomes end in theirs.
    """
    n_bars = int(rows.horizon_bars[horizon])
    length = max(BLOCK_DATES, BLOCK_HORIZONS * n_bars)
    date = np.unique(rows.dates(), return_inverse=True)[1]
    return date // length, date % length < length - n_bars


def mixed(distance: FloatArray, spread: FloatArray, weight: FloatArray) -> FloatArray:
    """The mean of distance and spread, after the spread was given the mean of the distance."""
    is_known = ~np.isnan(spread)
    if not is_known.any():
        return distance
    way = np.clip(np.where(is_known, spread, 0.0), MIN_DISTANCE, MAX_TARGET)
    share = weight * is_known
    unit = float(share @ distance) / float(share @ way)
    return np.where(is_known, SPREAD_SHARE * unit * way + (1 - SPREAD_SHARE) * distance, distance)
