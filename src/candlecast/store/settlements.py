"""What live forecasts of a model version came to: how many outcomes, until when, and which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.store.database import Database
from candlecast.store.ledger_tables import ml_outcomes, ml_prediction_sources, ml_predictions
from candlecast.store.statements import aware, schema_of

_p, _o, _s = ml_predictions, ml_outcomes, ml_prediction_sources


@dataclass(frozen=True)
class Settled:
    """Whose settled forecasts: those of one version and horizon."""

    timeframe: Timeframe
    model_version: str
    horizon: str


def count_settled(
    database: Database, timeframe: Timeframe, *, until: datetime
) -> dict[str, dict[str, int]]:
    """How many live forecasts were settled by `until`, by model version and horizon."""
    n = sa.func.count().label("n")
    query = _joined(sa.select(_s.c.model_version, _p.c.horizon, n), timeframe, until)
    schema = schema_of([_s.c.model_version, _p.c.horizon]) | {"n": pl.Int64}
    found: dict[str, dict[str, int]] = {}
    for name, horizon, count in database.read(
        query.group_by(_s.c.model_version, _p.c.horizon), schema
    ).iter_rows():
        found.setdefault(name, {})[horizon] = count
    return found


def read_extent(
    database: Database, asked: Settled, *, until: datetime
) -> tuple[int, datetime | None]:
    """How many were settled by `until`, and when the last of these ended."""
    columns = (sa.func.count().label("n"), sa.func.max(_p.c.end_at).label("end_at"))
    query = _own(_joined(sa.select(*columns), asked.timeframe, until), asked)
    row = database.read(query, {"n": pl.Int64, "end_at": INSTANT}).row(0)
    return row[0], row[1]


def read_settled(
    database: Database, asked: Settled, *, after: datetime | None = None, until: datetime
) -> pl.DataFrame:
    """as_of, horizon, horizon_bars, end_at and pit of those settled after `after`, by `until`."""
    columns = [_p.c.as_of, _p.c.horizon, _p.c.horizon_bars, _p.c.end_at, _o.c.pit]
    query = _own(_joined(sa.select(*columns), asked.timeframe, until), asked)
    if after is not None:
        query = query.where(_o.c.settled_at > aware(after))
    return database.read(query, schema_of(columns))


def _joined(
    query: sa.Select[*tuple[Any, ...]], timeframe: Timeframe, until: datetime
) -> sa.Select[*tuple[Any, ...]]:
    return query.where(
        _p.c.source_id == _s.c.id,
        _o.c.prediction_id == _p.c.id,
        _s.c.timeframe == timeframe.minutes,
        _s.c.origin == "live",
        _o.c.settled_at <= aware(until),
    )


def _own(query: sa.Select[*tuple[Any, ...]], asked: Settled) -> sa.Select[*tuple[Any, ...]]:
    return query.where(_s.c.model_version == asked.model_version, _p.c.horizon == asked.horizon)
