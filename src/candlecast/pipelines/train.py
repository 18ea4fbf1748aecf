"""Fit a model on what is known, prove it by walk-forward, register it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from candlecast.domain.described import content_hash, to_mapping
from candlecast.domain.specs import ExperimentSpec
from candlecast.models.artifact import FORMAT
from candlecast.models.conformal import make_model, save_model
from candlecast.pipelines.adaptation import start_state
from candlecast.pipelines.audit import GateReport
from candlecast.pipelines.dataset import (
    TrainingSet,
    refused_simulations,
    training_set_id,
)
from candlecast.pipelines.evaluate import evaluate_training_set, run_name
from candlecast.pipelines.gated import make_gated_set, read_experiment
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.promote import promote
from candlecast.pipelines.training_sets import keep_manifest
from candlecast.pipelines.universe import Market, find_shortfalls
from candlecast.store.registry import ModelVersion
from candlecast.store.stores import Stores
from candlecast.validation.splits import newest_training


@dataclass(frozen=True)
class TrainRun:
    """The version (`is_active`: it serves), whether it is new, and who was left out."""

    version: ModelVersion
    is_new: bool
    shortfalls: dict[str, str]


def train(
    stores: Stores,
    spec: ExperimentSpec,
    *,
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> TrainRun:
    """Train on what was known at `as_of`, evaluate, register and make it the champion.

    First its features have to pass the gates: Conflict names the first that fails, and nothing is
    stored.

    The same spec on the same data is the same version and is not trained twice. A version trained
    on older data than the champion is registered but does not serve until it is activated.
    """
    named, market = read_experiment(stores, spec, as_of)
    absent = find_shortfalls(market, 0, set(spec.symbols) - set(market.tickers))
    absent |= refused_simulations(spec, market)
    name = version_name(named, market)
    known = {version.version: version for version in stores.registry.list()}
    # A version whose files were lost or damaged is fitted again, to the same bytes.
    if name in known and stores.registry.holds(name):
        return _run(_serving(stores, known[name], market, progress), absent, is_new=False)
    training, passed = make_gated_set(stores, named, market, progress)
    keep_manifest(stores, training)
    metrics = evaluate_training_set(stores, training, progress)
    metrics["shortfalls"] = training.shortfalls
    progress("final model", 0, 1)
    with tempfile.TemporaryDirectory() as folder:
        version = _fitted(stores, training, name, metrics, Path(folder))
        start_state(stores, version, run_name(named, training.set_id), training)
        stores.registry.add(version, Path(folder))
    progress("final model", 1, 1)
    return _run(_serving(stores, version, market, progress, passed), absent, is_new=True)


def version_name(spec: ExperimentSpec, market: Market) -> str:
    """Kind, date and content hash: what a version is called."""
    # What an earlier version has made is made again under another name.
    made = content_hash([training_set_id(spec, market, market.sha256()), FORMAT])
    return f"{spec.model.kind}-{market.as_of:%Y%m%d}-{made[:8]}"


def _run(version: ModelVersion, absent: dict[str, str], *, is_new: bool) -> TrainRun:
    shortfalls = orjson.loads(version.metrics)["shortfalls"] | absent
    return TrainRun(version, is_new, shortfalls)


def _serving(
    stores: Stores,
    version: ModelVersion,
    market: Market,
    progress: Progress,
    passed: GateReport | None = None,
) -> ModelVersion:
    # What was trained on less than the champion has seen does not replace it by itself.
    champion = stores.registry.champion(version.timeframe)
    if champion is not None and champion.training_until > version.training_until:
        return replace(version, is_active=False)
    return promote(stores, version.version, market, progress, passed=passed)


def _fitted(
    stores: Stores, training: TrainingSet, name: str, metrics: dict[str, Any], folder: Path
) -> ModelVersion:
    spec, market = training.spec, training.market
    until = np.datetime64(market.as_of.replace(tzinfo=None), "us")
    examples = newest_training(training.examples, until, spec.splits)
    model = make_model(spec.model, spec.seed).fit(examples)
    details = {
        "version": name,
        "feature_names": list(examples.feature_names),
        "horizons": list(examples.horizons),
        "training_set_id": training.set_id,
    }
    sha256 = save_model(model, spec.model, folder, details)
    return ModelVersion(
        version=name,
        kind=spec.model.kind,
        timeframe=market.timeframe,
        horizons=spec.labels.horizons,
        spec=orjson.dumps(to_mapping(spec), option=orjson.OPT_SORT_KEYS).decode(),
        metrics=orjson.dumps(metrics).decode(),
        artifact_sha256=sha256,
        training_from=_utc(examples.as_of[0]),
        training_until=market.as_of,
        training_set_id=training.set_id,
        stage="registered",
        is_active=False,
        created_at=stores.clock.now(),
    )


def _utc(instant: np.datetime64) -> datetime:
    moment: datetime = instant.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)
