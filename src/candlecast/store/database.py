"""Engines, transaction(), bulk read (Arrow) and bulk idempotent upsert for both dialects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, cast

import polars as pl
import sqlalchemy as sa

from candlecast.store import connection as connecting
from candlecast.store import migrate
from candlecast.store.bulk import (
    AdbcBulk,
    Bulk,
    CopyBulk,
    SqliteBulk,
)
from candlecast.store.statements import OnConflict, Schema, shaped

Dialect = Literal["sqlite", "postgresql"]
LOCKS: Final = {
    "migrations": 1,
    "bars": 2,
    "ledger": 3,
    "registry": 4,
    "features": 5,
    "trials": 6,
    "quarantine": 7,
}
LOCK_SPACE: Final = 0x63616E64


class Database:
    """One SQLite file or Postgres database, for several threads; one object a process.

    SQLite goes through the standard library's driver only, for a second SQLite library in the
    process would void its locks. Writing transactions begin with BEGIN IMMEDIATE there, and
    reads run on connections of their own that begin none.

    Raises
    ------
    InvalidSpec : the URL is none we understand, or the server refuses it.
    DatabaseBusy : the server does not answer, or another process writes for too long.
    """

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.dialect = cast("Dialect", url.get_backend_name())
        self._writer, self._reader = connecting.make_engines(url)
        self._adbc = None if self.dialect == "sqlite" else connecting.make_adbc_pool(url)

    @classmethod
    def open(cls, url: str) -> Database:
        """The database at `url`, reached once to be sure; `upgrade` makes its tables."""
        parsed = connecting.parse_url(url)
        database = cls(parsed)
        with connecting.in_our_words(parsed):
            if database.dialect == "sqlite":
                with database._file_lock(), database._reader.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            else:
                database._reader.connect().close()
        return database

    def close(self) -> None:
        """Give all connections back."""
        self._writer.dispose()
        self._reader.dispose()
        if self._adbc is not None:
            self._adbc.dispose()

    @property
    def url(self) -> str:
        """Where the database is; the password is masked."""
        return self._url.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    def upgrade(self) -> None:
        """Bring the schema up to date; processes that start together wait for the first."""
        with self._migrating() as connection:
            migrate.upgrade(connection)

    def downgrade(self, revision: str) -> None:
        """Take the schema back to `revision`, or to nothing for ``base``."""
        with self._migrating() as connection:
            migrate.downgrade(connection, revision)

    @contextmanager
    def transaction(self, lock: str | None = None) -> Iterator[sa.Connection]:
        """All or nothing; holders of the same `lock` follow one another."""
        with connecting.in_our_words(self._url), self._writer.begin() as connection:
            if lock is not None and self.dialect == "postgresql":
                connection.execute(_advisory_lock(lock))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for small queries that neither waits for writers nor holds them up."""
        with connecting.in_our_words(self._url), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def bulk(self, lock: str | None = None) -> Iterator[Bulk]:
        """A transaction that takes frames: SQLite's own, or ADBC's on Postgres."""
        if self.dialect == "sqlite":
            with self.transaction() as connection:
                sqlite_bulk = SqliteBulk(connection)
                yield sqlite_bulk
                sqlite_bulk.clear()
            return
        with self._adbc_transaction() as bulk:
            if lock is not None:
                bulk.run(_advisory_lock(lock))
            yield bulk

    @contextmanager
    def snapshot(self) -> Iterator[Bulk]:
        """Several reads that see the database at one moment."""
        if self.dialect == "postgresql":
            with self._adbc_transaction() as bulk:
                bulk.run(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
                yield bulk
            return
        with self.reading() as reader:
            reader.exec_driver_sql("BEGIN")
            try:
                yield SqliteBulk(reader)
            finally:
                reader.exec_driver_sql("ROLLBACK")

    def read(self, statement: sa.Executable, schema: Schema) -> pl.DataFrame:
        """The rows of a query, in the dtypes of `schema` even when there are none."""
        if self.dialect == "postgresql":
            with self._adbc_connection() as connection:
                return AdbcBulk(connection).read(statement, schema)
        with self.reading() as reader:
            return SqliteBulk(reader).read(statement, schema)

    def upsert(
        self,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        on_conflict: OnConflict = "update",
        connection: sa.Connection | None = None,
    ) -> int:
        """Insert rows, or update those whose values differ; how many were new or changed.

        With a `connection` from `transaction` the rows are part of that transaction.
        """
        rows = shaped(table, frame)
        if connection is None:
            with self.bulk() as bulk:
                return bulk.upsert(table, rows, on_conflict)
        joined: Bulk = SqliteBulk(connection) if self.dialect == "sqlite" else CopyBulk(connection)
        return joined.upsert(table, rows, on_conflict)

    @contextmanager
    def _migrating(self) -> Iterator[sa.Connection]:
        with self._file_lock(), self.transaction(lock="migrations") as connection:
            yield connection

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        # A file of its own: opening the database file itself would drop SQLite's locks.
        if self.dialect == "postgresql":
            yield
            return
        with migrate.file_lock(Path(f"{self._url.database}.lock")):
            yield

    @contextmanager
    def _adbc_connection(self) -> Iterator[Any]:
        # Autocommitting, so that an idle connection of the pool holds no transaction open.
        assert self._adbc is not None
        with connecting.in_our_words(self._url):
            pooled = connecting.checked_out(self._adbc)
            try:
                yield pooled.driver_connection
            except BaseException:
                pooled.invalidate()
                raise
            pooled.close()

    @contextmanager
    def _adbc_transaction(self) -> Iterator[AdbcBulk]:
        with self._adbc_connection() as connection:
            connection.adbc_connection.set_autocommit(False)
            yield AdbcBulk(connection)
            connection.commit()
            connection.adbc_connection.set_autocommit(True)


def _advisory_lock(name: str) -> sa.Select[Any]:
    return sa.select(sa.func.pg_advisory_xact_lock(LOCK_SPACE, LOCKS[name]))
