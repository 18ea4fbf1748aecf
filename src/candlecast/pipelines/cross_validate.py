"""How far does skill depend on the span? A model over the paths of combinatorial purged CV."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.described import to_mapping
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples
from candlecast.domain.specs import ExperimentSpec
from candlecast.models.conformal import make_model
from candlecast.pipelines.dataset import TrainingSet, weighted
from candlecast.pipelines.gated import make_gated_set, read_experiment
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.trials import note_trial
from candlecast.store.stores import Stores
from candlecast.validation.combinatorial import (
    CombinatorialSpec,
    backtest_paths,
    combinatorial,
    group_numbers,
)
from candlecast.validation.splits import before_holdout


def cross_validate(
    stores: Stores,
    experiment: ExperimentSpec,
    spec: CombinatorialSpec,
    *,
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """The `path_skills` of an experiment on what was known at `as_of`, counted as a trial of it.

    Conflict names a feature that fails a gate.
    """
    named, market = read_experiment(stores, experiment, as_of)
    training, _ = make_gated_set(stores, named, market, progress)
    found = path_skills(training, spec, progress)
    skill = float(metrics.average(found["skill"].to_numpy()))
    note_trial(stores, named, skill, {"cross-validation": to_mapping(spec)})
    return found


def path_skills(
    training: TrainingSet, spec: CombinatorialSpec, progress: Progress = silent
) -> pl.DataFrame:
    """The skill over climatology of each backtest path and horizon, made in memory.

    Columns: path (from 1), horizon, n (outcomes), crps, crps_climatology and skill. The holdout of
    the experiment is left out. No forecast is stored: models that knew what came after leave no
    track record. For the same reason bands do not follow outcomes here, adaptive or not.
    """
    experiment = training.spec
    examples = before_holdout(training.examples, experiment.splits)
    group = group_numbers(examples.as_of, spec)
    paths = backtest_paths(spec)
    losses = np.full((spec.n_paths, *examples.y.shape), np.nan)
    made = combinatorial(
        lambda seen: make_model(experiment.model, experiment.seed).fit(
            weighted(seen, experiment.labels)
        ),
        examples,
        spec,
        lambda done, total: progress("cross-validation", done, total),
    )
    for split, rows, quantiles in made:
        path = np.argmax(paths == split.number, axis=0)[group[rows]]
        losses[path, rows] = _losses(dist.as_stored(quantiles), examples.y[rows])
    reference = _losses(examples.climatology, examples.y)
    return pl.concat(
        _path(number, own, reference, examples) for number, own in enumerate(losses, 1)
    )


def _losses(quantiles: FloatArray, y: FloatArray) -> FloatArray:
    flat = metrics.crps(quantiles.reshape(-1, dist.N_LEVELS), y.reshape(-1))
    return flat.reshape(y.shape)


def _path(
    number: int, losses: FloatArray, reference: FloatArray, examples: Examples
) -> pl.DataFrame:
    is_known = ~np.isnan(examples.y)
    columns = [
        (losses[known, horizon], reference[known, horizon])
        for horizon, known in enumerate(is_known.T)
    ]
    return pl.DataFrame(
        {
            "path": number,
            "horizon": examples.horizons,
            "n": is_known.sum(axis=0),
            "crps": [own.mean() for own, _ in columns],
            "crps_climatology": [other.mean() for _, other in columns],
            "skill": [metrics.skill(own, other) for own, other in columns],
        }
    )
