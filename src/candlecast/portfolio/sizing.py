"""How much of the capital: capped fractional Kelly, from mean and standard deviation."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec

KELLY_FRACTION: Final = 0.25
LARGEST_SHARE: Final = 0.2


def position_size(
    mean: ArrayLike,
    std: ArrayLike,
    *,
    fraction: float = KELLY_FRACTION,
    largest_share: float = LARGEST_SHARE,
) -> FloatArray:
    """Share of the capital in [-largest_share, largest_share]; negative is short.

    `mean` and `std` of the log return broadcast. Kelly's share is mean / variance for small
    returns (Thorp 2006, section 7, without interest); a `fraction` of it is taken because the mean
    is the least certain number of a forecast, and the cap bounds what a wrong variance can do.
    The mean of the log return is below that of the simple return, which is the cautious side of
    a long position. No spread, or a missing (NaN) value, gives 0.
    """
    if not 0 < fraction <= 1 or not 0 < largest_share <= 1:
        raise InvalidSpec("fraction and largest_share lie in (0, 1]")
    centre, variance = np.asarray(mean, dtype=float), np.asarray(std, dtype=float) ** 2
    share = np.zeros(np.broadcast_shapes(centre.shape, variance.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(fraction * centre, variance, out=share, where=variance > 0)
    return np.clip(np.nan_to_num(share, nan=0.0), -largest_share, largest_share)
