"""What is wrong, or looks wrong, with the bars we hold: findings, each with its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, get_args

import polars as pl

from candlecast.domain.frames import ACTIONS, BARS, INSTANT, FrameSpec
from candlecast.domain.market import ALWAYS_OPEN, Timeframe, TradingCalendar
from candlecast.monitoring.gaps import find_gaps
from candlecast.monitoring.jumps import find_extreme_returns, find_outliers
from candlecast.monitoring.places import with_places
from candlecast.monitoring.silence import find_stale_prices, find_zero_volume_runs
from candlecast.monitoring.splits import find_unadjusted_splits

Kind = Literal[
    "impossible",
    "impossible_action",
    "gap",
    "unadjusted_split",
    "outlier",
    "stale_price",
    "zero_volume_run",
    "extreme_return",
]
Severity = Literal["bad", "suspect", "note"]
"""It cannot be true; look at it; it is probably real."""
KINDS: Final = get_args(Kind)
SEVERITIES: Final = get_args(Severity)
ROUNDING: Final = 1e-6
"""Relative; prices that differ by less are the same number, rounded twice."""
MISFIT: Final = 0.005
"""Relative; opens and closes come from auctions, highs and lows from the trades of the day, so
so much is looked at but cannot be called false."""
MIN_INSIDE: Final = 0.1
"""A session is a tenth of a day at least: who trades in it less than that trades elsewhere."""

FINDINGS: Final = FrameSpec(
    "FINDINGS",
    {
        "symbol": pl.String,
        "start": INSTANT,  # of the first bar concerned, or missing
        "end": INSTANT,  # of the last one
        "kind": pl.String,  # one of KINDS
        "n_bars": pl.Int64,
        "value": pl.Float64,  # its size: bars missed, a return, new shares for one old
        "severity": pl.String,  # one of SEVERITIES
        "message": pl.String,
    },
    key=("symbol", "start", "end", "kind"),
    nullable=frozenset({"value"}),
)


def check_bars(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    *,
    coverage: pl.DataFrame | None = None,
    actions: pl.DataFrame | None = None,
    as_of: datetime,
) -> pl.DataFrame:
    """FINDINGS in BARS of one timeframe.

    Parameters
    ----------
    bars : BARS; later ones than `as_of` are left out
    timeframe : their length
    calendars : each ticker's calendar
    coverage : symbol, start_at, end_at of the spans that a source answered completely, where an
        absent bar means that nothing was traded
    actions : ACTIONS; a jump that they explain is not reported
    as_of : the instant at which is judged; what should be known by then and is not, is missing

    Raises
    ------
    NotFound : a ticker has no calendar.
    """
    known = BARS.check(bars).filter(pl.col("known_at") <= as_of)
    events = ACTIONS.empty() if actions is None else actions.filter(pl.col("known_at") <= as_of)
    placed = with_places(known, timeframe, calendars)
    impossible = find_impossible(known)
    false = impossible.filter(pl.col("severity") == "bad").select("symbol", ts="start")
    # Bars outside of any session are thinly traded, reported late, or mere fillers of holidays:
    # they teach nothing of what is usual.
    believed = placed.filter(pl.col("slot") >= 0).join(
        false, on=["symbol", "ts"], how="anti", maintain_order="left"
    )
    # A close may be true though its bar cannot be: the move from it is told, too.
    closed = placed.filter(pl.col("close").is_finite() & (pl.col("close") > 0))
    always_open = {t for t, calendar in calendars.items() if calendar.name == ALWAYS_OPEN}
    found = [
        impossible,
        _listed(find_gaps(placed, timeframe, calendars, coverage, as_of), events),
        _misplaced(placed, calendars),
        find_unadjusted_splits(believed, events, always_open),
        find_outliers(believed),
        find_stale_prices(believed),
        find_zero_volume_runs(believed),
        find_extreme_returns(closed, timeframe, calendars, events),
    ]
    return FINDINGS.conform(pl.concat(part.select(*FINDINGS.columns) for part in found))


def find_impossible(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars that cannot be true, one finding each; small misfits are merely suspect.

    A price is not finite or not positive; volume is negative or not finite; the high is below
    the low, the open or the close, or the low above one of them, by more than rounding. An open
    or close may lie half a percent outside of high and low and is then suspect.
    """
    prices = ("open", "high", "low", "close")
    high, low = pl.col("high"), pl.col("low")
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    lowest, misfit = pl.min_horizontal(*prices), pl.max_horizontal(top / high, low / bottom) - 1
    is_price = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(name) > 0) for name in prices)
    is_volume = pl.col("volume").is_finite() & (pl.col("volume") >= 0)
    rules = (
        (~is_price, lowest, "a price is {}; prices are positive numbers"),
        (~is_volume, pl.col("volume"), "the volume is {}; it is no count"),
        (low > high * (1 + ROUNDING), low / high - 1, "the low lies above the high by {}"),
        (misfit > ROUNDING, misfit, "open or close lies outside of high and low by {}"),
    )
    rule = pl.coalesce(pl.when(broken).then(n) for n, (broken, _, _) in enumerate(rules))
    value = pl.coalesce(pl.when(pl.col("rule") == n).then(v) for n, (_, v, _) in enumerate(rules))
    said = pl.coalesce(
        pl.when(pl.col("rule") == n).then(pl.format(text + REMEDY, pl.col("value").round(6)))
        for n, (_, _, text) in enumerate(rules)
    )
    is_small = (pl.col("rule") == len(rules) - 1) & (pl.col("value") <= MISFIT)
    broken = bars.with_columns(rule=rule).filter(pl.col("rule").is_not_null())
    return broken.with_columns(value=value).select(
        "symbol",
        kind=pl.lit("impossible"),
        start="ts",
        end="ts",
        n_bars=pl.lit(1, dtype=pl.Int64),
        value="value",
        severity=pl.when(is_small).then(pl.lit("suspect")).otherwise(pl.lit("bad")),
        message=said,
    )


REMEDY: Final = "; correct the bar at its source and ingest it again"


def _misplaced(placed: pl.DataFrame, calendars: Mapping[str, TradingCalendar]) -> pl.DataFrame:
    # Symbols that hardly trade when their calendar says: nothing else can be said of them.
    names = {ticker: calendars[ticker].name for ticker in placed["symbol"].unique()}
    is_inside = pl.col("slot") >= 0
    spans = placed.group_by("symbol", maintain_order=True).agg(
        start=pl.col("ts").first(), end=pl.col("ts").last(), n_bars=(~is_inside).sum(), n=pl.len()
    )
    lost = spans.filter(pl.col("n_bars") > (1 - MIN_INSIDE) * pl.col("n"))
    calendar = pl.col("symbol").replace_strict(names, return_dtype=pl.String, default="")
    return lost.select(
        "symbol",
        kind=pl.lit("gap"),
        start="start",
        end="end",
        n_bars=pl.col("n_bars").cast(pl.Int64),
        value=pl.col("n_bars").cast(pl.Float64),
        severity=pl.lit("suspect"),
        message=pl.format(
            "{} of {} bars lie outside of the sessions of {}; give the symbol its right calendar",
            "n_bars",
            "n",
            calendar,
        ),
    )


def _listed(gaps: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    # Nothing is missing of what is no longer traded.
    gone = (
        actions.filter(pl.col("kind") == "delisting")
        .group_by("symbol")
        .agg(gone_at=pl.col("ex_date").min())
    )
    beside = gaps.join(gone, on="symbol", how="left")
    return beside.filter((pl.col("start") < pl.col("gone_at")).fill_null(value=True))
