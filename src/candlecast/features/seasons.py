"""Seasons of the quarter: unusual bars that came one to four quarters ago, and may come again.

Companies report every thirteen weeks, mostly on the same day of the week, and then more is traded
and the price moves further than usual. When that was is seen in the bars themselves.

How unusual a bar is: the logarithm of its volume over the mean of 63 bars, plus that of its
volatility over theirs. Thirteen weeks before the next bar is the bar after the last one that is
91 days older than the newest, so that weekends and holidays need no table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.volatility import LEAST_VARIANCE, bar_variance

QUARTERS: Final = tuple(91 * 86_400 * n for n in (1, 2, 3, 4))
"""In seconds: thirteen weeks, and two to four times as long."""
MEAN_BARS: Final = 63
LEAST_BARS: Final = 20
LONGEST_LOG_VOLUME: Final = 3.0
LONGEST_LOG_RANGE: Final = 2.5
LEAST_LOG: Final = -2.0
REACH_BARS: Final = 270
"""A bar further back than four quarters of trading days is not looked for."""
SEASON_BARS: Final = REACH_BARS + MEAN_BARS + 2
PLACES: Final = {"next": (1, 1), "near": (0, 2), "week": (1, 5), "around": (-2, 8)}
"""From and to which bar after the one that was the newest a quarter ago."""


def how_unusual() -> pl.Expr:
    """Logarithmic volume and volatility of a bar over the means of 63 bars, in [-4, 5.5]."""
    volume, variance = pl.col("volume").cast(pl.Float64), bar_variance()
    traded = volume.rolling_mean(MEAN_BARS, min_samples=LEAST_BARS)
    usual = variance.rolling_mean(MEAN_BARS, min_samples=LEAST_BARS)
    size = (volume / traded).log().clip(LEAST_LOG, LONGEST_LOG_VOLUME)
    move = (0.5 * (variance / usual).log()).clip(LEAST_LOG, LONGEST_LOG_RANGE)
    has_volume = pl.col("volume").rolling_max(MEAN_BARS, min_samples=LEAST_BARS) > 0
    return (
        pl.when(has_volume).then(size).otherwise(0.0).fill_null(0.0)
        + pl.when(usual > LEAST_VARIANCE).then(move).otherwise(0.0).fill_null(0.0)
    )  # fmt: skip


def seasons(prices: pl.DataFrame) -> pl.Series:
    """Of each row of PRICES, a struct of means over the quarters: how unusual the bars were whose
    turn is next (`PLACES`). 0 where no bar is so old.
    """
    rows = prices.select("segment", "ts", unusual=how_unusual().over("segment"))
    rows = rows.with_row_index("row").sort("segment", "row")
    segment = rows["segment"].rle_id().to_numpy().astype(np.int64)
    second = rows["ts"].dt.epoch("s").to_numpy()
    found = _means(segment, second, rows["unusual"].to_numpy())
    frame = pl.DataFrame({"row": rows["row"], **found}).sort("row").drop("row")
    return frame.to_struct("seasons")


def _means(
    segment: NDArray[np.int64], second: NDArray[np.int64], unusual: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    n = len(segment)
    row, starts = np.arange(n), np.flatnonzero(np.diff(segment, prepend=-1))
    first = np.maximum(starts[segment], row - (REACH_BARS - 1))
    total = {name: np.zeros(n) for name in PLACES}
    count = {name: np.zeros(n) for name in PLACES}
    for quarter in QUARTERS:
        past = _last_by(segment, second, second - quarter)
        for name, (start, stop) in PLACES.items():
            places = (past + step for step in range(start, stop + 1))
            most = _largest(unusual, places, first, row)
            is_known = (past >= first) & np.isfinite(most)
            total[name] += np.where(is_known, most, 0.0)
            count[name] += is_known
    return {name: total[name] / np.maximum(count[name], 1) for name in PLACES}


def _last_by(
    segment: NDArray[np.int64], second: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.intp]:
    # The last row of the same segment at or before `wanted`; one before it where there is none.
    start = min(second.min(initial=0), wanted.min(initial=0))
    width = second.max(initial=0) - start + 1
    keys, asked = segment * width + (second - start), segment * width + (wanted - start)
    return np.asarray(np.searchsorted(keys, asked, side="right") - 1)


def _largest(
    unusual: NDArray[np.float64],
    places: Iterable[NDArray[np.intp]],
    first: NDArray[np.intp],
    row: NDArray[np.intp],
) -> NDArray[np.float64]:
    most = np.full(len(row), -np.inf)
    for place in places:
        is_seen = (place >= first) & (place <= row)
        values = unusual[np.clip(place, 0, len(row) - 1)]
        most = np.maximum(most, np.where(is_seen, values, -np.inf))
    return most
