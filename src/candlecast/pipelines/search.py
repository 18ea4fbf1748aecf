"""Search for a model's parameters on the years before the holdout, and count every trial."""

from __future__ import annotations

import inspect
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from candlecast.domain.catalog import MODELS
from candlecast.domain.described import content_hash
from candlecast.domain.specs import ExperimentSpec, ModelSpec
from candlecast.errors import InvalidSpec
from candlecast.models.search import (
    CUT_OFF,
    Search,
    Space,
    Trial,
    best_of,
    give_up_cut_off,
    read_trials,
    run_trials,
    scored_bands,
)
from candlecast.pipelines.dataset import (
    TrainingSet,
    training_set_id,
    weighted,
)
from candlecast.pipelines.gated import make_gated_set, read_experiment
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.trials import note_trial, study_of
from candlecast.pipelines.universe import Market
from candlecast.store.stores import Stores
from candlecast.store.trials import count_trials
from candlecast.validation.splits import before_holdout


@dataclass(frozen=True)
class SearchPlan:
    """What is tried: `n_trials` in all, earlier runs of the same search included, by `n_workers`
    processes; `folder` keeps the journals.
    """

    space: Space
    n_trials: int
    n_workers: int
    folder: Path

    def __post_init__(self) -> None:
        if self.n_trials < 1 or self.n_workers < 1:
            raise InvalidSpec("trials and workers are at least 1")


@dataclass(frozen=True)
class SearchRun:
    """The trials of a search, and the experiment of the best; `n_tried` specs were tried on this
    question by now, in this search and elsewhere.
    """

    id: str
    best: Trial
    spec: ExperimentSpec
    trials: list[Trial]
    n_tried: int


def search(
    stores: Stores,
    spec: ExperimentSpec,
    plan: SearchPlan,
    *,
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> SearchRun:
    """Try parameters of `spec.model` on what was known at `as_of`, never on the holdout.

    The same search on the same data has the same id and goes on where it stopped; one worker
    yields the same trials every time. Conflict names a feature that fails a gate; FitFailed when
    no trial came to an end.
    """
    named, market = read_experiment(stores, spec, as_of)
    training, _ = make_gated_set(stores, named, market, progress)
    made = _prepared(named, plan, training)
    give_up_cut_off(made)
    n_done = sum(trial.reason != CUT_OFF for trial in read_trials(made))
    _run(made, plan, min(n_done, plan.n_trials), progress)
    trials = [trial for trial in read_trials(made) if trial.reason != CUT_OFF]
    for trial in trials:
        told = {name: value for name, value in asdict(trial).items() if name != "score"}
        tried = _without_threads(made.with_parameters(trial.parameters), spec.model)
        told |= {"search": made.id, "bands": scored_bands(made.spec)}
        note_trial(stores, tried, trial.score, told)
    best = best_of(trials)
    chosen = spec.with_parameters(best.parameters)
    return SearchRun(made.id, best, chosen, trials, count_trials(stores.database, study_of(named)))


def search_id(spec: ExperimentSpec, space: Space, market: Market) -> str:
    """What all trials have in common, and how they are scored: all but what is searched."""
    fixed = {name: v for name, v in spec.model.parameters.items() if name not in space}
    model = replace(spec.model, parameters=fixed)
    set_id = training_set_id(replace(spec, model=model), market, market.sha256())
    shown = {name: asdict(values) for name, values in space.items()}
    return content_hash([set_id, shown, scored_bands(spec)])


def _prepared(spec: ExperimentSpec, plan: SearchPlan, training: TrainingSet) -> Search:
    name = search_id(spec, plan.space, training.market)
    return Search(
        id=name,
        spec=_with_threads(spec, plan.n_workers),
        space=plan.space,
        examples=before_holdout(training.examples, spec.splits),
        journal=plan.folder / f"{name}.log",
        prepare=partial(weighted, labels=spec.labels),
    )


def _run(made: Search, plan: SearchPlan, n_done: int, progress: Progress) -> None:
    total = plan.n_trials
    progress("trials", n_done, total)
    if plan.n_workers == 1:
        done = iter(range(n_done + 1, total + 1))
        run_trials(made, total - n_done, on_trial=lambda _: progress("trials", next(done), total))
        return
    shares = [(total - n_done + worker) // plan.n_workers for worker in range(plan.n_workers)]
    # Spawned: a fork after Polars or a learning library ran hangs for ever.
    with ProcessPoolExecutor(plan.n_workers, mp_context=get_context("spawn")) as pool:
        runs = [
            pool.submit(run_trials, made, share, worker)
            for worker, share in enumerate(shares)
            if share
        ]
        for share, run in zip(filter(None, shares), runs, strict=True):
            run.result()
            n_done += share
            progress("trials", n_done, total)


def _with_threads(spec: ExperimentSpec, n_workers: int) -> ExperimentSpec:
    # Workers share the processor; what a model yields does not depend on its threads.
    factory = MODELS.get(spec.model.kind)
    is_free = "n_jobs" in inspect.signature(factory).parameters
    if n_workers == 1 or not is_free or spec.model.parameters.get("n_jobs"):
        return spec
    return spec.with_parameters({"n_jobs": max(1, (os.cpu_count() or 1) // n_workers)})


def _without_threads(spec: ExperimentSpec, given: ModelSpec) -> ExperimentSpec:
    if "n_jobs" in given.parameters or "n_jobs" not in spec.model.parameters:
        return spec
    kept = {name: v for name, v in spec.model.parameters.items() if name != "n_jobs"}
    return replace(spec, model=replace(spec.model, parameters=kept))
