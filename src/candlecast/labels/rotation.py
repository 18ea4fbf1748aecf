"""Sector rotation: does the leader of a market do better than the rest, or worse?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.catalog import label
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.market import ALWAYS_OPEN, Timeframe, TradingCalendar
from candlecast.errors import InvalidSpec, NotFound
from candlecast.labels.confidence import from_thresholds, side
from candlecast.labels.horizons import Bars, Outcome, Places, Window, make_labels

BITCOIN: Final = "BTC-USD"


@label("sector_rotation", daily=("5D",), intraday=("6h",))
def sector_rotation(
    prices: pl.DataFrame,
    *,
    timeframe: Timeframe,
    horizons: Sequence[str],
    calendars: dict[str, TradingCalendar],
    leader: str = "",
    threshold: float = 0.25,
) -> pl.DataFrame:
    """Whether the leader beats the rest of its market: 1 if so, -1 if it lags, 0 between.

    The decision is about the excess x = (r_leader - mean of r_other) / s: the forward log return of
    the leader less the equally weighted mean of those of the other symbols with a bar of the same
    `ts` and a known outcome, in units of s, the leader's volatility known at the bar
    (`domain.volatility.scale`) times the root of the horizon. The value is 1 where x > threshold,
    -1 where x < -threshold. The leader is what the others rotate around: bitcoin for crypto (its
    dominance rises with a value of 1), an index or a sector for equities.

    All symbols on the leader's calendar get the value of their `ts`: it is one of the market.

    Parameters
    ----------
    prices : PRICES, adjusted in quote currency, of the whole market
    timeframe : of the bars
    horizons : such as 5D or 6h; each a whole number of bars
    calendars : the trading calendar of every ticker in `prices`
    leader : its ticker; empty for BTC-USD, where every symbol trades round the clock
    threshold : beyond which |x| one of the sides wins; 0.25 gives three classes of about one size
        where the difference is 0.6 times as volatile as the leader

    Returns
    -------
    LABELS, n_bars * n_horizons rows: `value` in {-1, 0, 1}, null where the leader's outcome or
    volatility or the outcomes of all others are missing, and for symbols on another calendar.
    `end_at` is when the last of the outcomes used was known. The distance that makes `confidence`
    is that of x from the nearer of ±threshold.

    Raises
    ------
    NotFound : the leader or a ticker has no calendar.
    InvalidSpec : no leader is named where there is no usual one, the threshold is negative or not
        finite, or a horizon is no whole number of bars.
    """
    if not 0 <= threshold < np.inf:
        raise InvalidSpec(f"threshold of sector_rotation is {threshold}; it is 0 or more")
    bars = Bars.of(prices, timeframe, calendars)
    if prices.is_empty():
        return FRAME.empty()
    name = _leader(leader, calendars)
    market = calendars[name].name
    followed = [t for t, calendar in calendars.items() if calendar.name == market]
    is_member = prices["symbol"].is_in(followed).to_numpy()
    is_leader = (prices["symbol"] == name).to_numpy()
    moment = prices["ts"].rank("dense").to_numpy().astype(np.intp) - 1

    def outcome(window: Window) -> Outcome:
        returns, unit = bars.returns(window), bars.unit(window)
        is_used = is_member & ~np.isnan(returns)
        excess = _excess(returns, unit, moment, is_used, is_leader)[moment]
        value = np.where(is_member, side(excess, -threshold, threshold), np.nan)
        ends = np.full(moment.max() + 1, np.datetime64(0, "us"))
        np.maximum.at(ends, moment[is_used], window.seen_at[is_used])
        own = np.where(np.isnan(value), window.seen_at, bars.known_at)
        end_at = np.where(np.isnan(value), own, np.maximum(own, ends[moment]))
        return Outcome(value, end_at, from_thresholds(excess, -threshold, threshold))

    return make_labels(bars, horizons, outcome)


def _excess(
    returns: FloatArray,
    unit: FloatArray,
    moment: Places,
    is_used: NDArray[np.bool_],
    is_leader: NDArray[np.bool_],
) -> FloatArray:
    # (n_moments,): the leader's return less the mean of the others', in the leader's units. Added
    # up in the order of the rows, so that the same rows give the same bits.
    size = moment.max() + 1
    rest, lead = is_used & ~is_leader, is_used & is_leader
    n_others = np.bincount(moment[rest], minlength=size)
    total = np.bincount(moment[rest], weights=returns[rest], minlength=size)
    ahead, scale = np.full(size, np.nan), np.full(size, np.nan)
    ahead[moment[lead]], scale[moment[lead]] = returns[lead], unit[lead]
    mean = total / np.where(n_others > 0, n_others, np.nan)
    return np.asarray((ahead - mean) / scale)


def _leader(named: str, calendars: Mapping[str, TradingCalendar]) -> str:
    if named and named not in calendars:
        raise NotFound.among("leader", named, calendars)
    is_crypto = all(calendar.name == ALWAYS_OPEN for calendar in calendars.values())
    if not named and not (is_crypto and BITCOIN in calendars):
        raise InvalidSpec(
            f"sector_rotation needs a leader, for not all symbols trade round the clock with "
            f"{BITCOIN} among them; name one, e.g. --set leader=SPY"
        )
    return named or BITCOIN
