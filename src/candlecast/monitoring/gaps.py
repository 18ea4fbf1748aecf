"""Bars that are missing, told apart from times in which nothing was traded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.market import Instants, Timeframe, TradingCalendar
from candlecast.monitoring.places import BUCKET_MINUTES, instants
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


@dataclass(frozen=True, eq=False)
class Pace:
    """How many bars a symbol should have between two instants.

    `opens` are those of the sessions since its first bar, `n_slots` how many bars fit into each,
    `before` the bars to be expected before each session, `profile` those before each slot of a
    session, and `step` is the length of a bar.
    """

    opens: Instants
    n_slots: NDArray[np.int64]
    before: NDArray[np.float64]
    profile: NDArray[np.float64]
    step: np.timedelta64

    def place(self, moments: Instants) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Session and slot of the first slot that begins at or after each moment."""
        session = np.maximum(np.searchsorted(self.opens, moments, side="right") - 1, 0)
        slot = np.maximum(-((self.opens[session] - moments) // self.step), 0)
        is_over = slot >= self.n_slots[session]
        is_next = is_over & (session + 1 < len(self.opens))
        slot = np.where(is_next, 0, np.minimum(slot, self.n_slots[session]))
        return session + is_next, slot

    def expected(self, start: Instants, end: Instants) -> NDArray[np.float64]:
        """Bars to be expected that begin in start <= ts < end."""
        begin, stop = self.place(start), self.place(end)
        at = [self.before[session] + self.profile[slot] for session, slot in (begin, stop)]
        return np.maximum(at[1] - at[0], 0)

    def n_sessions(self, start: Instants, end: Instants) -> NDArray[np.int64]:
        """Whole sessions within start <= t < end."""
        begin, stop = self.place(start), self.place(end)
        whole: NDArray[np.int64] = stop[0] - begin[0] - (begin[1] > 0)
        return np.maximum(whole, 0)

    def first_and_last(self, start: Instants, end: Instants) -> tuple[Instants, Instants]:
        """The `ts` of the first and the last slot within start <= ts < end."""
        session, slot = self.place(start)
        until, beyond = self.place(end)
        is_before = (beyond == 0) & (until > 0)
        last_slot = np.where(is_before, self.n_slots[until - is_before], beyond) - 1
        first = self.opens[session] + slot * self.step
        return first, self.opens[until - is_before] + last_slot * self.step


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
        paces[str(ticker)] = pace = _pace(bars, timeframe, calendar, as_of)
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


def _pace(
    bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar, as_of: datetime
) -> Pace:
    ts = instants(bars["ts"])
    until = max(np.datetime64(as_of.replace(tzinfo=None), "us"), ts[-1])
    opens = calendar.sessions.astype("datetime64[us]") if timeframe.is_daily else calendar.opens
    first = max(int(np.searchsorted(opens, ts[0], side="right")) - 1, 0)
    span = slice(first, int(np.searchsorted(opens, until, side="right")) + 1)
    step = np.timedelta64(timeframe.minutes, "m")
    if timeframe.is_daily:
        n_slots, profile = np.ones(len(opens[span]), np.int64), np.array([0.0, 1.0])
    else:
        n_slots = -((calendar.opens[span] - calendar.closes[span]) // step).astype(np.int64)
        profile = _profile(bars, n_slots, first, timeframe)
    before = np.concatenate([[0.0], np.cumsum(profile[n_slots])[:-1]])
    return Pace(opens[span], n_slots, before, profile, step)


def _profile(
    bars: pl.DataFrame, n_slots: NDArray[np.int64], first: int, timeframe: Timeframe
) -> NDArray[np.float64]:
    # Share of the sessions with a bar, by time of day, among sessions with any bar at all.
    per_bucket = max(1, BUCKET_MINUTES // timeframe.minutes)
    seen = n_slots[np.unique(bars["session"].to_numpy()) - first]
    n_all = int(n_slots.max(initial=1))
    bucket = np.arange(n_all) // per_bucket
    n_longer = np.bincount(seen, minlength=n_all + 1)[::-1].cumsum()[::-1]
    offered = np.bincount(bucket, n_longer[1:])
    filled = np.bincount(bucket[bars["slot"].to_numpy()], minlength=len(offered))
    share = np.minimum(filled / np.maximum(offered, 1), 1)
    return np.concatenate([[0.0], np.cumsum(share[bucket])])


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
            "n_sessions": pl.Int64,
            "first": moment,
            "last": moment,
        }
    )


def _missing(judged: pl.DataFrame, runs: pl.DataFrame, chances: pl.DataFrame) -> pl.DataFrame:
    # Those of `judged` that are no mere silence, measured by what `runs` say of the symbols.
    is_absent_session = (pl.col("n_sessions") > 0) & (pl.col("missed") >= LIKELY_BARS)
    is_implausible = pl.lit(expected_runs(judged, runs, chances)) < FALSE_ALARMS
    n_slots = pl.max_horizontal(pl.col("missed").round(0), 1)
    counted = runs.with_columns(n_slots=n_slots).sort("symbol", "n_slots", descending=[False, True])
    as_long = counted.group_by("symbol", "n_slots", maintain_order=True).agg(pl.len())
    as_long = as_long.with_columns(n_as_long=pl.col("len").cum_sum().over("symbol")).drop("len")
    begins = as_long.group_by("symbol").agg(n_runs=pl.col("n_as_long").max())
    rate = pl.col("n_runs") / pl.col("n_chances")
    beyond_chance = pl.col("n_chances") * rate ** pl.col("n_slots") <= FALSE_SHARE * pl.col(
        "n_as_long"
    )
    known = (
        judged.with_columns(n_slots=n_slots, is_implausible=is_implausible)
        .join(begins.join(chances, on="symbol"), on="symbol", how="left", maintain_order="left")
        .join(as_long, on=["symbol", "n_slots"], how="left", maintain_order="left")
        .with_columns(pl.col("n_as_long").fill_null(1))
    )
    is_missing = (
        (rate <= NEVER_SILENT)
        | ((rate <= SELDOM_SILENT) & beyond_chance)
        | is_absent_session
        | pl.col("is_implausible")
    )
    is_due = ~pl.col("is_last") | (pl.col("missed") >= LATE_BARS)
    return known.filter(is_missing & is_due).select(judged.columns)


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
