"""Forecasts by networks from a loaded artefact, one row and a thousand, on one thread."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.catalog import MODELS
from candlecast.domain.examples import Examples
from candlecast.domain.normalising import Normaliser
from candlecast.domain.sequences import Sequences, Tensors
from candlecast.domain.specs import TensorSpec
from datasets import array_sha256
from measure import Row, Section, interleaved, timed

N_FEATURES = 40
N_STEPS = 60
N_ROWS = 1_000
TIMEFRAMES = ("5m", "15m", "1h", "1d")
KINDS = {"lstm": TIMEFRAMES[:1], "transformer": TIMEFRAMES}
ROUNDS = 7
AT_MOST_SECONDS = 60.0
MOST_SECONDS_ONE, MOST_SECONDS_MANY = 0.010, 0.500


class RandomWindows:
    """Windows cut from one long random series of each timeframe."""

    def __init__(self, spec: TensorSpec, n_bars: int) -> None:
        shape = (n_bars, len(spec.timeframes), len(spec.features))
        rng = np.random.default_rng(1)
        self.spec, self.values = spec, rng.standard_normal(shape).astype(np.float32)

    def take(self, rows: np.ndarray) -> Tensors:
        """The steps that end at each row."""
        index = rows[:, None] + np.arange(self.spec.n_steps)
        values = self.values[index]
        shape = values.shape[:3]
        return Tensors(values, np.ones(shape, np.bool_), np.zeros((len(rows), shape[2]), "f4"))

    def fit_normaliser(self, until: datetime) -> Normaliser:
        """The units of all values."""
        known = np.ones(len(self.values), np.bool_)
        parts = ((self.values[:, place], known) for place in range(len(self.spec.timeframes)))
        return Normaliser.fit(self.spec, parts)


def measure(*, is_quick: bool) -> Section:
    """Time what a loaded network takes to answer, windows included."""
    rows, shown = [], []
    for kind, timeframes in KINDS.items():
        examples = _examples(timeframes)
        shown.append(examples.sequences.source.values)
        model = MODELS.get(kind)(n_epochs=1, max_batches=2, max_validation_rows=200).fit(examples)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder))
            n_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
            loaded = MODELS.get(kind).load(Path(folder))
        one = examples.take(np.array([7])).without_outcomes()
        many = examples.take(np.arange(N_ROWS)).without_outcomes()
        best = interleaved(
            2 if is_quick else ROUNDS,
            timed("one", lambda model=loaded, asked=one: model.predict(asked)),
            timed("many", lambda model=loaded, asked=many: model.predict(asked)),
            at_most_seconds=AT_MOST_SECONDS,
        ).seconds
        what = f"{kind}, {len(timeframes)} x {N_STEPS} steps, {n_bytes / 1e6:.1f} MB"
        rows.append(Row(f"{what}: one row", best["one"], None, 1, most_seconds=MOST_SECONDS_ONE))
        rows.append(
            Row(f"{what}: {N_ROWS:,} rows", best["many"], None, N_ROWS,
                most_seconds=MOST_SECONDS_MANY)
        )  # fmt: skip
    return Section(
        title="Networks answering",
        about=(
            "A network of default size is loaded from its artefact and asked for the quantiles of "
            f"two horizons; gathering and normalising windows of {N_FEATURES} features is part of "
            f"the time. ONNX Runtime on one thread. Best of {2 if is_quick else ROUNDS}."
        ),
        data=f"random series of {N_FEATURES} features",
        data_sha256=array_sha256(*shown),
        rows=tuple(rows),
    )


def _examples(timeframes: tuple[str, ...]) -> Examples:
    names = tuple(f"feature_{place}" for place in range(N_FEATURES))
    source = RandomWindows(TensorSpec(timeframes, names, N_STEPS), N_ROWS + N_STEPS)
    rng = np.random.default_rng(2)
    scale, bars = np.full(N_ROWS, 0.01), np.array([1, 5])
    as_of = np.datetime64("2020-01-01", "us") + np.arange(N_ROWS) * np.timedelta64(1, "D")
    units = scale[:, None] * np.sqrt(bars)
    return Examples(
        X=np.zeros((N_ROWS, 1)),
        symbol=np.zeros(N_ROWS, dtype=np.int32),
        as_of=as_of,
        scale=scale,
        climatology=units[..., None] * dist.SCORES,
        feature_names=("nothing",),
        tickers=("AAA",),
        horizons=("1D", "1W"),
        horizon_bars=bars,
        y=units * rng.standard_normal((N_ROWS, 2)),
        end_at=as_of[:, None] + bars * np.timedelta64(1, "D"),
        weight=np.ones(N_ROWS),
        sequences=Sequences(source, np.arange(N_ROWS)),
    )
