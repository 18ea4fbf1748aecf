"""The inputs of models once more: by TA-Lib itself, or by loops over the bars."""

from __future__ import annotations

import math

import numpy as np
import talib

from naive_profile import profile
from naive_seasons import due, recent
from naive_windows import back, deviation, last, moved, ratio, still, untraded, weighted


def har(n, n_least):
    return lambda x: ratio(last(x.bar, n, np.mean, n_least), x.s)


def amihud(x):
    illiquidity = np.where(x.v > 0, np.abs(x.r) / (x.c * np.where(x.v > 0, x.v, 1)), np.nan)
    short, long = (last(illiquidity, n, np.mean, n // 4) for n in (21, 252))
    with np.errstate(divide="ignore"):
        return np.nan_to_num(np.clip(np.log(short / long), -3, 3))


def downside(x):
    losses = last(np.minimum(x.r, 0) ** 2, 22, np.sum, 1)
    total = last(x.r**2, 22, np.sum, 1)
    return np.where(total > 22e-12, losses / np.where(total > 0, total, 1), 0.5)


def volume_z(x):
    mean = last(x.v, 63, np.mean, 1)
    with np.errstate(divide="ignore"):
        level = np.clip(np.log(x.v / np.where(mean > 0, mean, 1)), -3, 3)
    level[untraded(63, x.v)] = 0
    spread = last(level, 63, deviation, 20)
    z = (level - last(level, 63, np.mean, 20)) / np.where(spread > 1e-3, spread, 1)
    return np.where(spread > 1e-3, np.clip(z, -5, 5), 0)


def slope(x):
    place = np.arange(21)
    return last(np.log(x.c), 21, lambda w: np.polyfit(place, w, 1)[0])


def bands(x, width):
    upper, middle, lower = talib.BBANDS(x.c, 20, width, width)
    return upper, middle, lower


def percent_b(x):
    upper, _, lower = bands(x, 2.0)
    position = np.clip((x.c - lower) / (upper - lower), -1, 2)
    return np.where(still(20, x.c), 0.5, position)


def in_range(x, price):
    lowest, highest = last(x.l, 63, np.min), last(x.h, 63, np.max)
    return (price - lowest) / (highest - lowest)


def turn(x):
    dates = x.segment["ts"]
    length = dates.dt.month_end().dt.day().to_numpy()
    return np.cos(2 * np.pi * dates.dt.day().to_numpy() / length)


def unless(is_neutral, values, neutral):
    return np.where(is_neutral, neutral, values)


def stands(x, n):
    """Whether high, low and close have stood still for `n` bars."""
    return still(n, x.h, x.l, x.c)


def is_flat(x, n):
    """Whether there has been no range at all for `n` bars."""
    return stands(x, n) & (x.h == x.l)


def on_balance(x, n):
    signed = np.sign(x.c - back(x.c, 1)) * x.v
    return last(signed, n, np.sum)


def obv_change(x):
    with np.errstate(invalid="ignore"):
        return unless(untraded(21, x.v), on_balance(x, 21) / last(x.v, 21, np.sum, 1), 0)


def yang_zhang(x, n=20):
    """Per bar: gaps, bodies and Rogers and Satchell's ranges, with the k of the paper."""
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    night = last(np.log(x.o / back(x.c, 1)), n, lambda w: np.var(w, ddof=1))
    day = last(np.log(x.c / x.o), n, lambda w: np.var(w, ddof=1))
    up, down = np.log(x.h / x.o), np.log(x.l / x.o)
    body = np.log(x.c / x.o)
    inside = last(np.maximum(up * (up - body) + down * (down - body), 0), n, np.mean)
    return night + k * day + (1 - k) * inside


def garman_klass(x, n_least=20):
    """Mean over 20 bars of the variance within them."""
    inside = 0.5 * np.log(x.h / x.l) ** 2 - (2 * math.log(2) - 1) * np.log(x.c / x.o) ** 2
    return last(np.maximum(inside, 0), 20, np.mean, n_least)


def corwin_schultz(x):
    """Equations 14 and 18 for each two bars, with the later one moved over a gap."""
    out, root = np.full(len(x.c), np.nan), math.sqrt(2)
    for i in range(1, len(x.c)):
        high, low = math.log(x.h[i]), math.log(x.l[i])
        close = math.log(x.c[i - 1])
        gap = low - close if low > close else min(high - close, 0.0)
        high, low = high - gap, low - gap
        earlier_high, earlier_low = math.log(x.h[i - 1]), math.log(x.l[i - 1])
        beta = (high - low) ** 2 + (earlier_high - earlier_low) ** 2
        gamma = (max(high, earlier_high) - min(low, earlier_low)) ** 2
        alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / (3 - 2 * root)
        alpha -= math.sqrt(gamma / (3 - 2 * root))
        out[i] = max(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)), 0.0)
    return last(out, 20, np.mean)


def roll(x, n):
    """Twice the root of the serial covariance about zero, with the other sign."""
    covariance = last(x.r * back(x.r, 1), n, np.mean)
    covariance[np.abs(covariance) <= 1e-12] = 0
    return -2 * np.sign(covariance) * np.sqrt(np.abs(covariance))


def imbalance(x):
    shares = [
        0.0 if math.isnan(r / s) else math.tanh(r / s * math.sqrt(2 / math.pi))
        for r, s in zip(x.r, x.s, strict=True)
    ]
    with np.errstate(invalid="ignore"):
        values = last(x.v * np.array(shares), 20, np.sum, 1) / last(x.v, 20, np.sum, 1)
    return unless(untraded(20, x.v), values, 0)


def spread_ratio(x):
    with np.errstate(divide="ignore"):
        return np.clip(np.log(corwin_schultz(x) / x.s), -3, 3)


def poc_distance(x):
    control = in_range(x, profile(x)[0])
    return unless(is_flat(x, 63), in_range(x, x.c) - control, 0)


def value_area(x):
    _, low, high = profile(x)
    width = np.where(is_flat(x, 63), 1, high - low)
    return unless(is_flat(x, 63), np.clip((x.c - low) / width, -1, 2), 0.5)


TWINS = {
    "absolute_ewma_ratio": lambda x: ratio(weighted(np.abs(x.r)) ** 2, x.s),
    "absolute_return_1": lambda x: moved(np.abs(x.r), 1, x.s),
    "adx_14": lambda x: unless(stands(x, 56), talib.ADX(x.h, x.l, x.c, 14) / 100, 0),
    "amihud_21": amihud,
    "atr_ratio_14": lambda x: ratio((talib.ATR(x.h, x.l, x.c, 14) / x.c) ** 2, x.s),
    "bollinger_position_20": percent_b,
    "bollinger_width_20": lambda x: ratio((bands(x, 1.0)[0] / bands(x, 1.0)[1] - 1) ** 2, x.s),
    "cci_20": lambda x: unless(stands(x, 20), talib.CCI(x.h, x.l, x.c, 20) / 100, 0),
    "corwin_schultz_ratio": spread_ratio,
    "day_of_week": lambda x: (x.segment["ts"].dt.weekday().to_numpy() - 4) / 3,
    "downside_share_22": downside,
    "ema_distance_20": lambda x: moved(np.log(x.c / talib.EMA(x.c, 20)), 20, x.s),
    "ewma_ratio": lambda x: ratio(weighted(x.r**2), x.s),
    "event_due_1": due(1, 1),
    "event_due_3": due(0, 2),
    "event_due_5": due(1, 5),
    "event_due_11": due(-2, 8),
    "event_recent_55": recent,
    "garman_klass_ratio_20": lambda x: ratio(garman_klass(x, 10), x.s),
    "har_1": har(1, 1),
    "har_5": har(5, 2),
    "har_22": har(22, 11),
    "har_66": har(66, 33),
    "har_252": har(252, 126),
    "high_distance_252": lambda x: moved(np.log(x.c / last(x.h, 252, np.max, 126)), 252, x.s),
    "macd_12_26": lambda x: moved(talib.MACD(x.c, 12, 26, 9)[0] / x.c, 1, x.s),
    "mfi_14": lambda x: unless(
        stands(x, 15) | untraded(14, x.v), talib.MFI(x.h, x.l, x.c, x.v, 14) / 50 - 1, 0
    ),
    "obv_change_21": obv_change,
    "overnight_gap": lambda x: moved(np.log(x.o / back(x.c, 1)), 1, x.s),
    "parkinson_ratio_10": lambda x: ratio(
        last(np.log(x.h / x.l) ** 2 / (4 * math.log(2)), 10, np.mean, 5), x.s
    ),
    "poc_distance_63": poc_distance,
    "quarter_ago_63": lambda x: ratio(last(back(x.bar, 60), 6, np.max, 1), x.s),
    "range_position_63": lambda x: unless(is_flat(x, 63), in_range(x, x.c), 0.5),
    "rate_of_change_10": lambda x: moved(talib.ROCP(x.c, 10), 10, x.s),
    "return_1": lambda x: moved(x.r, 1, x.s),
    "return_5": lambda x: moved(np.log(x.c / back(x.c, 5)), 5, x.s),
    "return_21": lambda x: moved(np.log(x.c / back(x.c, 21)), 21, x.s),
    "roll_spread_ratio": lambda x: np.clip(roll(x, 63) / x.s, -3, 3),
    "rsi_14": lambda x: unless(still(56, x.c), talib.RSI(x.c, 14) / 50 - 1, 0),
    "signed_volume_imbalance": imbalance,
    "sma_distance_50": lambda x: moved(np.log(x.c / talib.SMA(x.c, 50)), 50, x.s),
    "stochastic_14": lambda x: unless(
        is_flat(x, 16), talib.STOCH(x.h, x.l, x.c, 14, 3, 0, 3, 0)[0] / 50 - 1, 0
    ),
    "time_of_day": lambda x: np.array(
        [(t.hour * 60 + t.minute) / 720 - 1 for t in x.segment["ts"].to_list()]
    ),
    "trend_slope_21": lambda x: moved(slope(x) * 21, 21, x.s),
    "turn_of_month": turn,
    "value_area_position_63": value_area,
    "vol_of_vol_22": lambda x: last(ratio(x.bar, x.s), 22, deviation, 11),
    "volatility_level": lambda x: np.log(x.s),
    "volume_z_63": volume_z,
    "williams_r_14": lambda x: unless(is_flat(x, 14), talib.WILLR(x.h, x.l, x.c, 14) / 50 + 1, 0),
    "yang_zhang_ratio_20": lambda x: ratio(yang_zhang(x), x.s),
}
