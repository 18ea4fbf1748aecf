"""Columnar copies of append-only rows, in the same database: no row passes through its driver.

A table that only grows, whose ids follow one another, is copied block by block as Arrow once
enough rows have come. The blocks hold every row up to the last block's end; what came later is
read row by row. They are written in the transaction that adds the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.store.bulk import Bulk
from candlecast.store.ledger_tables import ml_ledger_blocks as blocks
from candlecast.store.statements import completed, schema_of, shaped

MIN_ROWS: Final = 20_000
"""Fewer rows than this wait for more to come."""
MAX_ROWS: Final = 200_000


def add_rows(bulk: Bulk, table: sa.Table, rows: pl.DataFrame) -> int:
    """Insert `rows`, shaped for `table` and new to it, giving them the ids that follow."""
    if rows.is_empty():
        return 0
    last_id = _largest(bulk, sa.select(sa.func.max(table.c.id).label("id")))
    numbered = rows.with_row_index("id", last_id + 1).cast({"id": pl.Int64})
    numbered = completed(table, numbered)
    bulk.insert(table, numbered)
    if bulk.dialect.name == "postgresql":  # keep up the database's own count
        names = (sa.literal(name, sa.Text) for name in (table.name, "id"))
        sequence = sa.func.pg_get_serial_sequence(*names)
        bulk.run(sa.select(sa.func.setval(sequence, last_id + len(rows))))
    covered = _covered_until(bulk, table)
    if last_id + len(rows) - covered >= MIN_ROWS:
        waiting = _read_after(bulk, table, covered, table.c.keys(), last_id)
        _write(bulk, table, pl.concat([waiting, numbered]))
    return len(rows)


def read_rows(bulk: Bulk, table: sa.Table, columns: Sequence[str]) -> pl.DataFrame:
    """`columns` of all rows, in the order of their ids."""
    query = (
        sa.select(blocks.c.rows)
        .where(blocks.c.table_name == table.name)
        .order_by(blocks.c.first_id)
    )
    packed = bulk.read(query, schema_of([blocks.c.rows]))["rows"]
    parts = [pl.read_ipc(BytesIO(block), columns=list(columns)).select(columns) for block in packed]
    rest = _read_after(bulk, table, _covered_until(bulk, table), columns)
    return pl.concat([*parts, rest], rechunk=True)


def _covered_until(bulk: Bulk, table: sa.Table) -> int:
    query = sa.select(sa.func.max(blocks.c.last_id).label("id"))
    return _largest(bulk, query.where(blocks.c.table_name == table.name))


def _largest(bulk: Bulk, query: sa.Select[Any]) -> int:
    return int(bulk.read(query, {"id": pl.Int64}).item() or 0)


def _read_after(
    bulk: Bulk, table: sa.Table, after: int, columns: Sequence[str], until: int | None = None
) -> pl.DataFrame:
    query = sa.select(*(table.c[name] for name in columns)).where(table.c.id > after)
    if until is not None:
        query = query.where(table.c.id <= until)
    return bulk.read(query.order_by(table.c.id), schema_of(table.c[name] for name in columns))


def _write(bulk: Bulk, table: sa.Table, rows: pl.DataFrame) -> None:
    for part in rows.iter_slices(MAX_ROWS):
        packed = BytesIO()
        part.write_ipc(packed, compression="zstd", record_batch_size=len(part))
        block = {
            "table_name": table.name,
            "first_id": part["id"][0],
            "last_id": part["id"][-1],
            "rows": packed.getvalue(),
        }
        bulk.insert(blocks, shaped(blocks, pl.DataFrame([block])))
