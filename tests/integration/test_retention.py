"""Retention forgets intraday features past their time, and never anything else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import MINUTES, FixedClock, Symbol, Timeframe
from candlecast.errors import InvalidSpec
from candlecast.pipelines.materialize import Span, materialize_features
from candlecast.pipelines.prune import prune
from candlecast.store import timescale
from candlecast.store.bars import write_bars, write_symbols
from candlecast.store.database import Database
from candlecast.store.ledger import Batch, append, read_forecasts, settle
from candlecast.store.retention import FORGETTABLE
from candlecast.store.schema import metadata
from candlecast.store.stores import Stores, open_stores
from integration.conftest import fresh_postgres
from integration.store_rows import DAILY, TICKERS, bar, bars_of, day, forecasts_of, with_symbols
from integration.timescale_server import (
    ask,
    compress,
    enabled,
    execute,
    refresh,
    run_jobs,
)

AGES = (0, 1, 30, 89, 91, 200, 3_000)
COUNTED = {"timeframe": pl.Int64, "n": pl.Int64}


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("timescale", marks=pytest.mark.postgres),
    ]
)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Stores in which everything is kept that can be, some of it very old."""
    if request.param == "sqlite":
        yield from _opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path)
        return
    servers = {"postgresql": "postgres_url", "timescale": "timescale_url"}
    with fresh_postgres(request.getfixturevalue(servers[request.param])) as url:
        yield from _opened(url, tmp_path, is_timescale=request.param == "timescale")


@pytest.fixture
def timescale_stores(timescale_url: str, tmp_path: Path) -> Iterator[Stores]:
    with fresh_postgres(timescale_url) as url:
        yield from _opened(url, tmp_path, is_timescale=True)


def _opened(url: str, home: Path, *, is_timescale: bool = False) -> Iterator[Stores]:
    database = Database.open(url)
    database.upgrade()
    if is_timescale:
        enabled(database)
    now = present(database)
    clock = FixedClock(now)
    opened = open_stores(database_url=url, home=home, artifacts_url=None, clock=clock)
    database.close()
    try:
        fill(opened.database, now)
        yield opened
    finally:
        opened.close()


def present(database: Database) -> datetime:
    """The database's own time, which jobs in it go by."""
    if database.dialect == "sqlite":
        return datetime.fromtimestamp(ask(database, "SELECT strftime('%s', 'now') + 0")[0], UTC)
    return ask(database, "SELECT now()")[0].astimezone(UTC)


def fill(database: Database, now: datetime) -> None:
    """Bars with a revision, a forecast with its outcome, features of all timeframes and ages."""
    with_symbols(database)
    for close in (1.0, 2.0):
        write_bars(database, DAILY, bars_of([bar("AAPL", 5, close, known=6 + close)]))
    append(database, forecasts_of(TICKERS, [1, 2]), Batch(DAILY, "live", "v1", None, day(9), "s"))
    settle(database, outcomes_of(read_forecasts(database, DAILY)))
    rows = pl.DataFrame(
        [(timeframe, now - timedelta(days=age)) for timeframe in MINUTES.values() for age in AGES],
        schema={"timeframe": pl.Int64, "ts": INSTANT},
        orient="row",
    ).with_columns(symbol_id=pl.lit(1), as_of=pl.col("ts"), set_id=pl.lit("set"))
    for table in FORGETTABLE:
        assert database.upsert(table, rows) == len(MINUTES) * len(AGES)


def outcomes_of(forecasts: pl.DataFrame) -> pl.DataFrame:
    values = {"realised": 0.01, "pinball": 0.1, "crps": 0.2, "pit": 0.5, "prob_up_climatology": 0.5}
    return forecasts.select(
        pl.col("id").alias("prediction_id"),
        *(pl.lit(value).alias(name) for name, value in values.items()),
        pl.lit(day(200)).alias("settled_at"),
        pl.lit(None, pl.Float64).alias("crps_climatology"),
        pl.lit(value=True).alias("is_hit"),
    )


def everything_else(database: Database) -> dict[str, list[str]]:
    """All rows of all tables that retention may not touch."""
    tables = [table for table in metadata.sorted_tables if table not in FORGETTABLE]
    return {t.name: sorted(map(str, ask(database, f"SELECT * FROM {t.name}"))) for t in tables}


def ages_kept(database: Database, table: sa.Table, now: datetime) -> dict[int, set[int]]:
    """The ages in days of the features that are left, by timeframe."""
    query = sa.select(table.c.timeframe, table.c.ts)
    rows = database.read(query, {"timeframe": pl.Int64, "ts": INSTANT})
    kept: dict[int, set[int]] = {}
    for timeframe, ts in rows.iter_rows():
        kept.setdefault(timeframe, set()).add((now - ts).days)
    return kept


def expected(keep_days: int) -> dict[int, set[int]]:
    recent = {age for age in AGES if age < keep_days}
    return {minutes: set(AGES) if minutes == 1440 else recent for minutes in MINUTES.values()}


@pytest.mark.parametrize("keep_days", [90, 10, 4_000])
def test_a_prune_deletes_old_intraday_features_only(stores: Stores, keep_days: int) -> None:
    database, now = stores.database, stores.clock.now()
    before = everything_else(database)
    assert {"bars", "bar_revisions", "ml_predictions", "ml_outcomes"} <= {
        name for name, rows in before.items() if rows
    }
    n_old = sum(age > keep_days for age in AGES) * (len(MINUTES) - 1)
    pruned = prune(stores) if keep_days == 90 else prune(stores, keep_days=keep_days)
    assert pruned == {table.name: n_old for table in FORGETTABLE}
    for table in FORGETTABLE:
        assert ages_kept(database, table, now) == expected(keep_days)
    assert everything_else(database) == before
    assert prune(stores, keep_days=keep_days) == {table.name: 0 for table in FORGETTABLE}


@pytest.mark.parametrize("keep_days", [0, -1, 9_999_999, 10**12])
def test_a_prune_that_would_keep_nothing_or_has_no_date_is_refused(
    tmp_path: Path, keep_days: int
) -> None:
    clock = FixedClock(day(0))
    stores = open_stores(
        database_url=f"sqlite:///{tmp_path}/a.db", home=tmp_path, artifacts_url=None, clock=clock
    )
    with pytest.raises(InvalidSpec, match="at least 1 day and at most"):
        prune(stores, keep_days=keep_days)
    stores.close()


def test_who_writes_intraday_features_prunes_unless_the_server_does(stores: Stores) -> None:
    database, now = stores.database, stores.clock.now()
    with database.reading() as connection:
        has_job = timescale.is_enabled(connection)
    older = [now - timedelta(hours=100 * 24 - n) for n in range(40)]
    newer = [now - timedelta(hours=60 - n) for n in range(40)]
    hourly, n_old = Timeframe.parse("1h"), len(older)
    bars = [
        bar("MSFT", 0, 1.0 + n / 100) | {"ts": ts, "known_at": ts + timedelta(hours=1)}
        for n, ts in enumerate([*older, *newer])
    ]
    write_symbols(database, [Symbol("MSFT", calendar="24/7")])
    write_bars(database, hourly, bars_of(bars))
    before = everything_else(database)
    n_written = materialize_features(stores, "1h", Span())
    assert n_written == len(bars) - (0 if has_job else n_old)
    assert everything_else(database) == before
    if not has_job:
        for table in FORGETTABLE:
            kept = ages_kept(database, table, now)
            assert {m: ages for m, ages in kept.items() if m != 60} == {
                m: ages for m, ages in expected(90).items() if m != 60
            }
            assert max(kept[60]) < 90
    materialize_features(stores, "1d", Span())
    assert ages_kept(database, FORGETTABLE[1], now)[1440] == set(AGES)


@pytest.mark.postgres
@pytest.mark.parametrize("is_compressed", [False, True])
def test_the_servers_job_does_the_same(timescale_stores: Stores, is_compressed: bool) -> None:
    database, now = timescale_stores.database, timescale_stores.clock.now()
    before = everything_else(database)
    if is_compressed:
        compress(database)
        refresh(database)
    run_jobs(database, "candlecast_prune_features")
    for table in FORGETTABLE:
        assert ages_kept(database, table, now) == expected(90)
    assert everything_else(database) == before
    assert prune(timescale_stores) == {table.name: 0 for table in FORGETTABLE}


@pytest.mark.postgres
def test_a_prune_counts_rows_in_compressed_chunks_too(timescale_stores: Stores) -> None:
    compress(timescale_stores.database)
    n_old = sum(age > 90 for age in AGES) * (len(MINUTES) - 1)
    assert prune(timescale_stores) == {table.name: n_old for table in FORGETTABLE}


@pytest.mark.postgres
def test_the_servers_job_keeps_as_long_as_it_is_told(timescale_stores: Stores) -> None:
    database, now = timescale_stores.database, timescale_stores.clock.now()
    execute(
        database,
        "SELECT alter_job(job_id, config => jsonb_build_object('keep', '10 days')) "
        "FROM timescaledb_information.jobs WHERE proc_name = 'candlecast_prune_features'",
    )
    run_jobs(database, "candlecast_prune_features")
    assert ages_kept(database, FORGETTABLE[0], now) == expected(10)


@pytest.mark.postgres
def test_aggregates_forget_what_was_forgotten(timescale_stores: Stores) -> None:
    database = timescale_stores.database
    oldest = "SELECT timeframe, min(ts) < now() - INTERVAL '92 days' FROM ml_features_ohlcv_daily "
    refresh(database)
    assert set(ask(database, oldest + "GROUP BY timeframe")) == {
        (m, True) for m in MINUTES.values()
    }
    run_jobs(database, "candlecast_prune_features")
    refresh(database)
    assert set(ask(database, oldest + "GROUP BY timeframe")) == {
        (minutes, minutes == 1440) for minutes in MINUTES.values()
    }
