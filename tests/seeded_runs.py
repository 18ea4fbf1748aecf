"""Whole evaluations of seeded markets: what is said of every family, and of which it should be."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from candlecast.domain import distribution as dist
from candlecast.domain.catalog import MODELS
from candlecast.domain.market import FixedClock, Symbol, Timeframe, trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.domain.specs import ExperimentSpec, LabelSpec, ModelSpec, SplitSpec
from candlecast.pipelines import evidence
from candlecast.pipelines.dataset import TrainingSet, make_training_set
from candlecast.pipelines.demands import resolved
from candlecast.pipelines.evaluate import evaluate, out_of_sample
from candlecast.pipelines.ingest import ingest
from candlecast.pipelines.pair_tests import pair_tests
from candlecast.pipelines.universe import Market
from candlecast.providers.synthetic import SyntheticProvider, make_market
from candlecast.reports.scored import score
from candlecast.store.stores import open_stores
from price_frames import stamped

DAILY = Timeframe.parse("1d")
AFTERWARDS = FixedClock(datetime(2030, 1, 2, 22, 0, tzinfo=UTC))
"""Later than every bar of a synthetic market."""
MOMENTUM = 0.5
"""Correlation of a session's return with the one before, where the direction is predictable: the
best forecast explains 25 % of the variance of a day."""
NETWORKS = ("lstm", "transformer")
BLIND_TO_VOLATILITY = ("climatology",)
BLIND_TO_DIRECTION = ("climatology", "ewma", "har", "garch", "online")
"""They look at past volatility alone."""
MEMBERS = {
    "voting": ("forest", "xgboost"),
    "averaging": ("har", "linear"),
    "stacking": ("ewma", "linear"),
}
"""Of what the ensembles are made here."""
SMALLER = {"forest": {"n_estimators": 25}}
"""Parameters of families whose own would take too long on a hundred markets: a quarter of the
trees, alone and in a vote."""


@dataclass(frozen=True)
class Run:
    """A market of the synthetic provider, and how it is walked through.

    `kind` is one of the provider's, or ``momentum``: a random walk whose direction is planted.
    """

    kind: str
    seed: int
    n_symbols: int = 5
    n_sessions: int = 1500
    n_splits: int = 5
    horizons: tuple[str, ...] = ("1D", "1W", "1M")

    def spec(self, model: ModelSpec) -> ExperimentSpec:
        """The experiment of one model on it."""
        return ExperimentSpec(
            allow_simulated=True,
            labels=LabelSpec(horizons=self.horizons),
            splits=SplitSpec(n_splits=self.n_splits),
            model=model,
        )


def family(kind: str) -> ModelSpec:
    """The model `kind` of the catalogue with its own parameters, on one thread."""
    members = tuple(family(member) for member in MEMBERS.get(kind, ()))
    takes = inspect.signature(MODELS.get(kind)).parameters
    threads = {name: 1 for name in ("n_jobs", "n_threads") if name in takes}
    return ModelSpec(kind=kind, parameters=threads | SMALLER.get(kind, {}), members=members)


def make_universe(run: Run) -> Market:
    """The bars of `run` as a universe, without a database."""
    is_planted = run.kind == "momentum"
    made = make_market(
        "random_walk" if is_planted else run.kind,
        seed=run.seed, n_symbols=run.n_symbols, n_sessions=run.n_sessions,
    )  # fmt: skip
    calendar = trading_calendar("XNYS")
    bars = stamped(with_momentum(made.bars) if is_planted else made.bars, DAILY, calendar)
    calendars = dict.fromkeys(made.symbols, calendar)
    prices = make_prices(bars, DAILY, calendars, is_first_version=True)
    return Market(DAILY, bars["known_at"].max(), prices, calendars, frozenset(made.symbols))


def with_momentum(bars: pl.DataFrame) -> pl.DataFrame:
    """The same bars, but a part of each session's return is told by the one before."""
    parts = []
    for own in bars.partition_by("symbol", maintain_order=True):
        log_close = np.log(own["close"].to_numpy())
        alone = np.diff(log_close, prepend=np.log(100.0))
        told = np.sqrt(1 - MOMENTUM**2) * alone
        for session in range(1, len(told)):
            told[session] += MOMENTUM * told[session - 1]
        # The night bears what is told: a session moves within itself as it did.
        shift = pl.Series(np.exp(np.log(100.0) + np.cumsum(told) - log_close))
        names = ("open", "high", "low", "close", "adj_close")
        parts.append(own.with_columns(pl.col(name) * shift for name in names))
    return pl.concat(parts)


def training_set(run: Run, kind: str) -> TrainingSet:
    """What the family `kind` walks through on the market of `run`."""
    universe = make_universe(run)
    return make_training_set(resolved(run.spec(family(kind)), universe), universe)


def judged(run: Run, kind: str) -> dict[str, str]:
    """The verdicts of the evaluation report on a family, overall and at each horizon."""
    return verdicts_of(training_set(run, kind))


def verdicts_of(training: TrainingSet) -> dict[str, str]:
    """The verdict of the whole evaluation and of each horizon."""
    made = out_of_sample(training)
    stored = replace(made, quantiles=dist.as_stored(made.quantiles))
    n_past = evidence.past_counts(training)[made.rows]
    rows = score(training.examples, stored, training.spec.labels.threshold, {}, n_past)
    cards = evidence.verdicts(rows, pair_tests(rows))["all"]
    return {name: card["verdict"] for name, card in cards.items()}


def all_judged(runs: Sequence[Run], kind: str, n_processes: int) -> Iterator[dict[str, str]]:
    """What is said of a family on each of `runs`, as they come."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, spawn, initializer=_one_thread) as pool:
        for done in as_completed([pool.submit(judged, run, kind) for run in runs]):
            yield done.result()


def reported(run: Run, kind: str) -> dict[str, Any]:
    """The report of `run`: bars ingested into a database of its own, walked through, settled."""
    provider = SyntheticProvider(
        run.kind, seed=run.seed, n_symbols=run.n_symbols, n_sessions=run.n_sessions
    )
    with tempfile.TemporaryDirectory(prefix="candlecast-run-") as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'candlecast.db'}"
        stores = open_stores(database_url=url, home=home, artifacts_url=None, clock=AFTERWARDS)
        try:
            ingest(stores, provider, template=Symbol(""), timeframe=DAILY)
            return evaluate(stores, run.spec(family(kind)))
        finally:
            stores.close()


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    """The verdict of the whole report and of each horizon."""
    cards = {"overall": report["overall"], **report["horizons"]}
    return {name: card["verdict"] for name, card in cards.items()}


def _one_thread() -> None:
    # As many processes as there are cores: more threads would only wait for each other.
    os.environ["POLARS_MAX_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
