"""Levels: the bar, its averages and bands in units of the quote currency, as charts show them.

They are stored and shown and no model's input. Prices are adjusted, as all of PRICES are.
"""

from __future__ import annotations

import polars as pl
import polars_talib as ta

from candlecast.domain.catalog import feature


@feature("open_price", warmup_bars=0, is_input=False, settling_bars=0)
def open_price() -> pl.Expr:
    """Price at which the bar began.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; never null.
    """
    return pl.col("open")


@feature("high_price", warmup_bars=0, is_input=False, settling_bars=0)
def high_price() -> pl.Expr:
    """Highest price of the bar.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; never null.
    """
    return pl.col("high")


@feature("low_price", warmup_bars=0, is_input=False, settling_bars=0)
def low_price() -> pl.Expr:
    """Lowest price of the bar.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; never null.
    """
    return pl.col("low")


@feature("close_price", warmup_bars=0, is_input=False, settling_bars=0)
def close_price() -> pl.Expr:
    """Price at which the bar ended.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; never null.
    """
    return pl.col("close")


@feature("sma_5", warmup_bars=4, is_input=False, settling_bars=0)
def sma_5() -> pl.Expr:
    """Simple average of 5 closes.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null only while warming up.

    References
    ----------
    TA-Lib's SMA.
    """
    average: pl.Expr = ta.sma(pl.col("close"), 5)
    return average


@feature("sma_20", warmup_bars=19, is_input=False, settling_bars=0)
def sma_20() -> pl.Expr:
    """Simple average of 20 closes.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null only while warming up.

    References
    ----------
    TA-Lib's SMA.
    """
    return pl.col("mean_20")


@feature("sma_50", warmup_bars=49, is_input=False, settling_bars=0)
def sma_50() -> pl.Expr:
    """Simple average of 50 closes.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null only while warming up.

    References
    ----------
    TA-Lib's SMA.
    """
    return pl.col("mean_50")


@feature("ema_12", warmup_bars=60, is_input=False)
def ema_12() -> pl.Expr:
    """Exponential average of the closes, of weight 2/13, begun with a simple one of 12.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null only while warming up.

    References
    ----------
    TA-Lib's EMA.
    """
    average: pl.Expr = ta.ema(pl.col("close"), 12)
    return average


@feature("ema_26", warmup_bars=100, is_input=False)
def ema_26() -> pl.Expr:
    """Exponential average of the closes, of weight 2/27, begun with a simple one of 26.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null only while warming up.

    References
    ----------
    TA-Lib's EMA.
    """
    average: pl.Expr = ta.ema(pl.col("close"), 26)
    return average


@feature("bollinger_upper", warmup_bars=19, is_input=False, settling_bars=0)
def bollinger_upper() -> pl.Expr:
    """Upper band: the average of 20 closes plus two of their standard deviations (of all 20).

    Returns
    -------
    Expr : quote currency, adjusted, > 0; the average itself where the close stood still.

    References
    ----------
    Bollinger (2001), Bollinger on Bollinger Bands; TA-Lib's BBANDS.
    """
    return pl.col("mean_20") + _two_deviations()


@feature("bollinger_middle", warmup_bars=19, is_input=False, settling_bars=0)
def bollinger_middle() -> pl.Expr:
    """Middle of the bands: the average of 20 closes, the same as `sma_20`.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null only while warming up.

    References
    ----------
    Bollinger (2001), Bollinger on Bollinger Bands; TA-Lib's BBANDS.
    """
    return pl.col("mean_20")


@feature("bollinger_lower", warmup_bars=19, is_input=False, settling_bars=0)
def bollinger_lower() -> pl.Expr:
    """Lower band: the average of 20 closes less two of their standard deviations (of all 20).

    Returns
    -------
    Expr : quote currency, adjusted, below 0 after a crash; the average where the close stood still.

    References
    ----------
    Bollinger (2001), Bollinger on Bollinger Bands; TA-Lib's BBANDS.
    """
    return pl.col("mean_20") - _two_deviations()


@feature("macd", warmup_bars=100, is_input=False)
def macd() -> pl.Expr:
    """Moving average convergence divergence: EMA(12) - EMA(26) of the closes.

    Returns
    -------
    Expr : quote currency, adjusted; null only while warming up.

    References
    ----------
    Appel (2005), Technical Analysis, ch. 8; TA-Lib's MACD.
    """
    return pl.col("macd_line")


@feature("macd_signal", warmup_bars=100, is_input=False)
def macd_signal() -> pl.Expr:
    """Signal line: the exponential average of 9 values of `macd`.

    Returns
    -------
    Expr : quote currency, adjusted; null only while warming up.

    References
    ----------
    Appel (2005), Technical Analysis, ch. 8; TA-Lib's MACD.
    """
    return pl.col("macd_signal_line")


@feature("macd_histogram", warmup_bars=100, is_input=False)
def macd_histogram() -> pl.Expr:
    """Distance of `macd` from its signal line.

    Returns
    -------
    Expr : quote currency, adjusted; null only while warming up.

    References
    ----------
    Appel (2005), Technical Analysis, ch. 8; TA-Lib's MACD.
    """
    return pl.col("macd_line") - pl.col("macd_signal_line")


@feature("momentum_10", warmup_bars=10, is_input=False, settling_bars=0)
def momentum_10() -> pl.Expr:
    """Change of the close over 10 bars.

    Returns
    -------
    Expr : quote currency, adjusted; null only while warming up.

    References
    ----------
    TA-Lib's MOM.
    """
    change: pl.Expr = ta.mom(pl.col("close"), 10)
    return change


@feature("atr", warmup_bars=100, is_input=False)
def atr() -> pl.Expr:
    """Average true range of 14 bars, by Wilder's average.

    Returns
    -------
    Expr : quote currency, adjusted, >= 0; null only while warming up.

    References
    ----------
    Wilder (1978), New Concepts in Technical Trading Systems, section III; TA-Lib's ATR.
    """
    return pl.col("average_range")


def _two_deviations() -> pl.Expr:
    return pl.when(pl.col("still_closes") < 19).then(2 * pl.col("deviation_20")).otherwise(0.0)
