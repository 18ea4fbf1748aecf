"""A walk-forward of the lightgbm model against the same LightGBM fits made bare."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.market import FixedClock, Symbol
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, LabelSpec, ModelSpec, SplitSpec
from candlecast.features.compute import standard_set
from candlecast.models.conformal import make_model
from candlecast.pipelines.dataset import make_training_set, read_training_market
from candlecast.store.bars import write_bars
from candlecast.store.stores import open_stores
from candlecast.store.symbols import write_symbols
from candlecast.validation.walk_forward import walk_forward
from datasets import DAILY, SEED, array_sha256, daily_bars
from measure import Row, Section, interleaved, timed

AFTERWARDS = FixedClock(datetime(2035, 1, 2, 22, 0, tzinfo=UTC))
SMALL = ((1_000, 50, 100), (100, 10, 4))
"""Rows, features and test rows of each fold of the small runs; fewer leave too little to fit on."""
SPLITS = SplitSpec(n_splits=5, holdout_share=0.0)
MODEL = ModelSpec(parameters={"n_jobs": 1}, calibration_share=0.3)
ROUNDS = 11
MOST_RATIO = 1.2
GLOBAL = ModelSpec(parameters={"n_jobs": 2})
N_GLOBAL_FEATURES = 40
MOST_GLOBAL_SECONDS = 60.0


@dataclass
class Fits:
    """The calls of LightGBM in order: what was binned, the parts taken of it, what was trained."""

    binned: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    parts: list[tuple[Any, Any, Any]] = field(default_factory=list)
    trainings: list[tuple[dict[str, Any], Any, int]] = field(default_factory=list)

    def replay(self) -> None:
        """Bin, take and train the same again, and nothing else."""
        import lightgbm

        anew: dict[int, Any] = {}
        for original, named in self.binned:
            anew[id(original)] = lightgbm.Dataset(**named).construct()
        for original, whole, at in self.parts:
            part = anew[id(whole)].subset(at).construct()
            part.set_label(original.get_label()).set_weight(original.get_weight())
            anew[id(original)] = part
        for parameters, data, n_trees in self.trainings:
            lightgbm.train(dict(parameters), anew[id(data)], n_trees)


def measure(*, is_quick: bool) -> Section:
    """Time five folds of the model as `evaluate` runs them, of small data."""
    rows, hashed = [], []
    n_rounds = 2 if is_quick else ROUNDS
    for n_rows, n_features, test_size in SMALL:
        examples = make_examples(n_rows, n_features)
        hashed += [examples.X, examples.y]
        spec = ExperimentSpec(splits=replace(SPLITS, test_size=test_size), model=MODEL)
        rows.append(_row(examples, spec, n_rounds, f"{n_rows:,} x {n_features}"))
    return Section(
        title="Walk-forward",
        about=(
            f"{SPLITS.n_splits} folds, model lightgbm with its default parameters, calibrated, one "
            "horizon: fits, forecasts of the test rows and calibration, on one thread, whose time "
            f"other programs disturb least. {_PEER}"
        ),
        data="rows x features, normal",
        data_sha256=array_sha256(*hashed),
        rows=tuple(rows),
    )


def measure_global(*, is_quick: bool) -> Section:
    """Time one global model of many symbols and years, walked forward and calibrated."""
    n_symbols, n_sessions = (15, 1_000) if is_quick else (150, 2_520)
    examples = _market(n_symbols, n_sessions)
    spec = ExperimentSpec(splits=SPLITS, model=GLOBAL)
    row = _row(examples, spec, 1 if is_quick else 2, "5 folds, calibrated")
    limit = replace(
        row, what="the same, by the clock", peer_seconds=None, most_ratio=None,
        most_seconds=MOST_GLOBAL_SECONDS,
    )  # fmt: skip
    return Section(
        title="One global model",
        about=(
            f"The same for {n_symbols} symbols together and {examples.X.shape[1]} features, on "
            f"two threads. {_PEER}"
        ),
        data=f"{n_symbols} symbols x {n_sessions:,} daily bars, synthetic; {len(examples):,} rows",
        data_sha256=array_sha256(examples.X, examples.y),
        rows=(row, limit),
    )


_PEER = (
    "The peer repeats the LightGBM fits that this takes: the same arrays, parameters and numbers "
    "of trees, binning included, and nothing else."
)


def _row(examples: Examples, spec: ExperimentSpec, n_rounds: int, what: str) -> Row:
    def run() -> None:
        walk_forward(lambda seen: make_model(spec.model, SEED).fit(seen), examples, spec.splits)

    with _recording() as fits:
        run()
    best = interleaved(n_rounds, timed("ours", run), timed("bare", fits.replay)).seconds
    n_fits = len(fits.trainings)
    return Row(
        f"{what}, {n_fits} fits", best["ours"], best["bare"], len(examples), most_ratio=MOST_RATIO
    )


def _market(n_symbols: int, n_sessions: int) -> Examples:
    bars = daily_bars(n_symbols, n_sessions)
    with tempfile.TemporaryDirectory(prefix="candlecast-global-") as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'candlecast.db'}"
        stores = open_stores(database_url=url, home=home, artifacts_url=None, clock=AFTERWARDS)
        tickers = bars["symbol"].unique().sort()
        write_symbols(stores.database, [Symbol(ticker) for ticker in tickers])
        write_bars(stores.database, DAILY, bars)
        spec = ExperimentSpec(
            labels=LabelSpec(horizons=("1D",)),
            features=FeatureSpec(names=standard_set()[:N_GLOBAL_FEATURES]),
            allow_simulated=True,
        )
        examples = make_training_set(spec, read_training_market(stores, spec, None)).examples
        stores.close()
    return examples


def make_examples(n_rows: int, n_features: int) -> Examples:
    """One symbol whose volatility follows the first feature and whose direction the second."""
    generator = np.random.default_rng(SEED)
    days = np.datetime64("2015-01-01T21:00", "us") + np.arange(n_rows) * np.timedelta64(1, "D")
    X = generator.standard_normal((n_rows, n_features))
    noise = generator.standard_normal(n_rows)
    scale = np.full(n_rows, 0.01)
    return Examples(
        X=X,
        symbol=np.zeros(n_rows, dtype=np.int32),
        as_of=days,
        scale=scale,
        climatology=scale[:, None, None] * dist.SCORES,
        feature_names=tuple(f"feature_{number}" for number in range(n_features)),
        tickers=("BENCH",),
        horizons=("1D",),
        horizon_bars=np.array([1]),
        y=(scale * (0.1 * X[:, 1] + np.exp(0.3 * X[:, 0]) * noise))[:, None],
        end_at=(days + np.timedelta64(1, "D"))[:, None],
        weight=np.ones(n_rows),
    )


@contextmanager
def _recording() -> Iterator[Fits]:
    import lightgbm

    make_dataset, train = lightgbm.Dataset, lightgbm.train
    take_part = make_dataset.subset
    fits = Fits()

    def recorded_dataset(data: Any, **named: Any) -> Any:
        made = make_dataset(data, **named)
        fits.binned.append((made, {"data": data, **named}))
        return made

    def recorded_part(whole: Any, at: Any) -> Any:
        made = take_part(whole, at)
        fits.parts.append((made, whole, at))
        return made

    def recorded_train(parameters: dict[str, Any], data: Any, n_trees: int) -> Any:
        fits.trainings.append((dict(parameters), data, n_trees))
        return train(parameters, data, n_trees)

    with (
        patch.object(lightgbm, "Dataset", recorded_dataset),
        patch.object(make_dataset, "subset", recorded_part),
        patch.object(lightgbm, "train", recorded_train),
    ):
        yield fits
