"""What the tests of whole pipelines share: bars as given, stores at a time, all rows there are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import psycopg

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, FixedClock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, Request
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, ModelSpec, SplitSpec
from candlecast.pipelines.ingest import IngestRun, ingest
from candlecast.providers.rows import fetch_daily
from candlecast.providers.sample import SampleProvider
from candlecast.store.connection import libpq_url, parse_url
from candlecast.store.stores import Stores, open_stores

DAILY = Timeframe.parse("1d")
LATER = datetime(2014, 1, 6, 15, 30, tzinfo=UTC)
"""Long after the last bar of the sample."""
FEW_FEATURES = FeatureSpec(
    ("har_1", "har_5", "har_22", "rsi_14", "market_volatility_5", "market_beta_126")
)
"""Of one symbol, of all at a time, and of one beside the market."""
HAR = ExperimentSpec(
    min_bars=300, features=FEW_FEATURES, splits=SplitSpec(n_splits=2), model=ModelSpec("har")
)
"""Quick, and it uses features."""

SQLITE_DUMP = """
import json, sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
query = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
tables = [name for name, in connection.execute(query).fetchall()]
rows = {t: connection.execute(f'select * from "{t}"').fetchall() for t in tables}
print(json.dumps({t: sorted(map(repr, found)) for t, found in rows.items()}))
"""


class Given:
    """A provider of these daily bars, as far as they have ended."""

    delay_seconds = 0.0

    def __init__(self, bars: pl.DataFrame) -> None:
        self.bars = UNSTAMPED.conform(bars)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        return fetch_daily(self.bars, request, timeframe, clock)


def sample_bars(*symbols: str, n_sessions: int) -> pl.DataFrame:
    """The last sessions of the bundled stocks, UNSTAMPED."""
    everything = FixedClock(LATER)
    bars = SampleProvider().fetch_bars(Request(tuple(map(Symbol, symbols))), DAILY, everything).bars
    return bars.group_by("symbol", maintain_order=True).tail(n_sessions)


def put(stores: Stores, bars: pl.DataFrame) -> IngestRun:
    """Ingest UNSTAMPED daily bars."""
    return ingest(stores, Given(bars), template=Symbol(""), timeframe=DAILY)


@contextmanager
def opened(url: str, home: Path, now: datetime = LATER) -> Iterator[Stores]:
    """The stores of a database, at a time."""
    stores = open_stores(database_url=url, home=home, artifacts_url=None, clock=FixedClock(now))
    try:
        yield stores
    finally:
        stores.close()


def at(stores: Stores, now: datetime) -> Stores:
    """The same stores at another time."""
    return replace(stores, clock=FixedClock(now))


def closing(day: datetime) -> datetime:
    """When the session of `day` in New York ends."""
    opens = np.array([day.replace(tzinfo=None)], dtype="datetime64[us]")
    return trading_calendar("XNYS").close_at(opens, DAILY)[0].item().replace(tzinfo=UTC)


def all_rows(url: str) -> dict[str, list[str]]:
    """Every row of every table; of SQLite read by another process."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        command = [sys.executable, "-I", "-c", SQLITE_DUMP, str(parsed.database)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)
    with psycopg.connect(libpq_url(parsed)) as connection:
        tables = connection.execute(
            "select table_name from information_schema.tables "
            "where table_schema = 'public' and table_type = 'BASE TABLE'"
        ).fetchall()
        return {
            name: sorted(map(repr, connection.execute(f'select * from "{name}"')))
            for (name,) in tables
        }


def changes(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rows that came or went, by table; empty when nothing changed."""
    return {
        name: sorted({*before.get(name, []), *rows} - ({*before.get(name, [])} & {*rows}))
        for name, rows in after.items()
        if before.get(name) != rows
    }
