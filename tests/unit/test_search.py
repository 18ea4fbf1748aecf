"""Hyper-parameter search: seeded, resumable, and blind to the holdout."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast import metrics
from candlecast.domain.spec_text import as_toml
from candlecast.domain.specs import (
    ExperimentSpec,
    FeatureSpec,
    LabelSpec,
    ModelSpec,
    SplitSpec,
    TensorSpec,
)
from candlecast.errors import BadArtifact, FitFailed, InvalidSpec, LeakageError, NotFound
from candlecast.models.search import (
    CUT_OFF,
    Search,
    best_of,
    default_table,
    give_up_cut_off,
    parse_space,
    read_trials,
    run_trials,
    scored_bands,
    skill_by_fold,
)
from candlecast.validation.splits import before_holdout
from markets import make_examples

SPEC = ExperimentSpec(
    model=ModelSpec("online", calibration="none"), splits=SplitSpec(n_splits=2), seed=5
)
TABLE = {"half_life_days": {"low": 5.0, "high": 2000.0, "log": True}}


def search_of(folder: Path, examples=None, spec: ExperimentSpec = SPEC, table=TABLE) -> Search:
    examples = make_examples(seed=3, n_days=40) if examples is None else examples
    return Search(
        id="trial-search",
        spec=spec,
        space=parse_space(spec.model.kind, table),
        examples=before_holdout(examples, spec.splits),
        journal=folder / "journal.log",
    )


def test_one_worker_makes_the_same_trials_every_time_also_when_interrupted(tmp_path: Path) -> None:
    whole = search_of(tmp_path / "whole")
    run_trials(whole, 10)
    parts = search_of(tmp_path / "parts")
    run_trials(parts, 4)
    # Killed in the middle of a line.
    with parts.journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    run_trials(search_of(tmp_path / "parts"), 6)
    told = [[replace(t) for t in read_trials(one)] for one in (whole, parts)]
    assert told[0] == told[1]
    assert len({tuple(trial.parameters.items()) for trial in told[0]}) > 6
    other = search_of(tmp_path / "other", spec=replace(SPEC, seed=6))
    run_trials(other, 1)
    assert read_trials(other)[0].parameters != told[0][0].parameters


def test_garbage_in_the_holdout_changes_nothing(tmp_path: Path) -> None:
    honest = make_examples(seed=3, n_days=40)
    first_held = np.unique(honest.as_of)[32]
    is_held = honest.as_of >= first_held
    rng = np.random.default_rng(1)
    spoilt = replace(
        honest,
        X=np.where(is_held[:, None], rng.standard_normal(honest.X.shape) * 1e6, honest.X),
        y=np.where(honest.end_at > first_held, 77.0, honest.y),
        scale=np.where(is_held, 9.9, honest.scale),
    )
    runs = []
    for name, examples in (("honest", honest), ("spoilt", spoilt)):
        search = search_of(tmp_path / name, examples)
        run_trials(search, 3)
        runs.append(read_trials(search))
    assert runs[0] == runs[1]


def test_a_trials_score_is_the_skill_of_a_walk_before_the_holdout(tmp_path: Path) -> None:
    from candlecast.models.online import Online
    from candlecast.validation.walk_forward import OutOfSample, walk_forward

    search = search_of(tmp_path)
    splits = replace(SPEC.splits, holdout_share=0.0)
    folds = walk_forward(lambda past: Online().fit(past), search.examples, splits)
    made, shown = OutOfSample.of(folds), search.examples
    expected = [
        metrics.skill(
            metrics.crps(made.quantiles[:, h], shown.y[made.rows, h]),
            metrics.crps(shown.climatology[made.rows, h], shown.y[made.rows, h]),
        )
        for h in range(2)
    ]
    spec = replace(SPEC, model=replace(SPEC.model, is_adaptive=False))
    assert scored_bands(spec) == "fitted"
    assert list(skill_by_fold(search, spec))[-1] == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_trial_is_scored_by_the_bands_that_are_served(tmp_path: Path) -> None:
    from candlecast.models.adaptive import adapted
    from candlecast.models.online import Online
    from candlecast.validation.walk_forward import OutOfSample, walk_forward

    search = search_of(tmp_path)
    splits = replace(SPEC.splits, holdout_share=0.0)
    folds = list(walk_forward(lambda past: Online().fit(past), search.examples, splits))
    expected = []
    for n_folds in (1, 2):
        made, shown = OutOfSample.of(folds[:n_folds]), search.examples
        served, tested = adapted(made.quantiles, shown, made.rows), shown.take(made.rows)
        skills = [
            metrics.skill(
                metrics.crps(served[:, h], tested.y[:, h]),
                metrics.crps(tested.climatology[:, h], tested.y[:, h]),
            )
            for h in range(2)
        ]
        expected.append(np.mean(skills))
    assert scored_bands(SPEC) == "adapted"
    assert list(skill_by_fold(search, SPEC)) == pytest.approx(expected, rel=1e-12)


def test_hopeless_trials_are_given_up_and_failed_ones_tell_why(tmp_path: Path) -> None:
    members = (ModelSpec("climatology"), ModelSpec("har"))
    spec = replace(
        SPEC,
        splits=SplitSpec(n_splits=3),
        model=ModelSpec("averaging", members=members, calibration="none"),
    )
    table = {"weights": {"choices": ["1,0", "0,1", "1,1", "1,1,1"]}}
    examples = make_examples(seed=3, n_days=200, volatility_signal=0.6)
    search = search_of(tmp_path, examples, spec, table)
    run_trials(search, 14)
    trials = read_trials(search)
    states = {state: [t for t in trials if t.state == state] for state in ("pruned", "failed")}
    assert states["failed"]
    assert all("give 2 numbers" in t.reason and t.score is None for t in states["failed"])
    assert all(len(t.by_fold) < 3 for t in states["pruned"])
    assert best_of(trials).parameters == {"weights": "0,1"}
    with pytest.raises(FitFailed, match="give 2 numbers"):
        best_of(states["failed"])


@pytest.mark.parametrize(
    "error", [BadArtifact("off by 0.01"), np.linalg.LinAlgError("singular matrix")]
)
def test_a_draw_that_cannot_be_fitted_does_not_end_the_search(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from candlecast.models import search as module

    n_tried = 0

    def second_fails(*_):
        nonlocal n_tried
        n_tried += 1
        if n_tried == 2:
            raise error
        yield 0.01

    monkeypatch.setattr(module, "skill_by_fold", second_fails)
    search = search_of(tmp_path)
    run_trials(search, 3)
    trials = read_trials(search)
    assert [trial.state for trial in trials] == ["complete", "failed", "complete"]
    assert trials[1].reason == str(error)
    assert len({tuple(trial.parameters.items()) for trial in trials}) == 3


def test_a_leak_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from candlecast.models import search as module

    def leaks(*_):
        raise LeakageError("known after as_of")
        yield

    monkeypatch.setattr(module, "skill_by_fold", leaks)
    with pytest.raises(LeakageError):
        run_trials(search_of(tmp_path), 1)


def test_a_trial_whose_process_is_gone_is_closed_and_made_again(tmp_path: Path) -> None:
    from candlecast.models import search as module

    whole, killed = search_of(tmp_path / "whole"), search_of(tmp_path / "killed")
    run_trials(whole, 3)
    run_trials(killed, 1)
    trial = module._study(killed).ask()
    trial.suggest_float("half_life_days", 5.0, 2000.0, log=True)
    assert len(read_trials(killed)) == 1
    give_up_cut_off(killed)
    assert "process" in read_trials(killed)[1].reason
    run_trials(killed, 2)
    ended = [trial for trial in read_trials(killed) if trial.reason != CUT_OFF]
    assert [t.parameters for t in ended] == [t.parameters for t in read_trials(whole)]
    assert [t.by_fold for t in ended] == [t.by_fold for t in read_trials(whole)]


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"half_life_days": 5},
        {"half_life_days": {"low": 5.0}},
        {"half_life_days": {"low": 5.0, "high": 1.0}},
        {"half_life_days": {"low": 0.0, "high": 1.0, "log": True}},
        {"half_life_days": {"low": "a", "high": 1.0}},
        {"half_life_days": {"choices": []}},
        {"half_life_days": {"choices": ["much"]}},
        {"half_life": {"choices": [1.0]}},
        {"seed": {"choices": [1]}},
    ],
)
def test_a_space_that_makes_no_sense_is_refused(table: dict) -> None:
    with pytest.raises((InvalidSpec, NotFound), match=r"half_life|search|seed"):
        parse_space("online", table)


@pytest.mark.parametrize(
    "kind",
    [
        *("lightgbm", "xgboost", "catboost", "forest"),
        *("lstm", "transformer", "online", "stacking"),
    ],
)
def test_what_a_family_suggests_to_search_is_what_it_takes(kind: str) -> None:
    assert parse_space(kind, default_table(kind))


words = st.text(max_size=8)
parameters = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.one_of(st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False), words),
    max_size=3,
)
models = st.recursive(
    st.builds(
        ModelSpec,
        words,
        parameters,
        tensors=st.sampled_from([None, TensorSpec(("1d", "1h"), ("har_1",), 9)]),
    ),
    lambda inner: st.builds(ModelSpec, words, parameters, members=st.tuples(inner, inner)),
    max_leaves=4,
)


@settings(deadline=None, max_examples=30)
@given(names=st.lists(words, max_size=9), label=parameters, model=models)
def test_a_spec_as_toml_is_read_back_as_it_was(names, label, model) -> None:
    spec = ExperimentSpec(
        symbols=tuple(names),
        features=FeatureSpec(tuple(names)),
        labels=LabelSpec(parameters=label),
        model=model,
    )
    assert ExperimentSpec.from_mapping(tomllib.loads(as_toml(spec))) == spec
