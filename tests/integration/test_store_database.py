"""Connections, transactions, upserts and the schema, on both databases."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from candlecast.domain.market import Symbol
from candlecast.errors import BadFrame, Conflict, DatabaseBusy, InvalidSpec, NotFound
from candlecast.store import connection, migrate, schema, tables, views
from candlecast.store.aggregates import AGGREGATES
from candlecast.store.bars import read_bars, read_symbols, write_bars, write_symbols
from candlecast.store.database import Database
from candlecast.store.mirror import Mirror
from integration.conftest import fresh_postgres
from integration.store_rows import DAILY, TICKERS, bar, bars_of, day, open_together, with_symbols

SECRET = "s3cr3t"
CUT_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


def symbol_rows(tickers: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"ticker": tickers}).with_columns(
        asset_class=pl.lit("x"),
        calendar=pl.lit("24/7"),
        currency=pl.lit("USD"),
        is_active=pl.lit(value=True),
    )


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg2"]
)
def test_all_postgres_urls_mean_the_same_database(scheme: str) -> None:
    url = connection.parse_url(f"{scheme}://me:p%40ss@db.example:5433/bars")
    assert url.drivername == "postgresql+psycopg"
    libpq = connection.libpq_url(url)
    assert libpq == "postgresql://me:p%40ss@db.example:5433/bars?connect_timeout=10"


def test_a_socket_url_keeps_its_folder() -> None:
    url = connection.parse_url("postgresql://me@/bars?host=/var/run/pg")
    assert "host=%2Fvar%2Frun%2Fpg" in connection.libpq_url(url)
    assert connection.place_of(url) == "/var/run/pg/bars"


def test_asyncpgs_ssl_becomes_libpqs_sslmode() -> None:
    url = connection.parse_url("postgresql+asyncpg://db/bars?ssl=true")
    assert dict(url.query)["sslmode"] == "require"


@pytest.mark.parametrize(
    "text", ["mysql://db/bars", "sqlite://", "sqlite:///:memory:", "nonsense", ""]
)
def test_other_urls_are_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(InvalidSpec, match="sqlite:///"):
        Database.open(text)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseBusy) as caught:
        Database.open(f"postgresql://me:{SECRET}@127.0.0.1:1/bars")
    message = str(caught.value)
    assert "127.0.0.1:1/bars" in message
    assert SECRET not in message
    assert "\n" not in message


def test_the_password_shows_in_no_repr() -> None:
    database = Database(connection.parse_url(f"postgresql://me:{SECRET}@127.0.0.1:1/bars"))
    assert SECRET not in repr(database)
    assert SECRET not in database.url


@pytest.mark.postgres
def test_a_missing_database_is_a_mistake_in_the_settings(postgres_url: str) -> None:
    url = sa.make_url(postgres_url).set(database="nowhere")
    with pytest.raises(InvalidSpec, match="nowhere"):
        Database.open(url.render_as_string(hide_password=False))


@pytest.mark.postgres
def test_connections_cut_by_the_server_are_replaced(postgres_url: str) -> None:
    with fresh_postgres(postgres_url) as url:
        database = Database.open(url)
        database.upgrade()
        with_symbols(database)
        assert len(read_symbols(database)) == len(TICKERS)
        with database.reading() as reader:
            reader.execute(sa.text(CUT_OTHERS))
        assert len(read_symbols(database)) == len(TICKERS)
        database.close()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be taken for one" * 100)
    before = path.read_bytes()
    with pytest.raises(InvalidSpec, match=r"notes\.txt"):
        Database.open(f"sqlite:///{path}").upgrade()
    assert path.read_bytes() == before


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/new/deep/bars.db")
    database.upgrade()
    assert read_symbols(database) == []
    database.close()


def test_sqlite_runs_in_wal_mode(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/bars.db")
    with database.reading() as reader:
        assert reader.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()


def test_the_migrations_make_exactly_the_tables(database: Database) -> None:
    with database.transaction() as open_connection:
        context = MigrationContext.configure(open_connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        expected = {*views.NAMES, *(aggregate.name for aggregate in AGGREGATES)}
        assert set(sa.inspect(open_connection).get_view_names()) == expected


def test_the_head_revision_is_the_newest_file() -> None:
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


def test_a_downgrade_leaves_nothing_and_an_upgrade_brings_it_back(database: Database) -> None:
    with_symbols(database)
    database.downgrade("base")
    with database.reading() as reader:
        assert set(sa.inspect(reader).get_table_names()) <= {"alembic_version"}
        assert sa.inspect(reader).get_view_names() == []
    database.upgrade()
    assert read_symbols(database) == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    with_symbols(database)
    before = database.read(
        sa.select(tables.database_identity), {"id": pl.Int64, "identity": pl.String}
    )
    database.upgrade()
    after = database.read(
        sa.select(tables.database_identity), {"id": pl.Int64, "identity": pl.String}
    )
    assert after.equals(before)
    assert len(read_symbols(database)) == len(TICKERS)


def test_a_schema_from_the_future_is_refused(database: Database) -> None:
    with database.transaction() as open_connection:
        open_connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="upgrade candlecast"):
        database.upgrade()


def test_an_unknown_revision_is_named(database: Database) -> None:
    with pytest.raises(NotFound, match="xyz"):
        database.downgrade("xyz")


@pytest.mark.slow
def test_four_processes_that_start_at_once_on_empty_databases_all_succeed(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> None:
    n_processes, n_rounds = 4, 10
    if database_url.startswith("sqlite"):
        _open_together([f"sqlite:///{tmp_path}/{n}.db" for n in range(n_rounds)], n_processes)
        return
    server = request.getfixturevalue("postgres_url")
    stack = [fresh_postgres(server) for _ in range(n_rounds)]
    try:
        _open_together([fresh.__enter__() for fresh in stack], n_processes)
    finally:
        for fresh in stack:
            fresh.__exit__(None, None, None)


def _open_together(urls: list[str], n_processes: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, failures = spawn.Barrier(n_processes), spawn.Queue()
    processes = [
        spawn.Process(target=open_together, args=(urls, barrier, failures))
        for _ in range(n_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    found = []
    while not failures.empty():
        found.append(failures.get())
    assert found == []
    assert [process.exitcode for process in processes] == [0] * n_processes
    for url in urls:
        database = Database.open(url)
        assert len(read_symbols(database)) == len(TICKERS)
        database.close()


def test_a_transaction_that_fails_midway_leaves_nothing(database: Database) -> None:
    with_symbols(database)

    def fail_midway() -> None:
        with database.transaction() as open_connection:
            rows = symbol_rows(["NEW"])
            assert database.upsert(tables.symbols, rows, connection=open_connection) == 1
            open_connection.execute(sa.update(tables.symbols).values(currency="EUR"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_midway()
    assert {symbol.ticker for symbol in read_symbols(database)} == set(TICKERS)
    assert {symbol.currency for symbol in read_symbols(database)} == {"USD"}


def test_a_bulk_write_that_fails_midway_leaves_nothing(database: Database) -> None:
    with_symbols(database)
    write_bars(database, DAILY, bars_of([bar("AAPL", 1), bar("AAPL", 3)]))
    before = read_bars(database, DAILY)

    def fail_midway() -> None:
        with database.bulk() as bulk:
            bulk.upsert(tables.symbols, symbol_rows(["NEW"]), "update")
            assert bulk.run(sa.delete(tables.bars)) == 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_midway()
    assert read_bars(database, DAILY).equals(before)
    assert len(read_symbols(database)) == len(TICKERS)


def test_an_upsert_inside_a_transaction_takes_any_text(database: Database) -> None:
    tickers = ["", "\\N", 'quo"te', "com,ma", "new\nline", "ünï", "%s", "null", "'; DROP"]
    rows = symbol_rows(tickers)
    with database.transaction() as open_connection:
        assert database.upsert(tables.symbols, rows, connection=open_connection) == len(tickers)
    assert {symbol.ticker for symbol in read_symbols(database)} == set(tickers)


def test_an_upsert_counts_only_what_is_new_or_differs(database: Database) -> None:
    rows = symbol_rows(["A", "B"])
    changed = rows.with_columns(currency=pl.Series(["USD", "EUR"]))
    assert database.upsert(tables.symbols, rows) == 2
    assert database.upsert(tables.symbols, rows) == 0
    assert database.upsert(tables.symbols, changed) == 1
    assert database.upsert(tables.symbols, rows, on_conflict="nothing") == 0
    assert [symbol.currency for symbol in read_symbols(database)] == ["USD", "EUR"]


def test_rows_that_repeat_a_key_or_lack_a_value_are_refused(database: Database) -> None:
    rows = symbol_rows(["A", "A"])
    with pytest.raises(BadFrame, match="repeat a key"):
        database.upsert(tables.symbols, rows)
    with pytest.raises(BadFrame, match=r"symbols\.currency"):
        database.upsert(tables.symbols, rows.head(1).with_columns(currency=pl.lit(None, pl.String)))
    with pytest.raises(BadFrame, match="wrong_name"):
        database.upsert(tables.symbols, rows.head(1).with_columns(wrong_name=1))


def test_reads_are_typed_without_rows_and_without_values(database: Database) -> None:
    schema = {
        "symbol_id": pl.Int64,
        "ts": pl.Datetime("us", "UTC"),
        "vwap": pl.Float64,
        "source": pl.String,
    }
    query = sa.select(*(tables.bars.c[name] for name in schema))
    assert database.read(query, schema).schema == pl.Schema(schema)
    with_symbols(database)
    write_bars(database, DAILY, bars_of(bar("AAPL", n) for n in range(1500)))
    frame = database.read(query, schema)
    assert frame.schema == pl.Schema(schema)
    assert frame["vwap"].null_count() == 1500


def test_a_snapshot_sees_one_moment(database: Database) -> None:
    with_symbols(database)
    count = sa.select(sa.func.count().label("n")).select_from(tables.symbols)
    with database.snapshot() as snapshot:
        before = snapshot.read(count, {"n": pl.Int64}).item()
        write_symbols(database, [Symbol("NEW")])
        assert snapshot.read(count, {"n": pl.Int64}).item() == before
    assert database.read(count, {"n": pl.Int64}).item() == before + 1


def test_reading_waits_for_no_writer(database: Database) -> None:
    with_symbols(database)
    with database.transaction() as open_connection:
        open_connection.execute(sa.update(tables.symbols).values(currency="EUR"))
        assert {symbol.currency for symbol in read_symbols(database)} == {"USD"}


def test_sqlite_says_when_another_process_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.1)
    url = f"sqlite:///{tmp_path}/bars.db"
    one, two = Database.open(url), Database.open(url)
    one.upgrade()
    with one.transaction(), pytest.raises(DatabaseBusy, match="another process"):
        write_symbols(two, [Symbol("A")])
    one.close()
    two.close()


@pytest.mark.parametrize("name", ["start", "end", "as_of"])
def test_naive_instants_are_refused(database: Database, tmp_path: Path, name: str) -> None:
    naive = {name: day(1).replace(tzinfo=None)}
    with pytest.raises(InvalidSpec, match="time zone"):
        read_bars(database, DAILY, **naive)
    with pytest.raises(InvalidSpec, match="time zone"):
        Mirror(database, tmp_path).read(DAILY, **naive)


def test_no_other_sqlite_library_is_loaded(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/bars.db")
    with database.reading() as reader:
        driver = reader.connection.driver_connection
    assert type(driver) is sqlite3.Connection
    database.close()
