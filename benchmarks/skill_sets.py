"""The real markets that skill is measured on: their bars, horizons, spans and floors.

Each floor was stated before the first run on its set, from what quick models had reached on the
daily stocks. They are not moved afterwards: what is missed is listed as missed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import polars as pl

from candlecast.domain.described import content_hash
from candlecast.domain.market import FixedClock, trading_calendar
from candlecast.domain.specs import ExperimentSpec, SplitSpec
from candlecast.store.stores import Stores, open_stores
from datasets import frame_sha256

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
KEPT = ROOT / "var" / "skill"
EXPERIMENTS = ROOT / "experiments"
AFTERWARDS = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
"""Later than every bar of these markets."""


@dataclass(frozen=True)
class Market:
    """Bars of one kind, and what is asked of forecasts of them.

    `floors` are the least CRPS skill over climatology by horizon; `start` and `end` bound the
    newest bar used by a forecast that counts; `stored` is the timeframe of the file.
    """

    title: str
    file: str
    calendar: str
    stored: str
    timeframe: str
    floors: Mapping[str, float]
    splits: SplitSpec
    start: datetime | None = None
    end: datetime | None = None
    prepare: Callable[[pl.DataFrame], pl.DataFrame] = field(default=lambda bars: bars)
    about: str = ""
    is_exact: bool = False
    """Whether coverage has to be within its margin, whatever the interval around it says."""

    @property
    def horizons(self) -> tuple[str, ...]:
        """What is forecast."""
        return tuple(self.floors)


def _utc(year: int, month: int = 1, day: int = 1) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def _on_sessions(bars: pl.DataFrame) -> pl.DataFrame:
    is_session = trading_calendar("BVMF").session_index(bars["ts"].to_numpy()) >= 0
    return bars.filter(pl.Series(is_session))


def _without_relisted(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(pl.col("symbol") != "AAVE-USD")


def _one_venue(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.sort("venue", descending=True).unique(["symbol", "ts"], keep="first")


MARKETS = {
    "us_daily": Market(
        title="US stocks, daily",
        file="us_daily/us_daily.parquet",
        calendar="XNYS",
        stored="1d",
        timeframe="1d",
        floors={"1D": 0.045, "1W": 0.045, "1M": 0.01},
        splits=SplitSpec(),
        start=_utc(2014),
        end=_utc(2021, 12, 31),
        about="As `candlecast train experiments/default.toml` walks forward through these bars.",
        is_exact=True,
    ),
    "b3_daily": Market(
        title="Brazilian stocks, daily",
        file="b3_daily/b3_daily.parquet",
        calendar="BVMF",
        stored="1d",
        timeframe="1d",
        floors={"1D": 0.02, "1W": 0.01},
        splits=SplitSpec(n_splits=4),
        start=_utc(2010),
        end=_utc(2019, 12, 30),
        prepare=_on_sessions,
        about=(
            "Fillers on holidays, and rows that cannot be right, are left out. A few splits before "
            "2012 are wrong in the source; GARCH, which takes every return for true, suffers from "
            "them for years."
        ),
    ),
    "crypto_1d": Market(
        title="Crypto currencies, daily",
        file="crypto_1d/crypto_1d.parquet",
        calendar="24/7",
        stored="1d",
        timeframe="1d",
        floors={"1D": 0.03, "1W": 0.01},
        splits=SplitSpec(n_splits=4),
        prepare=_without_relisted,
        about="AAVE is left out: its bars change from one coin to another on 2020-10-03.",
    ),
    "crypto_1h": Market(
        title="Crypto currencies, hourly",
        file="crypto_1h/crypto_krw_1h.parquet",
        calendar="24/7",
        stored="1h",
        timeframe="1h",
        floors={"1h": 0.06, "1D": 0.02},
        splits=SplitSpec(n_splits=4),
    ),
    "vn_5m": Market(
        title="Vietnamese stocks, five minutes",
        file="vn_1m/vn_1m.parquet",
        calendar="XSES",
        stored="1m",
        timeframe="5m",
        floors={"30m": 0.05, "4h": 0.02},
        splits=SplitSpec(n_splits=4),
        about=(
            "Bars of one minute, made coarser. No calendar of this market is known to the library "
            "of calendars; Singapore's, whose hours contain its own, stands in."
        ),
    ),
    "crypto_5m": Market(
        title="Crypto currencies, five minutes",
        file="crypto_5m/crypto_5m.parquet",
        calendar="24/7",
        stored="5m",
        timeframe="5m",
        floors={"30m": 0.06, "4h": 0.02},
        splits=SplitSpec(n_splits=4),
        prepare=_one_venue,
        about="Where two venues overlap, the one whose name comes last in the alphabet counts.",
    ),
}


def data_sha256(market: Market) -> str:
    """Hash of the file that the bars come from."""
    return sha256((DATA / market.file).read_bytes()).hexdigest()


def spec_of(experiment: str, market: Market) -> ExperimentSpec:
    """The experiment of the file with that name, on the timeframe and horizons of the market."""
    spec = ExperimentSpec.from_toml(EXPERIMENTS / f"{experiment}.toml")
    return replace(
        spec,
        timeframe=market.timeframe,
        symbols=(),
        labels=replace(spec.labels, horizons=market.horizons),
        splits=market.splits,
    )


def open_market(name: str) -> Stores:
    """A database of this market's bars below var/skill, filled at the first call."""
    market = MARKETS[name]
    bars = market.prepare(pl.read_parquet(DATA / market.file)).sort("symbol", "ts")
    made_of = [frame_sha256(bars), market.calendar, market.stored]
    home = KEPT / f"{name}-{content_hash(made_of)[:12]}"
    if not (home / "complete").exists():
        home.mkdir(parents=True, exist_ok=True)
        _fill(home, market, bars)
        (home / "complete").touch()
    url = f"sqlite:///{home / 'candlecast.db'}"
    return open_stores(database_url=url, home=home, artifacts_url=None, clock=AFTERWARDS)


def _fill(home: Path, market: Market, bars: pl.DataFrame) -> None:
    # Through the command that users give, so that what is measured is what they get.
    path = home / "bars.parquet"
    bars.write_parquet(path)
    command = [sys.executable, "-m", "candlecast", "ingest", "files", str(path), "--json"]
    options = ["--timeframe", market.stored, "--calendar", market.calendar, "--skip-bad-rows"]
    environment = os.environ | {"CANDLECAST_HOME": str(home)}
    done = subprocess.run([*command, *options], env=environment, check=False, capture_output=True)
    told = json.loads(done.stdout or "{}")
    n_stored, n_refused = told.get("inserted", 0), len(told.get("refusals", ()))
    if n_stored + n_refused < len(bars):
        shutil.rmtree(home)
        raise RuntimeError(
            f"of {len(bars)} bars of {market.file} {n_stored} were stored and {n_refused} refused:"
            f"\n{done.stderr.decode()[-2000:]}"
        )
