"""The last quote and the last trade of each symbol."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import QUOTES
from candlecast.store.database import Database
from candlecast.store.fact_tables import quotes as table
from candlecast.store.statements import schema_of
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers


def write_quotes(database: Database, rows: pl.DataFrame) -> int:
    """Replace the quotes of stored symbols where `rows` (QUOTES) know later ones; how many.

    A row with a trade alone keeps the stored quote, and the other way round.
    """
    QUOTES.check(rows)
    if rows.is_empty():
        return 0
    stored = read_quotes(database, rows["symbol"].to_list())
    kept = ("bid", "ask", "bid_size", "ask_size", "quote_at", "price", "size", "trade_at")
    beside = rows.join(stored.select("symbol", *kept), on="symbol", how="left", suffix="_stored")
    filled = beside.with_columns(
        pl.coalesce(name, f"{name}_stored").alias(name) for name in kept
    ).select(*QUOTES.columns)
    return database.upsert(table, with_ids(filled, read_ids(database)))


def read_quotes(database: Database, symbols: Sequence[str] | None = None) -> pl.DataFrame:
    """QUOTES of `symbols` (None: all) as far as there are any."""
    ids = chosen(read_ids(database), symbols)
    query = sa.select(table).where(is_among(table.c.symbol_id, ids, symbols))
    frame = database.read(query, schema_of(table.c))
    return QUOTES.conform(with_tickers(frame, ids).select(*QUOTES.columns))
