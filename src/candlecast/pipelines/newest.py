"""The newest bars of each symbol, read without those before them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast.domain.frames import BARS, INSTANT
from candlecast.domain.market import Symbol, Timeframe, TradingCalendar, trading_calendar
from candlecast.store.bars import read_ends
from candlecast.store.stores import Stores

SINCE: Final[dict[str, Any]] = {"symbol": pl.String, "since": INSTANT}


def read_newest(
    stores: Stores,
    timeframe: Timeframe,
    traded: Mapping[str, Symbol],
    *,
    max_bars: int | None,
    end: datetime | None,
    as_of: datetime,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """BARS up to `end` as they are known now, and `since` when, by symbol, all are among them.

    Of each symbol the newest `max_bars` by `as_of`: what its calendar has room for in the sessions
    up to its last bar, and no more than so many. A symbol of which nothing is left out is not
    named, or has a null, in the second frame.
    """
    now = stores.clock.now()
    if max_bars is None:
        bars = stores.mirror.read(timeframe, symbols=sorted(traded), end=end, as_of=now)
        return bars, pl.DataFrame(schema=SINCE)
    parts, since = [BARS.empty()], []
    for ticker, _, last in read_ends(stores.database, timeframe, sorted(traded)).iter_rows():
        calendar = trading_calendar(traded[ticker].calendar)
        start = _start_of(min(last, as_of), max_bars, timeframe, calendar)
        found = stores.mirror.read(timeframe, symbols=[ticker], start=start, end=end, as_of=now)
        part = found.tail(max_bars)
        parts.append(part)
        since.append((ticker, part["ts"][0] if len(part) < len(found) else start))
    return BARS.conform(pl.concat(parts)), pl.DataFrame(since, schema=SINCE, orient="row")


def not_before(rows: pl.DataFrame, since: pl.DataFrame) -> pl.DataFrame:
    """`rows` (with symbol and ts) less those before `since`; those without a time stay."""
    beside = rows.join(since, on="symbol", how="left", maintain_order="left")
    is_before = (pl.col("ts") < pl.col("since")).fill_null(value=False)
    return beside.filter(~is_before).select(rows.columns)


def _start_of(
    last: datetime, max_bars: int, timeframe: Timeframe, calendar: TradingCalendar
) -> datetime | None:
    # When the session begins from which on there is room for `max_bars` up to that of `last`.
    n_sessions = -(-max_bars // calendar.bars_per_session(timeframe))
    day = np.datetime64(last.replace(tzinfo=None), "D")
    index = int(np.searchsorted(calendar.sessions, day, side="right")) - n_sessions
    if index <= 0:
        return None
    starts = calendar.sessions if timeframe.is_daily else calendar.opens
    start: datetime = starts[index].astype("datetime64[us]").item()
    return start.replace(tzinfo=UTC)
