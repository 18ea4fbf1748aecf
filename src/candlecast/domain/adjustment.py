"""From corporate actions to the factor of every bar, built forward: a later action changes none.

1. An action counts from the first bar of its ex-date's session on (of the next session, where
   the ex-date is none). Finer bars before the open belong to it from the middle of the night.
2. Where the source gave adjusted closes their factor stands as it was given. A bar without one
   has the symbol's last given factor (1 where there was none), times what each action since has
   multiplied it by.
3. A split of `s` new shares for one old multiplies the factor by s. A dividend of `d` money a share
   multiplies it by 1 / (1 - d / c), where c is the last close before it: the multiplier of CRSP's
   and Yahoo's adjusted closes, turned round. Returns across an ex-date are then total returns.
4. Between two bars actions follow each other by ex-date, a dividend before a split of its day:
   its money is for one share before the event.
5. An action told only after its ex-date makes the prices of the following quarter known when it
   was told. Later prices have it in their factor as a mere scale, which no return sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.frames import ACTIONS, INSTANT
from candlecast.domain.market import Timeframe, TradingCalendar

ADJUSTING: Final = ("dividend", "split")
"""The kinds of actions that change a price; others do not touch the factor."""
LATE_SPAN: Final = timedelta(days=92)
"""How long prices wait for an action told late: longer than the outcome of a forecast takes, so
that none spans the ex-date without waiting; and long enough for a new segment to begin behind."""
_GIVEN: Final = "_given"  # the factor that the source gave, of bars that came in time
_RUN: Final = "_run"  # number of the last bar with a given factor, within its symbol
_IS_LATE: Final = "_is_late"


def placed_actions(
    actions: pl.DataFrame, timeframe: Timeframe, calendars: Mapping[str, TradingCalendar]
) -> pl.DataFrame:
    """ACTIONS that adjust prices, with `effective_at`: bars opening then or later come after it.

    `calendars` maps each ticker to its calendar; actions of other tickers and those beyond the
    calendar's end are left out.
    """
    known = ACTIONS.check(actions).filter(pl.col("kind").is_in(ADJUSTING))
    parts = [known.head(0).with_columns(effective_at="ex_date")]
    for calendar in {calendar.name: calendar for calendar in calendars.values()}.values():
        own = [ticker for ticker, used in calendars.items() if used.name == calendar.name]
        part = known.filter(pl.col("symbol").is_in(own))
        days = part["ex_date"].dt.replace_time_zone(None).to_numpy().astype("datetime64[D]")
        starts = pl.Series(_starts(days, timeframe, calendar)).dt.replace_time_zone("UTC")
        parts.append(part.with_columns(effective_at=starts.cast(INSTANT)))
    return pl.concat(parts).drop_nulls("effective_at").sort(ACTIONS.key)


def with_factors(
    bars: pl.DataFrame, placed: pl.DataFrame | None = None, *, is_first_version: bool = False
) -> pl.DataFrame:
    """`bars` with `factor`, and with `factor_known_at`: when what was told late in it was known.

    Parameters
    ----------
    bars : BARS, also with further columns; sorted by symbol and ts
    placed : what `placed_actions` returned for them
    is_first_version : bars known only after a later one of their symbol lend no close and no
        factor to others

    Returns
    -------
    `bars` with two more columns. `factor_known_at` is null where no action of the last quarter was
    told after its ex-date. The factor of a bar depends on no bar and no action after it.
    """
    if (placed is None or placed.is_empty()) and bars["adj_close"].null_count() == len(bars):
        return bars.with_columns(factor=pl.lit(1.0), factor_known_at=pl.lit(None, INSTANT))
    given = pl.col("adj_close") / pl.col("close")
    is_apart = is_first_version and has_late(bars)
    marked = bars.with_columns(
        (is_late() if is_apart else pl.lit(value=False)).alias(_IS_LATE)
    ).with_columns(pl.when(~pl.col(_IS_LATE)).then(given).alias(_GIVEN))
    run = pl.col(_GIVEN).is_not_null().cum_sum().over("symbol")
    last = pl.col(_GIVEN).forward_fill().over("symbol").fill_null(1.0)
    if placed is None or placed.is_empty():
        factored = marked.with_columns(
            pl.coalesce(given, last).alias("factor"),
            pl.lit(None, INSTANT).alias("factor_known_at"),
        )
        return factored.drop(_IS_LATE, _GIVEN)
    marked = marked.with_columns(run.alias(_RUN))
    events = _judged(marked, placed).filter(pl.col("reason").is_null())
    since = _beside(_beside(marked, _growth(events)), _told_late(events))
    is_given = pl.col("adj_close").is_not_null()
    return since.with_columns(
        pl.coalesce(given, last * pl.col("growth").fill_null(1.0)).alias("factor"),
        pl.when(~is_given).then("factor_known_at").alias("factor_known_at"),
    ).drop(_IS_LATE, _GIVEN, _RUN, "growth")


def judged_actions(bars: pl.DataFrame, placed: pl.DataFrame) -> pl.DataFrame:
    """What each of the `placed` actions does to the BARS that follow it, or why it cannot be true.

    Its own columns, then `reference_ts` and `reference` (the last bar before it, and its close),
    `multiplier` of the factor, and `reason`: null for the actions that are applied. Actions
    without a bar before them change nothing and are left out.
    """
    marked = bars.with_columns(pl.lit(0).alias(_RUN), pl.lit(value=False).alias(_IS_LATE))
    return _judged(marked, placed).drop(_RUN)


def has_late(bars: pl.DataFrame) -> bool:
    """Whether `is_late` holds for any bar: one pass, where that takes several a symbol."""
    falls = (bars["known_at"].to_physical().diff() < 0).arg_true()
    symbol = bars["symbol"]
    return bool((symbol.gather(falls) == symbol.gather(falls - 1)).any())


def is_late() -> pl.Expr:
    """Whether a bar was known only after a later bar of its symbol."""
    later = pl.col("known_at").reverse().cum_min().shift().reverse().over("symbol")
    return (pl.col("known_at") > later).fill_null(value=False)


def _starts(
    days: np.ndarray[tuple[int], np.dtype[np.datetime64]],
    timeframe: Timeframe,
    calendar: TradingCalendar,
) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    # When the first bar of each ex-date's session may open; NaT past the end of the calendar.
    following = np.searchsorted(calendar.sessions, days)
    session = np.minimum(following, len(calendar.sessions) - 1)
    if timeframe.is_daily:
        starts = calendar.sessions[session].astype("datetime64[us]")
    else:
        opens, before = calendar.opens[session], calendar.closes[np.maximum(session - 1, 0)]
        night = np.maximum(opens - before, np.timedelta64(0, "us"))
        starts = (opens - night // 2).astype("datetime64[us]")
    return np.where(following < len(calendar.sessions), starts, np.datetime64("NaT", "us"))


def _judged(marked: pl.DataFrame, placed: pl.DataFrame) -> pl.DataFrame:
    # All actions between two bars are worked off in order, from the close of the first of them.
    references = marked.filter(~pl.col(_IS_LATE)).select(
        "symbol", _RUN, effective_at="ts", reference_ts="ts", reference="close"
    )
    group = ["symbol", "reference_ts"]
    is_split, value = pl.col("kind") == "split", pl.col("value")
    is_number = value.is_finite() & pl.when(is_split).then(value > 0).otherwise(value >= 0)
    split = pl.when(is_split & is_number).then(value).otherwise(1.0)
    shares = split.cum_prod().over(group) / split  # for one share of the reference
    money = pl.when(~is_split & is_number).then(value * shares).otherwise(0.0)
    payable = pl.when(pl.col("money") < pl.col("reference")).then("money").otherwise(0.0)
    left = pl.col("reference") - pl.col("paid")
    is_payable = (pl.col("money") < pl.col("reference")) & (left > 0)
    return (
        placed.join_asof(
            references,
            on="effective_at",
            by="symbol",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .drop_nulls("reference")
        .with_columns(split.alias("split"), money.alias("money"), is_number.alias("is_number"))
        .with_columns(paid=payable.cum_sum().over(group), due=payable)
        .with_columns(
            multiplier=pl.when(is_split)
            .then("split")
            .when(is_payable)
            .then((left + pl.col("due")) / left)
            .otherwise(1.0),
            reason=_reason(is_split, is_split | is_payable),
        )
        .drop("split", "money", "is_number", "paid", "due")
    )


def _reason(is_split: pl.Expr, is_possible: pl.Expr) -> pl.Expr:
    no_number = pl.when(is_split).then(
        pl.format("a split of {} new shares for one old; it is a positive number", "value")
    )
    too_much = pl.format(
        "a dividend of {} is not below the close before it, {}", "value", "reference"
    )
    return (
        pl.when(~pl.col("is_number"))
        .then(no_number.otherwise(pl.format("a dividend of {}; it is never negative", "value")))
        .when(~is_possible)
        .then(too_much)
        .alias("reason")
    )


def _beside(bars: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    # Each bar with the last of the `steps` that begin by its open.
    return bars.join_asof(
        steps.sort("symbol", _RUN, "begin_at"),
        left_on="ts",
        right_on="begin_at",
        by=["symbol", _RUN],
        check_sortedness=False,
        coalesce=False,
    ).drop("begin_at")


def _growth(events: pl.DataFrame) -> pl.DataFrame:
    # The product of all multipliers since the last given factor, one row an instant.
    by = ["symbol", _RUN]
    growth = pl.col("multiplier").cum_prod().over(by)
    steps = events.select(*by, begin_at="effective_at", growth=growth)
    return steps.unique([*by, "begin_at"], keep="last", maintain_order=True)


def _told_late(events: pl.DataFrame) -> pl.DataFrame:
    # From every instant at which a wait begins or ends: until when prices wait.
    by = ["symbol", _RUN]
    late = events.filter(pl.col("known_at") > pl.col("effective_at")).select(
        *by, "effective_at", "known_at", until=pl.col("effective_at") + LATE_SPAN
    )
    turns = [late.select(*by, begin_at=name) for name in ("effective_at", "until")]
    begin_at = pl.col("begin_at")
    is_waiting = (pl.col("effective_at") <= begin_at) & (begin_at < pl.col("until"))
    waits = pl.concat(turns).unique().join(late, on=by)
    return waits.group_by(*by, "begin_at").agg(
        factor_known_at=pl.col("known_at").filter(is_waiting).max()
    )
