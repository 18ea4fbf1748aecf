"""Fourteen factors of 800 stocks, from the database to a ready data set, against Qlib."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from candlecast.domain.frames import BARS
from candlecast.domain.market import Symbol, SystemClock, trading_calendar
from candlecast.store.bars import write_bars, write_symbols
from candlecast.store.stores import open_stores
from datasets import SEED, frame_sha256
from factors_runner import DAILY, FACTORS
from measure import Best, Row, Section, Steps, interleaved
from peers import PeerMissing, run, say_missing
from qlib_peer import QlibPeer
from servers import fresh_postgres, postgres_server, postgres_version

CALENDAR = "XNYS"
FIRST_DAY = np.datetime64("2007-01-01")
ROUNDS = 3
AT_MOST_SECONDS = 120.0
MOST_SECONDS, MOST_RATIO = 1.0, 0.14  # seven times faster
MOST_SECONDS_AGAIN, MOST_RATIO_AGAIN = 0.4, 0.33  # three times faster
MOST_SECONDS_ABOVE = 0.6
RELATIVE, ABSOLUTE = 1e-3, 2e-4
"""Qlib computes in 32 bits and rounds on the way."""

TASK = (
    "The task of the benchmark that Qlib publishes: a data set of 14 factors made from the daily "
    "bars of 800 stocks, on one core, each repetition in a process of its own. Which factors "
    f"those are is not published; these are 14 of its set Alpha158: {', '.join(FACTORS).upper()} "
    "(windows of 20 bars). Ours adjusts the prices, computes the factors as features that a user "
    "defined, and ends with a float32 array. Imports and opening count on neither side. "
)
MIRROR = (
    "The bars are in SQLite, and their mirror is built before. Asked again: another process asked "
    "for the same before, so that its features are in a file. "
)
PEER = (
    "Qlib {version} reads its own binary files (`D.features`, one kernel, float32). That both "
    "yield the same numbers where the windows are full is checked first. Its caches, of "
    "expressions and of data sets, are filled once; warm, they are read back. "
)
SERVER = (
    "The bars are in PostgreSQL {version} with its default settings, and read from there without "
    "a mirror. The peer is ADBC: the same columns of the same table, fetched as Arrow and no more; "
    "the last row is what ours takes above that. "
)


def measure(*, is_quick: bool) -> Section:
    """Time the way from stored bars to 14 factors, beside Qlib with and without caches."""
    bars = stock_bars(*_size(is_quick))
    about = TASK + MIRROR
    with tempfile.TemporaryDirectory(prefix="candlecast-factors-") as text:
        folder = Path(text)
        home = folder / "home"
        ours = Ours.make(home, f"sqlite:///{home / 'candlecast.db'}", bars)
        ours.seconds("file")  # asked for the first time
        peer = None
        try:
            fields = [factor.qlib for factor in FACTORS.values()]
            peer = QlibPeer.make(folder / "qlib", bars, fields)
        except PeerMissing as missing:
            say_missing("Qlib", missing)
            about += "QLIB IS NOT INSTALLED HERE and left out. "
        else:
            about += PEER.format(version=_check_same(folder / "values.npy", ours, peer))
        best = _best(ours, peer, 1 if is_quick else ROUNDS)
    return _section("Factors", f"{about}Best of {best.n_rounds}.", bars, _rows(best, len(bars)))


def measure_postgres(*, is_quick: bool) -> Section:
    """Time the way from bars in Postgres to 14 factors, beside the driver's bare read."""
    bars = stock_bars(*_size(is_quick))
    with (
        postgres_server() as server,
        fresh_postgres(server) as url,
        tempfile.TemporaryDirectory(prefix="candlecast-factors-") as text,
    ):
        about = TASK + SERVER.format(version=postgres_version(server))
        ours = Ours.make(Path(text) / "home", url, bars)
        best = interleaved(
            1 if is_quick else ROUNDS,
            lambda: ours.steps("database"),
            lambda: ours.steps("bare"),
            at_most_seconds=AT_MOST_SECONDS,
        )
    whole, bare = best.seconds["database"], best.seconds["bare"]
    rows = (
        Row("from Postgres", whole, bare, len(bars)),
        Row("above the bare read", max(whole - bare, 0.0), most_seconds=MOST_SECONDS_ABOVE),
    )
    return _section("Factors from Postgres", f"{about}Best of {best.n_rounds}.", bars, rows)


@dataclass(frozen=True)
class Ours:
    """Our side: stores with the bars, asked in processes of their own on one core."""

    home: Path
    url: str

    @classmethod
    def make(cls, home: Path, url: str, bars: pl.DataFrame) -> Ours:
        """The bars written, and their mirror built."""
        stores = open_stores(database_url=url, home=home, artifacts_url=None, clock=SystemClock())
        tickers = bars["symbol"].unique().sort()
        write_symbols(stores.database, [Symbol(ticker, "equity", CALENDAR) for ticker in tickers])
        write_bars(stores.database, DAILY, bars)
        stores.mirror.read(DAILY)
        stores.close()
        return cls(home, url)

    def seconds(self, way: str, save: str = "") -> float:
        """How long a way of `factors_runner` takes; its values go to the file `save`."""
        wanted = {"way": way, "database_url": self.url, "home": str(self.home), "save": save}
        return float(run(sys.executable, "factors_runner.py", json.dumps(wanted))["seconds"])

    def steps(self, *ways: str) -> Steps:
        """A side of a measurement."""
        for way in ways:
            yield way, self.seconds(way)


def stock_bars(n_symbols: int, n_sessions: int) -> pl.DataFrame:
    """Daily BARS of random walks, on the same sessions all; every number has a float32."""
    calendar = trading_calendar(CALENDAR)
    days = calendar.sessions[calendar.sessions >= FIRST_DAY][:n_sessions].astype("M8[us]")
    generator = np.random.default_rng(SEED)
    shape = (n_symbols, len(days))
    close = 100 * np.exp(np.cumsum(0.015 * generator.standard_normal(shape), axis=1))
    opened = close * np.exp(0.01 * generator.standard_normal(shape))
    reach = np.exp(0.005 * np.abs(generator.standard_normal((2, *shape))))
    values = {
        "open": opened,
        "high": np.maximum(opened, close) * reach[0],
        "low": np.minimum(opened, close) / reach[1],
        "close": close,
        "volume": np.round(generator.lognormal(13, 0.5, shape)),
    }
    rounded = {name: value.astype("f4").astype(float).ravel() for name, value in values.items()}
    frame = pl.DataFrame(
        {
            "symbol": np.repeat([f"STK{number:03d}" for number in range(n_symbols)], len(days)),
            "ts": pl.Series(np.tile(days, n_symbols)).dt.replace_time_zone("UTC"),
            **rounded,
        }
    )
    ends = pl.Series(calendar.close_at(days, DAILY)).dt.replace_time_zone("UTC")
    known_at = pl.Series(np.tile(ends.to_numpy(), n_symbols)).dt.replace_time_zone("UTC")
    absent = {name: pl.lit(None) for name in ("adj_close", "vwap", "trade_count")}
    return BARS.conform(frame.with_columns(known_at=known_at, source=pl.lit("benchmark"), **absent))


def _size(is_quick: bool) -> tuple[int, int]:
    return (40, 600) if is_quick else (800, 3_375)


def _section(title: str, about: str, bars: pl.DataFrame, rows: tuple[Row, ...]) -> Section:
    n_symbols = bars["symbol"].n_unique()
    data = f"{n_symbols} symbols x {len(bars) // n_symbols:,} daily bars, random walks"
    return Section(title, about, data, frame_sha256(bars), rows)


def _best(ours: Ours, peer: QlibPeer | None, n_rounds: int) -> Best:
    sides = [lambda: ours.steps("mirror", "file")]
    filling = {}
    if peer is not None:
        filling = {"filling": peer.filling()}
        sides.append(peer.steps)
    best = interleaved(n_rounds, *sides, at_most_seconds=AT_MOST_SECONDS)
    return Best(best.seconds | filling, best.n_rounds)


def _rows(best: Best, n: int) -> tuple[Row, ...]:
    times = best.seconds
    compared = (
        ("Qlib without caches", "mirror", "uncached", MOST_RATIO),
        ("Qlib filling its caches", "mirror", "filling", None),
        ("Qlib with warm caches", "file", "cached", MOST_RATIO_AGAIN),
    )
    return (
        Row("from the mirror", times["mirror"], n_items=n, most_seconds=MOST_SECONDS),
        Row("asked again", times["file"], n_items=n, most_seconds=MOST_SECONDS_AGAIN),
        *(
            Row(_beside(step, name), times[step], times[other], n, most_ratio=ratio)
            for name, step, other, ratio in compared
            if other in times
        ),
    )


def _beside(step: str, name: str) -> str:
    return f"{'from the mirror' if step == 'mirror' else 'asked again'}, beside {name}"


def _check_same(path: Path, ours: Ours, peer: QlibPeer) -> str:
    # That both sides yield the same, and Qlib's version.
    theirs, version = peer.values()
    for way in ("mirror", "file"):
        ours.seconds(way, save=str(path))
        values = np.load(path)
        for place, name in enumerate(FACTORS):
            is_full = ~np.isnan(values[:, place])
            np.testing.assert_allclose(
                values[is_full, place],
                theirs[is_full, place],
                rtol=RELATIVE,
                atol=ABSOLUTE,
                err_msg=name,
            )
    path.unlink()
    return version
