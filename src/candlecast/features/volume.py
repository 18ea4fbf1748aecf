"""Volume: unusual activity, its direction, and how far a traded sum moves the price."""

from __future__ import annotations

import polars as pl
import polars_talib as ta

from candlecast.domain.catalog import feature
from candlecast.features.inputs import log_ratio, unless_still, where_traded


@feature("volume_z_63", warmup_bars=63)
def volume_z_63() -> pl.Expr:
    """Logarithm of the bar's volume against 63 bars: deviations from the mean.

    Returns
    -------
    Expr : in [-5, 5]; 0 where the volume is constant or nothing is traded.
    """
    level = pl.col("log_volume")
    deviation = level.rolling_std(63, min_samples=20)
    z = (level - level.rolling_mean(63, min_samples=20)) / deviation
    return pl.when(deviation > 1e-3).then(z.clip(-5.0, 5.0)).otherwise(0.0)


@feature("obv_change_21", warmup_bars=60)
def obv_change_21() -> pl.Expr:
    """Change of the on-balance volume over 21 bars, as a share of the volume traded in them.

    Returns
    -------
    Expr : in [-1, 1]; 0 where nothing is traded.

    References
    ----------
    Granville (1963), New Key to Stock Market Profits; TA-Lib's OBV.
    """
    change = ta.obv(pl.col("close"), pl.col("volume")).diff(21)
    total = pl.col("volume").rolling_sum(21, min_samples=1)
    return where_traded((change / total).clip(-1.0, 1.0), 21)


@feature("mfi_14", warmup_bars=60)
def mfi_14() -> pl.Expr:
    """Money flow index of 14 bars, from only falling (-1) to only rising (1) typical prices.

    Returns
    -------
    Expr : in [-1, 1], (MFI - 50) / 50; 0 where the price stood still or nothing is traded.

    References
    ----------
    Quong and Soudack (1989), Technical Analysis of Stocks and Commodities 7(3); TA-Lib's MFI.
    """
    high, low, close = pl.col("high"), pl.col("low"), pl.col("close")
    index = ta.mfi(high, low, close, pl.col("volume"), 14) / 50 - 1
    return where_traded(unless_still(index.clip(-1.0, 1.0), 0.0, 15), 14)


@feature("amihud_21", warmup_bars=126)
def amihud_21() -> pl.Expr:
    """Illiquidity of 21 bars over that of up to 252 bars, as a logarithm.

    Illiquidity is the mean of |return| over traded sum; bars without a trade are left out.

    Returns
    -------
    Expr : in [-3, 3]; 0 where there is no move or no trade to measure it by.

    References
    ----------
    Amihud (2002), Journal of Financial Markets 5(1), eq. 1.
    """
    traded = pl.col("close") * pl.col("volume")
    bar = pl.when(traded > 0).then(pl.col("log_return").abs() / traded)
    short, long = (bar.rolling_mean(n, min_samples=n // 4).clip(lower_bound=0.0) for n in (21, 252))
    is_known = bar.rolling_max(252, min_samples=1) > 0
    return pl.when(is_known).then(log_ratio(short, long)).fill_null(0.0)


@feature("volume_level", warmup_bars=0, is_input=False)
def volume_level() -> pl.Expr:
    """Volume of the bar, in units traded: shown, never seen by a model.

    Returns
    -------
    Expr : units, adjusted for splits like the prices, >= 0.
    """
    return pl.col("volume")


@feature("obv_level_63", warmup_bars=63, is_input=False)
def obv_level_63() -> pl.Expr:
    """On-balance volume gathered over 63 bars, in units: shown, never seen by a model.

    Counted from a fixed number of bars back, because a sum from the first bar on never forgets
    where it began.

    Returns
    -------
    Expr : units, adjusted for splits like the prices.

    References
    ----------
    Granville (1963), New Key to Stock Market Profits; TA-Lib's OBV.
    """
    gathered: pl.Expr = ta.obv(pl.col("close"), pl.col("volume")).diff(63)
    return gathered
