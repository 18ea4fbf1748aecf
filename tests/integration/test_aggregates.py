"""The hourly and daily aggregates, the same on SQLite, plain Postgres and TimescaleDB."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from candlecast.domain.frames import FEATURES, INSTANT
from candlecast.domain.market import Timeframe
from candlecast.store import tables, timescale
from candlecast.store.aggregates import AGGREGATES, Aggregate
from candlecast.store.bars import write_bars
from candlecast.store.database import Database
from candlecast.store.features import write_features
from candlecast.store.statements import schema_of
from integration.conftest import fresh_postgres
from integration.store_rows import TICKERS, bars_of, with_symbols
from integration.timescale_server import ask, enabled, execute, refresh

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
WIDTHS = {60: "1h", 1440: "1d"}
BY_NAME = {aggregate.name: aggregate for aggregate in AGGREGATES}


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("timescale", marks=pytest.mark.postgres),
    ]
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty tables, symbols, and the aggregates in the way that each database has them."""
    if request.param == "sqlite":
        yield from _opened(f"sqlite:///{tmp_path}/candlecast.db")
        return
    servers = {"postgresql": "postgres_url", "timescale": "timescale_url"}
    with fresh_postgres(request.getfixturevalue(servers[request.param])) as url:
        yield from _opened(url, is_timescale=request.param == "timescale")


def _opened(url: str, *, is_timescale: bool = False) -> Iterator[Database]:
    database = Database.open(url)
    try:
        if is_timescale:
            enabled(database)
        else:
            database.upgrade()
            with database.transaction(lock="migrations") as connection:
                assert not timescale.enable(connection)
                timescale.drop_aggregates(connection)
                timescale.create_aggregates(connection)
        yield with_symbols(database)
    finally:
        database.close()


def random_bars(rng: np.random.Generator, minutes: int, n_bars: int) -> pl.DataFrame:
    """Some bars of each symbol within four days, in random order, now and then known anew."""
    rows = []
    for ticker in TICKERS:
        n_places = 4 * 1440 // minutes
        for place in rng.choice(n_places, size=min(n_bars, n_places - 1), replace=False):
            ts = MONDAY + timedelta(minutes=int(place) * minutes)
            low, opening, close, high = np.sort(rng.lognormal(3, 0.1, size=4))
            rows.append(
                {
                    "symbol": ticker,
                    "ts": ts,
                    "open": opening,
                    "high": high,
                    "low": low,
                    "close": close,
                    "volume": float(rng.integers(1_000)),
                    "source": "test",
                    "known_at": ts + timedelta(minutes=minutes + int(rng.integers(10_000))),
                }
            )
    return bars_of(rows)


def shown(database: Database, aggregate: Aggregate) -> pl.DataFrame:
    """What an aggregate shows, sorted by its key."""
    if _is_timescale(database):
        refresh(database)
    if aggregate.table is tables.bars:
        kept = ("timeframe", "symbol_id", "ts", "open", "high", "low", "close", "volume")
        columns = [tables.bars.c[name] for name in (*kept, "known_at")]
        columns.append(sa.Column("n_bars", sa.BigInteger()))
    else:
        stored = _stored_columns(database, aggregate.table)
        columns = [column for column in stored if column.name != "set_id"]
    view = sa.table(aggregate.name, *(sa.column(c.name, c.type) for c in columns))
    rows = database.read(sa.select(view), schema_of(columns))
    return rows.sort("timeframe", "symbol_id", "ts")


def expected(database: Database, aggregate: Aggregate) -> pl.DataFrame:
    """The same, computed from the stored rows without SQL."""
    columns = _stored_columns(database, aggregate.table)
    source = sa.table(aggregate.table.name, *(sa.column(c.name, c.type) for c in columns))
    rows = database.read(sa.select(source), schema_of(columns))
    grouped = (
        rows.filter(pl.col("timeframe") <= aggregate.minutes)
        .sort("timeframe", "symbol_id", "ts")
        .with_columns(bucket=pl.col("ts").dt.truncate(WIDTHS[aggregate.minutes]))
        .group_by("timeframe", "symbol_id", "bucket", maintain_order=True)
    )
    if aggregate.table is tables.bars:
        measured = [
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            pl.col("known_at").max(),
            pl.len().cast(pl.Int64).alias("n_bars"),
        ]
    else:
        names = [c.name for c in columns if c.name not in aggregate.table.c]
        measured = [pl.col("as_of").max(), *(pl.col(name).mean() for name in names)]
    return grouped.agg(measured).rename({"bucket": "ts"})


def _stored_columns(database: Database, table: sa.Table) -> list[sa.Column]:
    with database.reading() as reader:
        names = [c["name"] for c in sa.inspect(reader).get_columns(table.name)]
    return [table.c[n] if n in table.c else sa.Column(n, sa.Double()) for n in names]


def _is_timescale(database: Database) -> bool:
    with database.reading() as reader:
        return timescale.is_enabled(reader)


def assert_all_as_expected(database: Database) -> None:
    for aggregate in AGGREGATES:
        want, got = expected(database, aggregate), shown(database, aggregate)
        assert_frame_equal(got.select(want.columns), want, rel_tol=1e-12)


def test_bars_add_up_after_late_arrivals_and_corrections(database: Database) -> None:
    rng = np.random.default_rng(7)
    n_bars = {1: 400, 30: 60, 60: 40, 240: 12, 1440: 3}
    for _ in range(3):  # each round fills gaps of the last, and corrects some of its bars
        for minutes, count in n_bars.items():
            write_bars(database, Timeframe(minutes), random_bars(rng, minutes, count))
        assert_all_as_expected(database)
    n_revised = ask(database, "SELECT count(*) FROM bar_revisions")[0]
    n_shown = {name: len(shown(database, BY_NAME[name])) for name in ("bars_hourly", "bars_daily")}
    assert n_revised > 100
    assert n_shown["bars_hourly"] > 3 * n_shown["bars_daily"] > 0


def test_an_aggregate_takes_the_timeframes_that_fit_into_its_bucket(database: Database) -> None:
    rng = np.random.default_rng(8)
    for minutes in (30, 60, 240, 1440):
        write_bars(database, Timeframe(minutes), random_bars(rng, minutes, 3))
    timeframes = {
        name: set(shown(database, BY_NAME[name])["timeframe"])
        for name in ("bars_hourly", "bars_daily")
    }
    assert timeframes == {"bars_hourly": {30, 60}, "bars_daily": {30, 60, 240, 1440}}


def test_a_bucket_before_1970_starts_where_others_do(database: Database) -> None:
    ts = datetime(1969, 12, 31, 22, 59, tzinfo=UTC)
    values = {**dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0), "source": "test"}
    row = {"symbol": "AAPL", "ts": ts, "known_at": ts + timedelta(minutes=1), **values}
    write_bars(database, Timeframe(1), bars_of([row]))
    starts = [shown(database, BY_NAME[n])["ts"].item() for n in ("bars_hourly", "bars_daily")]
    assert starts == [ts.replace(minute=0), ts.replace(hour=0, minute=0)]


def test_features_are_averaged_and_new_ones_appear(database: Database) -> None:
    rng = np.random.default_rng(9)
    for names in (["momentum"], ["momentum", "order"], ["trend"]):  # "order" is a word of SQL
        for minutes in (1, 60, 1440):
            write_features(database, Timeframe(minutes), random_features(rng, minutes, names), "s")
        write_sentiment(database, rng)
        with (
            database.transaction(lock="features") as connection,
            timescale.renewing_feature_aggregates(connection),
        ):
            pass
        assert_all_as_expected(database)
    hourly = shown(database, BY_NAME["ml_features_ohlcv_hourly"])
    assert {"momentum", "order", "trend"} < set(hourly.columns)
    assert hourly["trend"].null_count() < len(hourly)
    assert len(shown(database, BY_NAME["ml_features_sentiment_daily"])) > 0


def random_features(rng: np.random.Generator, minutes: int, names: list[str]) -> pl.DataFrame:
    keys = random_bars(rng, minutes, 40).select("symbol", "ts", pl.col("known_at").alias("as_of"))
    columns = {name: pl.Series(rng.normal(size=len(keys))) for name in names}
    return FEATURES.conform(keys.with_columns(**columns))


def write_sentiment(database: Database, rng: np.random.Generator) -> None:
    columns = [c["name"] for c in _columns_of(database, "ml_features_sentiment")]
    if "mood" not in columns:
        with database.transaction(lock="features") as connection:
            connection.exec_driver_sql(
                "ALTER TABLE ml_features_sentiment ADD COLUMN mood DOUBLE PRECISION"
            )
    table = tables.ml_features_sentiment.to_metadata(sa.MetaData())
    table.append_column(sa.Column("mood", sa.Double()))
    minutes = rng.choice(4 * 1440, size=50, replace=False)
    rows = pl.DataFrame({"ts": [MONDAY + timedelta(minutes=int(m)) for m in minutes]})
    database.upsert(
        table,
        rows.select(
            pl.lit(1).alias("timeframe"),
            pl.lit(1).alias("symbol_id"),
            pl.col("ts").cast(INSTANT),
            pl.col("ts").cast(INSTANT).alias("as_of"),
            pl.lit("s").alias("set_id"),
            pl.Series("mood", rng.normal(size=50)),
        ),
    )


def _columns_of(database: Database, name: str) -> list:
    with database.reading() as reader:
        return sa.inspect(reader).get_columns(name)


def test_a_bucket_that_is_not_over_is_never_shown(database: Database) -> None:
    before = present(database)
    hour = before.replace(minute=0, second=0, microsecond=0)
    values = {**dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0), "source": "test"}
    rows = [
        {"symbol": "AAPL", "ts": ts, "known_at": ts + timedelta(minutes=1), **values}
        for ts in (hour + timedelta(minutes=m) for m in range(-3 * 1440, 60))
    ]
    write_bars(database, Timeframe(1), bars_of(rows))
    for name, width in (("bars_hourly", timedelta(hours=1)), ("bars_daily", timedelta(days=1))):
        frame = shown(database, BY_NAME[name])
        last = frame["ts"].max()
        assert before - 2 * width - timedelta(minutes=2) < last
        assert last + width <= present(database)
        n_per_bucket = width // timedelta(minutes=1)
        assert set(frame["n_bars"][1:]) == {n_per_bucket}


def present(database: Database) -> datetime:
    if database.dialect == "sqlite":
        seconds = ask(database, "SELECT CAST(strftime('%s', 'now') AS INTEGER)")[0]
        return datetime.fromtimestamp(seconds, UTC)
    return ask(database, "SELECT now()")[0].astimezone(UTC)


def test_a_symbols_aggregates_are_read_without_the_other_symbols(database: Database) -> None:
    write_bars(database, Timeframe(1), random_bars(np.random.default_rng(1), 1, 50))
    whole = shown(database, BY_NAME["bars_daily"])
    part = ask(database, "SELECT n_bars FROM bars_daily WHERE symbol_id = 2 ORDER BY timeframe, ts")
    assert part == whole.filter(pl.col("symbol_id") == 2)["n_bars"].to_list()
    execute(database, "SELECT * FROM bars_daily WHERE timeframe = 1 AND symbol_id = 1")
