"""Current forecasts and the disclaimer that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import Field

from candlecast.api.dependencies import (
    MAX_NAME,
    HorizonQuery,
    StoresDep,
    known_symbol,
)
from candlecast.api.freshness import fresh_until, state_at
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.domain.market import Horizon, Symbol, Timeframe, trading_calendar
from candlecast.errors import NotFound
from candlecast.pipelines.answer import DISCLAIMER
from candlecast.store import ledger
from candlecast.store.origins import read_simulated
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

LabelName = Literal["Bearish", "Neutral", "Bullish"]
Probability = Annotated[float, Field(ge=0, le=1)]

router = APIRouter(tags=["forecasts"])


class Point(ApiModel):
    """Median and band of the price at one step; `ts` is the epoch second at which a bar opens."""

    ts: int
    value: float
    lower: float
    upper: float


class Band(ApiModel):
    """The central band that holds `level` of the probability, step by step."""

    level: Probability
    points: list[Point]


class Probabilities(ApiModel):
    """P of each class; they add up to one."""

    Bearish: Probability
    Neutral: Probability
    Bullish: Probability


class Threshold(ApiModel):
    """Where Bearish ends and Bullish begins, as simple returns from the last close.

    `rule` is ``fixed:0.02`` or ``scaled``: the terciles of the symbol's own past returns, so that
    a confidence near one third means no skill.
    """

    rule: str
    lower: float
    upper: float


class HorizonForecast(ApiModel):
    """The current forecast of one symbol at one horizon.

    `yhat` and `yhat_std` are of the log return; the risk figures are losses as simple returns;
    `confidence` is the probability of `label`; `points` carry the band of `level`. It is ``stale``
    once its end or the close of the session after `as_of` has passed.
    """

    horizon: str
    timeframe: str
    label: LabelName
    confidence: Probability
    as_of: datetime
    run_at: datetime
    end_at: datetime
    age_seconds: float
    state: Literal["fresh", "stale"]
    model_version: str
    last_close: float
    prob_up: Probability
    probabilities: Probabilities
    yhat: float
    yhat_std: float
    predicted_price: float
    value_at_risk_95: float
    expected_shortfall_95: float
    action: Literal["buy", "hold", "sell"]
    position_size: float
    threshold: Threshold
    level: Probability
    points: list[Point]
    bands: list[Band]
    shortfall: str | None = Field(description="What is missing where history is short.")
    is_simulated: bool = Field(description="Whether it is made of bars that were never traded.")


class SymbolForecast(HorizonForecast):
    """A forecast and whom it is about."""

    symbol: str


class Forecasts(ApiModel):
    """All current forecasts that were asked for, by symbol and horizon length."""

    now: datetime
    disclaimer: str
    forecasts: list[SymbolForecast]


class Disclaimer(ApiModel):
    """What every reader of a forecast should know."""

    disclaimer: str


@router.get("/api/v1/forecasts", response_model=Forecasts)
def forecasts(
    stores: StoresDep,
    symbol: Annotated[str | None, Query(min_length=1, max_length=MAX_NAME)] = None,
    horizon: HorizonQuery = None,
) -> Response:
    """The current forecasts, of one symbol or all, at one horizon or all."""
    symbols = read_symbols(stores.database) if symbol is None else [known_symbol(stores, symbol)]
    found = current_forecasts(stores, symbols, horizon=horizon)
    now = iso(stores.clock.now())
    return as_json({"now": now, "disclaimer": DISCLAIMER, "forecasts": found})


@router.get("/api/v1/ml/disclaimer", response_model=Disclaimer)
def disclaimer() -> Response:
    """What every reader of a forecast should know."""
    return as_json({"disclaimer": DISCLAIMER})


def current_forecasts(
    stores: Stores, symbols: Sequence[Symbol], *, horizon: str | None = None
) -> list[dict[str, Any]]:
    """Plain `SymbolForecast` values, by symbol and then from the shortest horizon to the longest.

    NotFound names the close matches where nothing is forecast at `horizon`.
    """
    known = {symbol.ticker: symbol for symbol in symbols}
    rows = ledger.read_current(stores.database, symbols=list(known)).to_dicts() if known else []
    if horizon is not None:
        name, present = Horizon.parse(horizon).name, {row["horizon"] for row in rows}
        if present and name not in present:
            raise NotFound.among("horizon", horizon, present)
        rows = [row for row in rows if row["horizon"] == name]
    rows.sort(key=lambda row: (row["symbol"], _length(row, known[row["symbol"]])))
    now = stores.clock.now()
    details = _details(stores, rows)
    return [
        _forecast(row, said, known[row["symbol"]], now)
        for row, said in zip(rows, details, strict=True)
    ]


def _details(stores: Stores, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Forecasts stored before they said whether their bars were traded are told by the bars.
    details = [orjson.loads(row["details"]) for row in rows]
    silent: dict[str, list[str]] = {}
    for row, said in zip(rows, details, strict=True):
        if "is_simulated" not in said:
            silent.setdefault(row["timeframe"], []).append(row["symbol"])
    simulated = {
        name: read_simulated(stores.database, Timeframe.parse(name), list(dict.fromkeys(tickers)))
        for name, tickers in silent.items()
    }
    return [
        {"is_simulated": row["symbol"] in simulated.get(row["timeframe"], ())} | said
        for row, said in zip(rows, details, strict=True)
    ]


def _length(row: Mapping[str, Any], symbol: Symbol) -> int:
    calendar = trading_calendar(symbol.calendar)
    return Horizon.parse(row["horizon"]).bars(Timeframe.parse(row["timeframe"]), calendar)


def _forecast(
    row: Mapping[str, Any], details: Mapping[str, Any], symbol: Symbol, now: datetime
) -> dict[str, Any]:
    end_at = datetime.fromisoformat(details["end_at"])
    until = fresh_until(row["as_of"], end_at, trading_calendar(symbol.calendar))
    return {
        "shortfall": None,
        **details,
        "symbol": row["symbol"],
        "horizon": row["horizon"],
        "timeframe": row["timeframe"],
        "label": row["label"],
        "confidence": row["confidence"],
        "as_of": iso(row["as_of"]),
        "run_at": iso(row["run_at"]),
        "end_at": iso(end_at),
        "age_seconds": max(0.0, (now - row["as_of"]).total_seconds()),
        "state": state_at(now, until),
        "model_version": row["model_version"],
        "points": orjson.loads(row["points"]),
    }
