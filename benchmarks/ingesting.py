"""A Parquet file of minutes into the store, against the bare drivers writing the same rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import polars as pl

import bare
from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.pipelines.ingest import ingest
from candlecast.providers.files import FilesProvider
from candlecast.store.stores import open_stores
from datasets import frame_sha256, minute_bars
from measure import Row, Section, Steps, interleaved, seconds
from servers import fresh_postgres, fresh_sqlite, postgres_server, postgres_version

Fresh: TypeAlias = Callable[[], AbstractContextManager[str]]

MINUTE = Timeframe.parse("1m")
LATER = FixedClock(datetime(2038, 1, 1, tzinfo=UTC))
ROUNDS = 3
AT_MOST_SECONDS = 420.0
MOST_RATIO = 1 / 0.8
ABOUT = (
    "Ours reads the file, checks every row and the order, dates each bar by the calendar, stamps "
    "and stores it with what the mirror needs to follow. The peer is the driver alone, writing "
    "rows that are ready into one plain table with the same key in one transaction: executemany of "
    "INSERT … ON CONFLICT on SQLite, ADBC ingest into a temporary table and INSERT … ON CONFLICT "
    "from there on Postgres. The goal is at least 0.8 of its rows a second."
)


def measure(*, is_quick: bool) -> Section:
    """Time a first ingest on SQLite and on Postgres."""
    n_symbols, n_bars = (5, 20_000) if is_quick else (50, 100_000)
    bars = minute_bars(n_symbols, n_bars)
    with tempfile.TemporaryDirectory(prefix="candlecast-ingest-") as folder:
        path = Path(folder) / "bars.parquet"
        bars.drop("source", "known_at").write_parquet(path)
        rows = [_row("SQLite", path, bars, fresh_sqlite, bare.sqlite_steps, is_quick)]
        with postgres_server() as server:
            fresh = partial(fresh_postgres, server)
            rows.append(_row("Postgres", path, bars, fresh, bare.postgres_steps, is_quick))
            version = postgres_version(server)
    return Section(
        title="Ingest from Parquet",
        about=f"{ABOUT} PostgreSQL {version}.",
        data=f"{n_symbols} symbols x {n_bars:,} bars of one minute, random walks",
        data_sha256=frame_sha256(bars),
        rows=tuple(rows),
    )


def _row(
    name: str,
    path: Path,
    bars: pl.DataFrame,
    fresh: Fresh,
    steps: Callable[[str, pl.DataFrame, pl.DataFrame], Steps],
    is_quick: bool,
) -> Row:
    def ours() -> Steps:
        with fresh() as url, tempfile.TemporaryDirectory(prefix="candlecast-home-") as home:
            stores = open_stores(database_url=url, home=Path(home), artifacts_url=None, clock=LATER)
            provider = FilesProvider(path, calendar="24/7")
            template = Symbol("", "crypto", "24/7")
            run = partial(ingest, stores, provider, template=template, timeframe=MINUTE)
            yield "ours", seconds(run)
            stores.close()

    def peer() -> Steps:
        with fresh() as url, closing(steps(url, bars, bars)) as running:
            yield next(running)

    best = interleaved(1 if is_quick else ROUNDS, ours, peer, at_most_seconds=AT_MOST_SECONDS)
    times = best.seconds
    return Row(
        f"ingest into an empty table, {name}",
        times["ours"],
        times["bare empty"],
        len(bars),
        most_ratio=MOST_RATIO,
    )
