"""Bars that cannot be true, told apart from those that can: refused with the reason, kept aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from candlecast.domain.frames import QUARANTINE, UNSTAMPED, FrameSpec
from candlecast.domain.sources import Fetched, Refusal, Request
from candlecast.providers.rows import as_refusals, find_refused, requested

_RAW: Final = FrameSpec(
    "bars of a provider",  # before they are sifted: any number of trades, null where unread
    {**UNSTAMPED.columns, "trade_count": pl.Float64},
    key=UNSTAMPED.key,
    nullable=frozenset(UNSTAMPED.columns) - {"symbol", "source"},
)


@dataclass(frozen=True, eq=False)
class Sifted:
    """UNSTAMPED bars that can be true, and the others: why they were refused, and QUARANTINE."""

    bars: pl.DataFrame
    refusals: tuple[Refusal, ...]
    quarantined: pl.DataFrame


def sift(bars: pl.DataFrame) -> Sifted:
    """`bars` (UNSTAMPED but for impossible values) sifted; the place of one is its time."""
    numbers = ("open", "high", "low", "close", "volume", "adj_close")
    rows = _RAW.conform(bars).with_columns(
        *(pl.col(name).cast(pl.String).alias(f"raw_{name}") for name in numbers),
        pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("raw_ts"),
        pl.col("source").alias("file"),
        pl.lit(None, dtype=pl.String).alias("defect"),
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
    )
    refused = find_refused(rows)
    aside = rows.join(refused.select("line", "reason"), on="line").with_columns(
        place=pl.coalesce("raw_ts", pl.format("row {}", "line"))
    )
    kept = rows.join(refused, on="line", how="anti").select(*UNSTAMPED.columns)
    return Sifted(UNSTAMPED.conform(kept), as_refusals(refused), QUARANTINE.conform(aside))


def fetched_of(
    parts: Sequence[Sifted],
    request: Request,
    failures: dict[str, str],
    covered: dict[str, tuple[datetime, datetime]],
) -> Fetched:
    """All of `parts` as one answer, less the bars that were not asked for."""
    bars = pl.concat([UNSTAMPED.empty(), *(part.bars for part in parts)])
    aside = pl.concat([QUARANTINE.empty(), *(part.quarantined for part in parts)])
    return Fetched(
        UNSTAMPED.conform(requested(bars, request)),
        tuple(refusal for part in parts for refusal in part.refusals),
        failures,
        covered,
        QUARANTINE.conform(requested(aside, request)),
    )
