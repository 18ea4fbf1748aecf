"""Rows for the storage tests, and what their spawned processes do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import polars as pl

from candlecast.domain.distribution import LEVELS, as_stored
from candlecast.domain.frames import BARS, FORECASTS, QUANTILES
from candlecast.domain.market import Symbol, Timeframe
from candlecast.store.bars import read_bars, write_bars, write_symbols
from candlecast.store.database import Database
from candlecast.store.mirror import Mirror

DAILY = Timeframe.parse("1d")
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
TICKERS = ("AAPL", "MSFT", "brk.b")


def day(number: float) -> datetime:
    return EPOCH + timedelta(days=number)


def bar(symbol: str, number: int, close: float = 1.0, known: float | None = None) -> dict:
    """One bar of day `number`, known at day `known` (None: when it closes)."""
    return {
        "symbol": symbol,
        "ts": day(number),
        **dict.fromkeys(("open", "high", "low", "close"), close),
        "volume": 100.0,
        "adj_close": close / 2,
        "vwap": None,
        "trade_count": 7,
        "source": "test",
        "known_at": day(number + 1 if known is None else known),
    }


def bars_of(rows: Iterable[dict]) -> pl.DataFrame:
    return BARS.conform(pl.DataFrame(list(rows), schema=BARS.columns))


def with_symbols(database: Database, tickers: Sequence[str] = TICKERS) -> Database:
    write_symbols(database, [Symbol(ticker) for ticker in tickers])
    return database


def forecasts_of(
    symbols: Sequence[str], days: Sequence[int], horizons: Sequence[str] = ("1D",), seed: int = 0
) -> pl.DataFrame:
    """Forecasts with everything that the ledger stores."""
    rng = np.random.default_rng(seed)
    rows = [
        (s, day(d + 1), h, 1, day(d), day(d + 2)) for s in symbols for d in days for h in horizons
    ]
    keys = ["symbol", "as_of", "horizon", "horizon_bars", "ts", "end_at"]
    frame = pl.DataFrame(rows, schema=keys, orient="row")
    quantiles = as_stored(np.sort(rng.normal(size=(len(rows), len(LEVELS))), axis=1))
    return FORECASTS.conform(
        frame.with_columns(
            last_close=pl.lit(100.0),
            lower=pl.lit(-0.02),
            upper=pl.lit(0.02),
            **{name: quantiles[:, i] for i, name in enumerate(QUANTILES)},
            yhat=pl.Series(rng.normal(size=len(rows))),
            yhat_std=pl.lit(0.01),
            prob_up=pl.lit(0.5),
            label=pl.lit("Neutral"),
            confidence=pl.lit(0.4),
        )
    )


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """The database at `url`, closed whatever happens."""
    database = Database.open(url)
    try:
        yield database
    finally:
        database.close()


def open_together(urls: Sequence[str], barrier: Barrier, failures: Queue[str]) -> None:
    """Open, upgrade and use each database at the same moment as the other processes."""
    for url in urls:
        barrier.wait(timeout=60)
        try:
            database = Database.open(url)
            database.upgrade()
            with_symbols(database)
            database.close()
        except Exception as error:  # noqa: BLE001 - the test shows it
            failures.put(f"{type(error).__name__}: {error}")


def write_days(url: str, symbol: str, days: range, failures: Queue[str]) -> None:
    """Write one bar at a time, reading in between."""
    try:
        database = Database.open(url)
        for number in days:
            write_bars(database, DAILY, bars_of([bar(symbol, number)]))
            read_bars(database, DAILY, symbols=[symbol], start=day(number))
        database.close()
    except Exception as error:  # noqa: BLE001 - the test shows it
        failures.put(f"{type(error).__name__}: {error}")


def follow_mirror(url: str, folder: Path, n_bars: int, failures: Queue[str]) -> None:
    """Read the mirror until it shows `n_bars`; it never shows fewer than before."""
    try:
        database = Database.open(url)
        mirror = Mirror(database, folder)
        n_seen = 0
        while n_seen < n_bars:
            frame = BARS.check(mirror.read(DAILY))
            if len(frame) < n_seen:
                failures.put(f"the mirror shrank from {n_seen} to {len(frame)} bars")
                return
            n_seen = len(frame)
        if not frame.equals(read_bars(database, DAILY)):
            failures.put("the mirror differs from the database")
        database.close()
    except Exception as error:  # noqa: BLE001 - the test shows it
        failures.put(f"{type(error).__name__}: {error}")
