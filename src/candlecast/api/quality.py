"""Whether a symbol's bars can be trusted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, cast

import polars as pl
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from candlecast.api.dependencies import MAX_NAME, StoresDep
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.domain.market import Timeframe
from candlecast.monitoring.quality import Kind, Severity
from candlecast.pipelines.check import CheckQuery, CheckRun, State, check_data, finding_rows
from candlecast.store.said import read_state

MAX_CHECKED: Final = 20
MAX_BARS: Final = 200_000
"""Newest bars that are looked at, of all symbols together: two years of one's minutes, or all
days there are of twenty."""
MAX_KEPT: Final = 64
"""Answers that are kept; the least used one makes room."""
KEPT: Final = timedelta(minutes=5)
"""How long an answer stands while nothing changes: bars fall due as time passes."""
MAX_FINDINGS: Final = 20
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

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


class Answers:
    """The last answers, least used first; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, CheckRun] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], CheckRun]) -> CheckRun:
        """What is kept under `key`, or else what `make` returns."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return made


def _answers(request: Request) -> Answers:
    return cast("Answers", request.app.state.quality_answers)


AnswersDep = Annotated[Answers, Depends(_answers)]


@router.get("/api/v1/quality", response_model=Quality)
def quality(
    stores: StoresDep, answers: AnswersDep, query: Annotated[QualityParameters, Query()]
) -> Response:
    """Gaps, stale prices, outliers, what is impossible, and splits that are not accounted for."""
    tickers = tuple(sorted(set(query.symbol)))
    checked = CheckQuery(
        timeframe=query.timeframe, symbols=tickers, max_bars=MAX_BARS // len(tickers)
    )
    state = read_state(stores.database, Timeframe.parse(query.timeframe))
    period = (stores.clock.now() - EPOCH) // KEPT
    run = answers.get((checked, state, period), lambda: check_data(stores, checked))
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
