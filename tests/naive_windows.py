"""What the twins of features are made of: windows walked bar by bar."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from candlecast.domain.volatility import LEAST_VARIANCE


def last(x, n, function, n_least=None):
    """`function` of the last `n` values at each bar; NaN with fewer than `n_least` of them."""
    out = np.full(len(x), np.nan)
    for i in range(len(x)):
        window = x[max(0, i - n + 1) : i + 1]
        window = window[~np.isnan(window)]
        if len(window) >= (n_least or n):
            out[i] = function(window)
    return out


def back(x, n):
    """The value `n` bars before."""
    return np.concatenate([np.full(min(n, len(x)), np.nan), x[:-n]])


def weighted(x, decay=0.94):
    """Exponentially weighted mean of all values but the first, which is missing."""
    out = np.full(len(x), np.nan)
    for i in range(1, len(x)):
        weights = decay ** np.arange(i)[::-1]
        out[i] = (weights * x[1 : i + 1]).sum() / weights.sum()
    return out


def ratio(variance, scale):
    """Logarithm of a volatility over the forecast one, within 3."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(np.sqrt(variance)) - np.log(scale), -3, 3)


def moved(change, n, scale):
    """A change in units of the volatility over `n` bars, within 10."""
    return np.clip(change / (scale * math.sqrt(n)), -10, 10)


def deviation(window):
    """Standard deviation over n - 1."""
    return np.std(window, ddof=1)


def still(n, *columns):
    """Whether each of these columns has had one value for `n` bars."""
    out = np.zeros(len(columns[0]), dtype=bool)
    for i in range(n - 1, len(out)):
        out[i] = all(len(set(column[i - n + 1 : i + 1].tolist())) == 1 for column in columns)
    return out


def untraded(n, volume):
    """Whether nothing was traded in the last `n` bars, or since the first one."""
    return np.array([volume[max(0, i - n + 1) : i + 1].max() <= 0 for i in range(len(volume))])


def columns_of(segment):
    """The columns of one segment of PRICES, with return, variance and scale."""
    o, h, low, c, v = (segment[n].to_numpy() for n in ("open", "high", "low", "close", "volume"))
    r = np.log(c) - np.log(back(c, 1))
    inside = 0.5 * np.log(h / low) ** 2 - (2 * math.log(2) - 1) * np.log(c / o) ** 2
    bar = np.log(o / back(c, 1)) ** 2 + np.maximum(inside, 0)
    variance = 0.8 * weighted(r**2) + 0.2 * last(r**2, 252, np.mean, 60)
    is_known = (np.arange(len(c)) >= 60) & (variance > LEAST_VARIANCE)
    scale = np.where(is_known, np.sqrt(variance), np.nan)
    return SimpleNamespace(o=o, h=h, l=low, c=c, v=v, r=r, bar=bar, s=scale, segment=segment)
