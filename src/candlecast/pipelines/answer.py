"""What a user is told of a current forecast: label, points, bands, risk, action."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson
import polars as pl

from candlecast.domain import distribution as dist
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Rows
from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import Horizon, Timeframe, TradingCalendar
from candlecast.pipelines.dataset import Dataset
from candlecast.pipelines.universe import Market
from candlecast.portfolio import signals, sizing
from candlecast.store.ledger import Batch

BANDS: Final = (0.5, 0.8, 0.95)
TAIL: Final = 0.05
DISCLAIMER: Final = (
    "Forecasts are estimates from past prices. They are no investment advice, they are often "
    "wrong, and past skill does not promise future skill. You can lose money."
)


def make_answers(
    dataset: Dataset,
    forecasts: pl.DataFrame,
    batch: Batch,
    market: Market,
) -> pl.DataFrame:
    """One row for each symbol and horizon of `forecasts`, ready for `ledger.write_current`.

    `forecasts` are those that stand in the ledger, for every row of `dataset` and horizon.

    `points` hold one entry for each step of the horizon, on the trading days (or bars) it will
    fall on. The overall label of a symbol is that of its shortest horizon.
    """
    rows = dataset.rows
    n_steps = int(rows.horizon_bars.max())
    quantiles = _quantiles(forecasts, rows)
    paths = dist.path(quantiles, rows.horizon_bars, np.arange(1, n_steps + 1))
    derived = forecasts.partition_by("symbol", "horizon", as_dict=True)
    records = []
    for row, key in enumerate(dataset.keys.iter_rows(named=True)):
        symbol = key["symbol"]
        said = [derived[symbol, name].row(0, named=True) for name in rows.horizons]
        levels = dist.prices(paths[row], said[0]["last_close"])
        times = _steps(key, batch.timeframe, market.calendars[symbol], n_steps)
        for column, own in enumerate(said):
            until = int(rows.horizon_bars[column])
            points, *bands = (
                _points(levels[:until], times[:until], level)
                for level in (dist.DEFAULT_BAND, *BANDS)
            )
            details = _details(own, batch, quantiles[row, column]) | {
                "bands": [
                    {"level": level, "points": band}
                    for level, band in zip(BANDS, bands, strict=True)
                ],
                "shortfall": dataset.shortfalls.get(symbol),
                "is_simulated": symbol in market.simulated,
            }
            record = _record(own, batch, points, details)
            records.append(record | {"overall_label": said[0]["label"]})
    return pl.DataFrame(records)


def _quantiles(forecasts: pl.DataFrame, rows: Rows) -> FloatArray:
    # (n_rows, n_horizons, 17), in the order of the rows.
    by_key = {key: i for i, key in enumerate(forecasts.select("symbol", "horizon").iter_rows())}
    order = [by_key[rows.tickers[code], name] for code in rows.symbol for name in rows.horizons]
    shape = (len(rows), len(rows.horizons), dist.N_LEVELS)
    return forecasts.select(QUANTILES).to_numpy().astype(float)[order].reshape(shape)


def _record(
    own: dict[str, Any], batch: Batch, points: list[dict[str, float]], details: dict[str, Any]
) -> dict[str, Any]:
    return {
        "symbol": own["symbol"],
        "horizon": own["horizon"],
        "timeframe": batch.timeframe.name,
        "label": own["label"],
        "confidence": own["confidence"],
        "points": orjson.dumps(points).decode(),
        "details": orjson.dumps(details).decode(),
        "model_version": batch.model_version,
        "threshold_rule": batch.threshold_rule,
        "as_of": own["as_of"],
        "run_at": batch.created_at,
    }


def _details(own: dict[str, Any], batch: Batch, quantiles: FloatArray) -> dict[str, Any]:
    classes = dist.class_probabilities(quantiles, own["lower"], own["upper"])
    loss = -np.expm1(-dist.value_at_risk(quantiles, TAIL))
    shortfall = -np.expm1(-dist.expected_shortfall(quantiles, TAIL))
    action = signals.action(classes, own["yhat"])
    size = float(sizing.position_size(own["yhat"], own["yhat_std"]))
    return {
        "horizon": own["horizon"],
        "label": own["label"],
        "confidence": own["confidence"],
        "as_of": own["as_of"].isoformat(),
        "end_at": own["end_at"].isoformat(),
        "model_version": batch.model_version,
        "last_close": own["last_close"],
        "prob_up": own["prob_up"],
        "probabilities": dict(zip(dist.LABELS, map(float, classes), strict=True)),
        "yhat": own["yhat"],
        "yhat_std": own["yhat_std"],
        "predicted_price": _price(own["last_close"] * np.exp(own["q500"])),
        "value_at_risk_95": float(loss),
        "expected_shortfall_95": float(shortfall),
        "action": action,
        "position_size": 0.0 if action == "hold" else size,
        "threshold": {
            "rule": batch.threshold_rule,
            "lower": float(np.expm1(own["lower"])),
            "upper": float(np.expm1(own["upper"])),
        },
        "level": dist.DEFAULT_BAND,
    }


def _points(levels: FloatArray, times: list[int], level: float) -> list[dict[str, float]]:
    lower, upper = dist.band(levels, level)
    median = levels[:, dist.MEDIAN]
    return [
        {"ts": ts, "value": _price(v), "lower": _price(low), "upper": _price(high)}
        for ts, v, low, high in zip(times, median, lower, upper, strict=True)
    ]


def _price(value: float) -> float:
    return float(f"{value:.8g}")


def _steps(
    key: dict[str, Any], timeframe: Timeframe, calendar: TradingCalendar, n_steps: int
) -> list[int]:
    # Epoch seconds at which the next bars open, stamped as bars are.
    if timeframe.is_daily:
        opens = calendar.following(key["ts"], n_steps).astype("datetime64[s]")
    else:
        close = np.array([key["close_at"].replace(tzinfo=None)], dtype="datetime64[us]")
        ends = [
            calendar.advance(close, Horizon(step * timeframe.minutes, "m"))[0]
            for step in range(1, n_steps + 1)
        ]
        opens = np.array(ends) - np.timedelta64(timeframe.minutes, "m")
    return [int(t) for t in opens.astype("datetime64[s]").astype(np.int64)]
