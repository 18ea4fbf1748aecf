"""Hyper-parameter search: trials in a journal that any number of processes go on with.

A trial is a walk through the examples before the holdout, purged as every walk is. Its score is
the CRPS skill over climatology, averaged over the horizons, of the forecasts as they would be
served: adapted to the outcomes so far where the model is. After each fold it may be given up, when
what it has reached is worse than the median of the others at that point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from candlecast import metrics
from candlecast.domain.catalog import MODELS
from candlecast.domain.described import Parameter, check_parameters
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import CandlecastError, FitFailed, InvalidSpec, LeakageError
from candlecast.models.adaptive import adapted
from candlecast.models.conformal import make_model
from candlecast.validation.splits import walk_forward_splits
from candlecast.validation.walk_forward import fitted_folds, forecast_quantiles

if TYPE_CHECKING:
    import optuna

N_STARTUP: Final = 8
"""Trials drawn at random before the sampler learns from them, and before any is given up."""
CUT_OFF: Final = "the process ended before the trial did"
State: TypeAlias = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones when both ends are."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> Parameter:
        """What the sampler proposes."""
        if type(self.low) is int and type(self.high) is int:
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    choices: tuple[Parameter, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> Parameter:
        """What the sampler proposes."""
        place = trial.suggest_categorical(name, self.choices)
        return self.choices[self.choices.index(place)]


Space: TypeAlias = Mapping[str, Range | Choices]


@dataclass(frozen=True)
class Trial:
    """What came of one try: `score` is None where it failed, `reason` says why."""

    number: int
    parameters: dict[str, Parameter]
    score: float | None
    state: State
    by_fold: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Search:
    """What all trials of a search have in common.

    `examples` are those before the holdout and `spec.splits` keeps none from them; `prepare`
    gives training examples their weights.
    """

    id: str
    spec: ExperimentSpec
    space: Space
    examples: Examples
    journal: Path
    prepare: Callable[[Examples], Examples] = field(default=lambda examples: examples)

    def with_parameters(self, parameters: Mapping[str, Parameter]) -> ExperimentSpec:
        """The experiment of one trial."""
        return self.spec.with_parameters(parameters)


def parse_space(kind: str, table: Mapping[str, Any]) -> Space:
    """The space of a TOML table: name = {low, high, log} or {choices}.

    InvalidSpec or NotFound names the parameter that the kind does not take or that makes no sense.
    """
    if not table:
        raise InvalidSpec(
            f"nothing to search for {kind}: name parameters as [search.parameters], such as "
            "name = { low = 0.01, high = 0.2, log = true } or name = { choices = [15, 31] }"
        )
    space = {name: _parsed(name, value) for name, value in table.items()}
    for name, values in space.items():
        tried = values.choices if isinstance(values, Choices) else (values.low, values.high)
        for value in tried:
            check_parameters(kind, MODELS.get(kind), {name: value}, hidden=("seed", "members"))
    return space


def default_table(kind: str) -> Mapping[str, Any]:
    """What the family itself says is worth searching; empty where it says nothing."""
    return getattr(MODELS.get(kind), "search_space", {})


def skill_by_fold(search: Search, spec: ExperimentSpec) -> Iterator[float]:
    """The mean CRPS skill over the horizons on all rows up to each fold, oldest first."""
    examples, made, at = search.examples, [], []
    splits = walk_forward_splits(examples.as_of, replace(spec.splits, holdout_share=0.0))
    folds = fitted_folds(
        lambda past: make_model(spec.model, spec.seed).fit(search.prepare(past)),
        examples,
        splits,
    )
    for rows, model in folds:
        made.append(forecast_quantiles(model, examples.take(rows)))
        at.append(rows)
        quantiles, tested = np.concatenate(made), np.concatenate(at)
        if spec.model.is_adaptive:
            quantiles = adapted(quantiles, examples, tested)
        yield _mean_skill(quantiles, examples.take(tested))


def scored_bands(spec: ExperimentSpec) -> str:
    """Which bands the score of a trial is about: ``adapted`` to outcomes so far, or ``fitted``."""
    return "adapted" if spec.model.is_adaptive else "fitted"


def run_trials(
    search: Search,
    n_trials: int,
    worker: int = 0,
    on_trial: Callable[[Trial], None] | None = None,
) -> None:
    """Make so many further trials in this process; another may do the same at the same time.

    Each trial draws from a generator of its own, seeded by the spec's seed, the worker and how
    many trials there were, those that were cut off left out: a search that was interrupted goes
    on as if it had not been.
    """
    import optuna

    study = _study(search)
    for _ in range(n_trials):
        n_before = sum(_counts(trial) for trial in study.get_trials(deepcopy=False))
        entropy = np.random.SeedSequence([search.spec.seed, worker, n_before])
        seed = int(entropy.generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_STARTUP)
        trial = study.ask()
        parameters = {name: value.suggest(trial, name) for name, value in search.space.items()}
        _try(search, study, trial, parameters)
        if on_trial is not None:
            on_trial(_told(study.get_trials(deepcopy=False)[trial.number]))


def read_trials(search: Search) -> list[Trial]:
    """All trials that have come to an end, in the order in which they began."""
    return [_told(trial) for trial in _study(search).get_trials() if trial.state.is_finished()]


def give_up_cut_off(search: Search) -> None:
    """Close the trials of processes that are gone: call it when no other is at work."""
    import optuna

    study = _study(search)
    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def best_of(trials: list[Trial]) -> Trial:
    """The complete trial with the highest score, the earliest of several; FitFailed without any."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.score is not None]
    if not complete:
        reasons = [trial.reason for trial in trials if trial.reason]
        raise FitFailed(f"none of {len(trials)} trials came to an end; {'; '.join(reasons[:1])}")
    return max(complete, key=lambda trial: (trial.score, -trial.number))


def _mean_skill(quantiles: FloatArray, rows: Examples) -> float:
    skills = [
        metrics.skill(
            metrics.crps(quantiles[:, h], rows.y[:, h]),
            metrics.crps(rows.climatology[:, h], rows.y[:, h]),
        )
        for h in range(len(rows.horizons))
    ]
    return metrics.average(np.array(skills))


def _try(
    search: Search, study: optuna.Study, trial: optuna.Trial, parameters: dict[str, Parameter]
) -> None:
    from optuna.trial import TrialState

    for earlier in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if earlier.params == trial.params:  # the same again: no need to fit it again
            study.tell(trial, earlier.value)
            return
    score = float("nan")
    try:
        folds = skill_by_fold(search, search.with_parameters(parameters))
        for step, score in enumerate(folds, 1):
            trial.report(score, step)
            if step < search.spec.splits.n_splits and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return
    except LeakageError:
        raise
    except (CandlecastError, np.linalg.LinAlgError) as error:
        # Whatever it was, the same draw would end the search again: it counts as made.
        trial.set_user_attr("reason", str(error))
    else:
        if np.isfinite(score):
            study.tell(trial, score)
            return
        trial.set_user_attr("reason", "no outcome was known to score it by")
    study.tell(trial, state=TrialState.FAIL)


def _study(search: Search) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search.journal.parent.mkdir(parents=True, exist_ok=True)
    path = str(search.journal)
    # The lock is a file that only one can create: it works where symbolic links do not, and one
    # left by a process that was killed is broken after half a minute.
    lock = JournalFileOpenLock(path)
    lock.acquire()
    try:
        _mend(search.journal)
    finally:
        lock.release()
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(path, lock_obj=lock)),
        study_name=search.id,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(N_STARTUP, n_warmup_steps=1),
        load_if_exists=True,
    )


def _mend(journal: Path) -> None:
    # A line that was cut off by a crash would spoil the one after it.
    if journal.is_file() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _counts(trial: optuna.trial.FrozenTrial) -> bool:
    # Not one that was cut off: it will be made again, from the same draws.
    return trial.state.name != "FAIL" or "reason" in trial.user_attrs


def _told(trial: optuna.trial.FrozenTrial) -> Trial:
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned"}
    state = states.get(trial.state.name, "failed")
    by_fold = tuple(trial.intermediate_values[step] for step in sorted(trial.intermediate_values))
    score = trial.value if state == "complete" else by_fold[-1] if state == "pruned" else None
    reason = trial.user_attrs.get("reason", CUT_OFF) if state == "failed" else ""
    return Trial(trial.number, dict(trial.params), score, state, by_fold, reason)


def _parsed(name: str, value: Any) -> Range | Choices:
    shapes = ({"low", "high"}, {"low", "high", "log"}, {"choices"})
    if not isinstance(value, Mapping) or set(value) not in shapes:
        raise InvalidSpec(f"search of {name}: write {{ low, high, log }} or {{ choices }}")
    if "choices" in value:
        if not isinstance(value["choices"], list | tuple) or not value["choices"]:
            raise InvalidSpec(f"search of {name}: choices is a list of at least one value")
        return Choices(tuple(value["choices"]))
    low, high, log = value["low"], value["high"], value.get("log", False)
    is_sound = type(low) in {int, float} and type(high) in {int, float} and type(log) is bool
    if not is_sound or not np.isfinite([low, high]).all() or low > high or (log and low <= 0):
        raise InvalidSpec(
            f"search of {name}: low and high are numbers, low the smaller, positive where log"
        )
    return Range(low, high, log)
