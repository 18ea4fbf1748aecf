"""Bars that cannot be true: kept aside with the reason, never mixed with the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT, QUARANTINE
from candlecast.domain.market import Timeframe
from candlecast.store.database import Database
from candlecast.store.statements import schema_of
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers
from candlecast.store.tables import bar_quarantine as table


def write_quarantine(
    database: Database, timeframe: Timeframe, rows: pl.DataFrame, seen_at: datetime
) -> int:
    """Keep QUARANTINE `rows` of stored symbols; how many were new or say something else."""
    QUARANTINE.check(rows)
    if rows.is_empty():
        return 0
    named = with_ids(rows, read_ids(database)).with_columns(
        timeframe=pl.lit(timeframe.minutes), seen_at=pl.lit(seen_at).cast(INSTANT)
    )
    return database.upsert(table, named)


def read_quarantine(
    database: Database, timeframe: Timeframe, symbols: Sequence[str] | None = None
) -> pl.DataFrame:
    """QUARANTINE and `seen_at`, sorted by symbol, source and place."""
    ids = chosen(read_ids(database), symbols)
    names = [_stored(name) for name in QUARANTINE.columns] + ["seen_at"]
    query = sa.select(*(table.c[name] for name in names)).where(
        table.c.timeframe == timeframe.minutes, is_among(table.c.symbol_id, ids, symbols)
    )
    frame = database.read(query, schema_of(table.c[name] for name in names))
    return with_tickers(frame, ids, "source", "place")


def _stored(name: str) -> str:
    return "symbol_id" if name == "symbol" else name
