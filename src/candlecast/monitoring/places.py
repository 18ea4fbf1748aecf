"""Where in its session each bar stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.market import Instants, Timeframe, TradingCalendar
from candlecast.errors import NotFound

BUCKET_MINUTES: Final = 5
"""Habits are learned for pieces of the session this long: a lunch break begins within one."""
OUTSIDE: Final = -1
"""The slot of a bar before the open or after the close, or on a day without session."""


def instants(series: pl.Series) -> Instants:
    """Datetimes without zone, as NumPy has them."""
    return series.dt.replace_time_zone(None).to_numpy()


def with_places(
    bars: pl.DataFrame, timeframe: Timeframe, calendars: Mapping[str, TradingCalendar]
) -> pl.DataFrame:
    """`bars` with session (ordinal), slot (of the session), bucket, and is_first of its session.

    A bar outside of the hours belongs to the session that comes next and has the slot -1.
    NotFound when a ticker has no calendar.
    """
    tickers = bars["symbol"].unique().sort()
    for ticker in tickers:
        if ticker not in calendars:
            raise NotFound.among("symbol with a calendar", ticker, calendars)
    named = {ticker: calendars[ticker].name for ticker in tickers}
    used = {calendars[ticker].name: calendars[ticker] for ticker in tickers}
    names = pl.col("symbol").replace_strict(named, return_dtype=pl.String)
    keyed = bars.with_columns(calendar=names if named else pl.lit("", dtype=pl.String))
    tables = [
        _table(part["ts"].unique(), timeframe, used[str(name)])
        for (name,), part in keyed.group_by("calendar")
    ]
    empty = pl.DataFrame(schema={"calendar": pl.String, "ts": bars.schema["ts"]}).with_columns(
        session=pl.lit(0, dtype=pl.Int64), slot=pl.lit(0, dtype=pl.Int64)
    )
    per_bucket = max(1, BUCKET_MINUTES // timeframe.minutes)
    placed = keyed.join(
        pl.concat(tables) if tables else empty,
        on=["calendar", "ts"],
        how="left",
        maintain_order="left",
    ).with_columns(bucket=pl.col("slot") // per_bucket)
    is_first = (pl.col("session") != pl.col("session").shift()).fill_null(value=True)
    return placed.with_columns(is_first=is_first.over("symbol")).drop("calendar")


def _table(ts: pl.Series, timeframe: Timeframe, calendar: TradingCalendar) -> pl.DataFrame:
    moments = instants(ts)
    if timeframe.is_daily:
        session = calendar.session_index(moments)
        slot = np.where(session < 0, OUTSIDE, 0)
        session = np.searchsorted(calendar.sessions, moments.astype("datetime64[D]"))
    else:
        session = np.searchsorted(calendar.closes, moments, side="right")
        opened = calendar.opens[np.minimum(session, len(calendar.opens) - 1)]
        step = np.timedelta64(timeframe.minutes, "m")
        slot = np.where(moments < opened, OUTSIDE, (moments - opened) // step)
    return pl.DataFrame(
        {
            "calendar": [calendar.name] * len(ts),
            "ts": ts,
            "session": pl.Series(session, dtype=pl.Int64),
            "slot": pl.Series(slot, dtype=pl.Int64),
        }
    )
