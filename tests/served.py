"""A small seeded market in real stores, forecast and settled, and a real server over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import polars as pl
import uvicorn
from fastapi import FastAPI

from candlecast.domain.market import Clock, FixedClock, Symbol, Timeframe
from candlecast.domain.specs import ExperimentSpec, ModelSpec, SplitSpec
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.ingest import ingest
from candlecast.pipelines.train import train
from candlecast.providers.synthetic import SyntheticProvider
from candlecast.store.stores import Stores, open_stores
from candlecast.store.symbols import write_symbols
from pipeline_rows import Given

NOW = datetime(2004, 10, 12, 20, 0, tzinfo=UTC)
"""The close of the last bar, a Tuesday."""
SILENT = "SILENT"
"""A symbol without bars."""
SPEC = ExperimentSpec(
    allow_simulated=True,
    min_bars=300,
    splits=SplitSpec(n_splits=2),
    model=ModelSpec(kind="ewma"),
)


def seed_market(home: Path, source: str = "synthetic") -> Stores:
    """Three synthetic symbols to `NOW`, with a champion, current forecasts and a track record.

    Under another `source` they pass for traded ones.
    """
    stores = open_at(home, FixedClock(NOW))
    market = SyntheticProvider(seed=5, n_symbols=3, n_sessions=1200).market
    provider = Given(market.bars.with_columns(source=pl.lit(source)))
    write_symbols(stores.database, [Symbol(t) for t in (*market.symbols, SILENT)])
    ingest(stores, provider, template=Symbol("any"), timeframe=Timeframe.parse("1d"))
    train(stores, SPEC)
    forecast(stores)
    return stores


def open_at(home: Path, clock: Clock) -> Stores:
    """The stores under `home`, at another time perhaps."""
    url = f"sqlite:///{home / 'candlecast.db'}"
    return open_stores(database_url=url, home=home, artifacts_url=None, clock=clock)


def at(stores: Stores, clock: Clock) -> Stores:
    """The same stores as they answer at another time."""
    return replace(stores, clock=clock)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of a real server on a free port, for as long as the block runs."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", ws="none", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.perf_counter() + 60
        while not server.started:
            if time.perf_counter() > deadline or not thread.is_alive():
                raise RuntimeError("the server did not start within a minute")
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextmanager
def asking(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of a real server over `app`."""
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client
