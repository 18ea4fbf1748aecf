"""Columns that several features share, and ratios that never leave the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import polars as pl

from candlecast.domain import volatility

WIDEST_LOG_RATIO: Final = 3.0
"""Logarithms of ratios are kept within this: a twentieth to twenty times."""
WIDEST_MOVE: Final = 10.0
"""Moves in units of the symbol's volatility are kept within this."""
STILL_BARS: Final = 56
"""After so many bars without a move an oscillator is neutral: it has nothing left to swing on."""
FIRST_VOLUME_BARS: Final = 20


def price_index(name: str) -> pl.Expr:
    """A price in units near its segment's first close: TA-Lib takes 1e-14 for nothing."""
    return pl.col(name) / _power_of_two(pl.col("close").first())


def volume_index() -> pl.Expr:
    """Volume in units near the largest of its segment's first bars, for the same reason."""
    first = pl.col("volume").head(FIRST_VOLUME_BARS).max()
    return pl.col("volume") / pl.when(first > 0).then(_power_of_two(first)).otherwise(1.0)


def _power_of_two(value: pl.Expr) -> pl.Expr:
    # Dividing by it is exact: two moves of the same size stay of the same size, as ADX needs.
    return pl.lit(2.0).pow(value.log(2).floor())


INPUTS: Final[dict[str, Callable[[], pl.Expr]]] = {
    "log_return": volatility.log_return,
    "scale": volatility.scale,
    "bar_variance": volatility.bar_variance,
    "high_index": lambda: price_index("high"),
    "low_index": lambda: price_index("low"),
    "close_index": lambda: price_index("close"),
    "volume_index": volume_index,
}
"""What a feature may name beside the columns of PRICES; computed once for all of them."""


def per_scale(move: pl.Expr, n_bars: int = 1) -> pl.Expr:
    """A log return over `n_bars` in units of its forecast volatility, within ±10."""
    unit = pl.col("scale") * math.sqrt(n_bars)
    return (move / unit).clip(-WIDEST_MOVE, WIDEST_MOVE)


def log_ratio(value: pl.Expr, reference: pl.Expr) -> pl.Expr:
    """Logarithm of value / reference, within ±3: for any `value` >= 0 and `reference` > 0."""
    return (value.log() - reference.log()).clip(-WIDEST_LOG_RATIO, WIDEST_LOG_RATIO)


def volatility_ratio(variance: pl.Expr) -> pl.Expr:
    """Logarithm of the volatility in `variance` over the symbol's forecast, within ±3."""
    half = 0.5 * variance.clip(lower_bound=0.0).log()
    return (half - pl.col("scale").log()).clip(-WIDEST_LOG_RATIO, WIDEST_LOG_RATIO)


def where_moving(oscillator: pl.Expr, neutral: float, n_bars: int = STILL_BARS) -> pl.Expr:
    """`oscillator`, or `neutral` where neither high nor low moved for `n_bars`."""
    highest = pl.col("high").rolling_max(n_bars, min_samples=1)
    lowest = pl.col("low").rolling_min(n_bars, min_samples=1)
    return pl.when(highest > lowest).then(oscillator).otherwise(neutral)


def where_traded(ratio: pl.Expr, n_bars: int) -> pl.Expr:
    """`ratio`, or 0 where nothing was traded for `n_bars`."""
    busiest = pl.col("volume").rolling_max(n_bars, min_samples=1)
    return pl.when(busiest > 0).then(ratio).otherwise(0.0)
