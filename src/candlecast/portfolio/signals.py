"""Buy, hold or sell, from class probabilities and the expected return."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlecast.domain.distribution import LABELS, FloatArray
from candlecast.errors import BadFrame, InvalidSpec

Action: TypeAlias = Literal["buy", "hold", "sell"]

LEAST_EDGE: Final = 0.05
"""P(Bullish) and P(Bearish) must differ by more than this before anything is done."""


def actions(
    probabilities: FloatArray, mean: ArrayLike, *, least_edge: float = LEAST_EDGE
) -> NDArray[np.str_]:
    """``buy``, ``hold`` or ``sell`` for each row: shape of `mean`.

    `probabilities` (..., 3) of Bearish, Neutral, Bullish; `mean` (...) the expected log return.
    A side is taken only when its class is the likeliest, beats the opposite one by more than
    `least_edge`, and the expected return agrees with it; a missing (NaN) value holds. With
    thresholds at the terciles all three classes sit near a third where there is no skill, so the
    likeliest class alone would trade on noise.
    """
    if probabilities.shape[-1:] != (len(LABELS),):
        raise BadFrame(f"an action needs P of {', '.join(LABELS)}; got {probabilities.shape}")
    if not 0 <= least_edge < 1:
        raise InvalidSpec(f"least_edge lies in [0, 1), not {least_edge}")
    bearish, neutral, bullish = np.moveaxis(probabilities, -1, 0)
    is_buy = (bullish > neutral) & (bullish - bearish > least_edge) & (np.asarray(mean) > 0)
    is_sell = (bearish > neutral) & (bearish - bullish > least_edge) & (np.asarray(mean) < 0)
    return np.select([is_buy, is_sell], ["buy", "sell"], default="hold")


def action(probabilities: FloatArray, mean: float, *, least_edge: float = LEAST_EDGE) -> Action:
    """The action of a single forecast: `probabilities` (3,)."""
    return cast("Action", str(actions(probabilities, mean, least_edge=least_edge)[()]))
