"""Evaluate an experiment in full: scores out of sample, references, tests, importances, report."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast.domain import distribution as dist
from candlecast.domain.catalog import MODELS, Forecaster
from candlecast.domain.described import to_mapping
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples
from candlecast.domain.spec_text import as_toml
from candlecast.domain.specs import ExperimentSpec, ModelSpec
from candlecast.models import explain
from candlecast.models.artifact import LIBRARIES, installed
from candlecast.pipelines import evidence
from candlecast.pipelines.dataset import TrainingSet
from candlecast.pipelines.evaluate import evaluate_training_set, out_of_sample
from candlecast.pipelines.gated import make_gated_set, read_experiment
from candlecast.pipelines.pair_tests import pair_tests
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.trials import study_of
from candlecast.reports.calibration import calibration
from candlecast.reports.cards import by_part, cards, confusions
from candlecast.reports.evaluation import Evaluation
from candlecast.reports.files import check_folder, write_report
from candlecast.reports.scored import score
from candlecast.store.stores import Stores
from candlecast.store.trials import count_trials
from candlecast.validation.walk_forward import OutOfSample

REFERENCES: Final = ("ewma", "garch")
"""Models that every other is held against, fitted in the same folds; climatology needs no fit."""
GAIN, PERMUTATION, CONTRIBUTION = "gain", "permutation", "contribution"


def evaluate_in_full(
    stores: Stores,
    spec: ExperimentSpec,
    folder: Path,
    *,
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> tuple[Evaluation, dict[str, Any]]:
    """Walk forward, score, explain, and write the report into `folder`; also the ledger's report.

    The models of all folds are fitted again even where the run stands in the ledger, which keeps
    their forecasts but not them: importances need them. Conflict where `folder` holds something
    else than a report, or a feature fails a gate.
    """
    check_folder(folder)
    spec, market = read_experiment(stores, spec, as_of)
    training, _ = make_gated_set(stores, spec, market, progress)
    models: dict[int, Forecaster] = {}
    made = out_of_sample(training, progress, models.__setitem__)
    card = evaluate_training_set(stores, training, progress, made)
    n_trials = count_trials(stores.database, study_of(spec))
    evaluation = evaluated(training, made, models, n_trials=n_trials, progress=progress)
    write_report(folder, evaluation)
    return evaluation, card


def evaluated(
    training: TrainingSet,
    made: OutOfSample,
    models: Mapping[int, Forecaster],
    *,
    n_trials: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """All that there is to say of the forecasts `made` by the `models` of the folds."""
    stored = replace(made, quantiles=dist.as_stored(made.quantiles))
    references = _references(training, progress)
    progress("scores", 0, 1)
    counts = evidence.past_counts(training)[made.rows]
    rows = score(training.examples, stored, training.spec.labels.threshold, references, counts)
    overall = evidence.with_direction_intervals(by_part(rows), rows)
    calibrated = evidence.with_intervals(calibration(rows), rows)
    tests = pair_tests(rows, n_trials)
    compared, uniform = evidence.comparisons(rows, tests), evidence.uniformity(rows)
    progress("scores", 1, 1)
    importances, deletions = _explained(training, made, models, progress)
    return Evaluation(
        facts=_facts(training, made, n_trials),
        verdicts=evidence.verdicts(rows, tests),
        overall=overall,
        per_fold=cards(rows, ["part", "fold"]),
        per_symbol=cards(rows, ["symbol"]),
        per_year=cards(rows, ["year"]),
        confusion=confusions(rows),
        calibration=calibrated,
        comparisons=compared,
        uniformity=uniform,
        importances=importances,
        deletions=deletions,
    )


def _references(training: TrainingSet, progress: Progress) -> dict[str, FloatArray]:
    # In the same folds, calibrated in the same way as by default.
    found = {}
    for kind in REFERENCES:
        if kind in MODELS and training.spec.model.kind != kind:
            own = replace(training, spec=replace(training.spec, model=ModelSpec(kind=kind)))
            progress(f"reference {kind}", 0, 1)
            found[kind] = dist.as_stored(out_of_sample(own).quantiles)
            progress(f"reference {kind}", 1, 1)
    return found


def _explained(
    training: TrainingSet,
    made: OutOfSample,
    models: Mapping[int, Forecaster],
    progress: Progress,
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    found: dict[str, dict[int, dict[str, float]]] = {}
    deletions = []
    for done, (fold, model) in enumerate(sorted(models.items()), 1):
        tested = explain.sampled(training.examples.take(made.rows[made.fold == fold]))
        if len(tested):
            for measure, values in _importances(model, tested, training.spec.seed).items():
                found.setdefault(measure, {})[fold] = values
            if explain.attentive(model) or explain.attributed(model):
                deleted = explain.deletion_test(model, tested, seed=training.spec.seed)
                deletions.append({"fold": fold, **asdict(deleted)})
        progress("importances", done, len(models))
    return _importance_frame(found, sorted(models)), deletions


def _importances(model: Forecaster, tested: Examples, seed: int) -> dict[str, dict[str, float]]:
    found = {PERMUTATION: explain.permutation_importances(model, tested, seed=seed)}
    if gains := explain.gains(model):
        found[GAIN] = gains
    knows = explain.attributed(model)
    if knows is not None and gains:
        found[CONTRIBUTION] = explain.mean_contributions(knows, tested)
    return found


def _importance_frame(
    found: dict[str, dict[int, dict[str, float]]], folds: list[int]
) -> pl.DataFrame:
    rows = [
        {
            "measure": measure,
            "rank": rank,
            "feature": name,
            "mean": mean,
            "std": deviation,
            **{f"fold_{fold}": found[measure].get(fold, {}).get(name) for fold in folds},
        }
        for measure in sorted(found)
        for rank, (name, mean, deviation) in enumerate(explain.ranked(found[measure]), 1)
    ]
    numbers = ("mean", "std", *(f"fold_{fold}" for fold in folds))
    names = {"measure": pl.String, "rank": pl.Int64, "feature": pl.String}
    return pl.DataFrame(rows, schema={**names, **dict.fromkeys(numbers, pl.Float64)})


def _facts(training: TrainingSet, made: OutOfSample, n_trials: int) -> dict[str, Any]:
    spec, examples = training.spec, training.examples
    used = sorted({training.examples.tickers[code] for code in examples.symbol[made.rows]})
    libraries = {name: found for name in LIBRARIES if (found := installed(name))}
    return {
        "spec_id": spec.id,
        "spec": to_mapping(spec),
        "toml": as_toml(spec),
        "run_id": training.set_id,
        "seed": spec.seed,
        "as_of": training.market.as_of.isoformat(),
        "data_sha256": training.sha256,
        "data_from": _day(examples.as_of.min()),
        "data_until": _day(examples.as_of.max()),
        "tested_from": _day(examples.as_of[made.rows].min()),
        "tested_until": _day(examples.as_of[made.rows].max()),
        "n_examples": len(examples),
        "n_tested": len(made.rows),
        "n_folds": len(np.unique(made.fold)),
        "symbols": used,
        "simulated": sorted(training.market.simulated & {*used}),
        "features": list(examples.feature_names),
        "n_trials": n_trials,
        "shortfalls": training.shortfalls,
        "versions": {
            "candlecast": version("candlecast"),
            "python": platform.python_version(),
            **libraries,
        },
    }


def _day(instant: np.datetime64) -> str:
    return str(instant.astype("datetime64[D]"))
