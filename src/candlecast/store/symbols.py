"""Symbols, and the integer keys that stand for their tickers in every table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
import polars as pl
import sqlalchemy as sa

from candlecast.domain.market import Symbol
from candlecast.domain.order import ascends
from candlecast.errors import NotFound
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.tables import symbols as table

COLUMNS: Final = (
    *("ticker", "asset_class", "calendar", "currency", "is_active"),
    *("providers", "aliases"),
)
SCHEMA: Final = {name: pl.Boolean if name == "is_active" else pl.String for name in COLUMNS}
IDS: Final = {"symbol_id": pl.Int64, "symbol": pl.String}


def write_symbols(database: Database, symbols: Sequence[Symbol]) -> None:
    """Insert or update symbols by ticker; the last of several with one ticker counts."""
    newest = {symbol.ticker: symbol for symbol in symbols}
    rows = [_row(symbol) for _, symbol in sorted(newest.items())]
    if rows:
        database.upsert(table, pl.DataFrame(rows, schema=SCHEMA, orient="row"))


def read_symbols(database: Database) -> list[Symbol]:
    """All symbols, sorted by ticker."""
    frame = database.read(sa.select(*(table.c[name] for name in COLUMNS)), SCHEMA)
    return [_symbol(row) for row in frame.sort("ticker").iter_rows(named=True)]


def read_ids(source: Database | Bulk) -> pl.DataFrame:
    """symbol_id and symbol of all symbols, sorted by symbol."""
    query = sa.select(table.c.id.label("symbol_id"), table.c.ticker.label("symbol"))
    return source.read(query, IDS).sort("symbol")


def chosen(ids: pl.DataFrame, symbols: Sequence[str] | None) -> pl.DataFrame:
    """The rows of `ids` for `symbols` (None: all); NotFound names the close matches."""
    if symbols is None:
        return ids
    known, wanted = {*ids["symbol"]}, dict.fromkeys(symbols)
    unknown = next((symbol for symbol in wanted if symbol not in known), None)
    if unknown is not None:
        raise NotFound.among("symbol", unknown, known)
    return ids.filter(pl.col("symbol").is_in(list(wanted)))


def is_among(column: sa.Column[Any], ids: pl.DataFrame, symbols: Sequence[str] | None) -> Any:
    """The condition that `column` is one of the chosen `ids`; always true for all symbols."""
    return sa.true() if symbols is None else column.in_(ids["symbol_id"].to_list())


def with_ids(frame: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    """`frame` with symbol_id in place of symbol; NotFound for a symbol never written."""
    joined = frame.join(ids, on="symbol", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("symbol_id").is_null())
    if len(unknown):
        raise NotFound.among("symbol", unknown["symbol"][0], ids["symbol"])
    return joined.drop("symbol")


def with_tickers(frame: pl.DataFrame, ids: pl.DataFrame, *then: str) -> pl.DataFrame:
    """`frame` with symbol, first, in place of symbol_id, sorted by it and by the columns `then`."""
    ranked = ids.select("symbol_id").with_row_index("rank")
    placed = frame.join(ranked, on="symbol_id", how="left", maintain_order="left")
    order = ["rank", *then]
    if not placed.select(ascends(order, strictly=False).all()).item():
        placed = placed.sort(order)
    tickers = ids["symbol"].gather(placed["rank"]).alias("symbol")
    return placed.drop("rank", "symbol_id").insert_column(0, tickers)


def _row(symbol: Symbol) -> list[Any]:
    # Lists as JSON, whatever stands in a name; null where they are empty.
    plain = [getattr(symbol, name) for name in COLUMNS[:-2]]
    lists = (symbol.providers, symbol.aliases)
    return [*plain, *(orjson.dumps(items).decode() if items else None for items in lists)]


def _symbol(row: dict[str, Any]) -> Symbol:
    providers, aliases = (orjson.loads(row.pop(name) or "[]") for name in ("providers", "aliases"))
    pairs = tuple((provider, name) for provider, name in aliases)
    return Symbol(**row, providers=tuple(providers), aliases=pairs)
