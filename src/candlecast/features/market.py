"""Market: how a symbol moves with the equal-weighted market of all symbols in time."""

from __future__ import annotations

from typing import Final

import polars as pl
import polars_talib as ta

from candlecast.domain.catalog import feature
from candlecast.domain.volatility import LEAST_VARIANCE

N_BARS: Final = 126
BASIS_POINTS: Final = 1e4
"""TA-Lib takes variances near 1e-14 for none, which those of a minute are not."""
_RETURNS: Final = ("simple_return_1", "market_simple_return_1")


@feature("market_simple_return_1", warmup_bars=1, scope="universe", is_input=False)
def market_simple_return_1() -> pl.Expr:
    """Mean over all symbols of the last bar's simple return: that of an equal-weighted portfolio.

    Returns
    -------
    Expr : fraction, > -1; the symbol's own return where it is alone.
    """
    return pl.col("simple_return_1").mean()


@feature("market_beta_126", warmup_bars=126, scope="market", settling_bars=0)
def market_beta_126() -> pl.Expr:
    """Beta of 126 bars: the symbol's return for each per cent of the equal-weighted market's.

    The market is the mean over all symbols of that ts, this one among them: the betas of the
    symbols of a ts are 1 on average, and a symbol alone has 1.

    Returns
    -------
    Expr : in [-5, 5]; 0 where the symbol or the market stood still.

    References
    ----------
    Sharpe (1964), Journal of Finance 19(3).
    """
    own, market = (pl.col(name) for name in _RETURNS)
    means = own.rolling_mean(N_BARS) * market.rolling_mean(N_BARS)
    covariance = ((own * market).rolling_mean(N_BARS) - means) * (N_BARS / (N_BARS - 1))
    variance = market.rolling_var(N_BARS)
    beta = (covariance / variance).clip(-5.0, 5.0)
    return pl.when(variance > LEAST_VARIANCE).then(beta).otherwise(0.0)


@feature("market_correlation_126", warmup_bars=126, scope="market", settling_bars=0)
def market_correlation_126() -> pl.Expr:
    """Correlation of 126 returns of the symbol with those of the equal-weighted market.

    Returns
    -------
    Expr : in [-1, 1], 1 for a symbol alone; 0 where the symbol or the market stood still.

    References
    ----------
    TA-Lib's CORREL.
    """
    # The first bar has no return; no window after the warm-up begins so early.
    own, market = (pl.col(name).fill_null(0.0) * BASIS_POINTS for name in _RETURNS)
    correlation = ta.correl(own, market, N_BARS).clip(-1.0, 1.0)
    least = pl.min_horizontal(pl.col(name).rolling_var(N_BARS) for name in _RETURNS)
    return pl.when(least > LEAST_VARIANCE).then(correlation).otherwise(0.0)
