"""Explanations: what single forecasts rest on, kept once beside them in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import orjson
import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.store.database import Database
from candlecast.store.statements import schema_of, shaped
from candlecast.store.tables import explanations

Kind: TypeAlias = Literal["contributions", "attention"]
CONTRIBUTIONS: Final[Kind] = "contributions"
ATTENTION: Final[Kind] = "attention"


def write_explanations(
    database: Database, kind: Kind, contents: Mapping[int, Any], created_at: datetime
) -> int:
    """Keep plain values by the id of the prediction; how many were new: what is there stays."""
    if not contents:
        return 0
    rows = pl.DataFrame(
        {
            "prediction_id": list(contents),
            "kind": kind,
            "content": [orjson.dumps(content).decode() for content in contents.values()],
        }
    ).with_columns(pl.lit(created_at, dtype=INSTANT).alias("created_at"))
    with database.bulk(lock="ledger") as bulk:
        return bulk.upsert(explanations, shaped(explanations, rows), "nothing")


def read_explanations(database: Database, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """By prediction id, among `ids` that have any, the content of each kind."""
    t = explanations
    wanted = sorted({*ids})
    query = sa.select(t.c.prediction_id, t.c.kind, t.c.content).where(t.c.prediction_id.in_(wanted))
    columns = [t.c.prediction_id, t.c.kind, t.c.content]
    found: dict[int, dict[str, Any]] = {}
    for number, kind, content in database.read(query, schema_of(columns)).sort("kind").iter_rows():
        found.setdefault(number, {})[kind] = orjson.loads(content)
    return found
