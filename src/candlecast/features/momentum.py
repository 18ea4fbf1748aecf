"""Momentum: returns in units of the symbol's volatility, and bounded oscillators."""

from __future__ import annotations

import polars as pl
import polars_talib as ta

from candlecast.domain.catalog import feature
from candlecast.features.inputs import STILL_BARS, per_scale, unless_flat, unless_still


@feature("return_1", warmup_bars=60)
def return_1() -> pl.Expr:
    """Log return of the last bar, in units of the volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.
    """
    return per_scale(pl.col("log_return"))


@feature("return_5", warmup_bars=60)
def return_5() -> pl.Expr:
    """Log return of the last 5 bars, in units of the volatility over 5 bars.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.
    """
    return per_scale(pl.col("close").log().diff(5), 5)


@feature("return_21", warmup_bars=60)
def return_21() -> pl.Expr:
    """Log return of the last 21 bars, in units of the volatility over 21 bars.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.

    References
    ----------
    Jegadeesh (1990), Journal of Finance 45(3): returns over a month.
    """
    return per_scale(pl.col("close").log().diff(21), 21)


@feature("overnight_gap", warmup_bars=60)
def overnight_gap() -> pl.Expr:
    """Log return from the previous close to the open, in units of the volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.
    """
    return per_scale((pl.col("open") / pl.col("close").shift()).log())


@feature("rate_of_change_10", warmup_bars=60)
def rate_of_change_10() -> pl.Expr:
    """Simple return of the last 10 bars, in units of the volatility over 10 bars.

    Returns
    -------
    Expr : in [-10, 10]; null where the volatility is.

    References
    ----------
    TA-Lib's ROCP.
    """
    return per_scale(ta.rocp(pl.col("close"), 10), 10)


@feature("rsi_14", warmup_bars=100)
def rsi_14() -> pl.Expr:
    """Relative strength index of 14 bars, from only losses (-1) to only gains (1).

    Returns
    -------
    Expr : in [-1, 1], (RSI - 50) / 50; 0 where the price stood still.

    References
    ----------
    Wilder (1978), New Concepts in Technical Trading Systems, section VI; TA-Lib's RSI.
    """
    index = pl.col("rsi_index") / 50 - 1
    return pl.when(pl.col("still_closes") < STILL_BARS - 1).then(index).otherwise(0.0)


@feature("stochastic_14", warmup_bars=60, settling_bars=0)
def stochastic_14() -> pl.Expr:
    """Slow stochastic oscillator: the close within 14 bars' range, averaged over 3 bars.

    Returns
    -------
    Expr : in [-1, 1]; 0 where the price stood still.

    References
    ----------
    Lane (1984), Technical Analysis of Stocks and Commodities 2(3); TA-Lib's STOCH.
    """
    return unless_flat(pl.col("stochastic_k") / 50 - 1, 0.0, 16)


@feature("williams_r_14", warmup_bars=60, settling_bars=0)
def williams_r_14() -> pl.Expr:
    """Williams' %R: the close within the range of 14 bars, not averaged.

    Returns
    -------
    Expr : in [-1, 1], %R / 50 + 1; 0 where the price stood still.

    References
    ----------
    Williams (1979), How I Made One Million Dollars; TA-Lib's WILLR.
    """
    return unless_flat((pl.col("williams_percent") / 50 + 1).clip(-1.0, 1.0), 0.0, 14)


@feature("cci_20", warmup_bars=60, settling_bars=0)
def cci_20() -> pl.Expr:
    """Commodity channel index of 20 bars over 100: the typical price against its average.

    Returns
    -------
    Expr : in [-7, 7]; 0 where the typical price stood still.

    References
    ----------
    Lambert (1980), Commodities 9(10); TA-Lib's CCI.
    """
    return unless_still(pl.col("cci_index") / 100, 0.0, 20)


@feature("bollinger_position_20", warmup_bars=60, settling_bars=0)
def bollinger_position_20() -> pl.Expr:
    """Bollinger's %b: 0 on the lower band of 20 bars and 2 deviations, 1 on the upper.

    Returns
    -------
    Expr : in [-1, 2]; 0.5 where the close stood still.

    References
    ----------
    Bollinger (2001), Bollinger on Bollinger Bands; TA-Lib's BBANDS.
    """
    deviations = (pl.col("close") - pl.col("mean_20")) / pl.col("deviation_20")
    position = (deviations / 4 + 0.5).clip(-1.0, 2.0)
    return pl.when(pl.col("still_closes") < 19).then(position).otherwise(0.5)
