"""How much of each minute was traded in large pieces, from single trades.

1. A trade's money is price times size. A symbol's threshold for one hour (UTC) is the quantile at
   `LEVEL` of the money of its last `WINDOW_TRADES` trades before that hour began.
2. While there are fewer than `LEAST_TRADES` of them there is no threshold, and no row.
3. A trade is large if its money is at least the threshold; volumes are summed by minute.

A threshold is older than every minute it judges, so no later trade changes an earlier row. Bars
with a trade count tell only the mean size: how much of them was large would be a guess, so no rows
are made of them; their mean size is a matter for features.

That large trades tell of informed ones is an old conjecture: Easley and O'Hara (1987), J.
Financial Economics 19(1), 69-90. A quantile of the symbol's own trades, where others fix a sum of
money, makes cheap and dear symbols alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from candlecast.domain.frames import INSTANT, LARGE_TRADES
from candlecast.domain.sources import Trade

Columns: TypeAlias = dict[str, pl.DataType | type[pl.DataType]]
LEVEL: Final = 0.99
WINDOW_TRADES: Final = 5000
LEAST_TRADES: Final = 500
MINUTE: Final = timedelta(minutes=1)
TRADES: Final[Columns] = {
    "symbol": pl.String,
    "at": INSTANT,
    "price": pl.Float64,
    "size": pl.Float64,
    "id": pl.String,
}
"""Columns of a frame of trades; an empty id is none."""
THRESHOLDS: Final[Columns] = {"symbol": pl.String, "hour": INSTANT, "threshold": pl.Float64}


def make_trades(trades: Iterable[Trade]) -> pl.DataFrame:
    """A frame of the columns TRADES, one row a trade."""
    rows = [(trade.symbol, trade.at, trade.price, trade.size, trade.id) for trade in trades]
    return pl.DataFrame(rows, schema=TRADES, orient="row")


def compute_thresholds(
    trades: pl.DataFrame, hours: Sequence[datetime] | None = None
) -> pl.DataFrame:
    """THRESHOLDS for the `hours` (None: those that the trades fall in), where there are enough.

    In live operation: for the hour that begins, from the `trailing` trades.
    """
    columns: dict[str, list[object]] = {name: [] for name in THRESHOLDS}
    for (symbol,), own in _sound(trades).group_by("symbol", maintain_order=True):
        starts = own["at"].dt.truncate("1h").unique().sort() if hours is None else _instants(hours)
        money = (own["price"] * own["size"]).to_numpy()
        n_before = own["at"].search_sorted(starts, side="left")
        for start, end in zip(starts, n_before, strict=True):
            if end >= LEAST_TRADES:
                known = money[max(end - WINDOW_TRADES, 0) : end]
                columns["symbol"].append(symbol)
                columns["hour"].append(start)
                columns["threshold"].append(float(np.quantile(known, LEVEL, method="higher")))
    return pl.DataFrame(columns, schema=THRESHOLDS)


def compute_large_trades(
    trades: pl.DataFrame,
    *,
    closed_at: datetime,
    source: str,
    thresholds: pl.DataFrame | None = None,
    delay_seconds: float = 0.0,
) -> pl.DataFrame:
    """LARGE_TRADES of the minutes that had ended at `closed_at` and whose threshold is known.

    `trades` in any order; repeated ids and impossible prices and sizes do not count. Without
    `thresholds` they are computed from the trades themselves. `known_at` is the end of the minute
    plus `delay_seconds`, the time that the vendor takes to report a trade.
    """
    judged = _sound(trades).with_columns(
        ts=pl.col("at").dt.truncate("1m"), hour=pl.col("at").dt.truncate("1h")
    )
    known = compute_thresholds(trades) if thresholds is None else thresholds
    is_large = pl.col("price") * pl.col("size") >= pl.col("threshold")
    minutes = (
        judged.filter(pl.col("ts") + MINUTE <= closed_at)
        .join(known, on=["symbol", "hour"], maintain_order="left")
        .group_by("symbol", "ts")
        .agg(
            n_trades=pl.len(),
            volume=pl.col("size").sum(),
            n_large=is_large.sum(),
            large_volume=pl.col("size").filter(is_large).sum(),
            threshold=pl.col("threshold").first(),
        )
    )
    end = pl.col("ts") + MINUTE + timedelta(seconds=delay_seconds)
    return LARGE_TRADES.conform(minutes.with_columns(source=pl.lit(source), known_at=end))


def trailing(trades: pl.DataFrame) -> pl.DataFrame:
    """The trades that the next threshold of each symbol needs: its last `WINDOW_TRADES`."""
    return _sound(trades).group_by("symbol", maintain_order=True).tail(WINDOW_TRADES)


def _sound(trades: pl.DataFrame) -> pl.DataFrame:
    # In one order whatever order they came in, so that sums and windows are always the same.
    is_possible = pl.all_horizontal(
        pl.col(name).is_finite() & (pl.col(name) > 0) for name in ("price", "size")
    )
    sound = (
        trades.select(TRADES.keys()).filter(is_possible).sort("symbol", "at", "price", "size", "id")
    )
    is_again = (pl.col("id") != "") & ~pl.struct("symbol", "id").is_first_distinct()
    return sound.filter(~is_again)


def _instants(hours: Sequence[datetime]) -> pl.Series:
    return pl.Series(hours, dtype=INSTANT).dt.truncate("1h")
