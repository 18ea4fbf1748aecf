"""TimescaleDB switched on and off: what is made, and that no row is lost on the way."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from candlecast.store import timescale, views
from candlecast.store.aggregates import AGGREGATES
from candlecast.store.bars import read_bars, write_bars
from candlecast.store.database import Database
from candlecast.store.schema import metadata
from candlecast.store.symbols import read_symbols
from integration.conftest import fresh_postgres
from integration.store_rows import (
    DAILY,
    TICKERS,
    bar,
    bars_of,
    opened,
    with_symbols,
)
from integration.timescale_server import (
    ask,
    change,
    compress,
    enabled,
    execute,
    filled,
    refresh,
    start_together,
    stop_workers,
)

pytestmark = pytest.mark.postgres
TIME_TABLES = {table.name for table in timescale.TIME_TABLES}
NAMES = {aggregate.name for aggregate in AGGREGATES}
JOBS = "SELECT job_id FROM timescaledb_information.jobs WHERE job_id >= 1000"
OWN_SETTINGS = """
    SELECT setconfig FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
    WHERE setrole <> 0 AND datname = current_database()
"""
COMPRESSED = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"


@pytest.fixture
def database_url(timescale_url: str) -> Iterator[str]:
    with fresh_postgres(timescale_url) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Empty tables with all that TimescaleDB adds."""
    with opened(database_url) as made:
        yield enabled(made)


def contents(database: Database) -> dict[str, list]:
    """All rows of all tables and plain views."""
    names = [*(table.name for table in metadata.sorted_tables), *views.NAMES]
    return {name: sorted(map(str, ask(database, f"SELECT * FROM {name}"))) for name in names}


def test_the_time_tables_are_hypertables_and_the_ledger_is_not(database: Database) -> None:
    rows = ask(
        database,
        "SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables "
        "WHERE hypertable_schema = 'public'",
    )
    assert dict(rows) == dict.fromkeys(TIME_TABLES, True)
    assert not TIME_TABLES & {"ml_predictions", "ml_outcomes"}
    segments = ask(
        database,
        "SELECT DISTINCT ON (hypertable, segmentby) hypertable::text, segmentby, orderby "
        "FROM timescaledb_information.hypertable_compression_settings "
        "WHERE hypertable::text NOT LIKE '%.%'",
    )
    assert {name: (by, order.split(",")[0]) for name, by, order in segments} == dict.fromkeys(
        TIME_TABLES, ("timeframe,symbol_id", "ts")
    )


def test_each_job_is_there_once_and_does_what_it_should(database: Database) -> None:
    assert change(database, timescale.enable) is True
    jobs = ask(
        database,
        "SELECT proc_name, coalesce(view_name, job.hypertable_name), config->>'compress_after', "
        "config->>'start_offset', config->>'end_offset', config->>'keep' "
        "FROM timescaledb_information.jobs AS job "
        "LEFT JOIN timescaledb_information.continuous_aggregates AS view "
        "ON view.materialization_hypertable_name = job.hypertable_name WHERE job_id >= 1000",
    )
    assert sorted(jobs, key=str) == sorted(
        [
            *(("policy_compression", name, "1 day", None, None, None) for name in TIME_TABLES),
            *(
                ("policy_refresh_continuous_aggregate", name, None, None, "00:01:00", None)
                for name in NAMES
            ),
            ("candlecast_prune_features", None, None, None, None, "90 days"),
        ],
        key=str,
    )
    shows_stored_only = ask(
        database,
        "SELECT view_name, materialized_only FROM timescaledb_information.continuous_aggregates",
    )
    assert dict(shows_stored_only) == dict.fromkeys(NAMES, True)


def test_the_tables_are_still_exactly_those_of_the_migrations(database: Database) -> None:
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert set(sa.inspect(connection).get_view_names()) == {*views.NAMES, *NAMES}


def test_rows_that_were_there_before_are_kept_on_the_way_in_and_out(database: Database) -> None:
    change(database, timescale.disable)
    before = contents(filled(database))
    for function in (timescale.enable, timescale.disable, timescale.enable):
        change(database, function)
        assert contents(database) == before
        is_enabled = function is timescale.enable
        assert change(database, timescale.is_enabled) is is_enabled
        if is_enabled:
            compress(database)
            refresh(database)
            assert contents(database) == before
        assert bool(ask(database, COMPRESSED)[0]) is is_enabled
    assert write_bars(database, DAILY, bars_of([bar("AAPL", 5, 98.0, known=300)])).revised == 1


def test_what_disable_leaves_is_what_the_migrations_make(database: Database) -> None:
    with_symbols(database)
    write_bars(database, DAILY, bars_of(bar(s, n) for s in TICKERS for n in range(90)))
    compress(database)
    change(database, timescale.disable)
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert set(sa.inspect(connection).get_view_names()) == {*views.NAMES, *NAMES}
        keys = {
            name: sa.inspect(connection).get_pk_constraint(name)["name"] for name in TIME_TABLES
        }
    assert keys == {name: f"pk_{name}" for name in TIME_TABLES}
    assert ask(database, JOBS) == []
    assert ask(database, "SELECT hypertable_name FROM timescaledb_information.hypertables") == []
    assert ask(database, OWN_SETTINGS) == []
    assert len(read_bars(database, DAILY)) == 90 * len(TICKERS)


def test_a_downgrade_leaves_nothing_and_an_upgrade_brings_all_back(database: Database) -> None:
    filled(database)
    compress(database)
    refresh(database)
    change(database, timescale.suspend)
    database.downgrade("base")
    with database.reading() as reader:
        assert set(sa.inspect(reader).get_table_names()) <= {"alembic_version"}
        assert sa.inspect(reader).get_view_names() == []
    assert ask(database, JOBS) == []
    assert ask(database, "SELECT proname FROM pg_proc WHERE proname LIKE 'candlecast%'") == []
    enabled(database)
    assert read_symbols(database) == []
    filled(database)
    assert len(read_bars(database, DAILY)) == 90 * len(TICKERS)


def test_what_an_operator_changed_stays(database: Database) -> None:
    filled(database)
    refresh(database)
    before = ask(database, "SELECT count(*) FROM bars_daily")
    of_prune = "FROM timescaledb_information.jobs WHERE proc_name = 'candlecast_prune_features'"
    execute(
        database,
        "SELECT alter_job(job_id, scheduled => false, "
        f"config => jsonb_build_object('keep', '9 days')) {of_prune}",
        "SELECT remove_continuous_aggregate_policy('bars_hourly')",
    )
    database.upgrade()
    assert change(database, timescale.enable) is True
    assert ask(database, f"SELECT scheduled, config ->> 'keep' {of_prune}") == [(False, "9 days")]
    execute(database, f"SELECT delete_job(job_id) {of_prune}")
    assert change(database, timescale.is_enabled) is False
    assert change(database, timescale.enable) is True
    assert ask(database, f"SELECT config ->> 'keep' {of_prune}") == ["90 days"]
    assert ask(database, "SELECT count(*) FROM bars_daily") == before


def test_an_owner_without_further_rights_can_enable_it(timescale_url: str) -> None:
    with fresh_postgres(timescale_url) as url, opened(url) as admin:
        name = sa.make_url(url).database
        execute(admin, f"CREATE ROLE {name} LOGIN", f"ALTER DATABASE {name} OWNER TO {name}")
        with opened(sa.make_url(url).set(username=name).render_as_string()) as owner:
            enabled(owner, has_workers=True)
            stop_workers(admin)
            filled(owner)
            compress(owner)
            refresh(owner)
            assert ask(owner, "SELECT count(*) FROM bars_daily") == [90 * len(TICKERS)]
        execute(admin, f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP OWNED BY {name}")
        execute(admin, f"ALTER DATABASE {name} OWNER TO CURRENT_USER", f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("setting", "value"), [("timescaledb.license", "apache"), ("timescaledb.disable_load", "on")]
)
def test_a_server_that_cannot_run_all_of_it_counts_as_plain(
    database_url: str, setting: str, value: str
) -> None:
    name = sa.make_url(database_url).database
    with opened(database_url) as admin:
        execute(admin, f"ALTER DATABASE {name} SET {setting} = '{value}'")
    with opened(database_url) as database:
        database.upgrade()
        for function in (timescale.is_available, timescale.enable, timescale.is_enabled):
            assert change(database, function) is False
        filled(database)
        assert read_bars(database, DAILY).height == 90 * len(TICKERS)


@pytest.mark.slow
def test_processes_that_start_at_once_on_an_empty_database_all_succeed(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, failures = spawn.Barrier(3), spawn.Queue()
    arguments = (database_url, barrier, failures)
    processes = [spawn.Process(target=start_together, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    found = []
    while not failures.empty():
        found.append(failures.get())
    assert found == []
    with opened(database_url) as database:
        assert change(database, timescale.is_enabled) is True
        assert len(read_bars(database, DAILY)) == len(TICKERS)
