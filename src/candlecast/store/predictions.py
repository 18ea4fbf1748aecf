"""The ledger's rows with their outcomes: of a few symbols by key, of all from the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
import sqlalchemy as sa

from candlecast.store import blocks
from candlecast.store.bulk import Bulk
from candlecast.store.ledger_tables import ml_outcomes, ml_predictions
from candlecast.store.statements import schema_of, within

OUTCOME: Final = tuple(c.name for c in ml_outcomes.c if c.name not in ("id", "prediction_id"))


@dataclass(frozen=True)
class Asked:
    """Which forecasts; None: all of them."""

    source_ids: list[int]
    symbol_ids: list[int] | None
    horizon: str | None
    start: datetime | None
    end: datetime | None
    created_since: datetime | None
    settled_only: bool

    def needs_outcomes(self, stored: Sequence[str]) -> bool:
        """Whether the columns `stored` come from both tables."""
        return self.settled_only or any(name in OUTCOME for name in stored)


def read_predictions(snapshot: Bulk, asked: Asked, stored: Sequence[str]) -> pl.DataFrame:
    """The columns `stored` of ml_predictions and ml_outcomes (null while open), in any order."""
    is_all = asked.symbol_ids is None and asked.created_since is None
    read = _read_many if is_all else _read_some
    return read(snapshot, asked, stored)


def _read_some(snapshot: Bulk, asked: Asked, stored: Sequence[str]) -> pl.DataFrame:
    # A few symbols, or the newest rows: row by row, by the key.
    p, o = ml_predictions, ml_outcomes
    query = sa.select(*(o.c[n] if n in OUTCOME else p.c[n] for n in stored)).where(
        p.c.source_id.in_(asked.source_ids),
        *([p.c.symbol_id.in_(asked.symbol_ids)] if asked.symbol_ids is not None else []),
        *([p.c.horizon == asked.horizon] if asked.horizon is not None else []),
        *within(p.c.ts, asked.start, asked.end),
        *within(p.c.created_at, asked.created_since, None),
    )
    if asked.needs_outcomes(stored):
        is_outer = not asked.settled_only
        query = query.join_from(p, o, o.c.prediction_id == p.c.id, isouter=is_outer)
    return snapshot.read(query, schema_of(query.selected_columns))  # type: ignore[arg-type]


def _read_many(snapshot: Bulk, asked: Asked, stored: Sequence[str]) -> pl.DataFrame:
    # All symbols: from the columnar copies.
    told_by = [name for name in stored if name in OUTCOME]
    needed = [name for name in stored if name not in OUTCOME]
    needed = list(dict.fromkeys([*needed, "source_id", "ts"]))
    frame = blocks.read_rows(snapshot, ml_predictions, needed).filter(
        pl.col("source_id").is_in(asked.source_ids),
        *([pl.col("horizon") == asked.horizon] if asked.horizon is not None else []),
        *([pl.col("ts") >= asked.start] if asked.start is not None else []),
        *([pl.col("ts") <= asked.end] if asked.end is not None else []),
    )
    if asked.needs_outcomes(stored):
        settled = blocks.read_rows(snapshot, ml_outcomes, ["prediction_id", *told_by])
        frame = frame.join(
            settled,
            left_on="id",
            right_on="prediction_id",
            how="inner" if asked.settled_only else "left",
            maintain_order="left",
        )
    return frame.select(stored)
