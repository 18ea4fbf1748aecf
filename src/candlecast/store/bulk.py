"""Many rows at once: read, staged, upserted; the two databases behind one Protocol.

SQLite takes rows from its standard library's driver. Postgres takes Arrow by ADBC, or COPY where
the rows must be part of a transaction that SQLAlchemy began (the two share none).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from candlecast.domain.frames import INSTANT
from candlecast.errors import BadFrame
from candlecast.store.tables import Instant

Schema: TypeAlias = Mapping[str, pl.DataType | type[pl.DataType]]
OnConflict: TypeAlias = Literal["update", "nothing"]
ROWS_AT_ONCE: Final = 4_000
COPY_NULL: Final = "\\N"
COPY_FORMAT: Final = rf"(FORMAT csv, NULL '{COPY_NULL}')"

_SQLITE: Final = sqlite.dialect()
_POSTGRES: Final = postgresql.dialect(paramstyle="named")
_POLARS_TYPES: Final[tuple[tuple[type[Any], Any], ...]] = (
    (Instant, INSTANT),
    (sa.Boolean, pl.Boolean),
    (sa.REAL, pl.Float32),
    (sa.Float, pl.Float64),
    (sa.Integer, pl.Int64),
    (sa.Text, pl.String),
)


class Bulk(Protocol):
    """One transaction that takes frames."""

    dialect: sa.Dialect

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """A temporary table that holds `frame`, gone with the transaction."""
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


def schema_of(columns: Iterable[sa.Column[Any]]) -> dict[str, Any]:
    """The Polars dtypes that hold the values of `columns`."""
    return {column.name: _polars_type(column) for column in columns}


def key_of(table: sa.Table) -> list[str]:
    """The columns that name a row: the primary key, or the unique one where it is counted up."""
    if table.primary_key.columns.keys() == ["id"] and table.c.id.identity is not None:
        unique = next(c for c in table.constraints if isinstance(c, sa.UniqueConstraint))
        return unique.columns.keys()
    return table.primary_key.columns.keys()


def shaped(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` as `table` stores it: cast, NaN as null, unique by key; BadFrame otherwise."""
    wrong = [name for name in frame.columns if name not in table.c]
    missing = [name for name in key_of(table) if name not in frame.columns]
    if wrong or missing:
        raise BadFrame(f"{table.name} knows no {wrong} and needs {missing}; see store/tables.py")
    cast = frame.select(
        pl.col(name).cast(_polars_type(table.c[name])) for name in frame.columns
    ).with_columns(pl.selectors.float().fill_nan(None))
    if cast.select(pl.struct(key_of(table)).n_unique()).item() < len(cast):
        raise BadFrame(f"rows for {table.name} repeat a key; keep one of each")
    return cast


def upsert_statement(
    dialect: sa.Dialect,
    table: sa.Table,
    columns: Sequence[str],
    source: sa.TableClause | None,
    on_conflict: OnConflict,
) -> sa.Executable:
    """INSERT … ON CONFLICT from `source`, or from bound values where there is none."""
    insert = sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
    if source is None:
        insert = insert.values({name: sa.bindparam(name) for name in columns})
    else:
        rows = sa.select(*(source.c[name] for name in columns)).where(sa.true())
        insert = insert.from_select(list(columns), rows)
    key = key_of(table)
    values = [name for name in columns if name not in key]
    if on_conflict == "nothing" or not values:
        return insert.on_conflict_do_nothing(index_elements=key)
    return insert.on_conflict_do_update(
        index_elements=key,
        set_={name: insert.excluded[name] for name in values},
        where=differ(
            [insert.excluded[name] for name in values], [table.c[name] for name in values]
        ),
    )


def differ(
    left: Sequence[sa.ColumnElement[Any]], right: Sequence[sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether two rows of values differ, null being a value like any other."""
    return sa.tuple_(*left).is_distinct_from(sa.tuple_(*right))


def as_sql(statement: sa.Executable, dialect: sa.Dialect) -> str:
    """`statement` as text with its values written out."""
    chosen = _SQLITE if dialect.name == "sqlite" else _POSTGRES
    compiled = statement.compile(dialect=chosen, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
    return str(compiled)


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
        columns = ", ".join(
            f'"{c}" {like.c[c].type.compile(dialect=self.dialect)}' for c in frame.columns
        )
        self._connection.exec_driver_sql(f"DROP TABLE IF EXISTS temp.{name}")
        self._connection.exec_driver_sql(f"CREATE TEMP TABLE {name} ({columns})")
        places = ", ".join("?" * frame.width)
        self._driver.executemany(f"INSERT INTO temp.{name} VALUES ({places})", _rows(frame))  # noqa: S608
        return sa.table(name, *(sa.column(c, like.c[c].type) for c in frame.columns))

    def insert(self, table: sa.Table, frame: pl.DataFrame) -> int:
        """See Bulk."""
        return self._write(sa.insert(table), frame)

    def upsert(self, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict) -> int:
        """See Bulk."""
        statement = upsert_statement(self.dialect, table, frame.columns, None, on_conflict)
        return self._write(statement, frame)

    def run(self, statement: sa.Executable) -> int:
        """See Bulk."""
        return max(self._connection.execute(statement).rowcount, 0)

    def read(self, statement: sa.Executable, schema: Schema) -> pl.DataFrame:
        """See Bulk."""
        result = self._connection.execute(statement)
        cursor = result.cursor
        assert cursor is not None
        parts = [_columns(rows, schema) for rows in iter(lambda: cursor.fetchmany(ROWS_AT_ONCE), [])]
        result.close()
        return pl.concat(parts, rechunk=True) if parts else pl.DataFrame(schema=schema)

    def _write(self, statement: sa.Executable, frame: pl.DataFrame) -> int:
        compiled = statement.compile(dialect=_SQLITE, column_keys=frame.columns)  # type: ignore[attr-defined]
        before = self._driver.total_changes
        self._driver.executemany(str(compiled), _rows(frame.select(compiled.positiontup)))
        return self._driver.total_changes - before


class AdbcBulk:
    """Bulk work on an ADBC connection to Postgres."""

    dialect: sa.Dialect = _POSTGRES

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """See Bulk."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
            cursor.adbc_ingest(name, _arrow(frame), mode="create", temporary=True)
        return sa.table(name, *(sa.column(c, like.c[c].type) for c in frame.columns))

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
        return frame.cast(dict(schema)).select(*schema)


class CopyBulk:
    """Bulk work inside a transaction that SQLAlchemy began on Postgres."""

    dialect: sa.Dialect = _POSTGRES

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def stage(self, name: str, frame: pl.DataFrame, like: sa.Table) -> sa.TableClause:
        """See Bulk."""
        columns = ", ".join(
            f'"{c}" {like.c[c].type.compile(dialect=self.dialect)}' for c in frame.columns
        )
        self._connection.exec_driver_sql(f"DROP TABLE IF EXISTS pg_temp.{name}")
        self._connection.exec_driver_sql(f"CREATE TEMP TABLE {name} ({columns}) ON COMMIT DROP")
        self._copy(f"pg_temp.{name}", frame)
        return sa.table(name, *(sa.column(c, like.c[c].type) for c in frame.columns))

    def insert(self, table: sa.Table, frame: pl.DataFrame) -> int:
        """See Bulk."""
        self._copy(table.name, frame)
        return len(frame)

    def upsert(self, table: sa.Table, frame: pl.DataFrame, on_conflict: OnConflict) -> int:
        """See Bulk."""
        return _upsert_by_stage(self, table, frame, on_conflict)

    def run(self, statement: sa.Executable) -> int:
        """See Bulk."""
        return max(self._connection.execute(statement).rowcount, 0)

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


def _polars_type(column: sa.Column[Any]) -> Any:
    return next(dtype for kind, dtype in _POLARS_TYPES if isinstance(column.type, kind))


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


def _columns(rows: list[tuple[Any, ...]], schema: Schema) -> pl.DataFrame:
    columns = zip(*rows, strict=True)
    return pl.DataFrame(
        [
            _series(name, values, dtype)
            for (name, dtype), values in zip(schema.items(), columns, strict=True)
        ]
    )


def _series(name: str, values: tuple[Any, ...], dtype: Any) -> pl.Series:
    if dtype in (pl.String, pl.Float64):
        return pl.Series(name, values, dtype=dtype)
    stored = pl.Float64 if dtype == pl.Float32 else pl.Int64
    return pl.Series(name, values, dtype=stored).cast(dtype)
