"""TA-Lib's indicators and other columns that both a textbook column and a model's input show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import polars as pl
import polars_talib as ta

from candlecast.domain import volatility

_HIGH, _LOW, _CLOSE, _VOLUME = (pl.col(name) for name in ("high", "low", "close", "volume"))


def macd_line() -> pl.Expr:
    """EMA(12) - EMA(26) of the close; NaN for the first 33 bars."""
    line: pl.Expr = ta.macd(_CLOSE, 12, 26, 9).struct.field("macd")
    return line


def macd_signal_line() -> pl.Expr:
    """EMA(9) of `macd_line`; NaN for the first 33 bars."""
    line: pl.Expr = ta.macd(_CLOSE, 12, 26, 9).struct.field("macdsignal")
    return line


def stochastic_k() -> pl.Expr:
    """Slow %K: the close within the range of 14 bars, averaged over 3 bars, in [0, 100]."""
    slow: pl.Expr = ta.stoch(_HIGH, _LOW, _CLOSE, 14, 3, 0, 3, 0).struct.field("slowk")
    return slow.clip(0.0, 100.0)


def two_bar_spread() -> pl.Expr:
    """Spread over price that the ranges of two bars imply (Corwin and Schultz 2012), >= 0.

    The range of two bars holds twice the variance of one but the spread only once. A gap between
    the bars is taken out first: the later one is moved until it touches the earlier close.
    """
    gap = pl.max_horizontal(_LOW / _CLOSE.shift(), 1.0) * pl.min_horizontal(
        _HIGH / _CLOSE.shift(), 1.0
    )
    highest = pl.max_horizontal(_HIGH / gap, _HIGH.shift())
    widest = (highest / pl.min_horizontal(_LOW / gap, _LOW.shift())).log()
    square = (_HIGH / _LOW).log() ** 2
    both = (square + square.shift()).sqrt()
    weight = 3 - 2 * math.sqrt(2)
    alpha = both * ((math.sqrt(2) - 1) / weight) - widest / math.sqrt(weight)
    return 2 * (alpha.clip(lower_bound=0.0) / 2).tanh()


INDICATORS: Final[dict[str, Callable[[], pl.Expr]]] = {
    "adx_index": lambda: ta.adx(_HIGH, _LOW, _CLOSE, 14),
    "average_range": lambda: ta.atr(_HIGH, _LOW, _CLOSE, 14),
    "cci_index": lambda: ta.cci(_HIGH, _LOW, _CLOSE, 20),
    "deviation_20": lambda: ta.stddev(_CLOSE, 20, 1.0),
    "macd_line": macd_line,
    "macd_signal_line": macd_signal_line,
    "mean_20": lambda: ta.sma(_CLOSE, 20),
    "mean_50": lambda: ta.sma(_CLOSE, 50),
    "mfi_index": lambda: ta.mfi(_HIGH, _LOW, _CLOSE, _VOLUME, 14),
    "on_balance_volume": lambda: ta.obv(_CLOSE, _VOLUME),
    "rsi_index": lambda: ta.rsi(_CLOSE, 14),
    "stochastic_k": stochastic_k,
    "two_bar_spread": two_bar_spread,
    "yang_zhang_variance": lambda: volatility.yang_zhang_variance(20),
    "williams_percent": lambda: ta.willr(_HIGH, _LOW, _CLOSE, 14),
}
"""Columns for `INPUTS`, unguarded: what a still price makes of them is the features' business."""
