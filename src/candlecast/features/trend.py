"""Trend: where the price stands against its averages, and how steadily it moves."""

from __future__ import annotations

import polars as pl
import polars_talib as ta

from candlecast.domain.catalog import feature
from candlecast.features.inputs import per_scale, unless_flat, unless_still


@feature("macd_12_26", warmup_bars=100)
def macd_12_26() -> pl.Expr:
    """Moving average convergence divergence over the close, in units of the volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.

    References
    ----------
    Appel (2005), Technical Analysis, ch. 8: EMA(12) - EMA(26); TA-Lib's MACD.
    """
    return per_scale(pl.col("macd_line") / pl.col("close"))


@feature("adx_14", warmup_bars=100)
def adx_14() -> pl.Expr:
    """Average directional index of 14 bars: how strong a trend is, whatever its direction.

    Returns
    -------
    Expr : in [0, 1]; 0 where the price stood still.

    References
    ----------
    Wilder (1978), New Concepts in Technical Trading Systems, section IV; TA-Lib's ADX.
    """
    return unless_still(pl.col("adx_index") / 100, 0.0)


@feature("trend_slope_21", warmup_bars=60)
def trend_slope_21() -> pl.Expr:
    """Slope of the least-squares line through 21 log closes, in units of the volatility.

    Returns
    -------
    Expr : rise over 21 bars, in [-10, 10]; null where the volatility is.

    References
    ----------
    TA-Lib's LINEARREG_SLOPE.
    """
    return per_scale(ta.linearreg_slope(pl.col("close").log(), 21) * 21, 21)


@feature("sma_distance_50", warmup_bars=60)
def sma_distance_50() -> pl.Expr:
    """Log distance of the close from its simple average of 50 bars, in units of the volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.

    References
    ----------
    TA-Lib's SMA.
    """
    return per_scale((pl.col("close") / pl.col("mean_50")).log(), 50)


@feature("ema_distance_20", warmup_bars=100)
def ema_distance_20() -> pl.Expr:
    """Log distance of the close from its exponential average of 20 bars, per volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.

    References
    ----------
    TA-Lib's EMA.
    """
    return per_scale((pl.col("close") / ta.ema(pl.col("close"), 20)).log(), 20)


@feature("high_distance_252", warmup_bars=126)
def high_distance_252() -> pl.Expr:
    """Log distance of the close from the highest high of up to 252 bars, per volatility.

    Returns
    -------
    Expr : in [-10, 0]; null where the volatility is.

    References
    ----------
    George and Hwang (2004), Journal of Finance 59(5): the 52-week high.
    """
    highest = pl.col("high").rolling_max(252, min_samples=126)
    return per_scale((pl.col("close") / highest).log(), 252)


@feature("range_position_63", warmup_bars=63, settling_bars=0)
def range_position_63() -> pl.Expr:
    """Where the close stands between the lowest low and the highest high of 63 bars.

    Returns
    -------
    Expr : in [0, 1]; 0.5 where the price stood still.

    References
    ----------
    Donchian's channel, as in TA-Lib's MIN and MAX.
    """
    lowest = pl.col("lowest_63")
    position = (pl.col("close") - lowest) / (pl.col("highest_63") - lowest)
    return unless_flat(position.clip(0.0, 1.0), 0.5, 63)
