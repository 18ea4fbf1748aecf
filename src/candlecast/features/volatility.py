"""Volatility: recent against forecast volatility on several horizons, its asymmetry and change."""

from __future__ import annotations

import polars as pl

from candlecast.domain import volatility
from candlecast.domain.catalog import feature
from candlecast.features.inputs import per_scale, volatility_ratio


def _har(n_bars: int) -> pl.Expr:
    mean = pl.col("bar_variance").rolling_mean(n_bars, min_samples=max(1, n_bars // 2))
    return volatility_ratio(mean)


@feature("har_1", warmup_bars=60)
def har_1() -> pl.Expr:
    """Volatility of the last bar over the symbol's forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Corsi (2009), Journal of Financial Econometrics 7(2), eq. 6: the daily component.
    """
    return _har(1)


@feature("har_5", warmup_bars=60)
def har_5() -> pl.Expr:
    """Volatility of the last 5 bars over the symbol's forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Corsi (2009), Journal of Financial Econometrics 7(2), eq. 6: the weekly component.
    """
    return _har(5)


@feature("har_22", warmup_bars=60)
def har_22() -> pl.Expr:
    """Volatility of the last 22 bars over the symbol's forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Corsi (2009), Journal of Financial Econometrics 7(2), eq. 6: the monthly component.
    """
    return _har(22)


@feature("har_66", warmup_bars=66)
def har_66() -> pl.Expr:
    """Volatility of the last 66 bars over the symbol's forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Corsi (2009), Journal of Financial Econometrics 7(2), eq. 6, continued to a quarter.
    """
    return _har(66)


@feature("har_252", warmup_bars=126)
def har_252() -> pl.Expr:
    """Volatility of up to 252 bars over the symbol's forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Corsi (2009), Journal of Financial Econometrics 7(2), eq. 6, continued to a year.
    """
    return _har(252)


@feature("quarter_ago_63", warmup_bars=66)
def quarter_ago_63() -> pl.Expr:
    """Volatility of the wildest of the bars 60 to 65 bars ago over the forecast, as a logarithm.

    Stocks report every quarter, and on such days they move.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Patell and Wolfson (1981), Journal of Accounting Research 19(2).
    """
    return volatility_ratio(pl.col("bar_variance").shift(60).rolling_max(6, min_samples=1))


@feature("ewma_ratio", warmup_bars=60)
def ewma_ratio() -> pl.Expr:
    """EWMA volatility of the close-to-close returns over the forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 0.12]; null where the volatility is. Far below 0 in an unusual calm.

    References
    ----------
    RiskMetrics Technical Document (1996), section 5.2.
    """
    return volatility_ratio(volatility.ewma_variance())


@feature("absolute_ewma_ratio", warmup_bars=60)
def absolute_ewma_ratio() -> pl.Expr:
    """EWMA of the absolute returns over the forecast volatility, as a logarithm.

    Near -0.23 for normal returns, lower where few large moves make the volatility.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Ding, Granger and Engle (1993), Journal of Empirical Finance 1(1).
    """
    size = pl.col("log_return").abs()
    mean = size.ewm_mean(alpha=1 - volatility.EWMA_DECAY, ignore_nulls=True, min_samples=20)
    return volatility_ratio(mean**2)


@feature("volatility_level", warmup_bars=60)
def volatility_level() -> pl.Expr:
    """Logarithm of the symbol's forecast volatility per bar: high levels fall, low ones rise.

    Returns
    -------
    Expr : in [-14, 3], e.g. -4.6 for 1 % a bar; null where the volatility is.

    References
    ----------
    Mean reversion of log volatility: Taylor (1986), Modelling Financial Time Series.
    """
    return pl.col("scale").log()


@feature("parkinson_ratio_10", warmup_bars=60)
def parkinson_ratio_10() -> pl.Expr:
    """Volatility from the ranges of 10 bars over the forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Parkinson (1980), Journal of Business 53(1).
    """
    return volatility_ratio(volatility.parkinson_variance().rolling_mean(10, min_samples=5))


@feature("garman_klass_ratio_20", warmup_bars=60)
def garman_klass_ratio_20() -> pl.Expr:
    """Volatility within 20 bars, without the gaps before them, over the forecast: a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Garman and Klass (1980), Journal of Business 53(1).
    """
    return volatility_ratio(volatility.garman_klass_variance().rolling_mean(20, min_samples=10))


@feature("yang_zhang_ratio_20", warmup_bars=60)
def yang_zhang_ratio_20() -> pl.Expr:
    """Volatility of 20 bars, from gaps, ranges and bodies, over the forecast, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Yang and Zhang (2000), Journal of Business 73(3), eq. 7.
    """
    return volatility_ratio(pl.col("yang_zhang_variance"))


@feature("atr_ratio_14", warmup_bars=100)
def atr_ratio_14() -> pl.Expr:
    """Average true range of 14 bars over close and forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Wilder (1978), New Concepts in Technical Trading Systems, section III; TA-Lib's ATR.
    """
    return volatility_ratio((pl.col("average_range") / pl.col("close")) ** 2)


@feature("bollinger_width_20", warmup_bars=60)
def bollinger_width_20() -> pl.Expr:
    """Deviation of 20 closes over their average and the forecast volatility, as a logarithm.

    Returns
    -------
    Expr : in [-3, 3]; null where the volatility is.

    References
    ----------
    Bollinger (2001), Bollinger on Bollinger Bands; TA-Lib's BBANDS.
    """
    return volatility_ratio((pl.col("deviation_20") / pl.col("mean_20")) ** 2)


@feature("downside_share_22", warmup_bars=60, settling_bars=0)
def downside_share_22() -> pl.Expr:
    """Share of the squared returns of 22 bars that came from losses: the leverage effect.

    Returns
    -------
    Expr : in [0, 1]; 0.5 where the price stood still.

    References
    ----------
    Barndorff-Nielsen, Kinnebrock and Shephard (2010), Measuring downside risk.
    """
    returns = pl.col("log_return")
    total = (returns**2).rolling_sum(22, min_samples=1)
    losses = (returns.clip(upper_bound=0.0) ** 2).rolling_sum(22, min_samples=1)
    is_moving = total > 22 * volatility.LEAST_VARIANCE
    return pl.when(is_moving).then((losses / total).clip(0.0, 1.0)).otherwise(0.5)


@feature("absolute_return_1", warmup_bars=60)
def absolute_return_1() -> pl.Expr:
    """Size of the last bar's log return, in units of the volatility.

    Returns
    -------
    Expr : in [0, 10]; null where the volatility is.

    References
    ----------
    Ding, Granger and Engle (1993), Journal of Empirical Finance 1(1).
    """
    return per_scale(pl.col("log_return").abs())


@feature("vol_of_vol_22", warmup_bars=82)
def vol_of_vol_22() -> pl.Expr:
    """Standard deviation over 22 bars of the logarithm of each bar's volatility.

    Returns
    -------
    Expr : in [0, 3.1]; null where the volatility is.

    References
    ----------
    Corsi, Mittnik, Pigorsch and Pigorsch (2008), Econometric Reviews 27(1-3).
    """
    return volatility_ratio(pl.col("bar_variance")).rolling_std(22, min_samples=11)
