"""Who will probably rank where in a universe, and what a portfolio of it may lose."""

from __future__ import annotations

from datetime import datetime
from threading import Lock
from typing import Annotated, Final

from fastapi import APIRouter, Response
from pydantic import Field

from candlecast.api.dependencies import MAX_NAME, InstantInUtc, StoresDep
from candlecast.api.predict import Probability
from candlecast.api.responses import ApiModel, as_json
from candlecast.errors import RetryableError
from candlecast.pipelines.rank import MAX_SYMBOLS, MAX_WEIGHT, RankQuery, rank

Ticker = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]

MAX_WAIT_SECONDS: Final = 2.0
TURN: Final = Lock()
"""Held by the one request that is being ranked: each takes a core and hundreds of megabytes."""

router = APIRouter(tags=["ranks"])


class RankRequest(ApiModel):
    """Whose ranks; every field may be left out."""

    symbols: Annotated[
        tuple[Ticker, ...],
        Field(max_length=MAX_SYMBOLS, description="All that are forecast if empty."),
    ] = ()
    horizon: Annotated[str, Field(max_length=8, description="One that is forecast.")] = "1M"
    weights: Annotated[
        dict[Ticker, Weight],
        Field(
            default_factory=dict,
            max_length=MAX_SYMBOLS,
            description="A portfolio's shares of the capital by symbol; the rest is cash.",
        ),
    ]
    timeframe: Annotated[str, Field(max_length=8, description="Length of a bar.")] = "1d"
    model: Annotated[
        str | None, Field(max_length=100, description="A version; the champion by default.")
    ] = None
    as_of: Annotated[InstantInUtc | None, Field(description="What was known then.")] = None
    has_drift: Annotated[
        bool, Field(description="Rank by the expected returns as well, not by risk alone.")
    ] = False


class SymbolRank(ApiModel):
    """One symbol's place among the others when the horizon ends.

    `probabilities` are those of the five fifths of the ranks, from the lowest returns to the
    highest, and add up to one; `expected_rank` is their mean, from 1 to 5.
    """

    symbol: str
    as_of: datetime
    end_at: datetime
    probabilities: Annotated[list[Probability], Field(min_length=5, max_length=5)]
    expected_rank: float


class Portfolio(ApiModel):
    """The simple return of the portfolio over the horizon, held without rebalancing.

    `quantiles` are named by their level in thousandths, q010 to q990; the risk figures are losses.
    """

    weights: dict[str, float]
    quantiles: dict[str, float]
    mean: float
    std: float
    prob_up: Probability
    value_at_risk_95: float
    expected_shortfall_95: float


class Ranks(ApiModel):
    """Ranks by symbol; `left_out` names the symbols that cannot be compared, and why, `simulated`
    those whose bars were never traded.

    `is_in_sample` says that the model was trained on data later than `as_of`. Without `has_drift`
    every symbol counts as equally likely to rise and to fall; portfolios keep what was forecast.
    `n_scenarios` is how many joint outcomes were counted: 16,384, and a smaller power of two for
    many symbols, so that symbols times scenarios stay within 4 million.
    """

    as_of: datetime
    horizon: str
    timeframe: str
    model_version: str
    is_in_sample: bool
    has_drift: bool
    n_scenarios: int
    ranks: list[SymbolRank]
    portfolio: Portfolio | None
    left_out: dict[str, str]
    simulated: list[str]
    disclaimer: str


@router.post("/api/v1/ranks", response_model=Ranks)
def ranks(stores: StoresDep, request: RankRequest) -> Response:
    """The probabilities of ranks in a universe, from its stored forecasts; nothing is changed.

    One request is ranked at a time: 503 where another takes longer than two seconds.
    """
    query = RankQuery(
        symbols=tuple(dict.fromkeys(request.symbols)),
        horizon=request.horizon,
        weights=request.weights,
        timeframe=request.timeframe,
        version=request.model,
        as_of=request.as_of,
        has_drift=request.has_drift,
    )
    if not TURN.acquire(timeout=MAX_WAIT_SECONDS):
        raise RetryableError("another ranking is being made; ask again in a few seconds")
    try:
        return as_json(rank(stores, query))
    finally:
        TURN.release()
