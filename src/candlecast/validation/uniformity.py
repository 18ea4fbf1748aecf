"""Are probabilities uniform, as those of a calibrated forecast are? A test over blocks of dates.

Neyman's smooth test (1937, Skandinavisk Aktuarietidskrift 20): under uniformity the first
Legendre polynomials of the PIT have mean zero. They tell apart how a forecast is wrong: its centre,
its width, its skew, its tails. Outcomes of one date move together and overlap in time, so the means
of whole blocks of dates are compared with their own scatter by Hotelling's T².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from candlecast.domain.distribution import FloatArray
from candlecast.validation.significance import block_length, is_enough

MOMENTS: Final = ("centre", "width", "skew", "tails")
"""What the Legendre polynomials of degree 1 to 4 tell of a PIT."""


@dataclass(frozen=True)
class UniformityTest:
    """`p_value` of the null hypothesis that all is uniform (None: too little data), and the mean
    of each of `MOMENTS`: above zero, outcomes are higher, wider, more skewed to the right or
    heavier in the tails than forecast.
    """

    p_value: float | None
    moments: dict[str, float]
    n_dates: int


def uniformity_test(
    pits: FloatArray, when: NDArray[np.datetime64], *, horizon_bars: int
) -> UniformityTest:
    """The test of (n_rows,) probabilities of the dates `when`; NaN are left out.

    Outcomes overlap for `horizon_bars` dates.
    """
    is_known = ~np.isnan(pits)
    dates, where = np.unique(when[is_known], return_inverse=True)
    counts = np.bincount(where, minlength=len(dates))
    waves = _legendre(2 * pits[is_known] - 1)
    by_date = np.array([np.bincount(where, wave, len(dates)) / counts for wave in waves])
    length = block_length(len(dates), horizon_bars)
    n_blocks = len(dates) // length if len(dates) else 0
    means = by_date.mean(axis=1) if len(dates) else np.full(len(MOMENTS), np.nan)
    moments = {name: float(mean) for name, mean in zip(MOMENTS, means, strict=True)}
    if not is_enough(len(dates), length) or n_blocks <= len(MOMENTS) + 1:
        return UniformityTest(None, moments, len(dates))
    edges = np.arange(n_blocks + 1) * len(dates) // n_blocks
    sizes = np.diff(edges)
    blocks = np.add.reduceat(by_date, edges[:-1], axis=1) / sizes
    covariance = np.cov(blocks) / n_blocks
    if np.linalg.matrix_rank(covariance) < len(MOMENTS):
        return UniformityTest(None, moments, len(dates))
    centre = blocks.mean(axis=1)
    squared = float(centre @ np.linalg.solve(covariance, centre))
    free = n_blocks - len(MOMENTS)
    ratio = squared * free / (len(MOMENTS) * (n_blocks - 1))
    return UniformityTest(float(fdtrc(len(MOMENTS), free, ratio)), moments, len(dates))


def _legendre(x: FloatArray) -> FloatArray:
    # (4, n): orthonormal on a uniform variable.
    polynomials = (
        x,
        (3 * x**2 - 1) / 2,
        (5 * x**3 - 3 * x) / 2,
        (35 * x**4 - 30 * x**2 + 3) / 8,
    )
    return np.array([np.sqrt(2 * n + 1) * p for n, p in enumerate(polynomials, 1)])
