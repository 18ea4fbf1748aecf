"""The volume profile once more, window by window and bar by bar."""

from __future__ import annotations

import numpy as np


def profile(x):
    """Price of the point of control, low and high of the value area at each bar; NaN before."""
    if not hasattr(x, "profile"):
        x.profile = walked(x)
    return x.profile


def walked(x, n_bars=63, n_bins=24):
    prices = np.full((3, len(x.c)), np.nan)
    for i in range(n_bars - 1, len(x.c)):
        window = slice(i - n_bars + 1, i + 1)
        lowest, highest = x.l[window].min(), x.h[window].max()
        counted = count(x, range(window.start, window.stop), lowest, highest, n_bins)
        control = max(range(n_bins), key=lambda k: (counted[k], -k))
        first, last = grown(counted, control)
        width = (highest - lowest) / n_bins
        prices[:, i] = (
            lowest + (control + 0.5) * width,
            lowest + first * width,
            lowest + (last + 1) * width,
        )
    return prices


def count(x, bars, lowest, highest, n_bins):
    """Billionths of the volume in each bin; where nothing is traded, of the bars."""
    is_traded = any(x.v[i] > 0 for i in bars)
    counted = [0.0] * n_bins
    for i in bars:
        typical = min(max((x.h[i] + x.l[i] + x.c[i]) / 3, x.l[i]), x.h[i])
        place = (typical - lowest) * (n_bins / (highest - lowest)) if highest > lowest else 0.0
        counted[min(int(place + 1e-9), n_bins - 1)] += x.v[i] if is_traded else 1.0
    total = sum(counted)
    return [int(1e9 * volume / total + 0.5) for volume in counted]


def grown(counted, control):
    """First and last bin around `control` that hold 70 %, the larger neighbour taken first."""
    first = last = control
    held = counted[control]
    while held < 700_000_000:
        above = counted[last + 1] if last + 1 < len(counted) else -1
        below = counted[first - 1] if first > 0 else -1
        if above >= below:
            last, held = last + 1, held + above
        else:
            first, held = first - 1, held + below
    return first, last
