"""Bars that are awkward for labels: gaps, thin trade, still prices, healed bars, real sessions."""

from __future__ import annotations

import numpy as np
import polars as pl

from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.prices import make_prices
from price_frames import DAILY, stamped

SYMBOLS = ("A", "B", "C")
LUNCH = (np.timedelta64(150, "m"), np.timedelta64(210, "m"))
"""From when to when after the open Hong Kong rests."""


def awkward_prices(
    seed: int,
    *,
    timeframe: Timeframe = DAILY,
    calendar: str = "XNYS",
    n_sessions: int = 200,
    is_late: bool = True,
    share: float = 0.9,
) -> pl.DataFrame:
    """PRICES of three symbols around the holidays of 2020, in first versions.

    A tenth of the bars is missing and all of some sessions; C has a stretch of still prices without
    volume; where `is_late` some bars of A and B were healed days after.
    """
    rng, place = np.random.default_rng(seed), trading_calendar(calendar)
    times = opening_times(place, timeframe, n_sessions)
    frames = [_symbol(name, times, rng, share) for name in SYMBOLS]
    bars = stamped(pl.concat(frames), timeframe, place)
    if is_late:
        healed = pl.Series(rng.random(len(bars)) < 0.04) & (pl.col("symbol") != "C")
        delay = pl.duration(hours=pl.Series(rng.integers(1, 200, len(bars))))
        seen = pl.when(healed).then(pl.col("known_at") + delay).otherwise("known_at")
        bars = bars.with_columns(known_at=seen)
    return make_prices(bars, timeframe, dict.fromkeys(SYMBOLS, place), is_first_version=is_late)


def opening_times(
    calendar: TradingCalendar, timeframe: Timeframe, n_sessions: int
) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    """The `ts` of all bars of as many sessions, which end in the first days of 2021."""
    end = int(np.searchsorted(calendar.sessions, np.datetime64("2021-01-06")))
    sessions = range(end - n_sessions, end)
    if timeframe.is_daily:
        return calendar.sessions[list(sessions)].astype("M8[us]")
    step, found = np.timedelta64(timeframe.minutes, "m"), []
    for session in sessions:
        opened = calendar.opens[session]
        times = np.arange(opened, calendar.closes[session], step)
        rests = (times - opened >= LUNCH[0]) & (times - opened < LUNCH[1])
        found.append(times[~rests] if calendar.name == "XHKG" else times)
    return np.concatenate(found).astype("M8[us]")


def _symbol(
    name: str,
    times: np.ndarray[tuple[int], np.dtype[np.datetime64]],
    rng: np.random.Generator,
    share: float,
) -> pl.DataFrame:
    n = len(times)
    steps = rng.standard_t(4, n) * 0.004
    volume = np.exp(rng.normal(8, 1, n))
    wide = np.ones(n)
    if name == "C":
        still = slice(n // 3, n // 2)
        steps[still], volume[still], wide[still] = 0.0, 0.0, 0.0
    close = 50 * np.exp(np.cumsum(steps))
    opens = close * np.exp(wide * rng.normal(0, 0.003, n))
    high = np.maximum(opens, close) * np.exp(wide * rng.exponential(0.003, n))
    low = np.minimum(opens, close) * np.exp(-wide * rng.exponential(0.003, n))
    frame = pl.DataFrame(
        {
            "symbol": name,
            "ts": pl.Series(times).dt.replace_time_zone("UTC"),
            "open": opens,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
        }
    )
    # Single bars are missing, and of B all of some sessions, once for longer than a gap.
    kept = rng.random(n) < share
    if name == "B":
        days = times.astype("M8[D]")
        gone = rng.choice(np.unique(days), max(1, len(np.unique(days)) // 12), replace=False)
        kept &= ~np.isin(days, gone)
        kept[int(0.7 * n) : int(0.7 * n) + n // 20] = False
    return frame.filter(pl.Series(kept))
