"""Rows on TimescaleDB: compressed, corrected, aggregated, and still what they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest
import sqlalchemy as sa

from candlecast.domain.frames import BARS, FEATURES
from candlecast.domain.market import Timeframe
from candlecast.store import timescale
from candlecast.store.aggregates import AGGREGATES
from candlecast.store.bars import BarsWritten, read_bars, write_bars
from candlecast.store.connection import libpq_url, parse_url
from candlecast.store.database import Database
from candlecast.store.features import read_features, write_features
from candlecast.store.ledger import read_forecasts
from candlecast.store.mirror import Mirror
from candlecast.store.tables import ml_features_ohlcv
from integration.conftest import fresh_postgres
from integration.store_rows import (
    DAILY,
    TICKERS,
    bar,
    bars_of,
    day,
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
    renewed,
)

pytestmark = pytest.mark.postgres
MINUTE = Timeframe(1)
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


def test_columns_are_added_although_a_refresh_wants_the_same_locks(
    database: Database, database_url: str
) -> None:
    filled(database)
    place = ask(
        database,
        "SELECT format('%I.%I', materialization_hypertable_schema, "
        "materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates "
        "WHERE view_name = 'ml_features_ohlcv_daily'",
    )[0]
    adding = threading.Thread(target=change, args=(database, partial(add_column, name="added")))
    deadline = time.monotonic() + 60
    with psycopg.connect(libpq_url(parse_url(database_url))) as refreshing:
        refreshing.execute(f"LOCK TABLE {place} IN ACCESS SHARE MODE")  # as a refresh begins
        adding.start()
        while not refreshing.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchall():
            assert time.monotonic() < deadline
        refreshing.execute("SELECT FROM ml_features_ohlcv")  # as it goes on: the two now block
    adding.join()
    refresh(database)
    added = "SELECT added FROM ml_features_ohlcv_daily WHERE trend = 7"
    assert ask(database, added) == [1.0, 1.0]


def add_column(connection: sa.Connection, name: str) -> None:
    with timescale.renewing_feature_aggregates(connection):
        connection.exec_driver_sql(
            f"ALTER TABLE ml_features_ohlcv ADD COLUMN {name} DOUBLE PRECISION"
        )
    connection.exec_driver_sql(f"UPDATE ml_features_ohlcv SET {name} = 1")


def test_the_aggregates_are_scheduled_and_their_jobs_refresh_them(database: Database) -> None:
    filled(database)
    refreshing = "policy_refresh_continuous_aggregate"
    jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE scheduled AND proc_name = "
    assert ask(database, f"{jobs}'{refreshing}'") == [len(AGGREGATES)]
    assert ask(database, "SELECT count(*) FROM bars_daily") == [0]
    refresh(database)
    assert ask(database, "SELECT count(*) FROM bars_daily") == [90 * len(TICKERS)]


def test_the_ledger_refuses_changes_as_before(database: Database) -> None:
    filled(database)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"):
        execute(database, "DELETE FROM ml_predictions")
    assert len(read_forecasts(database, DAILY)) == 2 * len(TICKERS)
