"""Bars written and read by the store, against the bare drivers doing the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

import bare
from candlecast.domain.market import Symbol, Timeframe
from candlecast.store.bars import read_bars, write_bars, write_symbols
from candlecast.store.database import Database
from candlecast.store.mirror import Mirror
from datasets import frame_sha256, minute_bars, revised
from measure import Row, Section, Steps, interleaved, seconds
from servers import fresh_postgres, fresh_sqlite, postgres_server, postgres_version

Fresh: TypeAlias = Callable[[], AbstractContextManager[str]]
BareSteps: TypeAlias = Callable[[str, pl.DataFrame, pl.DataFrame], Steps]

MINUTE = Timeframe.parse("1m")
ROUNDS = 3
AT_MOST_SECONDS = 180.0
MOST_MIRROR_SECONDS = 0.4

SQLITE = (
    "The peer is the standard library's sqlite3 with the same pragmas: executemany of INSERT … ON "
    "CONFLICT into one plain table with the same key, one transaction, and fetchall. Its rows are "
    "tuples already and stay tuples: only the driver's time counts, while ours begins and ends "
    "with a frame."
)
POSTGRES = (
    "The peer is ADBC: ingest of an Arrow table into a temporary table, INSERT … ON CONFLICT from "
    "there into one plain table with the same key, one transaction, and a fetch as Arrow. The "
    "server has PostgreSQL's default settings (unless it was given)."
)
OURS = (
    "Ours checks the frame, keeps the superseded versions and notes the change; the peer only "
    "overwrites what is older. The mirror is read through a newly opened object, and every number "
    "of it summed, so that its pages are really touched; they are in the system's cache, as what "
    "was just written is. Its peer is the driver's plain read."
)


def measure_sqlite(*, is_quick: bool) -> Section:
    """Time the store on SQLite."""
    return _measure("Bars on SQLite", SQLITE, fresh_sqlite, bare.sqlite_steps, is_quick)


def measure_postgres(*, is_quick: bool) -> Section:
    """Time the store on Postgres."""
    with postgres_server() as server:
        about = f"PostgreSQL {postgres_version(server)}. {POSTGRES}"
        fresh = partial(fresh_postgres, server)
        return _measure("Bars on Postgres", about, fresh, bare.postgres_steps, is_quick)


def _measure(title: str, about: str, fresh: Fresh, steps: BareSteps, is_quick: bool) -> Section:
    bars = minute_bars(3, 10_000) if is_quick else minute_bars(27, 100_000)
    changed = revised(bars)

    def peer() -> Steps:
        with fresh() as url:
            yield from steps(url, bars, changed)

    ours = partial(_ours, fresh, bars, changed)
    best = interleaved(1 if is_quick else ROUNDS, ours, peer, at_most_seconds=AT_MOST_SECONDS)

    def row(what: str, step: str, peer_step: str, **goal: Any) -> Row:
        times = best.seconds
        return Row(what, times[step], times[f"bare {peer_step}"], len(bars), **goal)

    return Section(
        title=title,
        about=f"{about} {OURS} Best of {best.n_rounds}.",
        data=f"{bars['symbol'].n_unique()} symbols x {len(bars) // bars['symbol'].n_unique():,} "
        "bars of one minute, random walks",
        data_sha256=frame_sha256(bars),
        rows=(
            row("write into an empty table", "empty", "empty"),
            row("write the same again", "again", "again"),
            row("write with 10 % revised", "revised", "revised"),
            row("read from the database", "read", "read"),
            row("build the mirror, the first time", "build", "read"),
            row("read the mirror", "mirror", "read", most_seconds=MOST_MIRROR_SECONDS),
            row("read the mirror's first versions", "first", "read"),
        ),
    )


def _ours(fresh: Fresh, bars: pl.DataFrame, changed: pl.DataFrame) -> Steps:
    with fresh() as url, tempfile.TemporaryDirectory(prefix="candlecast-mirror-") as folder:
        database = Database.open(url)
        database.upgrade()
        write_symbols(database, [Symbol(t, "crypto", "24/7") for t in bars["symbol"].unique()])
        for step, frame in (("empty", bars), ("again", bars), ("revised", changed)):
            yield step, seconds(partial(write_bars, database, MINUTE, frame))
        yield "read", seconds(lambda: read_bars(database, MINUTE))
        for step, is_first in (("build", False), ("mirror", False), ("first", True)):
            mirror = Mirror(database, Path(folder))
            yield step, seconds(partial(_read_all, mirror, is_first))
        database.close()


def _read_all(mirror: Mirror, is_first_version: bool) -> pl.DataFrame:
    bars = mirror.read(MINUTE, is_first_version=is_first_version)
    return bars.select(pl.selectors.numeric().sum(), pl.selectors.temporal().max())
