"""Walk-forward out-of-sample forecasts into the ledger, settled and summarised."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from candlecast.domain import distribution as dist
from candlecast.domain.specs import ExperimentSpec
from candlecast.models.adaptive import adapted
from candlecast.models.conformal import make_model
from candlecast.pipelines.dataset import (
    Dataset,
    TrainingSet,
    training_set_id,
    weighted,
)
from candlecast.pipelines.forecast import make_forecasts
from candlecast.pipelines.gated import make_gated_set, read_experiment
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.report import ReportQuery, make_report
from candlecast.pipelines.settle import settle
from candlecast.pipelines.trials import note_trial, overall_skill
from candlecast.store import ledger
from candlecast.store.stores import Stores
from candlecast.validation.walk_forward import OnModel, OutOfSample, walk_forward


def evaluate(
    stores: Stores,
    spec: ExperimentSpec,
    *,
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Walk forward through what was known at `as_of`; returns the report of this run.

    A run that stands in the ledger already is not made again. Conflict names a feature that fails
    a gate: no track record is made of what looks ahead.
    """
    spec, market = read_experiment(stores, spec, as_of)
    run_id = training_set_id(spec, market, market.sha256())
    if not ledger.has_run(stores.database, run_id):
        training, _ = make_gated_set(stores, spec, market, progress)
        return evaluate_training_set(stores, training, progress)
    return _summary(stores, spec, run_id, progress)


def evaluate_training_set(
    stores: Stores,
    training: TrainingSet,
    progress: Progress = silent,
    made: OutOfSample | None = None,
) -> dict[str, Any]:
    """The same for a training set that is already built, and for forecasts already `made` of it."""
    spec, run_id = training.spec, training.set_id
    if not ledger.has_run(stores.database, run_id):
        forecasts = _forecasts(training, made or out_of_sample(training, progress))
        batch = ledger.Batch(
            timeframe=training.market.timeframe,
            origin="walk_forward",
            model_version=run_name(spec, run_id),
            run_id=run_id,
            created_at=stores.clock.now(),
            threshold_rule=spec.labels.threshold,
        )
        progress("ledger", 0, 1)
        ledger.append(stores.database, forecasts, batch)
        progress("ledger", 1, 1)
    return _summary(stores, spec, run_id, progress)


def out_of_sample(
    training: TrainingSet, progress: Progress = silent, on_model: OnModel | None = None
) -> OutOfSample:
    """The walk-forward forecasts of `training`, made in memory; no database is touched.

    `on_model(fold number, model)` is given the fitted model of each fold.
    """
    spec = training.spec
    folds = walk_forward(
        lambda examples: make_model(spec.model, spec.seed).fit(weighted(examples, spec.labels)),
        training.examples,
        spec.splits,
        lambda done, total: progress("walk-forward", done, total),
        on_model,
    )
    made = OutOfSample.of(folds)
    if not spec.model.is_adaptive:
        return made
    return replace(made, quantiles=adapted(made.quantiles, training.examples, made.rows))


def run_name(spec: ExperimentSpec, run_id: str) -> str:
    """What stands for a model version in the ledger rows of a walk-forward run."""
    return f"{spec.model.kind}-walk-forward-{run_id[:8]}"


def _forecasts(training: TrainingSet, made: OutOfSample) -> pl.DataFrame:
    rows, keys = training.rows.take(made.rows), training.keys[made.rows]
    dataset = Dataset(rows, keys, training.end_at[made.rows], {}, {})
    return make_forecasts(dataset, dist.as_stored(made.quantiles), training.spec.labels, made.fold)


def _summary(
    stores: Stores, spec: ExperimentSpec, run_id: str, progress: Progress
) -> dict[str, Any]:
    settle(stores, timeframe=spec.timeframe, progress=progress)
    progress("report", 0, 1)
    query = ReportQuery(
        timeframe=spec.timeframe,
        origins=("walk_forward",),
        model_version=run_name(spec, run_id),
        is_by_symbol=False,
        holdout_after=spec.splits.n_splits,
    )
    report = make_report(stores, query)
    note_trial(stores, spec, overall_skill(report), {"run": run_id})
    progress("report", 1, 1)
    return report
