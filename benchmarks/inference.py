"""One row and a thousand from the artefacts of tree models: ours, bare ONNX Runtime, native."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.specs import ModelSpec
from candlecast.models.conformal import Calibrated, load_model, make_model, save_model
from candlecast.models.forest_graph import ForestGraph
from candlecast.models.regression import Constant
from datasets import SEED, array_sha256
from measure import Row, Section, interleaved, timed

KINDS = ("lightgbm", "xgboost", "catboost", "forest")
N_ROWS, N_FEATURES, N_ASKED = 20_000, 50, 1_000
N_SYMBOLS = 10
HORIZON_BARS = np.array([1, 5])
ROUNDS = 60
AT_MOST_SECONDS = 60.0
MOST_SECONDS = {1: 0.001, N_ASKED: 0.020}
REPEATS = {1: 20, N_ASKED: 1}
"""Calls that are timed together, as a service answers them one after the other."""


def measure(*, is_quick: bool) -> Section:
    """Time forecasts of every family of trees from its artefact."""
    examples = make_examples(4_000 if is_quick else N_ROWS)
    asked = examples.without_outcomes().take(np.arange(N_ASKED))
    rows = []
    for kind in KINDS:
        spec = ModelSpec(kind=kind, parameters={"n_jobs": 1})
        with _recorded_forests() as forests:
            fitted = make_model(spec, SEED).fit(examples)
        native = _native(fitted, forests)
        with TemporaryDirectory() as folder:
            save_model(fitted, spec, Path(folder))
            loaded, graphs = load_model(Path(folder)), _sessions(Path(folder))
        for n_asked in (1, N_ASKED):
            some = asked.take(np.arange(n_asked))
            values = some.X.astype(np.float32)
            best = interleaved(
                3 if is_quick else ROUNDS,
                timed("ours", _repeated(n_asked, partial(loaded.predict, some))),
                timed("onnx", _repeated(n_asked, partial(_run, graphs, values))),
                timed("native", _repeated(n_asked, partial(_each, native, values))),
                at_most_seconds=AT_MOST_SECONDS,
            ).seconds
            best = {name: seconds / REPEATS[n_asked] for name, seconds in best.items()}
            what = f"{kind}, {'one row' if n_asked == 1 else f'{n_asked:,} rows'}"
            most = MOST_SECONDS[n_asked]
            rows += [
                Row(f"{what}: ONNX", best["ours"], best["onnx"], n_asked, most_seconds=most),
                Row(f"{what}: native", best["ours"], best["native"], n_asked),
            ]
    return Section(
        title="Inference",
        about=(
            f"Quantiles of {len(HORIZON_BARS)} horizons from the loaded artefact of each family of "
            f"trees, default parameters, fitted on {len(examples):,} rows and calibrated: from "
            "rows in memory to 17 calibrated quantiles a horizon. The first peer is bare ONNX "
            "Runtime on the same graphs with the same float32 values, the second the library that "
            "fitted the trees on them (lightgbm.Booster.predict, xgboost.Booster.inplace_predict, "
            "CatBoost.predict, RandomForestClassifier.predict_proba); neither makes quantiles. All "
            f"on one thread. Best of up to {ROUNDS}, each of "
            f"{REPEATS[1]} calls with one row or {REPEATS[N_ASKED]} with {N_ASKED:,} rows."
        ),
        data=f"{len(examples):,} rows x {N_FEATURES} features, normal",
        data_sha256=array_sha256(examples.X, examples.y),
        rows=tuple(rows),
    )


def make_examples(n_rows: int) -> Examples:
    """Symbols whose volatility follows the first feature and whose direction the second, so that
    all trees are there: of a location and of a scale for each horizon.
    """
    generator = np.random.default_rng(SEED)
    n_days = n_rows // N_SYMBOLS
    days = np.datetime64("2015-01-01T21:00", "us") + np.arange(n_days) * np.timedelta64(1, "D")
    as_of = np.repeat(days, N_SYMBOLS)
    X = generator.standard_normal((len(as_of), N_FEATURES))
    noise = generator.standard_normal((len(as_of), len(HORIZON_BARS)))
    units = 0.01 * np.sqrt(HORIZON_BARS)
    return Examples(
        X=X,
        symbol=np.tile(np.arange(N_SYMBOLS, dtype=np.int32), n_days),
        as_of=as_of,
        scale=np.full(len(as_of), 0.01),
        climatology=np.tile(units[:, None] * dist.SCORES, (len(as_of), 1, 1)),
        feature_names=tuple(f"feature_{number}" for number in range(N_FEATURES)),
        tickers=tuple(f"S{number}" for number in range(N_SYMBOLS)),
        horizons=("1D", "1W"),
        horizon_bars=HORIZON_BARS,
        y=(0.3 * X[:, 1, None] + np.exp(0.3 * X[:, :1]) * noise) * units,
        end_at=as_of[:, None] + HORIZON_BARS * np.timedelta64(1, "D"),
        weight=np.ones(len(as_of)),
    )


@contextmanager
def _recorded_forests() -> Iterator[list[Any]]:
    # A forest of ours keeps its graph and lets scikit-learn's go.
    forests: list[Any] = []
    make = ForestGraph.of

    def recorded(forest: Any, *rest: Any) -> ForestGraph:
        forests.append(forest)
        return make(forest, *rest)

    with patch.object(ForestGraph, "of", recorded):
        yield forests


def _native(fitted: Calibrated, forests: list[Any]) -> list[Callable[[np.ndarray], object]]:
    if forests:
        full = max(len(forest.estimators_) for forest in forests)
        chosen = [forest for forest in forests if len(forest.estimators_) == full]
        return [forest.predict_proba for forest in chosen[-len(HORIZON_BARS) :]]
    model: Any = fitted.model
    parts = [*vars(model)["_locations"], *vars(model)["_scales"]]
    return [part.predict for part in parts if not isinstance(part, Constant)]


def _sessions(folder: Path) -> list[onnxruntime.InferenceSession]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return [
        onnxruntime.InferenceSession(path.read_bytes(), options) for path in folder.glob("*.onnx")
    ]


def _repeated(n_asked: int, work: Callable[[], object]) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(REPEATS[n_asked]):
            work()

    return repeat


def _each(native: list[Callable[[np.ndarray], object]], values: np.ndarray) -> None:
    for predict in native:
        predict(values)


def _run(graphs: list[onnxruntime.InferenceSession], values: np.ndarray) -> None:
    for graph in graphs:
        graph.run(None, {graph.get_inputs()[0].name: values})
