"""BARS to PRICES: adjusted, with session ordinals and the segments between real gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.adjustment import has_late, is_late, placed_actions, with_factors
from candlecast.domain.frames import PRICES
from candlecast.domain.market import MINUTES, Timeframe, TradingCalendar
from candlecast.errors import NotFound

MAX_MISSING_SESSIONS: Final = 5
"""A symbol that is silent for longer starts anew: its indicators warm up again."""
MAX_SEGMENTS: Final = 1 << 20


def make_prices(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    *,
    actions: pl.DataFrame | None = None,
    is_first_version: bool = False,
) -> pl.DataFrame:
    """PRICES of BARS; `calendars` maps each ticker to its calendar.

    The factor is adj_close / close as the source gave it; where it is missing the symbol's last
    one is carried on through `actions` (ACTIONS, each as it is known). It is never scaled to the
    newest bar, so a later bar or action changes no earlier price. Daily bars that fall on no
    session are left out. NotFound when a ticker has no calendar.

    Of each bar's first version (`is_first_version`) a row is known when its bar was and, for a
    quarter after an action that was told late, when that was. Late rows, known only after a later
    bar of their symbol, are kept in segments of their own: what healed a gap, or waited for its
    split, is no part of the past of the bars that were known before it.
    """
    factored = factored_bars(
        bars, timeframe, calendars, actions=actions, is_first_version=is_first_version
    )
    return prices_of_factored(factored, is_first_version=is_first_version)


def factored_bars(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    *,
    actions: pl.DataFrame | None = None,
    is_first_version: bool = False,
) -> pl.DataFrame:
    """BARS as given, with `factor`, `factor_known_at` (of its actions), `session`, `close_at`."""
    placed = None if actions is None else placed_actions(actions, timeframe, calendars)
    dated = bars.with_columns(session=pl.lit(None, pl.Int64), close_at="ts")
    if len(bars):
        dated = _with_sessions(bars, timeframe, calendars)
    return with_factors(dated, placed, is_first_version=is_first_version)


def prices_of_factored(factored: pl.DataFrame, *, is_first_version: bool = False) -> pl.DataFrame:
    """PRICES of what `factored_bars` returned; the rules of `make_prices`."""
    known_at = pl.max_horizontal("known_at", "factor_known_at")
    known = factored.with_columns(known_at=known_at) if is_first_version else factored
    apart = is_late().cast(pl.Int64) if is_first_version and has_late(known) else 0
    chain = known.select(pl.col("symbol").rle_id().cast(pl.Int64) * 2 + apart).to_series()
    segment = pl.Series("segment", _segments(chain.to_numpy(), known["session"].to_numpy()))
    return known.select(
        "symbol",
        "ts",
        *(pl.col(name) * pl.col("factor") for name in ("open", "high", "low", "close")),
        pl.col("volume") / pl.col("factor"),
        "factor",
        "session",
        segment,
        "close_at",
        "known_at",
    )


def _segments(chain: NDArray[np.int64], session: NDArray[np.int64]) -> NDArray[np.int64]:
    # Numbers of the segments: a chain is a symbol's bars that came in time, or its late ones.
    order = None if (chain[1:] >= chain[:-1]).all() else np.argsort(chain, kind="stable")
    chains, sessions = (chain, session) if order is None else (chain[order], session[order])
    is_new = np.diff(chains, prepend=-1) != 0
    is_gap = (np.diff(sessions, prepend=0) > MAX_MISSING_SESSIONS + 1) & ~is_new
    gaps = np.cumsum(is_gap)
    starts = np.flatnonzero(is_new)
    before = np.repeat(gaps[starts], np.diff(starts, append=len(chains)))
    numbers: NDArray[np.int64] = chains * MAX_SEGMENTS + gaps - before
    if order is None:
        return numbers
    segments = np.empty_like(numbers)
    segments[order] = numbers
    return segments


def newest_segment_bars(prices: pl.DataFrame, n_bars: int) -> pl.DataFrame:
    """The last `n_bars` rows of each symbol: enough for its indicators' warm-up."""
    rank = pl.int_range(pl.len()).reverse().over("symbol")
    return PRICES.check(prices.filter(rank < n_bars))


def _with_sessions(
    bars: pl.DataFrame, timeframe: Timeframe, calendars: Mapping[str, TradingCalendar]
) -> pl.DataFrame:
    # One look-up a calendar, not one a symbol: symbols of one market share their instants.
    runs = bars.select(pl.col("symbol").rle().struct.unnest())
    for ticker in runs["value"]:
        if ticker not in calendars:
            raise NotFound.among("symbol with a calendar", ticker, calendars)
    names = [calendars[ticker].name for ticker in runs["value"]]
    used = {calendar.name: calendar for calendar in calendars.values()}
    if len({*names}) == 1:
        return _placed(bars, timeframe, used[names[0]])
    of_row = pl.Series("calendar", names).gather(np.repeat(np.arange(len(names)), runs["len"]))
    parts = (
        _placed(bars.filter(of_row == name), timeframe, used[name]) for name in sorted({*names})
    )
    return pl.concat(parts).sort("symbol", "ts")


def _placed(bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar) -> pl.DataFrame:
    # A finer bar belongs to the session in progress, or to the next one; a daily bar to its date.
    ts = bars["ts"].dt.replace_time_zone(None).to_numpy()
    if timeframe.is_daily:
        session, close_at = _daily(ts, calendar)
    else:
        opens, place = np.unique(ts, return_inverse=True)
        session = np.searchsorted(calendar.closes, opens, side="right")[place]
        close_at = calendar.close_at(opens, timeframe)[place]
    placed = bars.with_columns(
        pl.Series("session", session, dtype=pl.Int64),
        pl.Series("close_at", close_at).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    )
    return placed if (session >= 0).all() else placed.filter(pl.col("session") >= 0)


def _daily(
    ts: NDArray[np.datetime64], calendar: TradingCalendar
) -> tuple[NDArray[np.int64], NDArray[np.datetime64]]:
    # Through a table of all days between the first and the last; a day without a session has -1.
    day = ts.astype("datetime64[D]")
    first = day.min()
    days = np.arange(first, day.max() + np.timedelta64(1, "D")).astype("datetime64[us]")
    place = (day - first).astype(np.int64)
    session, close_at = (
        calendar.session_index(days),
        calendar.close_at(days, Timeframe(MINUTES["1d"])),
    )
    return session[place], close_at[place]
