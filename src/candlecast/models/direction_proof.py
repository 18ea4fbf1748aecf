"""How much of a mean return, and of a forecast of direction, the training rows prove."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from candlecast.domain.distribution import FloatArray

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
