"""The store on TimescaleDB: what is made, what it keeps, and that it answers as without."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from candlecast.domain.frames import BARS, FEATURES
from candlecast.domain.market import Timeframe
from candlecast.errors import DatabaseBusy
from candlecast.store import timescale, views
from candlecast.store.aggregates import AGGREGATES
from candlecast.store.bars import BarsWritten, read_bars, write_bars
from candlecast.store.database import Database
from candlecast.store.features import read_features, write_features, write_labels
from candlecast.store.ledger import Batch, append, read_forecasts
from candlecast.store.mirror import Mirror
from candlecast.store.schema import metadata
from candlecast.store.symbols import read_symbols
from candlecast.store.tables import ml_features_ohlcv
from integration.conftest import fresh_postgres
from integration.store_rows import (
    DAILY,
    TICKERS,
    bar,
    bars_of,
    day,
    forecasts_of,
    with_symbols,
)
from integration.timescale_server import (
    ask,
    compress,
    enabled,
    execute,
    opened,
    refresh,
    start_together,
    stop_workers,
    timescale_server,
)

pytestmark = pytest.mark.postgres
TIME_TABLES = {table.name for table in timescale.TIME_TABLES}
NAMES = {aggregate.name for aggregate in AGGREGATES}
MINUTE = Timeframe(1)
JOBS = "SELECT job_id FROM timescaledb_information.jobs WHERE job_id >= 1000"
OWN_SETTINGS = """
    SELECT setconfig FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
    WHERE setrole <> 0 AND datname = current_database()
"""
COMPRESSED = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with timescale_server() as url:
        yield url


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    with fresh_postgres(server_url) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Empty tables with all that TimescaleDB adds."""
    with opened(database_url) as made:
        yield enabled(made)


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
    labels = keys.select(
        "symbol",
        pl.col("ts").cast(BARS.columns["ts"]),
        pl.lit("1D").alias("horizon"),
        pl.lit(1, pl.Int64).alias("horizon_bars"),
        pl.lit(0.5).alias("value"),
        pl.col("ts").cast(BARS.columns["ts"]).alias("end_at"),
    )
    write_labels(database, DAILY, labels, "forward_return")
    append(database, forecasts_of(TICKERS, [1, 2]), Batch(DAILY, "live", "v1", None, day(9), "s"))
    return database


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


def test_bars_corrected_months_later_are_revised_in_compressed_chunks(
    database: Database, tmp_path: Path
) -> None:
    filled(database)
    mirror = Mirror(database, tmp_path)
    before = mirror.read(DAILY)
    compress(database)
    assert ask(database, COMPRESSED)[0] > 3
    assert read_bars(database, DAILY).equals(before)
    for number, close in ((1, 7.0), (2, 8.0)):
        late = [bar("AAPL", 5, close, known=200 + number), bar("MSFT", 40, close, 200 + number)]
        new = [bar("AAPL", 5.5, 3.0, known=200 + number)] if number == 1 else []
        written = write_bars(database, DAILY, bars_of([*late, *new]))
        assert written == BarsWritten(len(new), 2, 0)
        compress(database)
        assert mirror.read(DAILY).equals(read_bars(database, DAILY))
    assert read_bars(database, DAILY, as_of=day(200)).equals(before)
    revised = read_bars(database, DAILY, symbols=["AAPL"], start=day(5), end=day(5))
    assert revised["close"].to_list() == [8.0]
    seen = [
        read_bars(database, DAILY, symbols=["AAPL"], start=day(5), end=day(5), as_of=day(n))
        for n in (6, 200, 201)
    ]
    assert [frame["close"].item() for frame in seen] == [6.0, 99.0, 7.0]
    first = read_bars(database, DAILY, is_first_version=True)
    assert first.filter(pl.col("ts") == day(5))["close"].to_list() == [6.0] * len(TICKERS)


def test_rows_in_compressed_chunks_are_upserted_inside_a_transaction(database: Database) -> None:
    filled(database)
    compress(database)
    rows = pl.DataFrame({"timeframe": 1440, "symbol_id": 1, "ts": [day(3), day(3.5)]})
    rows = rows.with_columns(as_of=pl.col("ts"), set_id=pl.lit("new"))
    with database.transaction() as connection:
        assert database.upsert(ml_features_ohlcv, rows, connection=connection) == 2
    with database.transaction() as connection:
        assert database.upsert(ml_features_ohlcv, rows, connection=connection) == 0
    stored = ask(
        database, "SELECT count(*), count(trend) FROM ml_features_ohlcv WHERE timeframe = 1440"
    )
    assert stored == [(61, 60)]


def test_as_many_compressed_bars_as_there_are_may_be_corrected_at_once(
    database: Database, database_url: str
) -> None:
    n_bars = 5_000
    ts = pl.datetime_range(day(0), day(0) + timedelta(minutes=n_bars - 1), "1m", eager=True)
    frame = BARS.conform(
        pl.DataFrame({"ts": ts, "close": np.arange(n_bars) + 1.0}).with_columns(
            *(pl.col("close").alias(name) for name in ("open", "high", "low", "volume")),
            symbol=pl.lit("AAPL"),
            source=pl.lit("test"),
            known_at=pl.col("ts"),
        )
    )
    write_bars(with_symbols(database), MINUTE, frame)
    compress(database)
    name = sa.make_url(database_url).database
    execute(database, f"ALTER DATABASE {name} SET {timescale.NO_LIMIT} = 1000")
    corrected = frame.with_columns(pl.col("close") / 2, known_at=pl.lit(day(400)).cast(ts.dtype))
    with opened(database_url) as limited:
        assert write_bars(limited, MINUTE, corrected) == BarsWritten(0, n_bars, 0)
        assert ask(limited, f"SHOW {timescale.NO_LIMIT}") == ["0"]
    assert read_bars(database, MINUTE)["close"].equals(corrected["close"])
    assert read_bars(database, MINUTE, as_of=day(399)).equals(frame)


def test_only_chunks_that_are_over_for_a_day_are_compressed(database: Database) -> None:
    filled(database)
    execute(
        database,
        "INSERT INTO bars SELECT 1, 1, now() - n * INTERVAL '1 day', 1, 1, 1, 1, 1, "
        "NULL, NULL, NULL, 'test', now(), now() FROM generate_series(0, 60) AS n",
    )
    n_rows = ask(database, "SELECT count(*), sum(close) FROM bars")
    compress(database)
    chunks = ask(
        database,
        "SELECT is_compressed, range_end < now() - INTERVAL '1 day' "
        "FROM timescaledb_information.chunks WHERE hypertable_name = 'bars'",
    )
    assert set(chunks) == {(True, True), (False, False)}
    assert ask(database, "SELECT count(*), sum(close) FROM bars") == n_rows


def test_a_feature_that_is_new_joins_the_aggregates(database: Database) -> None:
    filled(database)
    refresh(database)
    query = "SELECT max(ts), avg(trend), count(*) FROM ml_features_ohlcv_daily"
    before = ask(database, query)
    assert before[0][2] == 120
    compress(database)
    keys = pl.DataFrame({"symbol": ["AAPL"], "ts": [day(70)], "as_of": [day(71)]})
    features = FEATURES.conform(keys.with_columns(trend=pl.lit(1.0), momentum=pl.lit(2.0)))
    write_features(database, DAILY, features, "set")
    change(database, renewed)
    refresh(database)
    names = {"trend", "momentum"}
    assert names < set(read_features(database, DAILY).columns)
    newest = "SELECT trend, momentum FROM ml_features_ohlcv_daily WHERE momentum > 0"
    assert ask(database, newest) == [(1.0, 2.0)]
    assert ask(database, query)[0][2] == before[0][2] + 1
    assert change(database, timescale.is_enabled) is True


def test_columns_are_added_while_aggregates_are_refreshed(
    database: Database, database_url: str
) -> None:
    filled(database)
    is_done, errors = threading.Event(), []

    def keep_refreshing() -> None:
        with opened(database_url) as other:
            while not is_done.is_set():
                try:
                    refresh(other)
                except (sa.exc.DatabaseError, DatabaseBusy) as error:
                    errors.append(error)  # its job was removed, or gave way

    refreshing = threading.Thread(target=keep_refreshing)
    refreshing.start()
    try:
        for number in range(4):
            change(database, partial(add_column, name=f"feature_{number}"))
    finally:
        is_done.set()
        refreshing.join()
    refresh(database)
    columns = "SELECT feature_0, feature_3 FROM ml_features_ohlcv_daily WHERE trend = 7"
    assert ask(database, columns) == [(1.0, 1.0)] * 2
    assert all("deadlock" in str(e) or "not " in str(e) for e in errors), errors


def add_column(connection: sa.Connection, name: str) -> None:
    with timescale.renewing_feature_aggregates(connection):
        connection.exec_driver_sql(
            f"ALTER TABLE ml_features_ohlcv ADD COLUMN {name} DOUBLE PRECISION"
        )
    connection.exec_driver_sql(f"UPDATE ml_features_ohlcv SET {name} = 1")


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


def test_the_servers_own_workers_refresh_the_aggregates(database_url: str) -> None:
    n_days = sa.text("SELECT count(*) FROM bars_daily")
    is_late = sa.text("SELECT clock_timestamp() - :start > INTERVAL '90 seconds'")
    with opened(database_url) as database:
        database.upgrade()
        change(database, timescale.disable)
        start = ask(filled(database), "SELECT clock_timestamp()")[0]
        change(database, timescale.enable)
        with database.reading() as reader:
            while reader.execute(n_days).scalar() < 90 * len(TICKERS):
                reader.exec_driver_sql("SELECT pg_sleep(0.2)")
                assert not reader.execute(is_late, {"start": start}).scalar()
        assert ask(database, str(n_days)) == [90 * len(TICKERS)]


def test_an_owner_without_further_rights_can_enable_it(server_url: str) -> None:
    with fresh_postgres(server_url) as url, opened(url) as admin:
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


def test_the_ledger_refuses_changes_as_before(database: Database) -> None:
    filled(database)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"):
        execute(database, "DELETE FROM ml_predictions")
    assert len(read_forecasts(database, DAILY)) == 2 * len(TICKERS)
