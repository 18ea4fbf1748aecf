"""Rows that cannot be true, or are not yet: found without a loop, refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.sources import Fetched, Refusal, Request
from candlecast.errors import InvalidSpec, NotFound

ROUNDING: Final = 1e-6
"""Relative; a low may lie this much above the high and still be a rounded one."""
MISFIT: Final = 0.005
"""Relative; an open or close may lie this far outside of high and low: vendors take it from the
auction, and the range from the trades of the day."""
MOST_TRADES: Final = 2.0**53
"""Beyond it floats cannot count one by one; no bar has so many trades."""
MOST_PLACES: Final = 4
"""How many places of a repeated time are named."""
PRICES: Final = ("open", "high", "low", "close")
NUMBERS: Final = (*PRICES, "adj_close", "volume", "vwap", "trade_count")
NO_VALUE: Final = ("", "-", "null", "na", "n/a", "nan", "none", "nat")


@dataclass(frozen=True)
class Rule:
    """What makes a row impossible, and how that is said; expressions over raw rows."""

    is_broken: pl.Expr
    reason: pl.Expr


def find_refused(rows: pl.DataFrame) -> pl.DataFrame:
    """The impossible ones of raw `rows`: symbol, file, line, reason, one row each.

    Raw rows hold symbol, ts, the numbers (null where a cell is no number), each cell's text in
    ``raw_*``, the `file` they came from and the `line` there, and the row's `defect` if any.
    """
    rules = _rules()
    broken = pl.coalesce(
        pl.when(rule.is_broken).then(pl.lit(number, dtype=pl.UInt8))
        for number, rule in enumerate(rules)
    )
    order = (pl.col("symbol"), pl.col("ts"))
    context = rows.with_columns(
        n_same=pl.len().over(*order),
        newest=pl.col("ts").cum_max().shift().over("symbol", "file"),
        is_adjusted=pl.col("adj_close").is_not_null().any().over("symbol"),
    )
    chosen = context.with_columns(broken=broken).filter(pl.col("broken").is_not_null())
    twins = rows.join(chosen.select(*order).unique(), on=["symbol", "ts"], how="semi")
    named = pl.when(pl.col("file").n_unique() == 1).then(
        pl.format("lines {}", _joined(pl.col("line")))
    )
    places = (
        twins.sort("file", "line")
        .group_by(*order)
        .agg(named.otherwise(_joined(pl.format("{}:{}", "file", "line"))).alias("places"))
    )
    reason = pl.coalesce(
        pl.when(pl.col("broken") == number).then(rule.reason) for number, rule in enumerate(rules)
    )
    return (
        chosen.join(places, on=["symbol", "ts"], how="left")
        .sort("file", "line")
        .select("symbol", "file", "line", reason.alias("reason"))
    )


def as_refusals(refused: pl.DataFrame) -> tuple[Refusal, ...]:
    """One Refusal a row of what `find_refused` found."""
    return tuple(Refusal(*row) for row in refused.iter_rows())


def unknown_symbols(wanted: Sequence[str] | None, known: Sequence[str]) -> dict[str, str]:
    """Why each of the `wanted` symbols that is not `known` fails."""
    absent = set(wanted or ()) - set(known)
    return {name: str(NotFound.among("symbol", name, known)) for name in sorted(absent)}


def fetch_daily(
    bars: pl.DataFrame, request: Request, timeframe: Timeframe, clock: Clock
) -> Fetched:
    """What a provider of UNSTAMPED daily `bars` of US stocks, known to be true, returns."""
    if not timeframe.is_daily:
        raise InvalidSpec(f"there are daily bars only, not {timeframe}; use 1d")
    failures = unknown_symbols(request.tickers, bars["symbol"].unique().to_list())
    bars = requested(bars, request)
    return Fetched(
        closed_bars(bars, timeframe, trading_calendar("XNYS"), clock.now()), (), failures
    )


def requested(rows: pl.DataFrame, request: Request) -> pl.DataFrame:
    """Those of `rows` (with symbol and ts) that are asked for."""
    if request.tickers is not None:
        rows = rows.filter(pl.col("symbol").is_in(list(request.tickers)))
    if request.start is not None:
        rows = rows.filter(pl.col("ts") >= request.start)
    return rows if request.end is None else rows.filter(pl.col("ts") < request.end)


def closed_bars(
    bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar, now: datetime
) -> pl.DataFrame:
    """The UNSTAMPED `bars` that have ended by `now`, in order; checked."""
    opens = bars["ts"].unique()
    closes = calendar.close_at(opens.dt.replace_time_zone(None).to_numpy(), timeframe)
    ends = pl.DataFrame({"ts": opens, "close_at": pl.Series(closes).dt.replace_time_zone("UTC")})
    # A day without session, such as a weekend of a market that never rests, ends at midnight.
    by_clock = pl.col("ts") + timedelta(minutes=timeframe.minutes)
    ended = ends.filter(pl.coalesce("close_at", by_clock) <= now)
    return UNSTAMPED.conform(bars.join(ended.select("ts"), on="ts", how="semi"))


def is_no_value(text: pl.Expr) -> pl.Expr:
    """Whether a cell says that there is no value: null, empty, ``NA`` and the like."""
    return text.is_null() | text.str.strip_chars().str.to_lowercase().is_in(NO_VALUE)


def _rules() -> list[Rule]:
    ts, high, low = pl.col("ts"), pl.col("high"), pl.col("low")
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    trades = pl.col("trade_count").cast(pl.Float64)
    return [
        Rule(pl.col("defect").is_not_null(), pl.col("defect")),
        Rule(ts.is_null(), _unread("ts", "time")),
        *(_not_a_number(name) for name in PRICES),
        *(_not_positive(name) for name in PRICES),
        Rule(low > high * (1 + ROUNDING), pl.format("high {} is below low {}", high, low)),
        Rule(
            top > high * (1 + MISFIT),
            pl.format("high {} is below open {} or close {}", high, "open", "close"),
        ),
        Rule(
            low > bottom * (1 + MISFIT),
            pl.format("low {} is above open {} or close {}", low, "open", "close"),
        ),
        Rule(pl.col("volume").is_null(), _unread("volume", "volume")),
        Rule(
            (pl.col("volume") < 0) | pl.col("volume").is_infinite(),
            pl.format("volume {} is no count", "volume"),
        ),
        Rule(
            ~(trades.is_between(0, MOST_TRADES) & (trades == trades.floor())),
            pl.format("trade_count {} is no count", "trade_count"),
        ),
        Rule(
            pl.col("adj_close").is_null() & pl.col("is_adjusted"),
            _unread("adj_close", "adj_close"),
        ),
        _not_positive("adj_close"),
        Rule(
            pl.col("n_same") > 1,
            pl.format("{} stands there {} times: {}", _written(ts), "n_same", "places"),
        ),
        Rule(
            pl.col("newest") > ts,
            pl.format("{} comes after {}; sort the rows", _written(ts), _written(pl.col("newest"))),
        ),
    ]


def _not_a_number(name: str) -> Rule:
    return Rule(pl.col(name).is_null(), _unread(name, name))


def _not_positive(name: str) -> Rule:
    value = pl.col(name)
    return Rule(
        (value <= 0) | ~value.is_finite(),
        pl.format("{} is {}; a price is a positive number", pl.lit(name), value),
    )


def _unread(column: str, what: str) -> pl.Expr:
    text = pl.col(f"raw_{column}").cast(pl.String)
    is_absent = is_no_value(text)
    return (
        pl.when(is_absent)
        .then(pl.lit(f"{what} is missing"))
        .otherwise(pl.format("{} '{}' cannot be read", pl.lit(what), text))
    )


def _joined(places: pl.Expr) -> pl.Expr:
    shown = places.head(MOST_PLACES).cast(pl.String).str.join(", ")
    more = pl.when(pl.len() > MOST_PLACES).then(pl.lit(" …")).otherwise(pl.lit(""))
    return shown + more


def _written(instant: pl.Expr) -> pl.Expr:
    day, time = instant.dt.strftime("%Y-%m-%d"), instant.dt.strftime("%Y-%m-%d %H:%M:%S")
    return pl.when(instant.dt.time() == pl.time(0)).then(day).otherwise(time)
