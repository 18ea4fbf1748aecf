"""A walk-forward of the lightgbm model against the same LightGBM fits made bare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.specs import ModelSpec, SplitSpec
from candlecast.models.conformal import make_model
from candlecast.validation.walk_forward import walk_forward
from datasets import SEED, array_sha256
from measure import Row, Section, interleaved, timed

N_ROWS, N_FEATURES = 1_000, 50
SPLITS = SplitSpec(n_splits=5, test_size=100)
MODEL = ModelSpec(parameters={"n_jobs": 1})
ROUNDS = 11
MOST_RATIO = 1.2


@dataclass
class Fits:
    """The arguments of every call of LightGBM, in order: of each data set and its training."""

    datasets: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    trainings: list[tuple[dict[str, Any], tuple[Any, ...]]] = field(default_factory=list)

    def replay(self) -> None:
        """Bin and train the same again, and nothing else."""
        import lightgbm

        for (given, named), (parameters, rest) in zip(self.datasets, self.trainings, strict=True):
            lightgbm.train(parameters, lightgbm.Dataset(*given, **named), *rest)


def measure(*, is_quick: bool) -> Section:
    """Time five folds of the model as `evaluate` runs them."""
    examples = make_examples()

    def run() -> None:
        walk_forward(lambda seen: make_model(MODEL, SEED).fit(seen), examples, SPLITS)

    with _recording() as fits:
        run()
    n_rounds = 2 if is_quick else ROUNDS
    best = interleaved(n_rounds, timed("ours", run), timed("bare", fits.replay)).seconds
    n_fits = len(fits.trainings)
    return Section(
        title="Walk-forward",
        about=(
            f"{SPLITS.n_splits} folds of {SPLITS.test_size} test rows, model lightgbm with its "
            "default parameters, calibrated, one horizon: fits, forecasts of the test rows and "
            "calibration, on one thread, whose time other programs disturb least. "
            f"The peer repeats the {n_fits} LightGBM fits that this takes: the same "
            "arrays, parameters and numbers of trees, binning included, and nothing else. "
            f"Best of {n_rounds}."
        ),
        data=f"{N_ROWS:,} rows x {N_FEATURES} features, normal",
        data_sha256=array_sha256(examples.X, examples.y),
        rows=(
            Row(
                f"walk-forward, {SPLITS.n_splits} folds",
                best["ours"],
                best["bare"],
                most_ratio=MOST_RATIO,
            ),
        ),
    )


def make_examples() -> Examples:
    """One symbol whose volatility follows the first feature and whose direction the second."""
    generator = np.random.default_rng(SEED)
    days = np.datetime64("2015-01-01T21:00", "us") + np.arange(N_ROWS) * np.timedelta64(1, "D")
    X = generator.standard_normal((N_ROWS, N_FEATURES))
    noise = generator.standard_normal(N_ROWS)
    scale = np.full(N_ROWS, 0.01)
    return Examples(
        X=X,
        symbol=np.zeros(N_ROWS, dtype=np.int32),
        as_of=days,
        scale=scale,
        climatology=scale[:, None, None] * dist.SCORES,
        feature_names=tuple(f"feature_{number}" for number in range(N_FEATURES)),
        tickers=("BENCH",),
        horizons=("1D",),
        horizon_bars=np.array([1]),
        y=(scale * (0.1 * X[:, 1] + np.exp(0.3 * X[:, 0]) * noise))[:, None],
        end_at=(days + np.timedelta64(1, "D"))[:, None],
        weight=np.ones(N_ROWS),
    )


@contextmanager
def _recording() -> Iterator[Fits]:
    import lightgbm

    make_dataset, train = lightgbm.Dataset, lightgbm.train
    fits = Fits()

    def recorded_dataset(*given: Any, **named: Any) -> Any:
        fits.datasets.append((given, named))
        return make_dataset(*given, **named)

    def recorded_train(parameters: dict[str, Any], data: Any, *rest: Any) -> Any:
        fits.trainings.append((dict(parameters), rest))
        return train(parameters, data, *rest)

    with (
        patch.object(lightgbm, "Dataset", recorded_dataset),
        patch.object(lightgbm, "train", recorded_train),
    ):
        yield fits
