"""Realised volatility: how far the price moved on its way, whatever the direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from candlecast.domain.catalog import label
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.labels.horizons import Bars, Outcome, Window, make_labels
from candlecast.labels.paths import Sums


@label("realised_volatility", daily=("1W", "1M"), intraday=("1h", "1D"))
def realised_volatility(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
) -> pl.DataFrame:
    """Root of the sum of the squared log returns of the bars within the horizon.

    sqrt(sum of ln(P_k / P_(k-1))^2), from the bar's close to the close that the horizon ends with,
    nights included. Over the horizon, not annualised: times the root of (bars of a year / bars of
    the horizon) it is. Source: Andersen and Bollerslev (1998), Answering the Skeptics, eq. 5.

    Parameters
    ----------
    prices : PRICES, adjusted in quote currency
    timeframe : of the bars; finer bars measure better
    horizons : such as 1W, 1M or 1h; each a whole number of bars
    calendars : the trading calendar of every ticker in `prices`

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` in log return, >= 0, null where the horizon has not
    ended or a session within it has no bar (minutes without a trade count as standing still).
    `end_at` is when the horizon ends, or when all its bars were known, if later. The distance that
    makes `confidence` is |log2 of value over forecast|, the forecast being the volatility known at
    the bar times the root of the horizon: twice or half of what was expected is one unit.

    Raises
    ------
    NotFound : a ticker has no calendar.
    InvalidSpec : a horizon is no whole number of bars, or ends after the calendar does.
    """
    bars = Bars.of(prices, timeframe, calendars)
    is_same = np.diff(bars.code, prepend=-1) == 0
    moves = np.where(is_same, np.diff(bars.log_close, prepend=0.0), 0.0)
    squares = Sums(moves**2)
    rows = np.arange(len(bars))

    def outcome(window: Window) -> Outcome:
        is_known = bars.is_whole(window.ended)
        until = np.where(is_known, window.ended, rows)
        value = np.where(is_known, np.sqrt(squares.between(rows + 1, until)), np.nan)
        with np.errstate(divide="ignore"):
            distance = np.abs(np.log2(value / bars.unit(window)))
        end_at = np.maximum(window.seen_at, bars.known_through(until))
        return Outcome(value, end_at, distance)

    return make_labels(bars, horizons, outcome)
