"""Forward returns: the log return from a bar's close to the close a horizon later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.catalog import label
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.market import Horizon, Instants, Timeframe, TradingCalendar
from candlecast.errors import InvalidSpec, NotFound

MAX_SESSIONS: Final = 1 << 20
"""More than any calendar has: symbol and session make one ordered key."""


@label("forward_return", daily=("1D", "1W", "1M"), intraday=("30m", "1h", "1D"))
def forward_return(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
) -> pl.DataFrame:
    """Log return from the close of a bar to the close a horizon later, in the calendar's time.

    On daily bars it is the close of the session exactly that many sessions later. On finer bars
    it is the last close at or before the instant a horizon of trading time later, within the
    session of that instant; a bar that ended there or later must have shown that nothing newer
    came.

    Parameters
    ----------
    prices : PRICES, adjusted in quote currency
    timeframe : of the bars
    horizons : such as 1D, 1W, 1M or 30m; each a whole number of bars
    calendars : the trading calendar of every ticker in `prices`

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` is null where that bar is missing or has not come;
    `end_at` is when the horizon ends, or when both bars it lies between were known, if later.

    Raises
    ------
    NotFound : a ticker has no calendar.
    InvalidSpec : a horizon is no whole number of bars, or ends after the calendar does.
    """
    names = sorted({Horizon.parse(text).name for text in horizons})
    bars = _Bars.of(prices, timeframe)
    market = _rows_by_calendar(prices["symbol"], calendars)
    columns = [_horizon(bars, Horizon.parse(name), market) for name in names]
    values, ends, lengths = (_interleaved(arrays) for arrays in zip(*columns, strict=True))
    of_bar = np.repeat(np.arange(len(prices)), len(names))
    of_name = np.tile(np.arange(len(names)), len(prices))
    return pl.DataFrame(
        {
            "symbol": prices["symbol"].gather(of_bar),
            "ts": prices["ts"].gather(of_bar),
            "horizon": pl.Series(names, dtype=pl.String).gather(of_name),
            "horizon_bars": pl.Series(lengths, dtype=pl.Int64),
            "value": pl.Series(values, dtype=pl.Float64).fill_nan(None),
            "end_at": pl.Series(ends, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "confidence": pl.Series([None], dtype=pl.Float64).new_from_index(0, len(of_bar)),
        },
        schema=FRAME.columns,
    )


@dataclass(frozen=True, eq=False)
class _Bars:
    # Arrays of one length, in the order of PRICES; `code` numbers the symbols in that order.
    timeframe: Timeframe
    code: NDArray[np.int64]
    session: NDArray[np.int64]
    close_at: Instants
    known_at: Instants
    log_close: FloatArray

    @classmethod
    def of(cls, prices: pl.DataFrame, timeframe: Timeframe) -> _Bars:
        """The columns that a label needs, as arrays."""
        return cls(
            timeframe,
            prices["symbol"].rle_id().cast(pl.Int64).to_numpy(),
            prices["session"].to_numpy(),
            prices["close_at"].dt.replace_time_zone(None).to_numpy(),
            prices["known_at"].dt.replace_time_zone(None).to_numpy(),
            prices["close"].log().to_numpy(),
        )


_Column: TypeAlias = tuple[FloatArray, Instants, NDArray[np.int64]]
_Market: TypeAlias = list[tuple[TradingCalendar, NDArray[np.intp]]]


def _rows_by_calendar(symbols: pl.Series, calendars: Mapping[str, TradingCalendar]) -> _Market:
    # The positions of each calendar's rows, ascending: one look-up serves all its symbols.
    tickers = symbols.unique().sort()
    for ticker in tickers:
        if ticker not in calendars:
            raise NotFound.among("symbol with a calendar", ticker, calendars)
    named = {ticker: calendars[ticker].name for ticker in tickers}
    by_name = {calendar.name: calendar for calendar in calendars.values()}
    names = symbols.replace_strict(named, return_dtype=pl.String)
    return [
        (by_name[name], (names == name).arg_true().to_numpy().astype(np.intp))
        for name in sorted(set(named.values()))
    ]


def _interleaved(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    # One value a bar and horizon: all horizons of the first bar, then those of the second.
    return np.stack(columns, axis=1).reshape(-1)


def _horizon(bars: _Bars, horizon: Horizon, market: _Market) -> _Column:
    # Value, end and length in bars of one horizon, for every bar.
    values = np.full(len(bars.code), np.nan)
    ends = np.empty(len(bars.code), dtype="datetime64[us]")
    lengths = np.empty(len(bars.code), dtype=np.int64)
    for calendar, rows in market:
        closes, which = np.unique(bars.close_at[rows], return_inverse=True)
        end_at = calendar.advance(closes, horizon)
        if np.isnat(end_at).any():
            raise InvalidSpec(f"horizon {horizon} ends after the calendar {calendar.name} does")
        lengths[rows] = horizon.bars(bars.timeframe, calendar)
        if bars.timeframe.is_daily:
            outcome = _sessions_later(bars, rows, horizon.sessions(calendar))
        else:
            last = np.searchsorted(calendar.closes, end_at)
            outcome = _last_until(bars, rows, end_at[which], last[which])
        is_known = outcome >= 0
        until, begun, ended = end_at[which], rows[is_known], outcome[is_known]
        seen_at = np.maximum(bars.known_at[begun], bars.known_at[ended])
        until[is_known] = np.maximum(until[is_known], seen_at)
        values[begun] = bars.log_close[ended] - bars.log_close[begun]
        ends[rows] = until
    return values, ends, lengths


def _sessions_later(bars: _Bars, rows: NDArray[np.intp], n_sessions: int) -> NDArray[np.intp]:
    # Positions of the same symbol's bars exactly `n_sessions` later; -1 where there is none.
    keys = bars.code[rows] * MAX_SESSIONS + bars.session[rows]
    found = np.minimum(np.searchsorted(keys, keys + n_sessions), len(keys) - 1)
    return np.where(keys[found] == keys + n_sessions, rows[found], -1)


def _last_until(
    bars: _Bars, rows: NDArray[np.intp], end_at: Instants, session: NDArray[np.intp]
) -> NDArray[np.intp]:
    # Positions of the same symbol's last bars that closed by `end_at` in its `session`; -1 where
    # there is none, or where no later bar proves yet that it is the last.
    first = bars.close_at[rows].min()
    closed = (bars.close_at[rows] - first).astype(np.int64)
    asked = (end_at - first).astype(np.int64)
    span = int(asked.max()) + 1
    keys, wanted = bars.code[rows] * span + closed, bars.code[rows] * span + asked
    found = np.searchsorted(keys, wanted, side="right") - 1
    following = np.minimum(found + 1, len(keys) - 1)
    is_same = bars.code[rows[following]] == bars.code[rows]
    is_proven = (keys[found] == wanted) | ((following > found) & is_same)
    return np.where(is_proven & (bars.session[rows[found]] == session), rows[found], -1)
