"""Database URLs, engines, and what their errors mean in our words."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import exp
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from candlecast.errors import CandlecastError, DatabaseBusy, InvalidSpec

BUSY_SECONDS: Final = 30
CONNECT_SECONDS: Final = 10
FORMS: Final = "use sqlite:///path/to/file.db or postgresql://user@host/database"
PRAGMAS: Final = {
    "foreign_keys": "ON",
    "recursive_triggers": "ON",  # else INSERT OR REPLACE slips past the delete triggers
    "synchronous": "NORMAL",
    "temp_store": "MEMORY",
    "cache_size": "-8192",  # KiB; rows come in order, and the system caches the file as well
}
WRONG_URL: Final = re.compile(
    r"authentication failed|no password supplied|(role|database) .* does not exist"
    r"|no pg_hba.conf entry|could not translate host name|invalid (URI|connection option)"
)


def parse_url(text: str) -> sa.URL:
    """`text` with the one driver we use for its database; InvalidSpec for any other."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise InvalidSpec(f"the database URL cannot be read; {FORMS}") from error
    name = url.drivername.partition("+")[0]
    if name == "sqlite":
        return _sqlite_url(url)
    if name in ("postgres", "postgresql"):
        return _postgres_url(url)
    raise InvalidSpec(f"no database is called {name!r}; {FORMS}")


def _sqlite_url(url: sa.URL) -> sa.URL:
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise InvalidSpec("SQLite needs a file, which several processes share; " + FORMS)
    path = Path(url.database).expanduser().absolute()
    return sa.URL.create("sqlite+pysqlite", database=str(path))


def _postgres_url(url: sa.URL) -> sa.URL:
    query = dict(url.query)
    if "ssl" in query:  # asyncpg's name for libpq's sslmode
        mode = str(query.pop("ssl"))
        query.setdefault("sslmode", {"true": "require", "false": "disable"}.get(mode, mode))
    query.setdefault("connect_timeout", str(CONNECT_SECONDS))
    return url.set(drivername="postgresql+psycopg", query=query)


def libpq_url(url: sa.URL) -> str:
    """The Postgres `url`, password included, as libpq and so ADBC read it."""
    user = quote(url.username or "", safe="")
    password = f":{quote(str(url.password), safe='')}" if url.password else ""
    at = "@" if user or password else ""
    host = f"[{url.host}]" if url.host and ":" in url.host else quote(url.host or "", safe="")
    port = f":{url.port}" if url.port else ""
    query = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, values in url.query.items()
        for value in ([values] if isinstance(values, str) else values)
    )
    place = f"{user}{password}{at}{host}{port}/{quote(url.database or '', safe='')}"
    return f"postgresql://{place}?{query}"


def make_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """An engine that writes in transactions, and one whose connections read without one."""
    if url.get_backend_name() != "sqlite":
        engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)
        return engine, engine.execution_options(isolation_level="AUTOCOMMIT")
    options: dict[str, Any] = {
        "hide_parameters": True,
        "connect_args": {"timeout": BUSY_SECONDS},
    }
    writer, reader = (sa.create_engine(url, **options) for _ in range(2))
    for engine in (writer, reader):
        sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(writer, "begin", _begin_immediate)
    return writer, reader


def make_adbc_pool(url: sa.URL) -> sa.QueuePool:
    """A pool of autocommitting ADBC connections to Postgres, the bulk road."""

    def connect() -> Any:
        from adbc_driver_postgresql import dbapi

        return dbapi.connect(libpq_url(url), autocommit=True)

    return sa.QueuePool(connect, reset_on_return=None)


def checked_out(pool: sa.QueuePool) -> sa.PoolProxiedConnection:
    """A connection of `pool` that answers; one that a restart of the server cut is replaced."""
    pooled = pool.connect()
    try:
        with pooled.driver_connection.cursor() as cursor:  # type: ignore[union-attr]
            cursor.execute("SELECT 1")
    except _driver_errors():
        pooled.invalidate()
        return pool.connect()
    return pooled


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {value}")
    try:
        connection.execute("SELECT exp(0)")
    except sqlite3.OperationalError:  # built without mathematical functions
        connection.create_function("exp", 1, exp, deterministic=True)


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def in_our_words(url: sa.URL) -> Iterator[None]:
    """Turns driver errors about reaching or sharing the database into ours."""
    try:
        yield
    except _driver_errors() as error:
        known = _translate(url, getattr(error, "orig", None) or error)
        if known is None:
            raise
        raise known from error


def _driver_errors() -> tuple[type[BaseException], ...]:
    adbc: Any = sys.modules.get("adbc_driver_manager")  # loaded with Postgres only
    return (sa.exc.DBAPIError, sqlite3.Error, *(() if adbc is None else (adbc.Error,)))


def place_of(url: sa.URL) -> str:
    """Where the database is, for messages: never with a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    socket = url.query.get("host", "localhost")
    host = url.host or (socket if isinstance(socket, str) else ",".join(socket))
    return f"{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def _translate(url: sa.URL, error: BaseException) -> CandlecastError | None:
    if isinstance(error, sqlite3.Error):
        return _translate_sqlite(url, str(error))
    state = getattr(error, "sqlstate", None)
    reason = str(error).partition("\n")[0].strip()
    if state in ("40001", "40P01", "55P03"):
        return DatabaseBusy(f"{place_of(url)} is busy ({reason}); try again")
    is_refused = state is not None and state[:2] in ("28", "3D")
    is_connecting = state is None and "connect" in reason
    if is_refused or (is_connecting and WRONG_URL.search(str(error))):
        return InvalidSpec(f"{place_of(url)} refuses us: {reason}; check the database URL")
    if is_connecting or (state or "")[:2] in ("08", "53") or (state or "")[:3] == "57P":
        return DatabaseBusy(
            f"cannot reach the database at {place_of(url)}: {reason}; is the server running?"
        )
    return None


def _translate_sqlite(url: sa.URL, reason: str) -> CandlecastError | None:
    place = place_of(url)
    if "locked" in reason or "busy" in reason:
        return DatabaseBusy(f"another process holds {place} for over {BUSY_SECONDS} s; try again")
    if "unable to open" in reason or "readonly" in reason:
        return InvalidSpec(f"{place}: {reason}; is its folder there, and may we write to it?")
    if "not a database" in reason or "malformed" in reason:
        return InvalidSpec(f"{place}: {reason}; name another file or restore a backup")
    return None
