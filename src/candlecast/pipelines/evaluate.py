"""Walk-forward out-of-sample forecasts into the ledger, settled and summarised."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from candlecast.domain import distribution as dist
from candlecast.domain.specs import ExperimentSpec
from candlecast.models.conformal import make_model
from candlecast.pipelines.dataset import (
    Dataset,
    TrainingSet,
    make_training_set,
    read_training_market,
    training_set_id,
    weighted,
)
from candlecast.pipelines.demands import check_trainable, resolved
from candlecast.pipelines.forecast import make_forecasts
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.promote import refuse_leaks
from candlecast.pipelines.report import ReportQuery, make_report
from candlecast.pipelines.settle import settle
from candlecast.store import ledger
from candlecast.store.stores import Stores
from candlecast.validation.walk_forward import Fold, walk_forward


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
    check_trainable(spec)
    make_model(spec.model, spec.seed)  # an unknown kind or parameter is told before the work
    market = read_training_market(stores, spec, as_of)
    spec = resolved(spec, market)
    run_id = training_set_id(spec, market, market.sha256())
    if not ledger.has_run(stores.database, run_id):
        refuse_leaks(stores, spec, market, progress)
        progress("features and labels", 0, 1)
        training = make_training_set(spec, market)
        progress("features and labels", 1, 1)
        return evaluate_training_set(stores, training, progress)
    return _summary(stores, spec, run_id, progress)


def evaluate_training_set(
    stores: Stores, training: TrainingSet, progress: Progress = silent
) -> dict[str, Any]:
    """The same for a training set that is already built."""
    spec, run_id = training.spec, training.set_id
    if not ledger.has_run(stores.database, run_id):
        folds = walk_forward(
            lambda examples: make_model(spec.model, spec.seed).fit(weighted(examples, spec.labels)),
            training.examples,
            spec.splits,
            lambda done, total: progress("walk-forward", done, total),
        )
        forecasts = _out_of_sample(training, folds)
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


def run_name(spec: ExperimentSpec, run_id: str) -> str:
    """What stands for a model version in the ledger rows of a walk-forward run."""
    return f"{spec.model.kind}-walk-forward-{run_id[:8]}"


def _out_of_sample(training: TrainingSet, folds: list[Fold]) -> pl.DataFrame:
    index = np.concatenate([fold.rows for fold in folds])
    quantiles = dist.as_stored(np.concatenate([fold.quantiles for fold in folds]))
    keys = training.keys[index]
    dataset = Dataset(training.rows.take(index), keys, training.end_at[index], {}, {})
    numbers = np.concatenate([np.full(len(fold.rows), fold.number) for fold in folds])
    return make_forecasts(dataset, quantiles, training.spec.labels, numbers)


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
    )
    report = make_report(stores, query)
    progress("report", 1, 1)
    return report
