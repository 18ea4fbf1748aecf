"""The last quote and the last trade of each symbol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import QUOTES
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.fact_tables import quotes as table
from candlecast.store.statements import schema_of, shaped
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers

HALVES: Final = {
    "quote_at": ("bid", "ask", "bid_size", "ask_size", "quote_at"),
    "trade_at": ("price", "size", "trade_at"),
}
"""What is told together, by the column that says when it was."""


def write_quotes(database: Database, rows: pl.DataFrame) -> int:
    """Replace what is older than `rows` (QUOTES) of stored symbols; how many rows changed.

    The quote and the trade are judged each for itself, by `quote_at` and `trade_at` (by `known_at`
    where a row does not say): one that is older than the stored one is left out, however late it
    came, and so is one that is no older but was known earlier.
    """
    QUOTES.check(rows)
    if rows.is_empty():
        return 0
    with database.bulk(lock="bars") as bulk:
        ids = read_ids(bulk)
        stored = _read(bulk, ids, rows["symbol"].to_list())
        beside = rows.join(stored, on="symbol", how="left", suffix="_stored", maintain_order="left")
        newest = beside.select(*_newest()).select(*QUOTES.columns)
        return bulk.upsert(table, shaped(table, with_ids(newest, ids)), "update")


def read_quotes(database: Database, symbols: Sequence[str] | None = None) -> pl.DataFrame:
    """QUOTES of `symbols` (None: all) as far as there are any."""
    return _read(database, read_ids(database), symbols)


def _read(
    source: Database | Bulk, ids: pl.DataFrame, symbols: Sequence[str] | None
) -> pl.DataFrame:
    own = chosen(ids, symbols)
    query = sa.select(table).where(is_among(table.c.symbol_id, own, symbols))
    frame = source.read(query, schema_of(table.c))
    return QUOTES.conform(with_tickers(frame, own).select(*QUOTES.columns))


def _newest() -> Iterator[Any]:
    # Each half as a whole from the row that tells the later one; the source of the last to tell.
    yield pl.col("symbol")
    news = []
    for at, columns in HALVES.items():
        new, old = _told_at(at, columns), _told_at(at, columns, "_stored")
        is_known_later = (pl.col("known_at") >= pl.col("known_at_stored")).fill_null(value=True)
        is_news = (
            (new > old) | ((new == old) & is_known_later) | (new.is_not_null() & old.is_null())
        )
        is_news = is_news.fill_null(value=False)
        news.append(is_news)
        for name in columns:
            yield pl.when(is_news).then(name).otherwise(f"{name}_stored").alias(name)
    is_told = pl.any_horizontal(*news) | pl.col("source_stored").is_null()
    yield pl.when(is_told).then("source").otherwise("source_stored").alias("source")
    yield pl.max_horizontal(pl.when(is_told).then("known_at"), pl.col("known_at_stored")).alias(
        "known_at"
    )


def _told_at(at: str, columns: Sequence[str], suffix: str = "") -> pl.Expr:
    is_told = pl.any_horizontal(*(pl.col(f"{name}{suffix}").is_not_null() for name in columns))
    return pl.when(is_told).then(pl.coalesce(f"{at}{suffix}", f"known_at{suffix}"))
