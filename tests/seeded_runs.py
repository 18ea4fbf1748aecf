"""Whole pipeline runs on seeded markets, several at a time: what does the report say of them?"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.specs import ExperimentSpec, LabelSpec, ModelSpec, SplitSpec
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.ingest import ingest
from candlecast.providers.synthetic import SyntheticProvider
from candlecast.store.stores import open_stores

AFTERWARDS = FixedClock(datetime(2030, 1, 2, 22, 0, tzinfo=UTC))
"""Later than every bar of a synthetic market."""


@dataclass(frozen=True)
class Run:
    """A market of the synthetic provider and the model that walks forward through it."""

    kind: str
    model: str
    seed: int
    n_symbols: int = 5
    n_sessions: int = 1500
    n_splits: int = 5
    horizons: tuple[str, ...] = ("1D", "1W", "1M")


def reported(run: Run) -> dict[str, Any]:
    """The report of `run`: bars ingested into a database of its own, walked through, settled."""
    provider = SyntheticProvider(
        run.kind, seed=run.seed, n_symbols=run.n_symbols, n_sessions=run.n_sessions
    )
    threads = {"n_jobs": 1} if run.model == "lightgbm" else {}
    spec = ExperimentSpec(
        allow_simulated=True,
        labels=LabelSpec(horizons=run.horizons),
        splits=SplitSpec(n_splits=run.n_splits),
        model=ModelSpec(kind=run.model, parameters=threads),
    )
    with tempfile.TemporaryDirectory(prefix="candlecast-run-") as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'candlecast.db'}"
        stores = open_stores(database_url=url, home=home, artifacts_url=None, clock=AFTERWARDS)
        try:
            ingest(stores, provider, template=Symbol(""), timeframe=Timeframe.parse("1d"))
            return evaluate(stores, spec)
        finally:
            stores.close()


def all_reported(runs: Sequence[Run], n_processes: int = 2) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Each of `runs` with its report, as they come."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, spawn, initializer=_one_thread) as pool:
        pending = {pool.submit(reported, run): run for run in runs}
        for done in as_completed(pending):
            yield pending[done], done.result()


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    """The verdict of the whole report and of each horizon."""
    cards = {"overall": report["overall"], **report["horizons"]}
    return {name: card["verdict"] for name, card in cards.items()}


def _one_thread() -> None:
    # As many processes as there are cores: more threads would only wait for each other.
    os.environ["POLARS_MAX_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
