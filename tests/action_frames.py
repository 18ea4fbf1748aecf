"""Raw bars and corporate actions for the tests of what turns them into adjusted prices."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from price_frames import DAILY, stamped

XNYS = trading_calendar("XNYS")


def day(text: str) -> datetime:
    """Midnight UTC of a date, or the instant itself."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def raw_bars(
    closes,
    *,
    start="2020-01-02",
    symbol="A",
    given=None,
    missing=(),
    calendar: TradingCalendar = XNYS,
) -> pl.DataFrame:
    """BARS of consecutive sessions with these closes, each known when it closed.

    `given` are the adjusted closes, `missing` the places that are left out.
    """
    first = int(np.searchsorted(calendar.sessions, np.datetime64(start)))
    days = calendar.sessions[first : first + len(closes)].astype("datetime64[us]")
    return bars_at(days, closes, symbol=symbol, given=given, calendar=calendar).filter(
        ~pl.int_range(pl.len()).is_in(list(missing))
    )


def bars_at(
    opens,
    closes,
    *,
    symbol="A",
    given=None,
    timeframe: Timeframe = DAILY,
    calendar: TradingCalendar = XNYS,
) -> pl.DataFrame:
    """BARS that open at these instants, each known when it closed."""
    close = np.asarray(closes, dtype=float)
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * len(close),
            "ts": pl.Series(np.asarray(opens, dtype="M8[us]")).dt.replace_time_zone("UTC"),
            **dict.fromkeys(("open", "high", "low", "close"), close),
            "volume": np.full(len(close), 1000.0),
            "adj_close": [None] * len(close) if given is None else given,
        },
        schema_overrides={"adj_close": pl.Float64},
    )
    return stamped(frame, timeframe, calendar)


def actions_of(*rows) -> pl.DataFrame:
    """ACTIONS from (ex-date, kind, value) of symbol A, then when it was known and the symbol."""
    filled = [(*row, *(None, "A")[len(row) - 3 :]) for row in rows]
    return ACTIONS.conform(
        pl.DataFrame(
            [
                (symbol, day(ex), kind, value, day(known or ex))
                for ex, kind, value, known, symbol in filled
            ],
            schema=["symbol", "ex_date", "kind", "value", "known_at"],
            schema_overrides={
                name: ACTIONS.columns[name] for name in ("ex_date", "known_at", "value")
            },
            orient="row",
        ).with_columns(source=pl.lit("test"))
        if rows
        else ACTIONS.empty()
    )
