"""How clear an outcome is: the one rule from a distance in units of volatility to [0, 1]."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from candlecast.domain.distribution import FloatArray


def confidence(distance: FloatArray) -> FloatArray:
    """2 Φ(d) - 1 of a distance d >= 0 from where the answer would change; NaN stays NaN.

    The share of a normal distribution that lies nearer to its mean than d standard deviations:
    0 for what stands on the threshold, 0.68 at one unit of volatility, 0.95 at two.
    """
    return np.asarray(erf(distance / np.sqrt(2.0)))


def from_thresholds(
    value: FloatArray, lower: FloatArray | float, upper: FloatArray | float
) -> FloatArray:
    """How far `value` is from the nearer of two thresholds, in the units of all three."""
    return np.asarray(np.minimum(np.abs(value - lower), np.abs(value - upper)))


def side(value: FloatArray, lower: FloatArray | float, upper: FloatArray | float) -> FloatArray:
    """1 above `upper`, -1 below `lower`, else 0; NaN where one of the three is."""
    classes = np.where(value > upper, 1.0, np.where(value < lower, -1.0, 0.0))
    return np.where(np.isnan(value) | np.isnan(lower) | np.isnan(upper), np.nan, classes)
