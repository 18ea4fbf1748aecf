"""Bars that are missing, told apart from times in which nothing was traded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.monitoring.pace import Pace, make_pace
from candlecast.monitoring.places import instants
from candlecast.monitoring.silence import FALSE_ALARMS, expected_runs

NEVER_SILENT: Final = 0.001
"""Who falls silent less often than after one bar in a thousand does so for no want of trades; if
it does, at most one slot in a thousand is wrongly called missing."""
SELDOM_SILENT: Final = 0.01
"""Who falls silent so seldom is traded all the time, and short silences fall independently."""
FALSE_SHARE: Final = 0.02
"""Of what is reported for being more than independence lets expect, two percent may be chance."""
LIKELY_BARS: Final = 7.0
"""An absent session is missing if so many bars were to be expected in it: e**-7 < 0.001."""
LATE_BARS: Final = 3.0
"""Fewer bars of a session that are not there yet may still be on their way."""
DELAY_BARS: Final = 20
"""Bars whose `known_at` says how late this symbol's bars arrive."""
MAX_DELAY: Final = np.timedelta64(1, "D")
"""A later arrival says when it was backfilled, not how late bars are."""


def find_gaps(
    placed: pl.DataFrame,
    timeframe: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    coverage: pl.DataFrame | None,
    as_of: datetime,
) -> pl.DataFrame:
    """Runs of missing bars outside of `coverage`; one up to `as_of` says that the feed is stale.

    `placed` are BARS with the columns of `with_places`; `coverage` has symbol, start_at, end_at.
    """
    paces: dict[str, Pace] = {}
    parts, n_chances = [], []
    for (ticker,), bars in placed.filter(pl.col("slot") >= 0).group_by(
        "symbol", maintain_order=True
    ):
        calendar = calendars[str(ticker)]
        paces[str(ticker)] = pace = make_pace(bars, timeframe, calendar, as_of)
        parts.append(_silences(bars, pace, _due_until(bars, timeframe, calendar, as_of)))
        n_chances.append(len(bars))
    if not parts:
        return _told(_nothing())
    runs = pl.concat(parts)
    chances = pl.DataFrame({"symbol": list(paces), "n_chances": n_chances})
    if timeframe.is_daily:  # every session has a bar
        bare = runs if coverage is None else _measured(_uncovered(runs, coverage), paces)
        return _told(bare)
    missing = _missing(runs, runs, chances)
    if coverage is not None:
        missing = _missing(_measured(_uncovered(missing, coverage), paces), runs, chances)
    return _told(missing)


def _due_until(
    bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar, as_of: datetime
) -> np.datetime64:
    # Bars that begin before this instant should be known, as late as this symbol's bars come.
    newest = bars.tail(DELAY_BARS)
    ends = calendar.close_at(instants(newest["ts"]), timeframe)
    delays = np.clip(instants(newest["known_at"]) - ends, np.timedelta64(0, "us"), MAX_DELAY)
    now = np.datetime64(as_of.replace(tzinfo=None), "us") - np.sort(delays)[len(delays) // 2]
    if timeframe.is_daily:
        n_over = int(np.searchsorted(calendar.closes, now, side="right"))
        return np.datetime64(calendar.sessions[min(n_over, len(calendar.sessions) - 1)], "us")
    return np.datetime64(now - np.timedelta64(timeframe.minutes, "m"), "us")


def _silences(bars: pl.DataFrame, pace: Pace, due_until: np.datetime64) -> pl.DataFrame:
    # All runs of slots without a bar, and the one from the newest bar to what is due.
    ts = instants(bars["ts"])
    ticker = bars["symbol"][0]
    frame = pl.DataFrame(
        {
            "start": pl.Series(ts + pace.step, dtype=pl.Datetime("us")),
            "end": pl.Series(np.append(ts[1:], due_until), dtype=pl.Datetime("us")),
            "is_last": np.arange(len(ts)) == len(ts) - 1,
        }
    ).select(pl.lit(ticker).alias("symbol"), "start", "end", "is_last")
    return _measured(frame.filter(pl.col("end") > pl.col("start")), {ticker: pace})


def _measured(runs: pl.DataFrame, paces: Mapping[str, Pace]) -> pl.DataFrame:
    # How many bars and sessions each run misses; those that miss nothing are left out.
    parts = []
    for (ticker,), part in runs.group_by("symbol", maintain_order=True):
        pace = paces[str(ticker)]
        start, end = part["start"].to_numpy(), part["end"].to_numpy()
        first, last = pace.first_and_last(start, end)
        parts.append(
            part.with_columns(
                pl.Series("missed", pace.expected(start, end)),
                pl.Series("n_slots", pace.n_slots_between(start, end)),
                pl.Series("n_sessions", pace.n_sessions(start, end)),
                pl.Series("first", first, dtype=pl.Datetime("us")),
                pl.Series("last", last, dtype=pl.Datetime("us")),
            )
        )
    if not parts:
        return _nothing()
    return pl.concat(parts).filter(pl.col("last") >= pl.col("first"), pl.col("missed") > 0)


def _nothing() -> pl.DataFrame:
    moment = pl.Datetime("us")
    return pl.DataFrame(
        schema={
            "symbol": pl.String,
            "start": moment,
            "end": moment,
            "is_last": pl.Boolean,
            "missed": pl.Float64,
            "n_slots": pl.Int64,
            "n_sessions": pl.Int64,
            "first": moment,
            "last": moment,
        }
    )


def _missing(judged: pl.DataFrame, runs: pl.DataFrame, chances: pl.DataFrame) -> pl.DataFrame:
    # Those of `judged` that are no mere silence, measured by what `runs` say of the symbols.
    is_absent_session = (pl.col("n_sessions") > 0) & (pl.col("missed") >= LIKELY_BARS)
    is_implausible = pl.lit(expected_runs(judged, runs, chances)) < FALSE_ALARMS
    length = pl.max_horizontal(pl.col("missed").round(0), 1)
    counted = runs.with_columns(length=length).sort("symbol", "length", descending=[False, True])
    as_long = counted.group_by("symbol", "length", maintain_order=True).agg(pl.len())
    as_long = as_long.with_columns(n_as_long=pl.col("len").cum_sum().over("symbol")).drop("len")
    begins = as_long.group_by("symbol").agg(n_runs=pl.col("n_as_long").max())
    rate = pl.col("n_runs") / pl.col("n_chances")
    by_chance = pl.col("n_chances") * rate ** pl.col("length")
    is_never, is_seldom = rate <= NEVER_SILENT, rate <= SELDOM_SILENT
    known = (
        judged.with_columns(length=length, is_implausible=is_implausible)
        .join(begins.join(chances, on="symbol"), on="symbol", how="left", maintain_order="left")
        .join(as_long, on=["symbol", "length"], how="left", maintain_order="left")
        .with_columns(pl.col("n_as_long").fill_null(1))
    )
    is_missing = (
        is_never
        | (is_seldom & (by_chance <= FALSE_SHARE * pl.col("n_as_long")))
        | is_absent_session
        | pl.col("is_implausible")
    )
    is_due = ~pl.col("is_last") | (pl.col("missed") >= LATE_BARS)
    # Who is never silent lacks a bar in every slot; others, as many as they usually have.
    whole = pl.when(is_never).then(pl.col("n_slots").cast(pl.Float64)).otherwise("missed")
    told = known.with_columns(missed=whole).filter(is_missing & is_due)
    return told.select(judged.columns)


def _uncovered(runs: pl.DataFrame, coverage: pl.DataFrame) -> pl.DataFrame:
    # The pieces of `runs` within no span that a source answered completely.
    spans = coverage.select(
        "symbol",
        pl.col("start_at", "end_at").dt.replace_time_zone(None).cast(pl.Datetime("us")),
    ).sort("start_at")
    own = runs.select("symbol", "start", "end", "is_last")
    touching = own.join(spans, on="symbol").filter(
        pl.col("start_at") < pl.col("end"), pl.col("end_at") > pl.col("start")
    )
    rests = touching.filter(pl.col("end_at") < pl.col("end"))
    begins = pl.concat([own, rests.select("symbol", start="end_at", end="end", is_last="is_last")])
    begins = begins.unique(maintain_order=True).sort("start")
    ahead = spans.select("symbol", next_at="start_at")
    behind = spans.select("symbol", "start_at", covered_until="end_at")
    pieces = begins.join_asof(
        ahead,
        left_on="start",
        right_on="next_at",
        by="symbol",
        strategy="forward",
        check_sortedness=False,
    ).join_asof(
        behind,
        left_on="start",
        right_on="start_at",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    is_bare = (pl.col("covered_until") <= pl.col("start")).fill_null(value=True)
    cut = pl.min_horizontal("end", "next_at")
    free = pieces.filter(is_bare).with_columns(
        is_last=pl.col("is_last") & (cut == pl.col("end")), end=cut
    )
    return free.filter(pl.col("end") > pl.col("start")).select(own.columns).sort("symbol", "start")


def _told(missing: pl.DataFrame) -> pl.DataFrame:
    n_bars = pl.max_horizontal(pl.col("missed").round(0).cast(pl.Int64), 1)
    is_one = pl.col("n_bars") == 1
    counted = pl.when(is_one).then(pl.lit("1 bar is")).otherwise(pl.format("{} bars are", "n_bars"))
    stale = pl.format("the feed is stale: {} due since the newest one", counted)
    what = pl.when("is_last").then(stale).otherwise(pl.format("{} missing", counted))
    is_intraday = pl.col("missed") > pl.col("n_sessions")
    days = (
        pl.when(is_intraday & (pl.col("n_sessions") > 0))
        .then(pl.format(", whole sessions among them: {}", "n_sessions"))
        .otherwise(pl.lit(""))
    )
    return missing.with_columns(n_bars=n_bars).select(
        "symbol",
        kind=pl.lit("gap"),
        start=pl.col("first").dt.replace_time_zone("UTC"),
        end=pl.col("last").dt.replace_time_zone("UTC"),
        n_bars="n_bars",
        value="missed",
        severity=pl.lit("suspect"),
        message=pl.concat_str(
            what, days, pl.lit("; ingest this span again, or find out whether trading was halted")
        ),
    )
