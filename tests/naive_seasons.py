"""The twin of the quarterly events: each bar looks back a quarter, and another, by itself."""

from __future__ import annotations

import math

import numpy as np

from naive_windows import last

DAY = np.timedelta64(1, "D")


def unusual(x):
    """How unusual each bar is: log volume and volatility over the means of 63 bars."""
    out = np.zeros(len(x.c))
    traded, usual = last(x.v, 63, np.mean, 20), last(x.bar, 63, np.mean, 20)
    for i in range(len(x.c)):
        if traded[i] > 0:
            out[i] += min(max(math.log(x.v[i] / traded[i]), -2), 3) if x.v[i] > 0 else -2
        if usual[i] > 1e-12 and not math.isnan(x.bar[i]):
            size = 0.5 * math.log(x.bar[i] / usual[i]) if x.bar[i] > 0 else -2
            out[i] += min(max(size, -2), 2.5)
    return out


def due(start, stop):
    """The twin of the mean over quarters of the most unusual bar from `start` to `stop`."""

    def twin(x):
        values, out = unusual(x), np.zeros(len(x.c))
        ts = x.segment["ts"].dt.replace_time_zone(None).to_numpy()
        for i in range(len(x.c)):
            found = []
            for quarter in (1, 2, 3, 4):
                older = np.flatnonzero(ts <= ts[i] - 91 * quarter * DAY)
                if not len(older) or older[-1] <= i - 270:
                    continue
                places = [older[-1] + step for step in range(start, stop + 1)]
                seen = [values[k] for k in places if max(0, i - 269) <= k <= i]
                found += [max(seen)] if seen else []
            out[i] = np.mean(found) if found else 0.0
        return out

    return twin


def recent(x):
    """The most unusual of the last 55 bars."""
    return last(unusual(x), 55, np.max, 1)
