"""The columns that are only shown, once more: by TA-Lib itself, or by loops over the bars."""

from __future__ import annotations

import numpy as np
import talib

from input_twins import (
    corwin_schultz,
    garman_klass,
    is_flat,
    on_balance,
    roll,
    stands,
    unless,
    yang_zhang,
)
from naive_profile import profile
from naive_windows import back, deviation, last, still, untraded


def band(side):
    def at(x):
        upper, middle, lower = talib.BBANDS(x.c, 20, 2.0, 2.0)
        return unless(still(20, x.c), (upper, lower)[side], middle)

    return at


def stochastic(line, n):
    return lambda x: unless(is_flat(x, n), talib.STOCH(x.h, x.l, x.c, 14, 3, 0, 3, 0)[line], 50)


def money_flow(x):
    index = talib.MFI(x.h, x.l, x.c, x.v, 14)
    return unless(stands(x, 15) | untraded(14, x.v), index, 50)


def moving_vwap(x):
    out = np.full(len(x.c), np.nan)
    for i in range(19, len(x.c)):
        bars = range(i - 19, i + 1)
        volume = sum(x.v[j] for j in bars)
        if volume > 0:
            out[i] = sum((x.h[j] + x.l[j] + x.c[j]) / 3 * x.v[j] for j in bars) / volume
    return out


def illiquidity(x):
    out = np.full(len(x.c), np.nan)
    for i in range(20, len(x.c)):
        bars = [j for j in range(i - 19, i + 1) if x.v[j] > 0]
        if bars:
            out[i] = np.mean([abs(x.r[j]) / (x.c[j] * x.v[j]) for j in bars]) * 1e6
    return out


def volume_mean(x):
    return last(x.v, 20, np.mean)


def volume_ratio(x):
    with np.errstate(invalid="ignore"):
        return unless(untraded(20, x.v), x.v / volume_mean(x), np.nan)


SHOWN_TWINS = {
    "adx": lambda x: unless(stands(x, 56), talib.ADX(x.h, x.l, x.c, 14), 0),
    "amihud_20": illiquidity,
    "atr": lambda x: talib.ATR(x.h, x.l, x.c, 14),
    "bollinger_lower": band(1),
    "bollinger_middle": lambda x: talib.BBANDS(x.c, 20, 2.0, 2.0)[1],
    "bollinger_upper": band(0),
    "cci": lambda x: unless(stands(x, 20), talib.CCI(x.h, x.l, x.c, 20), 0),
    "close_price": lambda x: x.c,
    "corwin_schultz_spread": corwin_schultz,
    "ema_12": lambda x: talib.EMA(x.c, 12),
    "ema_26": lambda x: talib.EMA(x.c, 26),
    "garman_klass_20": lambda x: np.sqrt(garman_klass(x)),
    "high_price": lambda x: x.h,
    "hour_of_day": lambda x: np.array([t.hour + t.minute / 60 for t in x.segment["ts"].to_list()]),
    "low_price": lambda x: x.l,
    "macd": lambda x: talib.MACD(x.c, 12, 26, 9)[0],
    "macd_histogram": lambda x: talib.MACD(x.c, 12, 26, 9)[2],
    "macd_signal": lambda x: talib.MACD(x.c, 12, 26, 9)[1],
    "mfi": money_flow,
    "momentum_10": lambda x: x.c - back(x.c, 10),
    "month": lambda x: np.array([float(t.month) for t in x.segment["ts"].to_list()]),
    "obv": lambda x: on_balance(x, 63),
    "open_price": lambda x: x.o,
    "price_to_sma_20": lambda x: x.c / last(x.c, 20, np.mean) - 1,
    "price_to_sma_50": lambda x: x.c / last(x.c, 50, np.mean) - 1,
    "roll_spread": lambda x: np.maximum(roll(x, 20), 0),
    "rsi": lambda x: unless(still(56, x.c), talib.RSI(x.c, 14), 50),
    "simple_return_1": lambda x: x.c / back(x.c, 1) - 1,
    "simple_return_5": lambda x: x.c / back(x.c, 5) - 1,
    "simple_return_20": lambda x: x.c / back(x.c, 20) - 1,
    "sma_5": lambda x: last(x.c, 5, np.mean),
    "sma_20": lambda x: last(x.c, 20, np.mean),
    "sma_50": lambda x: last(x.c, 50, np.mean),
    "stoch_d": stochastic(1, 18),
    "stoch_k": stochastic(0, 16),
    "value_area_high": lambda x: profile(x)[2],
    "value_area_low": lambda x: profile(x)[1],
    "volatility_20": lambda x: last(x.r, 20, deviation),
    "volume": lambda x: x.v,
    "volume_poc": lambda x: profile(x)[0],
    "volume_ratio_20": volume_ratio,
    "volume_sma_20": volume_mean,
    "vwap": moving_vwap,
    "williams_r": lambda x: unless(is_flat(x, 14), talib.WILLR(x.h, x.l, x.c, 14), -50),
    "yang_zhang_20": lambda x: np.sqrt(yang_zhang(x)),
}
UNITS = (
    *("open_price", "high_price", "low_price", "close_price", "sma_5", "sma_20", "sma_50"),
    *("ema_12", "ema_26", "bollinger_lower", "bollinger_middle", "bollinger_upper"),
    *("macd", "macd_signal", "macd_histogram", "momentum_10", "atr", "vwap"),
    *("volume_poc", "value_area_high", "value_area_low"),
    *("volume", "volume_sma_20", "obv", "amihud_20"),
)
"""What is counted in the quote currency or in units traded; the others are pure numbers."""
