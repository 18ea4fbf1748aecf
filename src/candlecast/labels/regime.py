"""Regime change: is the market that begins at a bar bullish, bearish or sideways?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.catalog import label
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.errors import InvalidSpec
from candlecast.labels.confidence import from_thresholds, side
from candlecast.labels.horizons import Bars, Outcome, Window, make_labels
from candlecast.labels.paths import Sums

ROUNDING: Final = 1e-12
"""A mean height below this is that of a path that did not move."""


@label("regime_change", daily=("10D",), intraday=("12h",))
def regime_change(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
    threshold: float = 0.5,
) -> pl.DataFrame:
    """Regime of the path after a bar: 1 bullish, -1 bearish, 0 sideways.

    The mean height of the path over its start, in units of what a random walk would give it::

        z = mean_{j=1..h} ln(P_{t+j} / P_t) / (sigma_t * sqrt((h + 1) (2 h + 1) / (6 h)))

    where h counts the bars that there are within the horizon and sigma_t is the volatility of one
    bar as known at the bar (`domain.volatility.scale`). The root is the standard deviation of the
    mean of h partial sums of independent steps of unit variance: (1 / h^2) * (1^2 + ... + h^2) =
    (h + 1) (2 h + 1) / (6 h). A mean over the path, unlike its end, tells a market that rose early
    and stayed from one that jumped on the last day, and no single close decides. Whether the regime
    *changes* is seen beside the label of the bar one horizon before.

    Parameters
    ----------
    prices : PRICES, adjusted in quote currency
    timeframe : of the bars
    horizons : such as 10D or 12h; each a whole number of bars
    calendars : the trading calendar of every ticker in `prices`
    threshold : beyond which |z| the market is not sideways. At 0.5 a random walk is bullish 31 %,
        bearish 31 % and sideways 38 % of the time: three classes of about one size, with a little
        more room for sideways, for real volatility comes in bursts

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` in {-1, 0, 1}, null where the horizon has not ended, a
    session within it has no bar, or no volatility is known at the bar. `end_at` is when the horizon
    ends, or when all its bars were known, if later. The distance that makes `confidence` is that of
    z from the nearer of ±threshold: its unit is the standard deviation of z under a random walk,
    the volatility of the path's mean.

    Raises
    ------
    NotFound : a ticker has no calendar.
    InvalidSpec : the threshold is negative or not finite, or a horizon is no whole number of bars.
    """
    if not 0 <= threshold < np.inf:
        raise InvalidSpec(f"threshold of regime_change is {threshold}; it is finite, not negative")
    bars = Bars.of(prices, timeframe, calendars)
    heights = Sums(bars.log_close)
    rows = np.arange(len(bars))

    def outcome(window: Window) -> Outcome:
        is_known = bars.is_whole(window.ended)
        until = np.where(is_known, window.ended, rows)
        h = np.maximum(until - rows, 1)
        total = heights.between(rows + 1, until)
        mean = np.where(until > rows, total / h - bars.log_close, 0.0)
        mean[np.abs(mean) < ROUNDING] = 0.0
        deviation = bars.volatility * np.sqrt((h + 1) * (2 * h + 1) / (6 * h))
        z = np.where(is_known, mean / deviation, np.nan)
        end_at = np.maximum(window.seen_at, bars.known_through(until))
        distance = from_thresholds(z, -threshold, threshold)
        return Outcome(side(z, -threshold, threshold), end_at, distance)

    return make_labels(bars, horizons, outcome)
