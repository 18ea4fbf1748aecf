"""Oscillators and shares in the units that people know: percent, fractions, index points.

They are stored and shown; the models see the same measures scaled to about one.
"""

from __future__ import annotations

import polars as pl
import polars_talib as ta

from candlecast.domain import volatility
from candlecast.domain.catalog import feature
from candlecast.features.inputs import STILL_BARS, unless_flat, unless_still, where_traded


@feature("rsi", warmup_bars=100, is_input=False)
def rsi() -> pl.Expr:
    """Relative strength index of 14 bars.

    Returns
    -------
    Expr : percent, from 0, only losses, to 100, only gains; 50 where the close stood still.

    References
    ----------
    Wilder (1978), New Concepts in Technical Trading Systems, section VI; TA-Lib's RSI.
    """
    does_move = pl.col("still_closes") < STILL_BARS - 1
    return pl.when(does_move).then(pl.col("rsi_index")).otherwise(50.0)


@feature("stoch_k", warmup_bars=17, is_input=False, settling_bars=0)
def stoch_k() -> pl.Expr:
    """Slow stochastic %K: the close within the range of 14 bars, averaged over 3 bars.

    Returns
    -------
    Expr : percent, from 0, the lowest low, to 100; 50 where the price stood still.

    References
    ----------
    Lane (1984), Technical Analysis of Stocks and Commodities 2(3); TA-Lib's STOCH.
    """
    return unless_flat(pl.col("stochastic_k"), 50.0, 16)


@feature("stoch_d", warmup_bars=19, is_input=False, settling_bars=0)
def stoch_d() -> pl.Expr:
    """Slow stochastic %D: the average of 3 values of %K.

    Returns
    -------
    Expr : percent, from 0 to 100; 50 where the price stood still.

    References
    ----------
    Lane (1984), Technical Analysis of Stocks and Commodities 2(3); TA-Lib's STOCH.
    """
    average = pl.col("stochastic_k").fill_nan(None).rolling_mean(3)
    return unless_flat(average.clip(0.0, 100.0), 50.0, 18)


@feature("williams_r", warmup_bars=13, is_input=False, settling_bars=0)
def williams_r() -> pl.Expr:
    """Williams' %R: how far the close is below the highest high of 14 bars.

    Returns
    -------
    Expr : percent of the range, from -100 to 0; -50 where the price stood still.

    References
    ----------
    Williams (1979), How I Made One Million Dollars; TA-Lib's WILLR.
    """
    return unless_flat(pl.col("williams_percent").clip(-100.0, 0.0), -50.0, 14)


@feature("cci", warmup_bars=19, is_input=False, settling_bars=0)
def cci() -> pl.Expr:
    """Commodity channel index of 20 bars: the typical price against its average.

    Returns
    -------
    Expr : index points, mostly within 200 of 0; 0 where the typical price stood still.

    References
    ----------
    Lambert (1980), Commodities 9(10); TA-Lib's CCI.
    """
    return unless_still(pl.col("cci_index"), 0.0, 20)


@feature("adx", warmup_bars=100, is_input=False)
def adx() -> pl.Expr:
    """Average directional index of 14 bars: how strong a trend is, whatever its direction.

    Returns
    -------
    Expr : percent, from 0 to 100; 0 where the price stood still.

    References
    ----------
    Wilder (1978), New Concepts in Technical Trading Systems, section IV; TA-Lib's ADX.
    """
    return unless_still(pl.col("adx_index"), 0.0)


@feature("mfi", warmup_bars=14, is_input=False, settling_bars=0)
def mfi() -> pl.Expr:
    """Money flow index of 14 bars: the share of the traded sum in rising typical prices.

    Returns
    -------
    Expr : percent, from 0 to 100; 50 where the price stood still or nothing is traded.

    References
    ----------
    Quong and Soudack (1989), Technical Analysis of Stocks and Commodities 7(3); TA-Lib's MFI.
    """
    index = pl.col("mfi_index").clip(0.0, 100.0) - 50
    return where_traded(unless_still(index, 0.0, 15), 14) + 50


@feature("simple_return_1", warmup_bars=1, is_input=False, settling_bars=0)
def simple_return_1() -> pl.Expr:
    """Simple return of the last bar: the close over the one before, less 1.

    Returns
    -------
    Expr : fraction, > -1; null only while warming up.

    References
    ----------
    TA-Lib's ROCP.
    """
    change: pl.Expr = ta.rocp(pl.col("close"), 1)
    return change


@feature("simple_return_5", warmup_bars=5, is_input=False, settling_bars=0)
def simple_return_5() -> pl.Expr:
    """Simple return of the last 5 bars.

    Returns
    -------
    Expr : fraction, > -1; null only while warming up.

    References
    ----------
    TA-Lib's ROCP.
    """
    change: pl.Expr = ta.rocp(pl.col("close"), 5)
    return change


@feature("simple_return_20", warmup_bars=20, is_input=False, settling_bars=0)
def simple_return_20() -> pl.Expr:
    """Simple return of the last 20 bars.

    Returns
    -------
    Expr : fraction, > -1; null only while warming up.

    References
    ----------
    TA-Lib's ROCP.
    """
    change: pl.Expr = ta.rocp(pl.col("close"), 20)
    return change


@feature("price_to_sma_20", warmup_bars=19, is_input=False, settling_bars=0)
def price_to_sma_20() -> pl.Expr:
    """How far the close is above its simple average of 20 bars.

    Returns
    -------
    Expr : fraction of the average, > -1; null only while warming up.

    References
    ----------
    TA-Lib's SMA.
    """
    return pl.col("close") / pl.col("mean_20") - 1


@feature("price_to_sma_50", warmup_bars=49, is_input=False, settling_bars=0)
def price_to_sma_50() -> pl.Expr:
    """How far the close is above its simple average of 50 bars.

    Returns
    -------
    Expr : fraction of the average, > -1; null only while warming up.

    References
    ----------
    TA-Lib's SMA.
    """
    return pl.col("close") / pl.col("mean_50") - 1


@feature("volatility_20", warmup_bars=20, is_input=False, settling_bars=0)
def volatility_20() -> pl.Expr:
    """Standard deviation (over n - 1) of the last 20 log returns.

    Returns
    -------
    Expr : log return per bar, not annualised, >= 0; 0 where the close stood still.

    References
    ----------
    Parkinson (1980), Journal of Business 53(1), eq. 1: the classical estimate.
    """
    deviation = pl.col("log_return").rolling_std(20)
    return pl.when(pl.col("still_closes") < 20).then(deviation).otherwise(0.0)


@feature("garman_klass_20", warmup_bars=19, is_input=False, settling_bars=0)
def garman_klass_20() -> pl.Expr:
    """Volatility within the last 20 bars: (ln(H/L)² / 2 - (2 ln 2 - 1) ln(C/O)²), mean, root.

    Returns
    -------
    Expr : log return per bar, not annualised, without the gaps between bars, >= 0; null only while
    warming up.

    References
    ----------
    Garman and Klass (1980), Journal of Business 53(1).
    """
    mean = volatility.garman_klass_variance().rolling_mean(20)
    return mean.clip(lower_bound=0.0).sqrt()


@feature("yang_zhang_20", warmup_bars=20, is_input=False, settling_bars=0)
def yang_zhang_20() -> pl.Expr:
    """Volatility of the last 20 bars from gaps, bodies and ranges, which no trend disturbs.

    Returns
    -------
    Expr : log return per bar, not annualised, gaps included, >= 0; null only while warming up.

    References
    ----------
    Yang and Zhang (2000), Journal of Business 73(3), eq. 7, with their k for n = 20.
    """
    return pl.col("yang_zhang_variance").sqrt()
