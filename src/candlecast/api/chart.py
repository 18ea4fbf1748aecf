"""One symbol's bars and forecasts, ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import polars as pl
from fastapi import APIRouter, Query, Response
from pydantic import Field

from candlecast.api.dependencies import StoresDep, SymbolPath, TimeframeDep, known_symbol
from candlecast.api.predict import HorizonForecast, LabelName, Probability, current_forecasts
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import FixedClock, Timeframe, trading_calendar
from candlecast.domain.prices import factored_bars
from candlecast.domain.sources import is_simulated
from candlecast.pipelines.answer import DISCLAIMER
from candlecast.pipelines.resample import open_bars
from candlecast.store.bars import read_ends
from candlecast.store.facts import read_facts
from candlecast.store.stores import Stores

router = APIRouter(tags=["market"])

WIDER: Final = 4
"""How many times further back the next read goes where bars are sparse."""


class ChartBar(ApiModel):
    """One bar; `time` is the epoch second at which it opens."""

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    is_simulated: bool = Field(description="Whether it was invented, not traded.")


class Summary(ApiModel):
    """What the forecasts say together; the shortest horizon speaks for all of them."""

    overall_label: LabelName
    confidence: Probability
    model_version: str
    as_of: datetime
    age_seconds: float
    state: Literal["fresh", "stale"]
    threshold_rule: str
    disclaimer: str
    horizons: list[HorizonForecast]


class Chart(ApiModel):
    """Bars, oldest first, and the forecasts that continue them.

    Prices are adjusted for splits and dividends so that the newest close is what was traded.
    """

    symbol: str
    timeframe: str
    now: datetime
    is_clock_fixed: bool
    bars: list[ChartBar]
    open_bar: ChartBar | None = Field(description="The bar that still forms, for display only.")
    ml_summary: Summary | None


@router.get("/api/v1/chart/{symbol:path}", response_model=Chart)
def chart(
    stores: StoresDep,
    symbol: SymbolPath,
    timeframe: TimeframeDep,
    limit: Annotated[int, Query(ge=1, le=5000, description="How many of the newest bars.")] = 400,
) -> Response:
    """The newest bars of one symbol and its current forecasts."""
    known = known_symbol(stores, symbol)
    now = stores.clock.now()
    only = [known.ticker]
    factored = factored_bars(
        _newest_bars(stores, timeframe, known.ticker, limit),
        timeframe,
        {known.ticker: trading_calendar(known.calendar)},
        actions=read_facts(stores.database, ACTIONS, as_of=now, symbols=only),
    )
    forecasts = [
        forecast
        for forecast in current_forecasts(stores, [known])
        if forecast.pop("symbol") and forecast["timeframe"] == timeframe.name
    ]
    return as_json(
        {
            "symbol": known.ticker,
            "timeframe": timeframe.name,
            "now": iso(now),
            "is_clock_fixed": isinstance(stores.clock, FixedClock),
            "bars": rebased(factored.tail(limit)).to_dicts(),
            "open_bar": _open_bar(stores, timeframe, factored),
            "ml_summary": _summary(forecasts),
        }
    )


def _newest_bars(stores: Stores, timeframe: Timeframe, ticker: str, limit: int) -> pl.DataFrame:
    # At least the newest `limit` bars, and as many as it takes for their factors to stand to each
    # other as in the whole history: a constant that all of them share is no matter, so it is enough
    # that the first has a factor of its own, or that none has.
    now = stores.clock.now()
    ends = read_ends(stores.database, timeframe, [ticker])
    if timeframe.is_daily or ends.is_empty():
        return stores.mirror.read(timeframe, symbols=[ticker], as_of=now)
    first, last = ends.select("first", "last").row(0)
    span = timedelta(minutes=timeframe.minutes) * limit
    while True:
        start = min(last, now) - span
        bars = stores.mirror.read(timeframe, symbols=[ticker], start=start, as_of=now)
        given = bars["adj_close"].is_not_null()
        is_alike = len(bars) > 0 and (given[0] or not given.any())
        if start <= first or (is_alike and len(bars) >= limit):
            return bars
        span *= WIDER


def _open_bar(
    stores: Stores, timeframe: Timeframe, factored: pl.DataFrame
) -> dict[str, Any] | None:
    # On the basis of the newest close, as the bars are: a split since then shows at its end.
    if factored.is_empty():
        return None
    forming = open_bars(stores, timeframe, factored["symbol"].unique().to_list())
    newer = forming.filter(pl.col("ts") > factored["ts"][-1])
    return next(iter(rebased(newer.with_columns(factor=pl.lit(1.0))).to_dicts()), None)


def rebased(factored: pl.DataFrame) -> pl.DataFrame:
    """Chart bars of one symbol's bars with `factor`: the newest close is its raw close."""
    ratio = pl.col("factor") / pl.col("factor").last()
    return factored.select(
        (pl.col("ts").dt.epoch("s")).alias("time"),
        *(pl.col(name) * ratio for name in ("open", "high", "low", "close")),
        pl.col("volume") / ratio,
        is_simulated=is_simulated(pl.col("source")),
    )


def _summary(forecasts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if not forecasts:
        return None
    shortest = forecasts[0]
    return {
        "overall_label": shortest["label"],
        "threshold_rule": shortest["threshold"]["rule"],
        "disclaimer": DISCLAIMER,
        "horizons": forecasts,
        **{
            name: shortest[name]
            for name in ("confidence", "model_version", "as_of", "age_seconds", "state")
        },
    }
