"""Columns that several features share, and ratios that never leave the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import polars as pl

from candlecast.domain import volatility
from candlecast.features.indicators import INDICATORS
from candlecast.features.seasons import SEASON_BARS, seasons
from candlecast.features.volume_profile import N_BARS as PROFILE_BARS
from candlecast.features.volume_profile import volume_profiles

WIDEST_LOG_RATIO: Final = 3.0
"""Logarithms of ratios are kept within this: a twentieth to twenty times."""
WIDEST_MOVE: Final = 10.0
"""Moves in units of the symbol's volatility are kept within this."""
STILL_BARS: Final = 56
"""After so many bars without a move an oscillator is neutral: it has nothing left to swing on."""


def bars_since(event: pl.Expr) -> pl.Expr:
    """How many bars ago `event` was last true; the first bar of a segment counts as one."""
    place = pl.int_range(pl.len())
    return place - pl.when(event.fill_null(True)).then(place).forward_fill()


def has_changed(*names: str) -> pl.Expr:
    """Whether any of these columns differs from the bar before."""
    return pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in names)


def log_ratio(value: pl.Expr, reference: pl.Expr) -> pl.Expr:
    """Logarithm of value / reference, within ±3: for any `value` >= 0 and `reference` > 0."""
    return (value / reference).log().clip(-WIDEST_LOG_RATIO, WIDEST_LOG_RATIO)


def log_volume(n_bars: int = 63) -> pl.Expr:
    """Logarithm of the volume over its average of `n_bars`, within ±3; 0 where there was none."""
    volume = pl.col("volume")
    ratio = log_ratio(volume, volume.rolling_mean(n_bars, min_samples=1))
    return pl.when(bars_since(volume > 0) < n_bars).then(ratio).otherwise(0.0)


INPUTS: Final[dict[str, Callable[[], pl.Expr]]] = {
    "log_return": volatility.log_return,
    "scale": volatility.scale,
    "bar_variance": volatility.bar_variance,
    "still_bars": lambda: bars_since(has_changed("high", "low", "close")),
    "still_closes": lambda: bars_since(has_changed("close")),
    "untraded_bars": lambda: bars_since(pl.col("volume") > 0),
    "log_volume": log_volume,
    "highest_63": lambda: pl.col("high").rolling_max(PROFILE_BARS, min_samples=1),
    "lowest_63": lambda: pl.col("low").rolling_min(PROFILE_BARS, min_samples=1),
    **INDICATORS,
}
"""What a feature may name beside the columns of PRICES; computed once for all of them."""

INPUT_BARS: Final = {
    "log_return": 2,
    "bar_variance": 2,
    "two_bar_spread": 3,
    "williams_percent": 14,
    "mfi_index": 15,
    "stochastic_k": 16,
    "cci_index": 20,
    "mean_20": 20,
    "deviation_20": 20,
    "yang_zhang_variance": 21,
    "mean_50": 50,
    "highest_63": PROFILE_BARS,
    "lowest_63": PROFILE_BARS,
}
"""How many bars an input depends on, its own included; one that is not named may remember more."""


class FrameInput(NamedTuple):
    """A column that no expression yields: made of all rows of PRICES in one call.

    Each value depends on `n_bars` of its segment, its own included.
    """

    compute: Callable[[pl.DataFrame], pl.Series]
    n_bars: int


FRAME_INPUTS: Final = {
    "volume_profile": FrameInput(volume_profiles, PROFILE_BARS),
    "seasons": FrameInput(seasons, SEASON_BARS),
}
"""What a feature may name as well, and name as it is: no window over such a column."""


def per_scale(move: pl.Expr, n_bars: int = 1) -> pl.Expr:
    """A log return over `n_bars` in units of its forecast volatility, within ±10."""
    unit = pl.col("scale") * math.sqrt(n_bars)
    return (move / unit).clip(-WIDEST_MOVE, WIDEST_MOVE)


def volatility_ratio(variance: pl.Expr) -> pl.Expr:
    """Logarithm of the volatility in `variance` over the symbol's forecast, within ±3."""
    half = 0.5 * (variance.clip(lower_bound=0.0) / pl.col("scale") ** 2).log()
    return half.clip(-WIDEST_LOG_RATIO, WIDEST_LOG_RATIO)


def unless_still(oscillator: pl.Expr, neutral: float, n_bars: int = STILL_BARS) -> pl.Expr:
    """`oscillator`, or `neutral` where each of the last `n_bars` was like the one before."""
    return pl.when(pl.col("still_bars") < n_bars - 1).then(oscillator).otherwise(neutral)


def unless_flat(position: pl.Expr, neutral: float, n_bars: int) -> pl.Expr:
    """`position` in the range of `n_bars`, or `neutral` where there was no range."""
    is_flat = (pl.col("still_bars") >= n_bars - 1) & (pl.col("high") == pl.col("low"))
    return pl.when(is_flat).then(neutral).otherwise(position)


def where_traded(ratio: pl.Expr, n_bars: int) -> pl.Expr:
    """`ratio`, or 0 where nothing was traded for `n_bars`."""
    return pl.when(pl.col("untraded_bars") < n_bars).then(ratio).otherwise(0.0)
