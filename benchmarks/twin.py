"""Features that TA-Lib does not have, by NumPy on matrices of time x symbol: no gaps, no groups."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain import volatility
from candlecast.features.inputs import WIDEST_LOG_RATIO, WIDEST_MOVE

Matrix = NDArray[np.float64]
FIELDS = ("open", "high", "low", "close", "volume")


def matrices(prices: pl.DataFrame, n_symbols: int) -> dict[str, Matrix]:
    """(n_bars, n_symbols) of each field, from PRICES whose symbols have bars at the same times."""
    return {
        name: np.ascontiguousarray(prices[name].to_numpy().reshape(n_symbols, -1).T)
        for name in FIELDS
    }


def column(matrix: Matrix) -> Matrix:
    """A matrix as a column in the order of PRICES."""
    return np.ascontiguousarray(matrix.T).reshape(-1)


def twin(fields: dict[str, Matrix]) -> dict[str, Matrix]:
    """The features of `NAMES`; what is warm-up in ours may be any number here."""
    with np.errstate(all="ignore"):
        market = _Market(fields)
        return {name: make(market) for name, make in NAMES.items()}


class _Market:
    """What several features share."""

    def __init__(self, fields: dict[str, Matrix]) -> None:
        self.open, self.high, self.low, self.close, self.volume = (fields[n] for n in FIELDS)
        self.log_close = np.log(self.close)
        self.log_return = shifted_difference(self.log_close, 1)
        squared = self.log_return**2
        self.ewma = ewm_mean(squared, 1 - volatility.EWMA_DECAY)
        share = volatility.LONG_RUN_SHARE
        long_run = rolling_mean(squared, volatility.LONG_RUN_BARS)
        self.scale = np.sqrt((1 - share) * self.ewma + share * long_run)
        overnight = np.log(self.open / shifted(self.close, 1)) ** 2
        span, body = np.log(self.high / self.low) ** 2, np.log(self.close / self.open) ** 2
        self.parkinson = span / (4 * math.log(2))
        body_share = 2 * math.log(2) - 1
        self.bar_variance = overnight + np.maximum(0.5 * span - body_share * body, 0.0)

    def per_scale(self, move: Matrix, n_bars: int = 1) -> Matrix:
        return np.clip(move / (self.scale * math.sqrt(n_bars)), -WIDEST_MOVE, WIDEST_MOVE)

    def ratio(self, variance: Matrix) -> Matrix:
        half = 0.5 * np.log(variance / self.scale**2)
        return np.clip(half, -WIDEST_LOG_RATIO, WIDEST_LOG_RATIO)

    def har(self, n_bars: int) -> Matrix:
        return self.ratio(rolling_mean(self.bar_variance, n_bars))

    def momentum(self, n_bars: int) -> Matrix:
        return self.per_scale(shifted_difference(self.log_close, n_bars), n_bars)

    def downside_share(self) -> Matrix:
        losses = rolling_mean(np.minimum(self.log_return, 0.0) ** 2, 22)
        return losses / rolling_mean(self.log_return**2, 22)

    def range_position(self) -> Matrix:
        highest, lowest = rolling_max(self.high, 63), -rolling_max(-self.low, 63)
        return (self.close - lowest) / (highest - lowest)

    def amihud(self) -> Matrix:
        bar = np.abs(self.log_return) / (self.close * self.volume)
        ratio = np.log(rolling_mean(bar, 21) / rolling_mean(bar, 252))
        return np.clip(ratio, -WIDEST_LOG_RATIO, WIDEST_LOG_RATIO)

    def quarter_ago(self) -> Matrix:
        return self.ratio(rolling_max(shifted(self.bar_variance, 60), 6))


NAMES: dict[str, Callable[[_Market], Matrix]] = {
    "return_1": lambda m: m.per_scale(m.log_return),
    "return_5": lambda m: m.momentum(5),
    "return_21": lambda m: m.momentum(21),
    "overnight_gap": lambda m: m.per_scale(np.log(m.open / shifted(m.close, 1))),
    "absolute_return_1": lambda m: m.per_scale(np.abs(m.log_return)),
    "har_1": lambda m: m.har(1),
    "har_5": lambda m: m.har(5),
    "har_22": lambda m: m.har(22),
    "har_66": lambda m: m.har(66),
    "har_252": lambda m: m.har(252),
    "quarter_ago_63": _Market.quarter_ago,
    "ewma_ratio": lambda m: m.ratio(m.ewma),
    "absolute_ewma_ratio": lambda m: m.ratio(
        ewm_mean(np.abs(m.log_return), 1 - volatility.EWMA_DECAY) ** 2
    ),
    "volatility_level": lambda m: np.log(m.scale),
    "parkinson_ratio_10": lambda m: m.ratio(rolling_mean(m.parkinson, 10)),
    "downside_share_22": _Market.downside_share,
    "high_distance_252": lambda m: m.per_scale(np.log(m.close / rolling_max(m.high, 252)), 252),
    "range_position_63": _Market.range_position,
    "amihud_21": _Market.amihud,
    "market_return_1": lambda m: np.broadcast_to(
        m.per_scale(m.log_return).mean(axis=1, keepdims=True), m.close.shape
    ),
    "market_dispersion_1": lambda m: np.broadcast_to(
        m.per_scale(m.log_return).std(axis=1, keepdims=True), m.close.shape
    ),
    "market_volatility_5": lambda m: np.broadcast_to(
        np.median(m.har(5), axis=1, keepdims=True), m.close.shape
    ),
    "return_rank_21": lambda m: (
        (np.argsort(np.argsort(m.momentum(21).round(6), axis=1), axis=1) + 0.5) / m.close.shape[1]
        - 0.5
    ),
}
"""What the twin computes, by the name of our feature."""


def shifted(values: Matrix, n_bars: int) -> Matrix:
    """The values `n_bars` before; NaN at the start."""
    moved = np.full_like(values, np.nan)
    moved[n_bars:] = values[:-n_bars]
    return moved


def shifted_difference(values: Matrix, n_bars: int) -> Matrix:
    """Each value less the one `n_bars` before."""
    return values - shifted(values, n_bars)


def rolling_mean(values: Matrix, n_bars: int) -> Matrix:
    """Mean of the last `n_bars`, by sums from the first bar on; NaN at the start counts as 0."""
    if n_bars == 1:
        return values
    sums = np.cumsum(np.nan_to_num(values), axis=0)
    means = np.empty_like(values)
    means[:n_bars] = sums[:n_bars] / np.arange(0, n_bars)[:, None]  # the first return is missing
    means[n_bars:] = (sums[n_bars:] - sums[:-n_bars]) / n_bars
    return means


def rolling_max(values: Matrix, n_bars: int) -> Matrix:
    """Greatest of the last `n_bars`, by doubling."""
    found, width = np.nan_to_num(values, nan=-np.inf), 1
    while width < n_bars:
        step = min(width, n_bars - width)
        wider = found.copy()
        np.maximum(found[step:], found[:-step], out=wider[step:])
        found, width = wider, width + step
    return found


def ewm_mean(values: Matrix, alpha: float) -> Matrix:
    """Exponentially weighted mean from the second bar on, one step of time after the other."""
    means = np.full_like(values, np.nan)
    total, weight = np.zeros(values.shape[1]), 0.0
    for place in range(1, len(values)):
        total = (1 - alpha) * total + values[place]
        weight = (1 - alpha) * weight + 1
        means[place] = total / weight
    return means
