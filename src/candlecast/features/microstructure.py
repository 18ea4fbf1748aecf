"""Microstructure: what a trade costs and who presses, as far as bars can tell."""

from __future__ import annotations

import math

import polars as pl

from candlecast.domain.catalog import feature
from candlecast.domain.volatility import LEAST_VARIANCE
from candlecast.features.inputs import log_ratio, where_traded


@feature("amihud_20", warmup_bars=20, is_input=False, settling_bars=0)
def amihud_20() -> pl.Expr:
    """Illiquidity of 20 bars: the mean of |log return| over the traded sum, bars of no trade out.

    Returns
    -------
    Expr : log return per million of the quote currency, >= 0; null where none of them had a trade.

    References
    ----------
    Amihud (2002), Journal of Financial Markets 5(1), eq. 1.
    """
    millions = pl.col("close") * pl.col("volume") / 1e6
    bar = pl.when(millions > 0).then(pl.col("log_return").abs() / millions)
    return bar.rolling_mean(20, min_samples=1).clip(lower_bound=0.0)


@feature("roll_spread", warmup_bars=21, is_input=False, settling_bars=0)
def roll_spread() -> pl.Expr:
    """Roll's effective spread of 20 bars: 2 √-cov of each log return with the one before.

    The covariance is taken about zero, since a bar's mean return is lost in its deviation.

    Returns
    -------
    Expr : fraction of the price, >= 0; 0 where the covariance is not negative.

    References
    ----------
    Roll (1984), Journal of Finance 39(4), eq. 2.
    """
    return _signed_spread(20).clip(lower_bound=0.0)


@feature("roll_spread_ratio", warmup_bars=66)
def roll_spread_ratio() -> pl.Expr:
    """Roll's spread of 63 bars per volatility, negative where returns go on instead of bounce.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Roll (1984), Journal of Finance 39(4), eq. 2; with the sign as in Harris (1990), Journal of
    Finance 45(2).
    """
    return (_signed_spread(63) / pl.col("scale")).clip(-3.0, 3.0)


@feature("corwin_schultz_spread", warmup_bars=20, is_input=False, settling_bars=0)
def corwin_schultz_spread() -> pl.Expr:
    """Mean over 20 bars of the spread that the ranges of each two of them imply.

    Returns
    -------
    Expr : fraction of the price, >= 0; 0 where two bars imply a negative spread.

    References
    ----------
    Corwin and Schultz (2012), Journal of Finance 67(2), eq. 14 and 18, with their adjustment for
    gaps between bars.
    """
    return pl.col("two_bar_spread").rolling_mean(20).clip(lower_bound=0.0)


@feature("corwin_schultz_ratio", warmup_bars=60)
def corwin_schultz_ratio() -> pl.Expr:
    """Corwin and Schultz's spread of 20 bars over the forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Corwin and Schultz (2012), Journal of Finance 67(2), eq. 14 and 18.
    """
    spread = pl.col("two_bar_spread").rolling_mean(20).clip(lower_bound=0.0)
    return log_ratio(spread, pl.col("scale"))


@feature("signed_volume_imbalance", warmup_bars=80)
def signed_volume_imbalance() -> pl.Expr:
    """Share of the volume of 20 bars bought by pressing buyers, less that by pressing sellers.

    How much of a bar's volume was bought follows from its return in units of the volatility, by
    the normal distribution: 2Φ(z) - 1, here as its approximation tanh(z √(2/π)).

    Returns
    -------
    Expr : in [-1, 1]; 0 where nothing moves or nothing is traded.

    References
    ----------
    Easley, López de Prado and O'Hara (2012), Review of Financial Studies 25(5), bulk
    classification of volume.
    """
    z = pl.col("log_return") / pl.col("scale")
    signed = pl.col("volume") * (z * math.sqrt(2 / math.pi)).tanh().fill_null(0.0)
    total = pl.col("volume").rolling_sum(20, min_samples=1)
    return where_traded((signed.rolling_sum(20, min_samples=1) / total).clip(-1.0, 1.0), 20)


def _signed_spread(n_pairs: int) -> pl.Expr:
    # What is smaller than the least variance is rounding: its root would not be small.
    returns = pl.col("log_return")
    covariance = (returns * returns.shift()).rolling_mean(n_pairs)
    spread = -2 * covariance.sign() * covariance.abs().sqrt()
    return pl.when(covariance.abs() > LEAST_VARIANCE).then(spread).otherwise(0.0)
