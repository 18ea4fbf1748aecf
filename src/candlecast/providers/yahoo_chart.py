"""Yahoo's chart answers read: rows, splits and dividends, and prices as they were traded.

Yahoo restates all prices, volumes and dividends before a split in new shares. Here each one is
taken back by the splits after it, so that a stored bar never changes because of a later split.
Prices travel as 32-bit numbers; after that their seven digits are what was traded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.frames import ACTIONS, INSTANT
from candlecast.errors import NotFound, ProviderUnavailable

Columns: TypeAlias = dict[str, pl.DataType | type[pl.DataType]]
PRICES: Final = ("open", "high", "low", "close")
SIGNIFICANT_DIGITS: Final = 7
ROWS: Final[Columns] = {"at": INSTANT, **dict.fromkeys((*PRICES, "volume"), pl.Float64)}
EVENTS: Final[Columns] = {"at": INSTANT, "value": pl.Float64}
UNREADABLE: Final = (AttributeError, LookupError, TypeError, ValueError, pl.exceptions.PolarsError)
NO_ROWS: Final = "Data doesn't exist"
SHOWN: Final = 200
"""How many characters of Yahoo's own words an error quotes."""


@dataclass(frozen=True, eq=False)
class Chart:
    """One answer about one symbol.

    `rows` hold when the row begins or, for the unfinished newest one, was last traded, and the
    numbers in today's shares, null where nothing was traded. `splits` hold the new shares for
    one old, `dividends` the money for one of today's shares, each at the open of the ex-date.
    `zone` is the time zone of the exchange; `quote` the last price and its time, where told;
    `answered_at` what Yahoo's clock showed with the answer.
    """

    rows: pl.DataFrame
    splits: pl.DataFrame
    dividends: pl.DataFrame
    zone: str
    quote: tuple[float, int] | None = None
    answered_at: datetime | None = None


NOTHING: Final = Chart(
    pl.DataFrame(schema=ROWS), pl.DataFrame(schema=EVENTS), pl.DataFrame(schema=EVENTS), "UTC"
)


def read_chart(answer: dict[str, Any], name: str) -> Chart:
    """What the answer about `name` says; without rows where Yahoo has none of the span.

    NotFound tells why Yahoo has nothing of the symbol; ProviderUnavailable, that the answer cannot
    be read.
    """
    try:
        error = answer["chart"]["error"]
        if error is None:
            return _chart(answer["chart"]["result"][0])
        described = str(error["description"])[:SHOWN]
    except (*UNREADABLE, ZeroDivisionError) as problem:
        raise ProviderUnavailable(
            f"Yahoo's answer on {name} cannot be read ({type(problem).__name__}: {problem}); try "
            "again later, or use another provider"
        ) from problem
    if NO_ROWS in described:
        return NOTHING
    raise NotFound(
        f"Yahoo has nothing of {name!r}: {described}; correct the ticker or its calendar, or give "
        "it an alias for yahoo"
    )


def _chart(result: dict[str, Any]) -> Chart:
    meta = result["meta"]
    events = result.get("events") or {}
    return Chart(
        _rows(result),
        _events(
            (event["date"], event["numerator"] / event["denominator"])
            for event in (events.get("splits") or {}).values()
        ),
        _events(
            (event["date"], event["amount"]) for event in (events.get("dividends") or {}).values()
        ),
        str(meta["exchangeTimezoneName"]),
        _quote(meta),
    )


def as_traded(
    rows: pl.DataFrame, splits: pl.DataFrame, zone: str, *, is_crypto: bool = False
) -> pl.DataFrame:
    """`rows` with prices and volumes in the shares of their day; a volume that is null is zero.

    `splits` must reach from the oldest row to now. A split counts for the days before its own.
    """
    factor = pl.Series("factor", shares_since(rows["at"], splits, zone))
    volume = pl.col("volume").fill_null(0.0) / factor
    return rows.with_columns(
        *((pl.col(name) * factor).round_sig_figs(SIGNIFICANT_DIGITS) for name in PRICES),
        volume=volume / pl.col("close") if is_crypto else volume.round(),
    )


def actions_of(chart: Chart, ticker: str, source: str) -> pl.DataFrame:
    """ACTIONS: the splits and dividends of `chart`, known from the open of their ex-date on."""
    dividends = chart.dividends.with_columns(
        pl.col("value") * pl.Series(shares_since(chart.dividends["at"], chart.splits, chart.zone)),
        kind=pl.lit("dividend"),
    )
    events = pl.concat([chart.splits.with_columns(kind=pl.lit("split")), dividends])
    dated = events.with_columns(ex_date=local_midnights(events["at"], chart.zone))
    value = pl.when(pl.col("kind") == "split").then(pl.col("value").product())
    return ACTIONS.conform(
        dated.group_by("ex_date", "kind")
        .agg(
            value.otherwise(pl.col("value").sum()).first().round_sig_figs(SIGNIFICANT_DIGITS),
            known_at=pl.col("at").max(),
        )
        .with_columns(symbol=pl.lit(ticker), source=pl.lit(source))
    )


def shares_since(at: pl.Series, splits: pl.DataFrame, zone: str) -> NDArray[np.float64]:
    """How many of today's shares one share of the day of each `at` has become."""
    ordered = splits.sort("at")
    days = _days(ordered["at"], zone)
    after = np.append(np.cumprod(ordered["value"].to_numpy()[::-1])[::-1], 1.0)
    return np.asarray(after[np.searchsorted(days, _days(at, zone), side="right")])


def local_midnights(at: pl.Series, zone: str) -> pl.Series:
    """Midnight UTC of the date of each `at` at the exchange."""
    local = at.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.dt.truncate("1d").dt.replace_time_zone("UTC")


def _days(at: pl.Series, zone: str) -> NDArray[np.datetime64]:
    return local_midnights(at, zone).dt.replace_time_zone(None).to_numpy()


def _rows(result: dict[str, Any]) -> pl.DataFrame:
    times = result.get("timestamp") or []
    if not times:
        return pl.DataFrame(schema=ROWS)
    quote = result["indicators"]["quote"][0]
    columns = {name: pl.Series(quote[name], dtype=pl.Float64) for name in (*PRICES, "volume")}
    return pl.DataFrame({"at": _instants(times), **columns}).select(*ROWS)


def _events(pairs: Iterable[tuple[int, float]]) -> pl.DataFrame:
    told = list(pairs)
    at = _instants([at for at, _ in told])
    values = pl.Series([value for _, value in told], dtype=pl.Float64)
    return pl.DataFrame({"at": at, "value": values}).sort("at")


def _instants(seconds: list[int]) -> pl.Series:
    times = pl.Series(seconds, dtype=pl.Int64) * 1_000_000
    return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _quote(meta: dict[str, Any]) -> tuple[float, int] | None:
    price, at = meta.get("regularMarketPrice"), meta.get("regularMarketTime")
    return None if price is None or at is None else (float(price), int(at))
