"""A live stream: from the last tick of a minute to all its bars stored, and memory over a day."""

from __future__ import annotations

import gc
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import psycopg
import sqlalchemy as sa

import bare
from candlecast.domain.frames import BARS, INSTANT
from candlecast.domain.market import Symbol
from candlecast.domain.sources import FeedBar
from candlecast.pipelines.inlet import Inlet
from candlecast.pipelines.stream import stream
from candlecast.pipelines.stream_options import StreamOptions
from candlecast.store.connection import PRAGMAS, libpq_url
from candlecast.store.stores import open_stores
from datasets import frame_sha256
from measure import Row, Section
from servers import fresh_postgres, fresh_sqlite, postgres_server, postgres_version

Insert: TypeAlias = Callable[[Sequence[tuple[Any, ...]]], None]

MINUTE = timedelta(minutes=1)
OPEN = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)
N_SYMBOLS, N_MINUTES, N_WARM = 500, 390, 60
MOST_SECONDS = 0.1
PEER_CACHE = "-4096"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

ABOUT = (
    "A feed hands over the bars of one minute, one call a symbol; the time counts from the last "
    "call until all of them are committed together with what the feed answers for (and so "
    "includes the pause by which the loop knows that the burst is over). The peer is the bare "
    "driver: executemany of INSERT into a plain table with the same key and a commit, rows already "
    "tuples, on the same machine between the minutes. Coarser bars are made in between and not "
    "counted."
)


@dataclass
class Clock:
    """The feed's minutes."""

    instant: datetime = OPEN

    def now(self) -> datetime:
        """The end of the minute at hand."""
        return self.instant


@dataclass
class Timings:
    """Seconds of each minute, and resident bytes at its end."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)


class BurstFeed:
    """All symbols close in the same second; the next minute comes when they are stored."""

    failure = None

    def __init__(self, clock: Clock, minutes: list[pl.DataFrame], insert: Insert) -> None:
        self._clock, self._minutes, self._insert = clock, minutes, insert
        self.stored = threading.Event()
        self.timings = Timings()

    def open_feed(self, _: object) -> BurstFeed:
        """The one feed there is."""
        return self

    def connect(self, symbols: Sequence[Symbol], sink: Inlet) -> None:
        """Begin with the first minute."""
        self._sink = sink
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def close(self) -> None:
        """Wait for the end."""
        self._sink.close()
        self._thread.join()

    def _play(self) -> None:
        names = ("symbol", "ts", "open", "high", "low", "close", "volume", "vwap", "trade_count")
        for rows in self._minutes:
            bars = [FeedBar(*row) for row in rows.select(names).iter_rows()]
            tuples = bare.plain_rows(rows).with_columns(pl.col(INSTANT).to_physical()).rows()
            self.stored.clear()
            self._clock.instant = bars[0].ts + MINUTE + timedelta(seconds=1)
            for bar in bars:
                self._sink(bar)
            handed_at = perf_counter()
            self.stored.wait(timeout=60)
            self.timings.ours.append(perf_counter() - handed_at)
            self._sink.wait_until_done()
            began_at = perf_counter()
            self._insert(tuples)
            self.timings.peer.append(perf_counter() - began_at)
            gc.collect()
            self.timings.resident.append(_resident_bytes())
        self._sink.vouch(self._clock.instant, is_last=True)


def measure(*, is_quick: bool) -> Section:
    """Time the stream on SQLite and Postgres."""
    n_symbols, n_minutes = (50, 20) if is_quick else (N_SYMBOLS, N_MINUTES)
    minutes = _day(n_symbols, n_minutes)
    rows = []
    with fresh_sqlite() as url, closing(_plain_sqlite(url)) as connection:
        timings = _played(url, minutes, partial(_insert_sqlite, connection))
        rows += _rows("SQLite", timings, n_symbols)
    n_warm = min(N_WARM, n_minutes // 2)
    memory = [f"on SQLite {_growth(timings, n_warm):+.1%} (its page cache, at most 64 MiB, fills)"]
    with postgres_server() as server:
        fresh: AbstractContextManager[str] = fresh_postgres(server)
        with fresh as url, psycopg.connect(libpq_url(sa.make_url(url))) as peer:
            _make_plain_postgres(peer)
            timings = _played(url, minutes, partial(_insert_postgres, peer))
            rows += _rows("Postgres", timings, n_symbols)
        memory.append(f"on Postgres {_growth(timings, n_warm):+.1%}")
        version = postgres_version(server)
    warm = "the first hour" if n_minutes > 2 * N_WARM else "half of it"
    return Section(
        title="Streaming",
        about=f"{ABOUT} PostgreSQL {version}. Resident memory after the day against its value "
        f"after {warm}: {', '.join(memory)} (goal: at most +5 %).",
        data=f"{n_symbols} symbols x {n_minutes} minutes, each closing in the same second",
        data_sha256=frame_sha256(pl.concat(minutes).sort("symbol", "ts")),
        rows=tuple(rows),
    )


def _rows(name: str, timings: Timings, n_symbols: int) -> list[Row]:
    # The first minute opens files and connections on both sides.
    ours, peer = np.array(timings.ours[1:]), np.array(timings.peer[1:])
    return [
        Row(
            f"{name}: {what} minute",
            float(np.quantile(ours, level)),
            float(np.quantile(peer, level)),
            n_symbols,
            most_seconds=goal,
        )
        for what, level, goal in (
            ("the median", 0.5, None),
            ("99th percentile", 0.99, MOST_SECONDS),
        )
    ]


def _growth(timings: Timings, n_warm: int) -> float:
    # Medians over ten minutes, for a single value hangs on what the allocator has just kept.
    early = np.median(timings.resident[max(n_warm - 10, 0) : n_warm])
    return float(np.median(timings.resident[-10:]) / early - 1)


def _played(url: str, minutes: list[pl.DataFrame], insert: Insert) -> Timings:
    clock = Clock()
    feed = BurstFeed(clock, minutes, insert)
    symbols = [Symbol(ticker) for ticker in minutes[0]["symbol"]]
    with tempfile.TemporaryDirectory(prefix="candlecast-stream-") as folder:
        stores = open_stores(database_url=url, home=Path(folder), artifacts_url=None, clock=clock)
        options = StreamOptions(is_deriving=False)
        stream(stores, feed, symbols, options, on_closed=lambda _: feed.stored.set())
        stores.close()
    return feed.timings


def _day(n_symbols: int, n_minutes: int) -> list[pl.DataFrame]:
    draw = np.random.default_rng(0)
    tickers = [f"S{number:03}" for number in range(n_symbols)]
    prices = 100 * np.exp(np.cumsum(draw.normal(0, 1e-3, (n_minutes, n_symbols)), axis=0))
    days = []
    for number, close in enumerate(prices):
        ts = OPEN + number * MINUTE
        frame = pl.DataFrame({"symbol": tickers, "close": close}).with_columns(
            ts=pl.lit(ts).cast(INSTANT),
            open=pl.col("close") * 1.0001,
            high=pl.col("close") * 1.001,
            low=pl.col("close") * 0.999,
            volume=pl.lit(1000.0),
            vwap=pl.col("close"),
            trade_count=pl.lit(10),
            source=pl.lit("feed"),
            known_at=pl.lit(ts + MINUTE).cast(INSTANT),
        )
        days.append(BARS.conform(frame))
    return days


def _plain_sqlite(url: str) -> sqlite3.Connection:
    # A file of its own beside ours.
    path = f"{sa.make_url(url).database}.plain"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    # A small cache, for keys ascend and what the peer keeps in memory is not to be measured.
    for name, value in (PRAGMAS | {"cache_size": PEER_CACHE}).items():
        connection.execute(f"PRAGMA {name} = {value}")
    columns = ", ".join(bare.COLUMNS)
    connection.execute(
        f"CREATE TABLE plain ({columns}, PRIMARY KEY (timeframe, symbol_id, ts)) WITHOUT ROWID"
    )
    return connection


def _insert_sqlite(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    places = ", ".join("?" * len(bare.COLUMNS))
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(f"INSERT INTO plain VALUES ({places})", rows)
    connection.execute("COMMIT")


def _make_plain_postgres(connection: psycopg.Connection[Any]) -> None:
    kinds = {pl.Int64(): "bigint", pl.Int32(): "integer", pl.Float64(): "double precision"}
    schema = bare.plain_rows(BARS.empty()).schema
    columns = ", ".join(
        f"{name} {'bigint' if kind == INSTANT else kinds.get(kind, 'text')}"
        for name, kind in schema.items()
    )
    connection.execute(
        f"CREATE TABLE plain ({columns}, PRIMARY KEY (timeframe, symbol_id, ts))".encode()
    )
    connection.commit()


def _insert_postgres(connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    places = ", ".join(["%s"] * len(bare.COLUMNS))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO plain VALUES ({places})".encode(), rows)
    connection.commit()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
