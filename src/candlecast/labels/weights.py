"""Sample weights: labels that overlap share what they tell, and old ones count for less."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray
from candlecast.domain.market import Instants
from candlecast.domain.specs import LabelSpec
from candlecast.labels.paths import Sums

MICROSECONDS_PER_DAY: Final = 86_400_000_000


def sample_weights(
    symbol: NDArray[Any], as_of: Instants, end_at: Instants, spec: LabelSpec, until: datetime
) -> FloatArray:
    """(n_rows,) weights of mean 1, by `spec.weighting` and `spec.half_life_days`.

    ``equal`` gives all rows the same, ``uniqueness`` their `average_uniqueness`, the mean over the
    horizons that have an end. With a half-life each is halved for every so many days from `as_of`
    to `until`, the instant of training.

    Parameters
    ----------
    symbol : (n_rows,) codes or tickers
    as_of : (n_rows,) datetime64[us], from when on the label is counted
    end_at : (n_rows,) or (n_rows, n_horizons) when it ends; NaT where there is no label
    spec : how to weigh
    until : the instant of training
    """
    weight = np.ones(len(as_of))
    if spec.weighting == "uniqueness" and len(weight):
        columns = end_at.reshape(len(as_of), -1).T
        shares = np.stack([average_uniqueness(symbol, as_of, column) for column in columns])
        n_ends = np.maximum((~np.isnan(shares)).sum(axis=0), 1)
        weight = np.nansum(shares, axis=0) / n_ends
    if spec.half_life_days:
        now = np.datetime64(until.astimezone(UTC).replace(tzinfo=None), "us")
        age = np.maximum((now - as_of).astype("timedelta64[us]").astype(np.int64), 0)
        # Counted from the youngest row: the mean is 1 in the end, and nothing underflows.
        days = (age - age.min(initial=np.iinfo(np.int64).max)) / MICROSECONDS_PER_DAY
        weight = weight * 0.5 ** (days / spec.half_life_days)
    total = weight.sum()
    return weight * (len(weight) / total) if total > 0 else np.ones(len(weight))


def average_uniqueness(symbol: NDArray[Any], as_of: Instants, end_at: Instants) -> FloatArray:
    """(n_rows,) in (0, 1]: how much of each label's time is its own; NaN where it has no end.

    A label lives from its `as_of` until before its `end_at`. At each instant at which labels of its
    symbol begin, it shares with all that live then; the value is the mean of 1 / (how many live)
    over the instants of its life. Labels that do not overlap have 1. Source: López de Prado (2018),
    Advances in Financial Machine Learning, ch. 4.3 and 4.4.
    """
    result = np.full(len(as_of), np.nan)
    has_end = np.flatnonzero(~np.isnat(end_at))
    if not len(has_end):
        return result
    code = np.unique(symbol[has_end], return_inverse=True)[1]
    first = min(as_of[has_end].min(), end_at[has_end].min())
    begun, ended = (
        (at[has_end] - first).astype("m8[us]").astype(np.int64) for at in (as_of, end_at)
    )
    span = int(max(begun.max(), ended.max())) + 2
    # One axis for all symbols: each has a stretch of its own, longer than any label.
    grid = np.unique(code * span + begun)
    starts = np.searchsorted(grid, code * span + begun)
    stops = np.maximum(np.searchsorted(grid, code * span + ended), starts + 1)
    n = len(grid)
    changes = np.bincount(starts, minlength=n + 1) - np.bincount(stops, minlength=n + 1)
    shares = Sums(1.0 / np.cumsum(changes[:-1]))
    result[has_end] = shares.between(starts, stops - 1) / (stops - starts)
    return result
