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
    database: Database,
    timeframe: Timeframe,
    rows: pl.DataFrame,
    seen_at: datetime,
    *,
    answered: pl.DataFrame | None = None,
) -> int:
    """Keep QUARANTINE `rows` of stored symbols; how many were new or say something else.

    `answered` names, by symbol and source, whose bars were read in the same answer. What was kept
    of them without a time, and is not among `rows`, is forgotten: no bar could ever be seen to
    take its place, and a bar that is missing still is a gap.
    """
    QUARANTINE.check(rows)
    if answered is not None:
        _forget_untimed(database, timeframe, rows, answered)
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


def _forget_untimed(
    database: Database, timeframe: Timeframe, rows: pl.DataFrame, answered: pl.DataFrame
) -> None:
    ids = read_ids(database)
    of_these = sa.and_(table.c.timeframe == timeframe.minutes, table.c.ts.is_(None))
    columns = [table.c[name] for name in ("symbol_id", "source", "place")]
    kept = database.read(sa.select(*columns).where(of_these), schema_of(columns))
    if kept.is_empty():
        return
    gone = (
        with_tickers(kept, ids)
        .join(answered, on=["symbol", "source"], how="semi")
        .join(rows, on=list(QUARANTINE.key), how="anti")
    )
    with database.transaction(lock="quarantine") as connection:
        for row in with_ids(gone, ids).select(kept.columns).iter_rows(named=True):
            is_it = (table.c[name] == value for name, value in row.items())
            connection.execute(sa.delete(table).where(of_these, *is_it))


def _stored(name: str) -> str:
    return "symbol_id" if name == "symbol" else name
