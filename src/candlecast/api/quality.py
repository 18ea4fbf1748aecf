"""Whether a symbol's bars can be trusted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import polars as pl
from fastapi import APIRouter, Query, Response
from pydantic import Field

from candlecast.api.dependencies import MAX_NAME, StoresDep
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.pipelines.check import CheckQuery, State, check_data, finding_rows

MAX_CHECKED: Final = 20
MAX_BARS: Final = 200_000
"""Newest bars of each symbol that are looked at: two years of minutes, all days there are."""
MAX_FINDINGS: Final = 20

Kind = Literal[
    "impossible",
    "gap",
    "unadjusted_split",
    "outlier",
    "stale_price",
    "zero_volume_run",
    "extreme_return",
]
Severity = Literal["bad", "suspect", "note"]

router = APIRouter(tags=["quality"])


class QualityFinding(ApiModel):
    """Something that is wrong, or looks wrong, with the bars from `start` to `end`.

    ``bad`` cannot be true, ``suspect`` should be looked at, ``note`` is probably real. `value` is
    its size: bars missed, a return, or new shares for one old; null where it has none.
    """

    kind: Kind
    start: datetime
    end: datetime
    n_bars: int
    value: float | None
    severity: Severity
    message: str


class SymbolQuality(ApiModel):
    """One symbol: how many findings of each kind, the worst they say, and the newest of them."""

    state: State
    n_bars: int
    counts: dict[Kind, int]
    findings: list[QualityFinding]


class Quality(ApiModel):
    """What was found in the newest bars of each symbol."""

    now: datetime
    timeframe: str
    symbols: dict[str, SymbolQuality]


class QualityParameters(ApiModel):
    """Which symbols are checked."""

    symbol: list[Annotated[str, Field(min_length=1, max_length=MAX_NAME)]] = Field(
        min_length=1, max_length=MAX_CHECKED, description="Repeat it for several."
    )
    timeframe: str = Field(default="1d", max_length=8, description="Length of a bar, e.g. 1d.")


@router.get("/api/v1/quality", response_model=Quality)
def quality(stores: StoresDep, query: Annotated[QualityParameters, Query()]) -> Response:
    """Gaps, stale prices, outliers, impossible bars and splits that are not accounted for."""
    run = check_data(
        stores,
        CheckQuery(
            timeframe=query.timeframe,
            symbols=tuple(dict.fromkeys(query.symbol)),
            max_bars=MAX_BARS,
        ),
    )
    counts, states = run.counts(), run.states()
    newest = run.findings.sort("end", "start", descending=True)
    return as_json(
        {
            "now": iso(run.as_of),
            "timeframe": query.timeframe,
            "symbols": {
                ticker: {
                    "state": states[ticker],
                    "n_bars": run.n_bars[ticker],
                    "counts": counts[ticker],
                    "findings": finding_rows(
                        newest.filter(pl.col("symbol") == ticker).head(MAX_FINDINGS).drop("symbol")
                    ),
                }
                for ticker in counts
            },
        }
    )
