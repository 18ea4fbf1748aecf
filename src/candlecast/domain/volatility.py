"""EWMA and range estimators that features, labels and models share.

All are Polars expressions over PRICES, meant to be evaluated within a segment (`.over`), per
bar (not annualised), and causal: the value at a bar uses that bar and earlier ones.
"""

from __future__ import annotations

from typing import Final

import polars as pl

EWMA_DECAY: Final = 0.94
SCALE_WARMUP_BARS: Final = 60
LONG_RUN_SHARE: Final = 0.2
LONG_RUN_BARS: Final = 252
LEAST_VARIANCE: Final = 1e-12
"""A hundredth of a basis point per bar, squared: what is smaller is rounding, not a move."""


def log_return() -> pl.Expr:
    """Log return from the previous close; null for the first bar of a segment."""
    return pl.col("close").log().diff()


def ewma_variance(decay: float = EWMA_DECAY) -> pl.Expr:
    """Exponentially weighted mean of squared returns (RiskMetrics 1996); null while warming up."""
    squared = log_return() ** 2
    return squared.ewm_mean(alpha=1 - decay, adjust=True, ignore_nulls=True, min_samples=20)


def long_run_variance() -> pl.Expr:
    """Mean of the squared returns of the last `LONG_RUN_BARS` bars."""
    return (log_return() ** 2).rolling_mean(LONG_RUN_BARS, min_samples=SCALE_WARMUP_BARS)


def scale() -> pl.Expr:
    """The standard deviation of the next bar's log return that targets are divided by.

    Four fifths EWMA and one fifth long-run variance: shrunk, so that a quiet month of a rarely
    traded stock does not make the next move look like fifty standard deviations. Null for the
    first `SCALE_WARMUP_BARS` bars of a segment and where nothing has moved for long.
    """
    variance = (1 - LONG_RUN_SHARE) * ewma_variance() + LONG_RUN_SHARE * long_run_variance()
    is_warm = pl.int_range(pl.len()) >= SCALE_WARMUP_BARS
    return pl.when(is_warm & (variance > LEAST_VARIANCE)).then(variance.sqrt())


def parkinson_variance() -> pl.Expr:
    """Variance of one bar from its range: ln(high/low)^2 / (4 ln 2) (Parkinson 1980)."""
    return (pl.col("high") / pl.col("low")).log() ** 2 / 2.772588722239781


def garman_klass_variance() -> pl.Expr:
    """Variance of one bar from open, high, low, close (Garman and Klass 1980), floored at 0."""
    span = (pl.col("high") / pl.col("low")).log() ** 2
    body = (pl.col("close") / pl.col("open")).log() ** 2
    return (0.5 * span - 0.38629436111989057 * body).clip(lower_bound=0.0)


def rogers_satchell_variance() -> pl.Expr:
    """Variance of one bar that a trend does not disturb (Rogers and Satchell 1991), >= 0."""
    upper = (pl.col("high") / pl.col("open")).log() * (pl.col("high") / pl.col("close")).log()
    lower = (pl.col("low") / pl.col("open")).log() * (pl.col("low") / pl.col("close")).log()
    return (upper + lower).clip(lower_bound=0.0)


def yang_zhang_variance(n_bars: int) -> pl.Expr:
    """Variance per bar over `n_bars`, nights and trends included (Yang and Zhang 2000, eq. 7)."""
    share = 0.34 / (1.34 + (n_bars + 1) / (n_bars - 1))
    night = (pl.col("open") / pl.col("close").shift()).log().rolling_var(n_bars)
    day = (pl.col("close") / pl.col("open")).log().rolling_var(n_bars)
    within = rogers_satchell_variance().rolling_mean(n_bars)
    return (night + share * day + (1 - share) * within).clip(lower_bound=0.0)


def overnight_variance() -> pl.Expr:
    """Squared log return from the previous close to the open."""
    return (pl.col("open") / pl.col("close").shift()).log() ** 2


def bar_variance() -> pl.Expr:
    """Variance of one bar with what happened before its open: overnight plus Garman-Klass."""
    return overnight_variance() + garman_klass_variance()
