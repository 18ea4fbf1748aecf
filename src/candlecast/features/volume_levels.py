"""Volume in the units people know: what was traded, on average, on which side and at which price.

They are stored and shown and no model's input.
"""

from __future__ import annotations

import polars as pl
import polars_talib as ta

from candlecast.domain.catalog import feature
from candlecast.features.inputs import where_traded
from candlecast.features.volume_profile import N_BINS, bin_of


@feature("volume", warmup_bars=0, is_input=False, settling_bars=0)
def volume() -> pl.Expr:
    """Volume of the bar.

    Returns
    -------
    Expr : units, adjusted for splits like the prices, >= 0; never null.
    """
    return pl.col("volume")


@feature("vwap", warmup_bars=19, is_input=False, settling_bars=0)
def vwap() -> pl.Expr:
    """Average of 20 typical prices, (high + low + close) / 3, weighted with the volume.

    It moves along with a fixed number of bars instead of beginning anew each session, so that it
    means the same on daily bars and needs no more than its window.

    Returns
    -------
    Expr : quote currency, adjusted, > 0; null where nothing is traded in all 20 bars.

    References
    ----------
    Berkowitz, Logue and Noser (1988), Journal of Finance 43(1).
    """
    typical = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
    traded = pl.col("volume").rolling_sum(20)
    average = (typical * pl.col("volume")).rolling_sum(20) / traded
    return pl.when(pl.col("untraded_bars") < 20).then(average)


@feature("obv", warmup_bars=63, is_input=False, settling_bars=0)
def obv() -> pl.Expr:
    """On-balance volume gathered over 63 bars: volume of rising closes less that of falling ones.

    Counted from a fixed number of bars back, because a sum from the first bar on never forgets
    where it began.

    Returns
    -------
    Expr : units, adjusted for splits like the prices; 0 where nothing is traded.

    References
    ----------
    Granville (1963), New Key to Stock Market Profits; TA-Lib's OBV.
    """
    return where_traded(pl.col("on_balance_volume").diff(63), 63)


@feature("volume_sma_20", warmup_bars=19, is_input=False, settling_bars=0)
def volume_sma_20() -> pl.Expr:
    """Simple average of the volume of 20 bars.

    Returns
    -------
    Expr : units, adjusted for splits like the prices, >= 0; 0 where nothing is traded.

    References
    ----------
    TA-Lib's SMA.
    """
    return where_traded(ta.sma(pl.col("volume"), 20), 20)


@feature("volume_ratio_20", warmup_bars=19, is_input=False, settling_bars=0)
def volume_ratio_20() -> pl.Expr:
    """Volume of the bar over its simple average of 20 bars.

    Returns
    -------
    Expr : from 0 to 20, 1 on average; null where nothing is traded in all 20 bars.

    References
    ----------
    TA-Lib's SMA.
    """
    ratio = pl.col("volume") / ta.sma(pl.col("volume"), 20)
    return pl.when(pl.col("untraded_bars") < 20).then(ratio)


@feature("volume_poc", warmup_bars=62, is_input=False, settling_bars=0)
def volume_poc() -> pl.Expr:
    """Point of control: the price, among 24 bins, at which most of the volume of 63 bars traded.

    Returns
    -------
    Expr : quote currency, adjusted, the middle of its bin; time at price where nothing is traded.

    References
    ----------
    Steidlmayer (1984), Market Profile, CBOT; the rules stand in `features.volume_profile`.
    """
    return _price(bin_of("control") + 0.5)


@feature("value_area_high", warmup_bars=62, is_input=False, settling_bars=0)
def value_area_high() -> pl.Expr:
    """Upper end of the prices around the point of control with 70 % of the volume of 63 bars.

    Returns
    -------
    Expr : quote currency, adjusted, the edge of a bin; time at price where nothing is traded.

    References
    ----------
    Steidlmayer (1984), Market Profile, CBOT; the rules stand in `features.volume_profile`.
    """
    return _price(bin_of("last") + 1)


@feature("value_area_low", warmup_bars=62, is_input=False, settling_bars=0)
def value_area_low() -> pl.Expr:
    """Lower end of the prices around the point of control with 70 % of the volume of 63 bars.

    Returns
    -------
    Expr : quote currency, adjusted, the edge of a bin; time at price where nothing is traded.

    References
    ----------
    Steidlmayer (1984), Market Profile, CBOT; the rules stand in `features.volume_profile`.
    """
    return _price(bin_of("first"))


def _price(place: pl.Expr) -> pl.Expr:
    lowest = pl.col("lowest_63")
    return lowest + place * ((pl.col("highest_63") - lowest) / N_BINS)
