"""Fourteen factors of stored bars, made in a process of its own on one core, timed as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import polars_talib as talib
import pyarrow as pa
import sqlalchemy as sa

from candlecast.domain.catalog import FEATURES, feature
from candlecast.domain.market import SystemClock, Timeframe, trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.features.compute import compute
from candlecast.pipelines.materialized import materialized_features
from candlecast.pipelines.universe import read_market
from candlecast.store.bars import STORED, read_bars
from candlecast.store.connection import libpq_url
from candlecast.store.stores import Stores, open_stores

DAILY = Timeframe.parse("1d")
N = 20

OPEN, HIGH, LOW, CLOSE = (pl.col(name) for name in ("open", "high", "low", "close"))
VOLUME = pl.col("volume")
LOWEST, HIGHEST = talib.min(LOW, timeperiod=N), talib.max(HIGH, timeperiod=N)
SLOPE = talib.linearreg_slope(CLOSE, timeperiod=N)
SAMPLE = math.sqrt(N / (N - 1))  # TA-Lib divides by N, Qlib by N - 1
# The share of the variance that a line explains; that of N places in a row is (N² - 1) / 12.
EXPLAINED = SLOPE**2 * ((N**2 - 1) / 12) / talib.var(CLOSE, timeperiod=N)


@dataclass(frozen=True)
class Factor:
    """A factor as Qlib is asked for it, and as a feature of ours."""

    qlib: str
    ours: pl.Expr
    warmup_bars: int = N - 1


FACTORS = {
    "kmid": Factor("($close-$open)/$open", (CLOSE - OPEN) / OPEN, 0),
    "klen": Factor("($high-$low)/$open", (HIGH - LOW) / OPEN, 0),
    "ksft": Factor("(2*$close-$high-$low)/$open", (2 * CLOSE - HIGH - LOW) / OPEN, 0),
    "roc20": Factor("Ref($close, 20)/$close", CLOSE.shift(N) / CLOSE, N),
    "ma20": Factor("Mean($close, 20)/$close", talib.sma(CLOSE, timeperiod=N) / CLOSE),
    "std20": Factor("Std($close, 20)/$close", SAMPLE * talib.stddev(CLOSE, timeperiod=N) / CLOSE),
    "beta20": Factor("Slope($close, 20)/$close", SLOPE / CLOSE),
    "rsqr20": Factor("Rsquare($close, 20)", EXPLAINED),
    "max20": Factor("Max($high, 20)/$close", HIGHEST / CLOSE),
    "min20": Factor("Min($low, 20)/$close", LOWEST / CLOSE),
    "rsv20": Factor(
        "($close-Min($low, 20))/(Max($high, 20)-Min($low, 20)+1e-12)",
        (CLOSE - LOWEST) / (HIGHEST - LOWEST + 1e-12),
    ),
    "corr20": Factor(
        "Corr($close, Log($volume+1), 20)", talib.correl(CLOSE, (VOLUME + 1).log(), timeperiod=N)
    ),
    "vma20": Factor(
        "Mean($volume, 20)/($volume+1e-12)", talib.sma(VOLUME, timeperiod=N) / (VOLUME + 1e-12)
    ),
    "vstd20": Factor(
        "Std($volume, 20)/($volume+1e-12)",
        SAMPLE * talib.stddev(VOLUME, timeperiod=N) / (VOLUME + 1e-12),
    ),
}


def main() -> None:
    """Arguments: JSON with the `way`, the `database_url`, the `home`, and where to `save`."""
    wanted = json.loads(sys.argv[1])
    for name, factor in FACTORS.items():
        feature(name, warmup_bars=factor.warmup_bars)(_yielding(factor.ours))
    FEATURES.names(), trading_calendar("XNYS")  # these import more than the imports above
    stores = open_stores(
        database_url=wanted["database_url"],
        home=Path(wanted["home"]),
        artifacts_url=None,
        clock=SystemClock(),
    )
    started_at = perf_counter()
    values = WAYS[wanted["way"]](stores, wanted["database_url"])
    seconds = perf_counter() - started_at
    stores.close()
    if wanted["save"]:
        np.save(wanted["save"], values)
    print(json.dumps({"seconds": seconds, "n_rows": len(values)}))


def from_mirror(stores: Stores, _: str) -> np.ndarray:
    """(n_rows, n_factors) by symbol and date, computed from the bars of the mirror."""
    return as_array(compute(read_market(stores, DAILY, (), None).prices, tuple(FACTORS)))


def from_file(stores: Stores, _: str) -> np.ndarray:
    """The same, from the file that was kept where the same was asked for before."""
    return as_array(materialized_features(stores, DAILY, tuple(FACTORS)))


def from_database(stores: Stores, _: str) -> np.ndarray:
    """The same, from the bars of the database itself."""
    bars = read_bars(stores.database, DAILY, is_first_version=True)
    calendars = dict.fromkeys(bars["symbol"].unique(), trading_calendar("XNYS"))
    prices = make_prices(bars, DAILY, calendars, is_first_version=True)
    return as_array(compute(prices, tuple(FACTORS)))


def bare_read(_: Stores, database_url: str) -> pa.Table:
    """The columns that `from_database` reads, by the driver alone."""
    from adbc_driver_postgresql import dbapi

    query = f"SELECT {', '.join(STORED)} FROM bars WHERE timeframe = {DAILY.minutes}"
    with (
        dbapi.connect(libpq_url(sa.make_url(database_url))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        return cursor.fetch_arrow_table()


def as_array(features: pl.DataFrame) -> np.ndarray:
    """The factors as float32, NaN where there is none."""
    values = np.empty((len(FACTORS), len(features)), np.float32)
    for place, name in enumerate(FACTORS):
        values[place] = features[name].fill_null(math.nan).to_numpy()
    return values.T


WAYS: dict[str, Callable[[Stores, str], Any]] = {
    "mirror": from_mirror,
    "file": from_file,
    "database": from_database,
    "bare": bare_read,
}


def _yielding(expression: pl.Expr) -> Callable[[], pl.Expr]:
    return lambda: expression


if __name__ == "__main__":
    main()
