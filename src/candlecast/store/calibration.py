"""States of calibrations that follow settled forecasts, by when they were told; none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from candlecast.store.database import Database
from candlecast.store.statements import aware, schema_of, shaped
from candlecast.store.tables import calibration_state as table


@dataclass(frozen=True)
class StoredState:
    """A state of one horizon: `n_settled` live outcomes made it of the first one."""

    updated_at: datetime
    n_settled: int
    state: dict[str, Any]


def read_states(
    database: Database, model_version: str, *, as_of: datetime, is_first: bool = False
) -> dict[str, StoredState]:
    """The newest states of a model by horizon, as they stood at `as_of`; or the first ones."""
    query = sa.select(table).where(
        table.c.model_version == model_version, table.c.updated_at <= aware(as_of)
    )
    rows = database.read(query, schema_of(table.c)).sort("updated_at", descending=is_first)
    return {
        row["horizon"]: StoredState(row["updated_at"], row["n_settled"], orjson.loads(row["state"]))
        for row in rows.iter_rows(named=True)
    }


def write_states(database: Database, model_version: str, states: Mapping[str, StoredState]) -> int:
    """Add states by horizon; how many were new. One that is there already stays as it is."""
    if not states:
        return 0
    rows = pl.DataFrame(
        {
            "model_version": [model_version] * len(states),
            "horizon": list(states),
            "updated_at": [aware(stored.updated_at) for stored in states.values()],
            "n_settled": [stored.n_settled for stored in states.values()],
            "state": [
                orjson.dumps(stored.state, option=orjson.OPT_SORT_KEYS).decode()
                for stored in states.values()
            ],
        }
    )
    with database.bulk(lock="registry") as bulk:
        return bulk.upsert(table, shaped(table, rows), "nothing")
