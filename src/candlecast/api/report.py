"""How past forecasts fared."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from candlecast.api.dependencies import MAX_NAME, MAX_SYMBOLS, InstantInUtc, StoresDep
from candlecast.api.predict import Probability
from candlecast.api.responses import ApiModel, as_json
from candlecast.pipelines.report import ReportQuery, make_report

Origin = Literal["live", "walk_forward", "simulated"]
Interval = tuple[float, float]
Finding = Literal["skill", "no skill", "too little data"]
Verdict = Literal[
    "no skill",
    "skill in the distribution",
    "skill in the direction",
    "skill in the distribution and the direction",
    "too little data",
]

router = APIRouter(tags=["track record"])


class SkillTest(ApiModel):
    """A one-sided block-bootstrap test; `p_value` is null where there is too little data."""

    verdict: Finding
    p_value: Probability | None


class SkillTests(ApiModel):
    """Skill is tested separately for the whole distribution and for the direction alone."""

    distribution: SkillTest
    direction: SkillTest


class Card(ApiModel):
    """Scores of settled forecasts against climatology: the symbol's own past returns.

    `coverage` maps the promised share of a band to the observed one. A skill of 0.05 is a score
    5 % better than the reference; the CRPS is twice the pinball loss averaged over 99 levels, so
    its skill is the pinball skill. A number that cannot be computed is null.
    """

    n: int
    n_dates: int
    coverage: dict[str, float | None]
    crps: float | None
    crps_climatology: float | None
    crps_skill_vs_climatology: float | None
    crps_skill_interval: Interval | None
    hit_rate: float | None
    hit_rate_interval: Interval | None
    brier_skill_vs_climatology: float | None
    verdict: Verdict
    tests: SkillTests


class SymbolCard(Card):
    """One symbol's scores, and the same by horizon."""

    horizons: dict[str, Card]


class Report(ApiModel):
    """The track record; `origins` says where the counted forecasts come from.

    ``live`` were made before the outcome, ``walk_forward`` replay the past with models that knew
    only what came before, ``simulated`` are neither and count only when asked for.
    """

    origins: list[Origin]
    start: datetime | None
    end: datetime | None
    n_forecasts: int
    n_settled: int
    model_versions: list[str]
    overall: Card | None
    horizons: dict[str, Card]
    symbols: dict[str, SymbolCard]
    simulated: list[str] = Field(description="Those of the symbols whose bars were never traded.")


class ReportParameters(ApiModel):
    """Which forecasts count; nothing narrows them unless it is given."""

    symbol: list[Annotated[str, Field(min_length=1, max_length=MAX_NAME)]] = Field(
        default=[], max_length=MAX_SYMBOLS, description="Repeat it for several; none: all."
    )
    horizon: str | None = Field(
        default=None, max_length=8, description="1D, 1W, 1M or a count such as 5d; none: all."
    )
    start: InstantInUtc | None = Field(
        default=None, description="Earliest bar that was forecast from, inclusive."
    )
    end: InstantInUtc | None = Field(
        default=None, description="Latest bar that was forecast from, inclusive."
    )
    origin: list[Origin] = Field(
        default=[], max_length=3, description="Repeat it for several; none: all out of sample."
    )
    timeframe: str = Field(default="1d", max_length=8)
    by_symbol: bool = Field(default=True, description="Whether each symbol gets a card, too.")


@router.get("/api/v1/report", response_model=Report)
def report(stores: StoresDep, query: Annotated[ReportParameters, Query()]) -> Response:
    """The track record of all or some symbols, at one horizon or all."""
    found = make_report(
        stores,
        ReportQuery(
            symbols=tuple(query.symbol),
            horizon=query.horizon,
            start=query.start,
            end=query.end,
            origins=tuple(query.origin),
            timeframe=query.timeframe,
            is_by_symbol=query.by_symbol,
        ),
    )
    return as_json(found)
