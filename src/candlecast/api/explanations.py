"""What the current forecasts rest on."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field

from candlecast.api.dependencies import HorizonQuery, StoresDep, SymbolPath, known_symbol
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.errors import NotFound
from candlecast.pipelines.explain import of_horizon, read_current_explanations

router = APIRouter(tags=["forecasts"])


class Contribution(ApiModel):
    """What one feature adds to the logarithm of the forecast's scale: 0.1 widens it by 10.5 %."""

    feature: str
    value: float


class Attention(ApiModel):
    """Shares of the attention: a list for each step, the newest last, one of each timeframe."""

    timeframes: list[str]
    weights: list[list[float]]


class HorizonExplanation(ApiModel):
    """What the current forecast of one horizon rests on; null where the model does not know."""

    horizon: str
    as_of: datetime
    model_version: str
    contributions: list[Contribution] | None = Field(description="The largest first.")
    attention: Attention | None


class Explanations(ApiModel):
    """What is kept of the current forecasts of a symbol, from the shortest horizon on."""

    now: datetime
    symbol: str
    explanations: list[HorizonExplanation]


@router.get("/api/v1/explanations/{ticker}", response_model=Explanations)
def explanations(stores: StoresDep, ticker: SymbolPath, horizon: HorizonQuery = None) -> Response:
    """What the current forecasts of one symbol rest on, at one horizon or all."""
    symbol = known_symbol(stores, ticker).ticker
    found = of_horizon(read_current_explanations(stores, symbol), horizon)
    if not found:
        raise NotFound(
            f"nothing is kept that explains a current forecast of {symbol}; "
            f"run `candlecast explain {symbol}`"
        )
    listed = [
        {
            "horizon": one.horizon,
            "as_of": iso(one.as_of),
            "model_version": one.model_version,
            "contributions": None
            if one.contributions is None
            else [{"feature": name, "value": v} for name, v in one.contributions.items()],
            "attention": None
            if one.attention is None
            else {"timeframes": one.timeframes, "weights": one.attention},
        }
        for one in found
    ]
    now = iso(stores.clock.now())
    return as_json({"now": now, "symbol": symbol, "explanations": listed})
