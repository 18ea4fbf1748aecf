"""Volume: unusual activity, its direction, and how far a traded sum moves the price."""

from __future__ import annotations

import polars as pl

from candlecast.domain.catalog import feature
from candlecast.features.inputs import log_ratio, unless_flat, unless_still, where_traded
from candlecast.features.volume_profile import N_BARS, N_BINS, bin_of


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


@feature("obv_change_21", warmup_bars=60, settling_bars=0)
def obv_change_21() -> pl.Expr:
    """Change of the on-balance volume over 21 bars, as a share of the volume traded in them.

    Returns
    -------
    Expr : in [-1, 1]; 0 where nothing is traded.

    References
    ----------
    Granville (1963), New Key to Stock Market Profits; TA-Lib's OBV.
    """
    change = pl.col("on_balance_volume").diff(21)
    total = pl.col("volume").rolling_sum(21, min_samples=1)
    return where_traded((change / total).clip(-1.0, 1.0), 21)


@feature("mfi_14", warmup_bars=60, settling_bars=0)
def mfi_14() -> pl.Expr:
    """Money flow index of 14 bars, from only falling (-1) to only rising (1) typical prices.

    Returns
    -------
    Expr : in [-1, 1], (MFI - 50) / 50; 0 where the price stood still or nothing is traded.

    References
    ----------
    Quong and Soudack (1989), Technical Analysis of Stocks and Commodities 7(3); TA-Lib's MFI.
    """
    index = pl.col("mfi_index") / 50 - 1
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


@feature("poc_distance_63", warmup_bars=62, settling_bars=0)
def poc_distance_63() -> pl.Expr:
    """How far the close is above the volume profile's point of control, over the range of 63 bars.

    Returns
    -------
    Expr : in [-1, 1]; 0 where the price stood still.

    References
    ----------
    Steidlmayer (1984), Market Profile, CBOT; `features.volume_profile`.
    """
    lowest, highest = pl.col("lowest_63"), pl.col("highest_63")
    position = (pl.col("close") - lowest) / (highest - lowest)
    distance = position - (bin_of("control") + 0.5) / N_BINS
    return unless_flat(distance.clip(-1.0, 1.0), 0.0, N_BARS)


@feature("value_area_position_63", warmup_bars=62, settling_bars=0)
def value_area_position_63() -> pl.Expr:
    """Where the close stands in the volume profile's value area of 63 bars: 0 its low, 1 its high.

    Returns
    -------
    Expr : in [-1, 2]; 0.5 where the price stood still.

    References
    ----------
    Steidlmayer (1984), Market Profile, CBOT; `features.volume_profile`.
    """
    lowest, highest = pl.col("lowest_63"), pl.col("highest_63")
    place = (pl.col("close") - lowest) / (highest - lowest) * N_BINS
    width = bin_of("last") + 1 - bin_of("first")
    position = (place - bin_of("first")) / width
    return unless_flat(position.clip(-1.0, 2.0), 0.5, N_BARS)
