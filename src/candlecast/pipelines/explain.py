"""Why a forecast says what it says: what its features add, and which bars it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from candlecast.domain.market import Horizon, Timeframe
from candlecast.errors import NotFound
from candlecast.pipelines.forecast import forecast
from candlecast.store import ledger
from candlecast.store.explanations import ATTENTION, CONTRIBUTIONS, read_explanations
from candlecast.store.stores import Stores


@dataclass(frozen=True)
class Explanation:
    """What one forecast rests on.

    `contributions` are what each feature adds to the logarithm of the forecast's scale, the
    largest first: 0.1 makes the range 10.5 % wider. `attention` is a list for each step, the newest
    last, with the share of each of `timeframes`. None where the model does not know.
    """

    symbol: str
    horizon: str
    as_of: datetime
    model_version: str
    contributions: dict[str, float] | None
    attention: list[list[float]] | None
    timeframes: tuple[str, ...]


def explain(
    stores: Stores,
    symbols: tuple[str, ...],
    *,
    timeframe: str = "1d",
    version: str | None = None,
    as_of: datetime | None = None,
) -> list[Explanation]:
    """Explain the forecasts of `symbols` from the newest bars, or from what was known at `as_of`.

    They are made where they are not in the ledger yet, and what they rest on is kept beside them.
    """
    run = forecast(
        stores,
        timeframe=timeframe,
        version=version,
        symbols=symbols,
        as_of=as_of,
        has_contributions=True,
    )
    return _explained(stores, run.forecasts)


def read_current_explanations(stores: Stores, ticker: str) -> list[Explanation]:
    """What is kept of the current forecasts of one symbol; nothing is computed."""
    current = ledger.read_current(stores.database, symbols=[ticker])
    found = [
        ledger.read_forecasts(
            stores.database,
            Timeframe.parse(row["timeframe"]),
            symbols=[ticker],
            horizon=row["horizon"],
            origins=["live", "simulated"],
            model_version=row["model_version"],
            columns=("id", "symbol", "horizon", "as_of", "model_version"),
        )
        .filter(pl.col("as_of") == row["as_of"])
        .head(1)
        for row in current.iter_rows(named=True)
    ]
    return _explained(stores, pl.concat(found)) if found else []


def of_horizon(explanations: Sequence[Explanation], horizon: str | None) -> list[Explanation]:
    """Those at `horizon` (None: all), the shortest first; NotFound names the close matches."""
    if horizon is not None:
        name, known = Horizon.parse(horizon).name, {e.horizon for e in explanations}
        if known and name not in known:
            raise NotFound.among("horizon", horizon, known)
        explanations = [e for e in explanations if e.horizon == name]
    return sorted(explanations, key=lambda e: (e.symbol, Horizon.parse(e.horizon).rank))


def _explained(stores: Stores, forecasts: pl.DataFrame) -> list[Explanation]:
    kept = read_explanations(stores.database, forecasts["id"])
    return [
        _explanation(row, kept[row["id"]])
        for row in forecasts.iter_rows(named=True)
        if row["id"] in kept
    ]


def _explanation(row: dict[str, Any], kept: dict[str, Any]) -> Explanation:
    attention = kept.get(ATTENTION)
    contributions = kept.get(CONTRIBUTIONS)
    return Explanation(
        row["symbol"],
        row["horizon"],
        row["as_of"],
        row["model_version"],
        None if contributions is None else contributions["features"],
        None if attention is None else attention["weights"],
        () if attention is None else tuple(attention["timeframes"]),
    )
