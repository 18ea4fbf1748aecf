"""Let a registered model learn from what was settled since, as a new version beside the old."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from candlecast.domain.catalog import Updatable
from candlecast.domain.described import content_hash
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import Conflict, InvalidSpec
from candlecast.features.chosen import check_code
from candlecast.models.artifact import FORMAT
from candlecast.models.conformal import Calibrated, load_model, save_model
from candlecast.pipelines.adaptation import carry_states
from candlecast.pipelines.dataset import (
    TrainingSet,
    read_training_market,
    weighted,
)
from candlecast.pipelines.forecast import chosen_model
from candlecast.pipelines.gated import make_gated_set
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.promote import promote
from candlecast.pipelines.training_sets import keep_manifest
from candlecast.pipelines.universe import Market
from candlecast.store.registry import ModelVersion
from candlecast.store.stores import Stores


@dataclass(frozen=True)
class UpdateRun:
    """The version that has learnt, and whether it is new: nothing settled since, nothing new."""

    version: ModelVersion
    is_new: bool


def update(
    stores: Stores,
    version: str | None = None,
    *,
    timeframe: str = "1d",
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> UpdateRun:
    """A new version of `version` (the champion by default) that knows all settled by `as_of`.

    The old one stays as it is. The new one serves if the old one did, once its features have
    passed the gates on the newer data; its calibration is the old one's, and so is the state of
    its bands.

    Raises
    ------
    NotFound : no such version, or no champion.
    InvalidSpec : its kind does not learn by updates, or its labels lose weight with age.
    Conflict : `as_of` lies before the end of its training, or a feature fails a gate.
    """
    old = chosen_model(stores, Timeframe.parse(timeframe), version)
    spec = ExperimentSpec.from_mapping(orjson.loads(old.spec))
    check_code(spec.features)
    model = load_model(stores.registry.fetch(old.version), old.artifact_sha256)
    if not isinstance(model.model, Updatable):
        raise InvalidSpec(
            f"{old.version} is a {old.kind} model, which does not learn by updates; train it "
            "again with `candlecast train`, or use the kind online"
        )
    if spec.labels.half_life_days:
        raise InvalidSpec(
            f"the labels of {old.version} halve in weight every {spec.labels.half_life_days:g} "
            "days (labels.half_life_days), and what an update adds cannot make older ones lighter; "
            "train it again, with the model's own half_life_days in model.parameters instead"
        )
    market = read_training_market(stores, spec, as_of)
    if market.as_of <= old.training_until:
        if as_of is not None and as_of < old.training_until:
            raise Conflict(
                f"{old.version} knows all until {old.training_until:%Y-%m-%d %H:%M}; update it "
                "with what came later"
            )
        return UpdateRun(old, is_new=False)
    return _updated(stores, old, model, (spec, market), progress)


def _updated(
    stores: Stores,
    old: ModelVersion,
    model: Calibrated,
    asked: tuple[ExperimentSpec, Market],
    progress: Progress,
) -> UpdateRun:
    spec, market = asked
    name = _name(old, market)
    known = {found.version: found for found in stores.registry.list()}
    # A version whose files were lost or damaged is made again, to the same bytes.
    if name in known and stores.registry.holds(name):
        return UpdateRun(_serving(stores, old, known[name], market), is_new=False)
    training, _ = make_gated_set(stores, spec, market, progress)
    keep_manifest(stores, training)
    progress("update", 0, 1)
    assert isinstance(model.model, Updatable)
    until = np.datetime64(market.as_of.replace(tzinfo=None), "us")
    model.model.update(weighted(training.examples.known_by(until), spec.labels, market.as_of))
    with tempfile.TemporaryDirectory() as folder:
        new = _saved(stores, (old, name), model, training, Path(folder))
        carry_states(stores, old, new)
        stores.registry.add(new, Path(folder))
    progress("update", 1, 1)
    return UpdateRun(_serving(stores, old, new, market), is_new=True)


def _name(old: ModelVersion, market: Market) -> str:
    lineage = content_hash([old.version, market.as_of.isoformat(), market.sha256(), FORMAT])
    return f"{old.kind}-{market.as_of:%Y%m%d}-{lineage[:8]}"


def _saved(
    stores: Stores,
    names: tuple[ModelVersion, str],
    model: Calibrated,
    training: TrainingSet,
    folder: Path,
) -> ModelVersion:
    old, name = names
    details: dict[str, Any] = {
        "version": name,
        "feature_names": list(training.examples.feature_names),
        "horizons": list(training.examples.horizons),
        "training_set_id": training.set_id,
        "updated_from": old.version,
    }
    sha256 = save_model(model, training.spec.model, folder, details)
    # How it fared in the walk-forward of the version that it goes back to: nothing newer is known.
    metrics = orjson.loads(old.metrics) | {
        "updated_from": old.version,
        "shortfalls": training.shortfalls,
    }
    return replace(
        old,
        version=name,
        metrics=orjson.dumps(metrics).decode(),
        artifact_sha256=sha256,
        training_until=training.market.as_of,
        training_set_id=training.set_id,
        is_active=False,
        created_at=stores.clock.now(),
    )


def _serving(stores: Stores, old: ModelVersion, new: ModelVersion, market: Market) -> ModelVersion:
    return promote(stores, new.version, market) if old.is_active else new
