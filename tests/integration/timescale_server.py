"""A PostgreSQL server with TimescaleDB for tests, where the extension is installed.

It is the one at CANDLECAST_TEST_TIMESCALE_URL (whose user may create databases and roles), or one
made of the PostgreSQL that ``pg_config`` names, started in a temporary folder and stopped again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.frames import FEATURES, LABELS
from candlecast.domain.market import Timeframe
from candlecast.store import timescale
from candlecast.store.bars import write_bars
from candlecast.store.database import Database
from candlecast.store.features import write_features, write_labels
from candlecast.store.ledger import Batch, append
from integration.store_rows import (
    DAILY,
    TICKERS,
    bar,
    bars_of,
    day,
    forecasts_of,
    opened,
    with_symbols,
)

SERVER_USER = "postgres"
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
timescaledb.bgw_launcher_poll_time = 500
fsync = off
full_page_writes = off
synchronous_commit = off
"""


@contextmanager
def timescale_server() -> Iterator[str]:
    """The URL of a server that has the extension; skips where there is none."""
    given = os.environ.get("CANDLECAST_TEST_TIMESCALE_URL")
    if given:
        yield given
        return
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="candlecast-timescale-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, SERVER_USER)
        _run(binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", SERVER_USER, "-N")
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS.format(folder=folder))
        control = (binaries / "pg_ctl", "-D", folder / "data", "-w")
        _run(*control, "-l", folder / "log", "start")
        try:
            yield f"postgresql://{SERVER_USER}@/postgres?host={folder}"
        finally:
            _run(*control, "-m", "fast", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def enabled(database: Database, *, has_workers: bool = False) -> Database:
    """`database` with the newest tables and all that TimescaleDB adds.

    Its jobs run when a test runs them, and by themselves only with workers.
    """
    database.upgrade()
    with database.transaction(lock="migrations") as connection:
        assert timescale.enable(connection)
    if not has_workers:
        stop_workers(database)
    return database


def stop_workers(database: Database) -> None:
    """Keep jobs from running by themselves; wants a superuser."""
    execute(database, "SELECT _timescaledb_functions.stop_background_workers()")


def start_together(url: str, barrier: Barrier, failures: Queue[str]) -> None:
    """Open, upgrade and use a database at the same moment as the other processes."""
    try:
        barrier.wait(timeout=60)
        with opened(url) as database:
            with_symbols(enabled(database, has_workers=True))
            write_bars(database, DAILY, bars_of(bar(symbol, 1) for symbol in TICKERS))
    except Exception as error:  # noqa: BLE001 - the test shows it
        failures.put(f"{type(error).__name__}: {error}")


def change(database: Database, function: Callable[[sa.Connection], object]) -> object:
    """Call `function` in a transaction under the migration lock."""
    with database.transaction(lock="migrations") as connection:
        return function(connection)


def renewed(connection: sa.Connection) -> None:
    """Make the aggregates of features anew, as is done around new columns."""
    with timescale.renewing_feature_aggregates(connection):
        pass


def filled(database: Database) -> Database:
    """Bars with a revision, features of two timeframes, labels, forecasts."""
    with_symbols(database)
    write_bars(database, DAILY, bars_of(bar(s, n, n + 1.0) for s in TICKERS for n in range(90)))
    write_bars(database, DAILY, bars_of([bar("AAPL", 5, 99.0, known=200)]))
    keys = pl.DataFrame({"symbol": ["AAPL"] * 60, "ts": [day(n) for n in range(60)]})
    values = keys.with_columns(as_of=pl.col("ts"), trend=pl.arange(60).cast(pl.Float64))
    for timeframe in (DAILY, Timeframe(60)):
        write_features(database, timeframe, FEATURES.conform(values), "set")
    change(database, renewed)
    labels = keys.with_columns(horizon=pl.lit("1D"), horizon_bars=1, value=0.5, end_at=pl.col("ts"))
    write_labels(database, DAILY, LABELS.conform(labels), "forward_return")
    append(database, forecasts_of(TICKERS, [1, 2]), Batch(DAILY, "live", "v1", None, day(9), "s"))
    return database


def execute(database: Database, *statements: str) -> None:
    """Each statement in a transaction of its own, as refreshes and jobs want it."""
    with database.reading() as connection:  # autocommitting
        for statement in statements:
            connection.exec_driver_sql(statement)


def ask(database: Database, query: str) -> Sequence[Any]:
    """The rows of a query; of one column, its values."""
    with database.reading() as connection:
        rows = connection.execute(sa.text(query)).all()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


def run_jobs(database: Database, procedure: str) -> None:
    """Run the jobs of one kind now, in the order they were made."""
    jobs = ask(
        database,
        "SELECT job_id FROM timescaledb_information.jobs "
        f"WHERE proc_name = '{procedure}' ORDER BY job_id",
    )
    assert jobs, f"no job runs {procedure}"
    execute(database, *(f"CALL run_job({job})" for job in jobs))


def refresh(database: Database) -> None:
    """Run the policies of all continuous aggregates."""
    run_jobs(database, "policy_refresh_continuous_aggregate")


def compress(database: Database) -> None:
    """Run the compression policies of all hypertables."""
    run_jobs(database, "policy_compression")


def _binaries() -> Path:
    config = shutil.which("pg_config")
    if config is None:
        pytest.skip("TimescaleDB is not installed: there is no pg_config, so no PostgreSQL either")
    shared, binaries = (
        Path(subprocess.check_output([config, option], text=True).strip())
        for option in ("--sharedir", "--bindir")
    )
    control = shared / "extension" / "timescaledb.control"
    if not control.exists():
        pytest.skip(f"TimescaleDB is not installed: {control} is missing")
    if not (binaries / "initdb").exists():
        pytest.skip(f"TimescaleDB is installed, but the server is not: no initdb in {binaries}")
    return binaries


def _run(*command: object) -> None:
    # The server refuses to run as root, so root lends it a user.
    as_user = ("runuser", "-u", SERVER_USER, "--") if os.geteuid() == 0 else ()
    subprocess.run(
        [str(part) for part in (*as_user, *command)],
        check=True,
        cwd=tempfile.gettempdir(),
        stdout=subprocess.DEVNULL,
    )
