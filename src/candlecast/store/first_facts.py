"""Facts in the version that was known first, and texts page by page: what features are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT, FrameSpec
from candlecast.store.database import Database
from candlecast.store.fact_tables import FACTS
from candlecast.store.statements import schema_of, within
from candlecast.store.symbols import chosen, is_among, read_ids, with_tickers

PAGE_ROWS: Final = 2_000
TEXT_COLUMN: Final = {"NEWS": "headline", "POSTS": "text"}
"""What is read of news and posts. Summaries repeat the headline, or come later."""
TEXT_PAGE: Final = {
    "id": pl.String,
    "text": pl.String,
    "symbols": pl.List(pl.String),
    "weight": pl.Float64,
    "known_at": INSTANT,
}


def read_first_facts(
    database: Database,
    spec: FrameSpec,
    *,
    since: datetime | None = None,
    as_of: datetime | None = None,
    symbols: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Facts of kind `spec` whose first version became known after `since` and until `as_of`.

    `symbols` keeps the facts of these tickers, where a fact is one symbol's.
    """
    table = FACTS[spec.name]
    ids = read_ids(database) if "symbol" in spec.columns else None
    conditions = _is_first(table, spec, since, as_of)
    if ids is not None:
        ids = chosen(ids, symbols)
        conditions.append(is_among(table.c.symbol_id, ids, symbols))
    frame = database.read(sa.select(table).where(*conditions), schema_of(table.c))
    return spec.conform(frame if ids is None else with_tickers(frame, ids, *spec.key[1:]))


def read_texts(
    database: Database,
    spec: FrameSpec,
    *,
    since: datetime | None = None,
    as_of: datetime | None = None,
) -> Iterator[pl.DataFrame]:
    """NEWS or POSTS of the same kind, by id, in pages of the columns `TEXT_PAGE`."""
    table = FACTS[spec.name]
    weight = table.c.weight if "weight" in table.c else sa.null().label("weight")
    text = table.c[TEXT_COLUMN[spec.name]].label("text")
    columns = [table.c.id, text, table.c.symbols, weight, table.c.known_at]
    query = sa.select(*columns).where(*_is_first(table, spec, since, as_of)).order_by(table.c.id)
    schema = {**TEXT_PAGE, "symbols": pl.String}
    tickers = pl.col("symbols").str.split(",").list.filter(pl.element() != "")
    page = database.read(query.limit(PAGE_ROWS), schema)
    while len(page):
        yield page.with_columns(tickers)
        behind = query.where(table.c.id > page["id"][-1])
        page = database.read(behind.limit(PAGE_ROWS), schema)


def _is_first(
    table: sa.Table, spec: FrameSpec, since: datetime | None, as_of: datetime | None
) -> list[Any]:
    # No version of the same key was known earlier.
    earlier = table.alias("earlier")
    key = ["symbol_id" if name == "symbol" else name for name in spec.key]
    is_same = sa.and_(*(earlier.c[name] == table.c[name] for name in key))
    exists = sa.exists().where(is_same, earlier.c.known_at < table.c.known_at)
    after = [] if since is None else [table.c.known_at > since]
    return [~exists, *after, *within(table.c.known_at, None, as_of)]
