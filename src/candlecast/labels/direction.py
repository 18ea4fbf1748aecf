"""Price direction: did the price rise, fall, or stay within what is usual for it?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from candlecast.domain.catalog import label
from candlecast.domain.climatology import climatology
from candlecast.domain.distribution import FloatArray
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.domain.thresholds import class_bounds, fixed_threshold
from candlecast.labels.confidence import from_thresholds, side
from candlecast.labels.horizons import Bars, Outcome, Window, make_labels


@label("price_direction", daily=("1D", "1W", "1M"), intraday=("30m", "1h", "1D"))
def price_direction(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
    threshold: str = "scaled",
) -> pl.DataFrame:
    """Class of the forward return: 1 above the upper threshold, -1 below the lower one, else 0.

    The return is that of `forward_return`, the thresholds are those that a forecast made at the
    bar has for its Bullish and Bearish (`domain.thresholds`).

    Parameters
    ----------
    prices : PRICES, adjusted in quote currency
    timeframe : of the bars
    horizons : such as 1D, 1W, 1M or 30m; each a whole number of bars
    calendars : the trading calendar of every ticker in `prices`
    threshold : ``scaled``, the terciles of the symbol's own past returns over the same horizon
        that were known at the bar, or ``fixed:0.02``, simple returns beyond ±2 %. An outcome counts
        from when it was known as it stands: where a finer bar was healed later, what had been
        taken for the outcome before is not among them

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` in {-1, 0, 1}, null where the return is, and, scaled,
    where fewer than 100 outcomes were known at the bar. `end_at` is that of the forward return.
    The distance that makes `confidence` is that of the log return from the nearer threshold, in
    units of the volatility forecast at the bar times the root of the horizon.

    Raises
    ------
    NotFound : a ticker has no calendar.
    InvalidSpec : the threshold cannot be read, or a horizon is no whole number of bars.
    """
    bars = Bars.of(prices, timeframe, calendars)
    is_fixed = fixed_threshold(threshold) is not None

    def outcome(window: Window) -> Outcome:
        returns = bars.returns(window)
        past = np.empty((len(bars), 0)) if is_fixed else past_returns(bars, window)
        lower, upper = class_bounds(past, threshold)
        distance = from_thresholds(returns, lower, upper) / bars.unit(window)
        return Outcome(side(returns, lower, upper), window.seen_at, distance)

    return make_labels(bars, horizons, outcome)


def past_returns(bars: Bars, window: Window) -> FloatArray:
    """(n_bars, 17): quantiles of the symbol's own returns over the horizon known at each bar."""
    keys = bars.prices.select("symbol", horizon=pl.lit(window.horizon.name))
    known = keys.with_columns(
        pl.Series("value", bars.returns(window)).fill_nan(None), pl.Series("end_at", window.seen_at)
    )
    return climatology(known, keys.with_columns(pl.Series("as_of", bars.known_at)))
