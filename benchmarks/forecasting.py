"""`candlecast forecast` for a whole universe, from the newest bars to stored rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from candlecast.domain.market import Clock, FixedClock, Symbol, SystemClock, Timeframe
from candlecast.domain.specs import ExperimentSpec, ModelSpec, SplitSpec
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.ingest import ingest
from candlecast.pipelines.train import train
from candlecast.providers.synthetic import SyntheticProvider
from candlecast.store.bars import read_bars
from candlecast.store.stores import Stores, open_stores
from datasets import SEED, frame_sha256
from measure import Row, Section, Steps, interleaved, seconds

DAILY = Timeframe.parse("1d")
SPEC = ExperimentSpec(
    allow_simulated=True,
    seed=SEED,
    splits=SplitSpec(n_splits=1, test_size=21),
    model=ModelSpec(parameters={"n_jobs": 1}),  # the result does not depend on it
)
TRAINING_SESSIONS = 750
WARM_UP_SESSIONS = 30
ROUNDS = 5
AT_MOST_SECONDS = 60.0
MOST_SECONDS = 2.0


def measure(*, is_quick: bool) -> Section:
    """Time the forecast of every symbol and horizon in a warm process, and as a command."""
    n_symbols, n_sessions = (15, 1_000) if is_quick else (150, 3_000)
    with tempfile.TemporaryDirectory(prefix="candlecast-home-") as folder:
        template = Path(folder) / "template"
        instants, sha256 = _prepare(template, n_symbols, n_sessions)
        n_rows = n_symbols * len(SPEC.labels.horizons)
        best = interleaved(
            2 if is_quick else ROUNDS,
            lambda: _warm(template, instants, n_rows),
            lambda: _command(template),
            at_most_seconds=AT_MOST_SECONDS,
        )
    return Section(
        title="Forecast",
        about=(
            f"`candlecast forecast` for {n_symbols} symbols and {len(SPEC.labels.horizons)} "
            "horizons on SQLite: bars from the mirror, features, the champion (lightgbm with its "
            "default parameters, calibrated), quantiles, and the rows of ledger, features and "
            "current forecasts stored. Every repetition begins with a fresh copy of the same "
            f"database. Warm: the process has made one forecast, as of {WARM_UP_SESSIONS} "
            "sessions earlier, before the time counts. As a command: a new process, with the "
            "start of Python and all imports. No peer; the goal is in seconds. "
            f"Best of {best.n_rounds}."
        ),
        data=f"{n_symbols} symbols x {n_sessions:,} daily bars, synthetic",
        data_sha256=sha256,
        rows=(
            Row("forecast, warm", best.seconds["warm"], n_items=n_rows, most_seconds=MOST_SECONDS),
            Row("forecast, as a command", best.seconds["command"], n_items=n_rows),
        ),
    )


def _prepare(home: Path, n_symbols: int, n_sessions: int) -> tuple[list[datetime], str]:
    # Bars of the whole span and a model trained on its beginning; all known_at, and their hash.
    provider = SyntheticProvider(seed=SEED, n_symbols=n_symbols, n_sessions=n_sessions)
    with _opened(home, SystemClock()) as stores:
        ingest(stores, provider, template=Symbol(""), timeframe=DAILY)
        bars = read_bars(stores.database, DAILY)
        instants = bars["known_at"].unique().sort().to_list()
        train(stores, SPEC, as_of=instants[min(TRAINING_SESSIONS, len(instants)) - 1])
    return instants, frame_sha256(bars)


def _warm(template: Path, instants: list[datetime], n_rows: int) -> Steps:
    clock = FixedClock(instants[-1])
    with _copied(template) as home, _opened(home, clock) as stores:
        forecast(stores, as_of=instants[-WARM_UP_SESSIONS - 1])
        yield "warm", seconds(lambda: _forecast_all(stores, n_rows))


def _forecast_all(stores: Stores, n_rows: int) -> None:
    run = forecast(stores)
    if (run.n_new, run.origin) != (n_rows, "live"):
        raise ValueError(f"{run.n_new} rows of origin {run.origin} were stored, not {n_rows} live")


def _command(template: Path) -> Steps:
    with _copied(template) as home:
        environment = {
            **{name: text for name, text in os.environ.items() if "CANDLECAST" not in name},
            "CANDLECAST_HOME": str(home),
            "CANDLECAST_DATABASE_URL": _url(home),
        }
        command = [sys.executable, "-m", "candlecast", "forecast", "--json"]

        def run() -> None:
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

        yield "command", seconds(run)


@contextmanager
def _copied(template: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="candlecast-home-") as folder:
        yield Path(shutil.copytree(template, Path(folder) / "home"))


@contextmanager
def _opened(home: Path, clock: Clock) -> Iterator[Stores]:
    stores = open_stores(database_url=_url(home), home=home, artifacts_url=None, clock=clock)
    try:
        yield stores
    finally:
        stores.close()


def _url(home: Path) -> str:
    return f"sqlite:///{home}/candlecast.db"
