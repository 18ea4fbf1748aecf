"""Forward returns: from a bar's close to the close a horizon later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from candlecast.domain.catalog import label
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.labels.horizons import Bars, Outcome, Window, make_labels


@label("forward_return", daily=("1D", "1W", "1M"), intraday=("30m", "1h", "1D"))
def forward_return(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
    is_simple: bool = False,
    is_scaled: bool = False,
) -> pl.DataFrame:
    """Return from the close of a bar to the close a horizon later, in the calendar's time.

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
    is_simple : the simple return, P_end / P - 1, instead of the log return, ln(P_end / P)
    is_scaled : divided by the symbol's volatility forecast known at the bar times the root of the
        horizon in bars (`domain.volatility.scale`), hence without unit

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` is null where that bar is missing or has not come,
    and, scaled, where no volatility is known. `end_at` is when the horizon ends, or when both bars
    it lies between, and one that proves the last to be the last, were known, if later. The
    distance that makes `confidence` is |log return| in units of the volatility over the horizon:
    how far the outcome is from having the other sign.

    Raises
    ------
    NotFound : a ticker has no calendar.
    InvalidSpec : a horizon is no whole number of bars, or ends after the calendar does.
    """
    bars = Bars.of(prices, timeframe, calendars)

    def outcome(window: Window) -> Outcome:
        returns, unit = bars.returns(window), bars.unit(window)
        value = np.expm1(returns) if is_simple else returns
        scaled = value / unit if is_scaled else value
        return Outcome(scaled, window.seen_at, np.abs(returns) / unit)

    return make_labels(bars, horizons, outcome)
