"""Many rows at once: read, staged, upserted; the two databases behind one Protocol.

SQLite takes rows from its standard library's driver. Postgres takes Arrow by ADBC, or COPY where
the rows must be part of a transaction that SQLAlchemy began (the two share none).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.store.statements import (
    POSTGRES,
    SQLITE,
    OnConflict,
    Schema,
    as_sql,
    upsert_statement,
)

ROWS_AT_ONCE: Final = 4_000
GROUPED: Final = 20
"""Rows of one INSERT; measured best among 1 to 100."""
COPY_NULL: Final = "\\N"
COPY_FORMAT: Final = rf"(FORMAT csv, NULL '{COPY_NULL}')"


class Bulk(Protocol):
    """One transaction that takes frames."""

    dialect: sa.Dialect

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """A temporary table that holds `frame`, gone with the transaction."""
        ...

    def keep(self, name: str, query: sa.Select[Any]) -> sa.TableClause:
        """A temporary table that holds the rows of a query, gone with the transaction."""
        ...

    def insert(self, table: sa.Table, frame: pl.DataFrame) -> int:
        """Insert rows none of which is there yet."""
        ...

    def upsert(self, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict) -> int:
        """Insert or update by key; the number of rows that were new or changed."""
        ...

    def run(self, statement: sa.Executable) -> int:
        """Execute a statement that returns no rows; the number of rows it touched."""
        ...

    def read(self, statement: sa.Executable, schema: Schema) -> pl.DataFrame:
        """The rows of a query as this transaction sees them."""
        ...


class SqliteBulk:
    """Bulk work on a SQLite connection that is in a transaction, or only reads."""

    def __init__(self, connection: sa.Connection) -> None:
        self.dialect = connection.dialect
        self._connection = connection
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """See Bulk."""
        staged = _create_temporary(self, name, [like.c[column] for column in frame.columns])
        places = ", ".join("?" * frame.width)
        self._execute(f"INSERT INTO temp.{name} VALUES ({places})", frame)  # noqa: S608 - ours
        return staged

    def keep(self, name: str, query: sa.Select[Any]) -> sa.TableClause:
        """See Bulk."""
        return _keep(self, name, query)

    def insert(self, table: sa.Table, frame: pl.DataFrame) -> int:
        """See Bulk."""
        return self._write(sa.insert(table), frame)

    def upsert(self, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict) -> int:
        """See Bulk."""
        statement = upsert_statement(self.dialect, table, frame.columns, None, on_conflict)
        return self._write(statement, frame)

    def clear(self) -> None:
        """Drop the temporary tables, which on SQLite outlive their transaction."""
        names = sa.text("SELECT name FROM sqlite_temp_schema WHERE type = 'table'")
        for name in self._connection.execute(names).scalars().all():
            self.run(sa.text(f"DROP TABLE temp.{name}"))

    def run(self, statement: sa.Executable) -> int:
        """See Bulk."""
        return _n_touched(self._connection, statement)

    def read(self, statement: sa.Executable, schema: Schema) -> pl.DataFrame:
        """See Bulk."""
        result = self._connection.execute(statement)
        cursor = result.cursor
        assert cursor is not None
        parts = [
            _columns(rows, schema) for rows in iter(lambda: cursor.fetchmany(ROWS_AT_ONCE), [])
        ]
        result.close()
        return pl.concat(parts, rechunk=True) if parts else pl.DataFrame(schema=schema)

    def _write(self, statement: sa.Executable, frame: pl.DataFrame) -> int:
        compiled = statement.compile(dialect=SQLITE, column_keys=frame.columns)  # type: ignore[attr-defined]
        before = self._driver.total_changes
        self._execute(str(compiled), frame.select(compiled.positiontup))
        return self._driver.total_changes - before

    def _execute(self, insert: str, rows: pl.DataFrame) -> None:
        # Several rows a statement: SQLite takes them in two thirds of the time.
        one = f"({', '.join('?' * rows.width)})"
        assert insert.count(one) == 1
        n_grouped = len(rows) - len(rows) % GROUPED
        grouped = insert.replace(one, ", ".join([one] * GROUPED))
        self._driver.executemany(grouped, _groups(rows.head(n_grouped)))
        self._driver.executemany(insert, _rows(rows.slice(n_grouped)))


class AdbcBulk:
    """Bulk work on an ADBC connection to Postgres."""

    dialect: sa.Dialect = POSTGRES

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """See Bulk."""
        staged = _create_temporary(self, name, [like.c[column] for column in frame.columns])
        rows = _arrow(_narrowed(like, frame))
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(name, rows, mode="append", temporary=True)
        return staged

    def keep(self, name: str, query: sa.Select[Any]) -> sa.TableClause:
        """See Bulk."""
        return _keep(self, name, query)

    def insert(self, table: sa.Table, frame: pl.DataFrame) -> int:
        """See Bulk."""
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table.name, _arrow(_narrowed(table, frame)), mode="append")
        return len(frame)

    def upsert(self, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict) -> int:
        """See Bulk."""
        return _upsert_by_stage(self, table, frame, on_conflict)

    def run(self, statement: sa.Executable) -> int:
        """See Bulk."""
        with self._connection.cursor() as cursor:
            cursor.execute(as_sql(statement, self.dialect))
            return max(int(cursor.rowcount), 0)

    def read(self, statement: sa.Executable, schema: Schema) -> pl.DataFrame:
        """See Bulk."""
        with self._connection.cursor() as cursor:
            cursor.execute(as_sql(statement, self.dialect))
            frame = pl.from_arrow(cursor.fetch_arrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


class CopyBulk:
    """Bulk work inside a transaction that SQLAlchemy began on Postgres."""

    dialect: sa.Dialect = POSTGRES

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """See Bulk."""
        staged = _create_temporary(self, name, [like.c[column] for column in frame.columns])
        self._copy(f"pg_temp.{name}", frame)
        return staged

    def keep(self, name: str, query: sa.Select[Any]) -> sa.TableClause:
        """See Bulk."""
        return _keep(self, name, query)

    def insert(self, table: sa.Table, frame: pl.DataFrame) -> int:
        """See Bulk."""
        self._copy(table.name, frame)
        return len(frame)

    def upsert(self, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict) -> int:
        """See Bulk."""
        return _upsert_by_stage(self, table, frame, on_conflict)

    def run(self, statement: sa.Executable) -> int:
        """See Bulk."""
        return _n_touched(self._connection, statement)

    def read(self, statement: sa.Executable, schema: Schema) -> pl.DataFrame:
        """See Bulk."""
        rows = self._connection.execute(statement).all()
        return pl.DataFrame([tuple(row) for row in rows], schema=dict(schema), orient="row")

    def _copy(self, target: str, frame: pl.DataFrame) -> None:
        columns = ", ".join(f'"{name}"' for name in frame.columns)
        cursor = self._connection.connection.cursor()
        with cursor.copy(f"COPY {target} ({columns}) FROM STDIN {COPY_FORMAT}") as copy:
            copy.write(
                frame.write_csv(
                    include_header=False, quote_style="non_numeric", null_value=COPY_NULL
                )
            )


def _upsert_by_stage(
    bulk: AdbcBulk | CopyBulk, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict
) -> int:
    source = bulk.stage(f"new_{table.name}", frame, table)
    return bulk.run(upsert_statement(bulk.dialect, table, frame.columns, source, on_conflict))


def _n_touched(connection: sa.Connection, statement: sa.Executable) -> int:
    counting = {"preserve_rowcount": True}
    return max(connection.execute(statement, execution_options=counting).rowcount, 0)


def _create_temporary(bulk: Bulk, name: str, columns: Sequence[sa.Column[Any]]) -> sa.TableClause:
    types = (f'"{c.name}" {c.type.compile(dialect=bulk.dialect)}' for c in columns)
    bulk.run(sa.text(f"CREATE TEMP TABLE {name} ({', '.join(types)}) {_until_commit(bulk)}"))
    return sa.table(name, *(sa.column(c.name, c.type) for c in columns))


def _keep(bulk: Bulk, name: str, query: sa.Select[Any]) -> sa.TableClause:
    rows = as_sql(query, bulk.dialect)
    bulk.run(sa.text(f"CREATE TEMP TABLE {name} {_until_commit(bulk)} AS {rows}"))
    return sa.table(name, *(sa.column(c.name, c.type) for c in query.selected_columns))


def _until_commit(bulk: Bulk) -> str:
    return "" if bulk.dialect.name == "sqlite" else "ON COMMIT DROP"  # SqliteBulk.clear does it


def _arrow(frame: pl.DataFrame) -> Any:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _narrowed(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    # What goes straight into a table has its integers' width.
    narrow = [
        name
        for name in frame.columns
        if isinstance(table.c[name].type, sa.Integer)
        and not isinstance(table.c[name].type, sa.BigInteger)
    ]
    return frame.with_columns(pl.col(narrow).cast(pl.Int32))


def _rows(frame: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    plain = frame.with_columns(pl.col(INSTANT).to_physical())
    for part in plain.iter_slices(ROWS_AT_ONCE):
        yield from zip(*(column.to_list() for column in part.get_columns()), strict=True)


def _groups(frame: pl.DataFrame) -> Iterator[list[Any]]:
    # The values of GROUPED rows after the other, row by row.
    plain = frame.with_columns(pl.col(INSTANT).to_physical())
    n_values = GROUPED * frame.width
    for part in plain.iter_slices(ROWS_AT_ONCE):
        values: list[Any] = [None] * (len(part) * frame.width)
        for place, column in enumerate(part.get_columns()):
            values[place :: frame.width] = column.to_list()
        yield from (values[i : i + n_values] for i in range(0, len(values), n_values))


def _columns(rows: Sequence[Any], schema: Schema) -> pl.DataFrame:
    columns = zip(*rows, strict=True)
    return pl.DataFrame(
        [
            _series(name, values, dtype)
            for (name, dtype), values in zip(schema.items(), columns, strict=True)
        ]
    )


def _series(name: str, values: tuple[Any, ...], dtype: Any) -> pl.Series:
    if dtype in (pl.String, pl.Float64, pl.Binary):
        return pl.Series(name, values, dtype=dtype)
    stored = pl.Float64 if dtype == pl.Float32 else pl.Int64
    return pl.Series(name, values, dtype=stored).cast(dtype)
