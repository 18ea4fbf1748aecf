"""Bars through the bare drivers: the least that an idempotent upsert and a read can cost."""

from __future__ import annotations

import sqlite3
from functools import partial
from time import perf_counter
from typing import Any

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import BARS, INSTANT
from candlecast.store.connection import PRAGMAS, libpq_url
from measure import Steps, seconds

KEY = ("timeframe", "symbol_id", "ts")
COLUMNS = (*KEY, *(name for name in BARS.columns if name not in ("symbol", "ts")))
POSTGRES_TYPES = {
    pl.Int64(): "bigint",
    pl.Int32(): "integer",
    pl.Float64(): "double precision",
    pl.String(): "text",
    INSTANT: "timestamptz",
}
SQLITE_TYPES = {pl.Float64(): "REAL", pl.String(): "TEXT"}
CHUNK = 100_000


def sqlite_steps(url: str, bars: pl.DataFrame, changed: pl.DataFrame) -> Steps:
    """The standard library's driver: executemany into a plain table, and fetchall."""
    connection = sqlite3.connect(str(sa.make_url(url).database), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {value}")
    schema = plain_rows(bars.head(0)).schema
    columns = ", ".join(f"{n} {SQLITE_TYPES.get(kind, 'INTEGER')}" for n, kind in schema.items())
    connection.execute(f"CREATE TABLE plain ({columns}, {_primary_key()}) WITHOUT ROWID")
    places = ", ".join("?" * len(COLUMNS))
    statement = f"INSERT INTO plain VALUES ({places}) {_on_conflict()}"
    for step, frame in (("empty", bars), ("again", bars), ("revised", changed)):
        yield f"bare {step}", _executemany(connection, statement, plain_rows(frame))
    query = f"SELECT {', '.join(COLUMNS)} FROM plain"
    yield "bare read", seconds(lambda: connection.execute(query).fetchall())
    connection.close()


def postgres_steps(url: str, bars: pl.DataFrame, changed: pl.DataFrame) -> Steps:
    """ADBC: ingest into a temporary table, INSERT … ON CONFLICT from there, and fetch as Arrow."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(libpq_url(sa.make_url(url))) as connection:
        schema = plain_rows(bars.head(0)).schema
        columns = ", ".join(f"{name} {POSTGRES_TYPES[kind]}" for name, kind in schema.items())
        _run(connection, f"CREATE TABLE plain ({columns}, {_primary_key()})")
        connection.commit()
        for step, frame in (("empty", bars), ("again", bars), ("revised", changed)):
            rows = plain_rows(frame).to_arrow(compat_level=pl.CompatLevel.oldest())
            yield f"bare {step}", seconds(partial(_upsert, connection, rows))
        yield "bare read", seconds(lambda: _fetch(connection))
        connection.commit()


def plain_rows(bars: pl.DataFrame) -> pl.DataFrame:
    """BARS as a plain table holds them: keyed by numbers, integers as wide as the column."""
    return bars.select(
        pl.lit(1, dtype=pl.Int32).alias("timeframe"),
        pl.col("symbol").rle_id().cast(pl.Int32).alias("symbol_id"),
        *COLUMNS[2:],
    )


def _executemany(connection: sqlite3.Connection, statement: str, rows: pl.DataFrame) -> float:
    # The driver's time alone: turning the frame into tuples is done before, chunk by chunk.
    taken = seconds(lambda: connection.execute("BEGIN IMMEDIATE"))
    for part in rows.with_columns(pl.col(INSTANT).to_physical()).iter_slices(CHUNK):
        tuples = part.rows()
        started_at = perf_counter()
        connection.executemany(statement, tuples)
        taken += perf_counter() - started_at
    return taken + seconds(lambda: connection.execute("COMMIT"))


def _upsert(connection: Any, rows: Any) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_ingest("stage", rows, mode="create", temporary=True)
    insert = f"INSERT INTO plain SELECT * FROM pg_temp.stage WHERE true {_on_conflict()}"
    _run(connection, insert)
    _run(connection, "DROP TABLE pg_temp.stage")
    connection.commit()


def _fetch(connection: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(COLUMNS)} FROM plain")
        return cursor.fetch_arrow_table()


def _run(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _primary_key() -> str:
    return f"PRIMARY KEY ({', '.join(KEY)})"


def _on_conflict() -> str:
    # What is no newer is left alone, as in any upsert that may be repeated.
    values = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)
    newer = "excluded.known_at > plain.known_at"
    return f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {values} WHERE {newer}"
