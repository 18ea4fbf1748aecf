"""Triple barrier: which came first, a rise, a fall, or the end of the horizon?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.catalog import label
from candlecast.domain.distribution import FloatArray
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.errors import InvalidSpec
from candlecast.labels.horizons import Bars, Outcome, Places, Window, make_labels
from candlecast.labels.paths import RangeMax

CHUNK_ROWS: Final = 1 << 17
"""How many bars are looked at together: what bounds the memory of the tables."""


@label("triple_barrier", daily=("1W", "1M"), intraday=("1h", "1D"))
def triple_barrier(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
    upper: float = 1.0,
    lower: float = 1.0,
) -> pl.DataFrame:
    """Which barrier the price touches first: 1 the upper, -1 the lower, 0 neither in the horizon.

    The barriers stand at ln P + upper * s and ln P - lower * s, where s is the volatility known at
    the bar (`domain.volatility.scale`) times the root of the horizon in bars. A bar touches a
    barrier that its high or low reaches. Where one bar touches both, its open decides if it lies
    beyond a barrier, for nothing came before it; else nobody can say which was first, and the value
    is 0 with a confidence of 0: no side is given what may be the other's. Source: López de Prado
    (2018), Advances in Financial Machine Learning, ch. 3.4.

    Parameters
    ----------
    prices : PRICES, adjusted in quote currency
    timeframe : of the bars; the finer, the rarer a bar touches both
    horizons : such as 1W, 1M or 1h, the vertical barrier; each a whole number of bars
    calendars : the trading calendar of every ticker in `prices`
    upper, lower : heights of the barriers in units of the volatility over the horizon, > 0

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` in {-1, 0, 1}, null where no volatility is known at
    the bar, a session before the end has no bar, or neither barrier was touched and the horizon has
    not ended. `end_at` is when the touching bar, and all before it, were known; without one, when
    the horizon ends, or when all its bars were known, if later. The distance that makes
    `confidence` is how near the path came, until the decision, to a barrier that it did not touch,
    in units of the volatility over the horizon.

    Raises
    ------
    NotFound : a ticker has no calendar.
    InvalidSpec : a barrier's height is not positive, or a horizon is no whole number of bars.
    """
    if not (0 < upper < np.inf and 0 < lower < np.inf):
        raise InvalidSpec(f"barriers at {upper} and {lower}: both heights are positive numbers")
    bars = Bars.of(prices, timeframe, calendars)
    path = _Path(*(bars.log_of(name) for name in ("open", "high", "low", "close")))

    def outcome(window: Window) -> Outcome:
        unit = bars.unit(window)
        above, below = path.closes + upper * unit, path.closes - lower * unit
        limits = _Limits(window.last, window.ended, above, below)
        race = _Race(*map(np.concatenate, zip(*_races(path, limits), strict=True)))
        is_known = bars.is_whole(race.until) & ~np.isnan(unit)
        # What is not known may still come from any bar up to the horizon's end; and until then
        # nobody knows that neither barrier is touched.
        until = np.where(is_known, race.until, window.last)
        is_decided = is_known & race.is_touched
        waited = np.where(is_decided, bars.known_at, window.seen_at)
        value = np.where(is_known, race.value, np.nan)
        end_at = np.maximum(waited, bars.known_through(until))
        return Outcome(value, end_at, race.distance / unit)

    return make_labels(bars, horizons, outcome)


class _Path(NamedTuple):
    # Logarithms of prices, (n_bars,).
    opens: FloatArray
    highs: FloatArray
    lows: FloatArray
    closes: FloatArray


class _Limits(NamedTuple):
    # Where each bar's barriers stand, and between which rows they are looked at.
    last: Places
    ended: Places
    above: FloatArray
    below: FloatArray


class _Race(NamedTuple):
    # `until` is the row that decided, or with which the horizon ended, -1 where neither is there;
    # `distance` is in log price.
    until: Places
    is_touched: NDArray[np.bool_]
    value: FloatArray
    distance: FloatArray


def _races(path: _Path, limits: _Limits) -> Iterator[_Race]:
    # A chunk of bars after the other, each with all bars up to its horizons' ends.
    for start in range(0, len(limits.last), CHUNK_ROWS):
        own = slice(start, start + CHUNK_ROWS)
        last, ended = limits.last[own], limits.ended[own]
        seen = _Path(*(prices[start : int(last.max()) + 1] for prices in path))
        relative = np.where(ended < 0, -1, ended - start)
        race = _race(seen, _Limits(last - start, relative, limits.above[own], limits.below[own]))
        yield race._replace(until=np.where(race.until < 0, -1, race.until + start))


def _race(path: _Path, limits: _Limits) -> _Race:
    last, ended, above, below = limits
    rows = np.arange(len(last))
    longest = int((last - rows).max())
    highest, lowest = RangeMax(path.highs, longest), RangeMax(-path.lows, longest)
    up = highest.first_reaching(rows + 1, last, above)
    down = lowest.first_reaching(rows + 1, last, -below)
    touched = np.minimum(up, down)
    is_touched, is_double = touched <= last, (up == down) & (up <= last)
    place = np.minimum(touched, len(path.opens) - 1)
    opens = path.opens[place]
    opened = (opens >= above) * 1.0 - (opens <= below)
    value = np.where(is_double, opened, np.sign(down - up))
    # Of a bar that touches both only the open is known to be before the decision.
    begun = np.where(is_double, opens, path.closes[rows])
    until = np.where(is_touched, touched - is_double, np.maximum(ended, rows))
    first, is_way = np.minimum(rows + 1, len(path.highs) - 1), until > rows
    stop = np.maximum(until, first)
    peak = np.where(is_way, highest.between(first, stop), begun)
    trough = np.where(is_way, -lowest.between(first, stop), begun)
    to_upper = above - np.where(is_double, np.maximum(peak, opens), peak)
    to_lower = np.where(is_double, np.minimum(trough, opens), trough) - below
    nearest = np.where(is_double, 0.0, np.minimum(to_upper, to_lower))
    distance = np.where(value > 0, to_lower, np.where(value < 0, to_upper, nearest))
    return _Race(np.where(is_touched, touched, ended), is_touched, value, distance)
