"""BARS to PRICES: adjusted, with session ordinals and the segments between real gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.adjustment import is_late, placed_actions, with_factors
from candlecast.domain.frames import PRICES
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.errors import NotFound

MAX_MISSING_SESSIONS: Final = 5
"""A symbol that is silent for longer starts anew: its indicators warm up again."""
MAX_SEGMENTS: Final = 1 << 20
_CHAIN: Final = "_chain"  # a symbol's bars that came in time, or its late ones


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
    dated = bars.with_columns(calendar=pl.lit(None, pl.String), session=pl.lit(None, pl.Int64))
    dated = dated.with_columns(close_at="ts")
    if len(bars):
        dated = _with_sessions(bars, timeframe, calendars)
    return with_factors(dated, placed, is_first_version=is_first_version)


def prices_of_factored(factored: pl.DataFrame, *, is_first_version: bool = False) -> pl.DataFrame:
    """PRICES of what `factored_bars` returned; the rules of `make_prices`."""
    known_at = pl.max_horizontal("known_at", "factor_known_at")
    known = factored.with_columns(known_at=known_at) if is_first_version else factored
    apart = is_late().cast(pl.Int64) if is_first_version else 0
    chain = pl.col("symbol").rle_id().cast(pl.Int64) * 2 + apart
    is_gap = (pl.col("session").diff() > MAX_MISSING_SESSIONS + 1).fill_null(value=False)
    segment = pl.col(_CHAIN) * MAX_SEGMENTS + is_gap.cum_sum().over(_CHAIN)
    return (
        known.with_columns(chain.alias(_CHAIN))
        .with_columns(segment.alias("segment"))
        .select(
            "symbol",
            "ts",
            *(pl.col(name) * pl.col("factor") for name in ("open", "high", "low", "close")),
            pl.col("volume") / pl.col("factor"),
            "factor",
            "session",
            "segment",
            "close_at",
            "known_at",
        )
    )


def newest_segment_bars(prices: pl.DataFrame, n_bars: int) -> pl.DataFrame:
    """The last `n_bars` rows of each symbol: enough for its indicators' warm-up."""
    rank = pl.int_range(pl.len()).reverse().over("symbol")
    return PRICES.check(prices.filter(rank < n_bars))


def _with_sessions(
    bars: pl.DataFrame, timeframe: Timeframe, calendars: Mapping[str, TradingCalendar]
) -> pl.DataFrame:
    # One look-up a calendar, not one a symbol: symbols of one market share their instants.
    tickers = bars["symbol"].unique().sort()
    for ticker in tickers:
        if ticker not in calendars:
            raise NotFound.among("symbol with a calendar", ticker, calendars)
    named = {ticker: calendars[ticker].name for ticker in tickers}
    used = {calendar.name: calendar for calendar in calendars.values()}
    names = pl.col("symbol").replace_strict(named, return_dtype=pl.String)
    keyed = bars.with_columns(names.alias("calendar"))
    tables = [
        _session_table(part["ts"].unique(), timeframe, used[str(name)])
        for (name,), part in keyed.group_by("calendar")
    ]
    return keyed.join(pl.concat(tables), on=["calendar", "ts"], how="inner", maintain_order="left")


def _session_table(ts: pl.Series, timeframe: Timeframe, calendar: TradingCalendar) -> pl.DataFrame:
    # A finer bar belongs to the session in progress, or to the next one; a daily bar to its date.
    opens = ts.dt.replace_time_zone(None).to_numpy()
    if timeframe.is_daily:
        session = calendar.session_index(opens)
    else:
        session = np.searchsorted(calendar.closes, opens, side="right")
    table = pl.DataFrame(
        {
            "ts": ts,
            "session": pl.Series(session, dtype=pl.Int64),
            "close_at": pl.Series(calendar.close_at(opens, timeframe)).dt.replace_time_zone("UTC"),
        }
    )
    return table.filter(pl.col("session") >= 0).with_columns(calendar=pl.lit(calendar.name))
