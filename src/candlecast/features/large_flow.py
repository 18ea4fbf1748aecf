"""Which way large trades went: their volume by the direction of the bar that they lie in.

1. A minute's large volume gets the sign of close - open of its bar.
2. A minute counts in its own bar if it was known by then, in the next one of the segment if it
   was known by then, and else not at all: told that late it moves nobody.
3. Volumes are counted in the units of the prices, so that a split is no flow.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from candlecast.domain.distribution import FloatArray
from candlecast.features.fact_items import Integers, microseconds, runs_of


def bar_volumes(prices: pl.DataFrame, trades: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """(n_rows,) twice, of PRICES and LARGE_TRADES: signed large volume, and all volume counted.

    0 where no minute was counted. A row's value depends on it and the one before in its segment.
    """
    as_of = microseconds(prices["known_at"])
    minute, bar = _bars_of(prices, trades)
    following = _following(prices["segment"].to_numpy())[bar]
    told = microseconds(trades["known_at"])[minute]
    at = np.where(told <= as_of[bar], bar, following)
    is_known = (at >= 0) & (told <= as_of[at])
    minute, bar, at = minute[is_known], bar[is_known], at[is_known]
    move = np.sign(prices["close"].to_numpy() - prices["open"].to_numpy())[bar]
    unit = prices["factor"].to_numpy()[bar]
    large = move * trades["large_volume"].to_numpy()[minute] / unit
    volume = trades["volume"].to_numpy()[minute] / unit
    return _totals(at, large, len(as_of)), _totals(at, volume, len(as_of))


def _totals(rows: Integers, amounts: FloatArray, n_rows: int) -> FloatArray:
    return np.asarray(np.bincount(rows, amounts, n_rows), dtype=np.float64)


def _following(segments: Integers) -> Integers:
    # The next row of the same segment, -1 for none.
    order = np.argsort(segments, kind="stable")
    following = np.full(len(order), -1, dtype=np.int64)
    is_same = segments[order[1:]] == segments[order[:-1]]
    following[order[:-1]] = np.where(is_same, order[1:], -1)
    return following


def _bars_of(prices: pl.DataFrame, trades: pl.DataFrame) -> tuple[Integers, Integers]:
    # The minutes that lie in a bar, and the rows of these bars.
    minutes = microseconds(trades["ts"])
    opens, closes = (microseconds(prices[name]) for name in ("ts", "close_at"))
    spans = {symbol: (start, end) for symbol, start, end in runs_of(trades["symbol"])}
    bar = np.full(len(trades), -1, dtype=np.int64)
    for symbol, start, end in runs_of(prices["symbol"]):
        low, high = spans.get(symbol, (0, 0))
        place = np.searchsorted(opens[start:end], minutes[low:high], side="right") - 1
        bar[low:high] = np.where(place >= 0, start + place, -1)
    is_within = (bar >= 0) & (minutes < closes[bar])
    found = np.flatnonzero(is_within)
    return found, bar[found]
