"""Where Bearish ends and Bullish begins: the one rule for labels and for forecasts."""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec

TERCILES: Final = (1 / 3, 2 / 3)


def fixed_threshold(text: str) -> float | None:
    """The simple return of a threshold such as ``fixed:0.02``, None for ``scaled``."""
    if text == "scaled":
        return None
    kind, _, number = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if kind != "fixed" or not 0 < value < 1:
        raise InvalidSpec(f"threshold {text!r}: use scaled or fixed:0.02")
    return value


def class_bounds(climatology: FloatArray, threshold: str) -> tuple[FloatArray, FloatArray]:
    """Where Bearish ends and Bullish begins, as log returns (...,).

    `climatology` (..., 17) are the quantiles of the symbol's own past returns known by then:
    ``scaled`` takes their terciles, NaN where they are; ``fixed:`` takes none of them.
    """
    fixed = fixed_threshold(threshold)
    if fixed is not None:
        shape = climatology.shape[:-1]
        return np.full(shape, np.log1p(-fixed)), np.full(shape, np.log1p(fixed))
    terciles = dist.quantile(climatology, TERCILES)
    return terciles[..., 0], terciles[..., 1]
