"""Search, selection and updates as pipelines: counted, resumed, and beside what was there."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest

from candlecast.domain.spec_text import as_toml
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, LabelSpec, ModelSpec
from candlecast.errors import Conflict, FitFailed, InvalidSpec, NotFound
from candlecast.models.adaptive import AdaptiveState
from candlecast.models.conformal import load_model
from candlecast.models.search import parse_space
from candlecast.pipelines.dataset import make_training_set, read_training_market
from candlecast.pipelines.demands import resolved
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.search import SearchPlan, search
from candlecast.pipelines.select import select
from candlecast.pipelines.train import train
from candlecast.pipelines.trials import study_of
from candlecast.pipelines.update import update
from candlecast.store.calibration import StoredState, read_states, write_states
from candlecast.store.database import Database
from candlecast.store.trials import TrialRecord, count_trials, read_trials, write_trial
from command_line import call
from integration.store_rows import day
from pipeline_rows import HAR, at, closing, opened, put, sample_bars

BARS = sample_bars("AAPL", "IBM", n_sessions=480)
SPEC = replace(
    HAR,
    features=FeatureSpec(("har_1", "har_5", "har_22", "rsi_14")),
    labels=LabelSpec(horizons=("1D",)),
    model=ModelSpec("online", calibration="none"),
)
SPACE = parse_space("online", {"half_life_days": {"low": 50.0, "high": 2000.0, "log": True}})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    with opened(f"sqlite:///{folder}/candlecast.db", folder) as stores:
        put(stores, BARS)
    return folder


@pytest.fixture
def stores(home):
    with opened(f"sqlite:///{home}/candlecast.db", home) as found:
        yield found


def plan_of(folder: Path, n_trials: int, n_workers: int = 1) -> SearchPlan:
    return SearchPlan(SPACE, n_trials, n_workers, folder / "studies")


def test_a_search_goes_on_where_it_stopped_and_counts_every_trial(stores, tmp_path) -> None:
    told = []
    first = search(stores, SPEC, plan_of(tmp_path, 3))
    more = search(stores, SPEC, plan_of(tmp_path, 5), progress=lambda *step: told.append(step))
    assert (more.id, more.trials[:3]) == (first.id, first.trials)
    assert [trial.number for trial in more.trials] == list(range(5))
    assert next(step for step in told if step[0] == "trials") == ("trials", 3, 5)
    named = replace(SPEC, symbols=("AAPL", "IBM"))
    study = study_of(named)
    tried = {orjson.loads(t.spec)["model"]["parameters"]["half_life_days"]: t.score
             for t in read_trials(stores.database, study)}  # fmt: skip
    assert tried == {trial.parameters["half_life_days"]: trial.score for trial in more.trials}
    assert more.n_tried == len(tried) == 5
    details = [orjson.loads(trial.details) for trial in read_trials(stores.database, study)]
    assert {one["bands"] for one in details} == {"adapted"}
    assert more.best.score == max(trial.score for trial in more.trials if trial.score is not None)
    # The best is trained as it is printed, and what is trained counts as tried, once.
    chosen = ExperimentSpec.from_mapping(tomllib.loads(as_toml(more.spec)))
    assert chosen == more.spec
    evaluate(stores, replace(SPEC, model=ModelSpec("har")))
    evaluate(stores, chosen)
    assert count_trials(stores.database, study) == 6


def test_workers_share_the_journal(stores, tmp_path) -> None:
    run = search(stores, SPEC, plan_of(tmp_path, 4, n_workers=2))
    assert sorted(trial.number for trial in run.trials) == [0, 1, 2, 3]
    assert len({trial.parameters["half_life_days"] for trial in run.trials}) == 4
    with pytest.raises(InvalidSpec, match="workers"):
        plan_of(tmp_path, 4, n_workers=0)


def test_search_and_selection_are_given_nothing_of_the_holdout(
    stores, tmp_path, monkeypatch
) -> None:
    given = []
    monkeypatch.setattr(
        "candlecast.pipelines.select.select_features",
        lambda fit, examples, splits, seed: given.append(examples),
    )
    monkeypatch.setattr(
        "candlecast.pipelines.search.run_trials",
        lambda made, *rest, **options: given.append(made.examples),
    )
    select(stores, SPEC)
    with pytest.raises(FitFailed, match="none of 0 trials"):
        search(stores, SPEC, plan_of(tmp_path / "none", 2))
    market = read_training_market(stores, SPEC, None)
    instants = np.unique(make_training_set(resolved(SPEC, market), market).examples.as_of)
    first_held = instants[len(instants) - round(0.2 * len(instants))]
    for examples in given:
        assert len(examples)
        assert examples.as_of.max() < first_held
        assert examples.end_at[~np.isnan(examples.y)].max() <= first_held
    assert len(given) == 2


def test_an_update_is_a_new_version_that_knows_as_much_as_one_trained_anew(
    tmp_path, stores_of_past
) -> None:
    stores, later = stores_of_past
    old = train(stores, SPEC).version
    assert update(stores).is_new is False
    put(at(stores, later), BARS)
    wide = AdaptiveState(0.3).to_mapping()
    lived = {"1D": StoredState(later - timedelta(days=3), 4, wide)}
    write_states(stores.database, old.version, lived)
    run = update(at(stores, later))
    assert run.is_new
    # Its bands begin as those of the old one stood, and its own outcomes are still to come.
    until = run.version.training_until
    begun = {"1D": StoredState(until, 0, wide)}
    assert read_states(stores.database, run.version.version, as_of=later) == begun
    assert run.version.kind == "online"
    assert run.version.training_until > old.training_until
    assert run.version.is_active
    assert stores.registry.get(old.version).is_active is False
    assert stores.registry.get(old.version).artifact_sha256 == old.artifact_sha256
    assert orjson.loads(run.version.metrics)["updated_from"] == old.version
    again = update(at(stores, later), old.version)
    assert (again.version.version, again.is_new) == (run.version.version, False)
    # Not the champion any more: what comes of the old one does not serve by itself.
    anew = train(at(stores, later), replace(SPEC, seed=8)).version
    models = [
        load_model(stores.registry.fetch(v.version), v.artifact_sha256).model
        for v in (run.version, anew)
    ]
    states = [[state.slopes for state in model._states] for model in models]
    np.testing.assert_allclose(states[0], states[1], rtol=1e-9, atol=1e-12)
    assert forecast(at(stores, later)).model_version == anew.version


@pytest.fixture
def stores_of_past(tmp_path):
    """Stores that hold all but the last thirty sessions, and when the last of these has ended."""
    days = BARS["ts"].unique().sort()
    cut, end = closing(days[-31]) + timedelta(hours=1), closing(days[-1]) + timedelta(hours=1)
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path, cut) as stores:
        put(stores, BARS)
        yield stores, end


def test_what_does_not_learn_by_updates_is_named(stores, monkeypatch) -> None:
    with pytest.raises(NotFound, match="unknown model version"):
        update(stores, "online-1")
    har = train(stores, replace(SPEC, model=ModelSpec("har"))).version
    with pytest.raises(InvalidSpec, match="har model, which does not learn by updates"):
        update(stores)
    online = train(stores, SPEC).version
    with pytest.raises(Conflict, match="knows all until"):
        update(stores, online.version, as_of=har.training_until - timedelta(days=30))
    fading = orjson.loads(online.spec)
    fading["labels"]["half_life_days"] = 250.0
    told = replace(online, spec=orjson.dumps(fading).decode())
    monkeypatch.setattr("candlecast.pipelines.update.chosen_model", lambda *_: told)
    with pytest.raises(InvalidSpec, match=r"the model's own half_life_days in model\.parameters"):
        update(stores, online.version)


def test_the_commands_print_what_train_takes(home, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CANDLECAST_HOME", str(home))
    path = tmp_path / "spec.toml"
    path.write_text(
        as_toml(SPEC) + "\n[search.parameters]\nhalf_life_days = { choices = [0.0, 900.0] }\n"
    )
    done = call("search", str(path), "--trials", "2")
    assert done.code == 0, done.err
    found = ExperimentSpec.from_mapping(tomllib.loads(done.out))
    assert found.model.parameters["half_life_days"] in {0.0, 900.0}
    told = orjson.loads(call("search", str(path), "--trials", "2", "--json").out)
    assert len(told["trials"]) == 2
    assert (home / "studies" / f"{told['search']}.log").is_file()
    path.write_text(as_toml(replace(SPEC, model=ModelSpec("linear", calibration="none"))))
    chosen = call("select", str(path))
    assert chosen.code in {0, 1}
    if chosen.code == 0:
        assert set(tomllib.loads(chosen.out)["features"]["names"]) <= set(SPEC.features.names)
    path.write_text("[search]\nname = 3\n")
    assert call("search", str(path)).code == 2


def test_the_paths_of_a_cross_validation_are_told_and_count_as_one_trial(
    home, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("CANDLECAST_HOME", str(home))
    path = tmp_path / "spec.toml"
    path.write_text(as_toml(replace(SPEC, model=ModelSpec("climatology", is_adaptive=False))))
    chosen = ["cross-validate", str(path), "--groups", "4", "--test-groups", "2"]
    stood = call("report", "--json").out
    rows = orjson.loads(call(*chosen, "--json").out)
    horizons = SPEC.labels.horizons
    assert [(row["path"], row["horizon"]) for row in rows] == [
        (path, horizon) for path in (1, 2, 3) for horizon in horizons
    ]
    assert all(abs(row["skill"]) < 1e-6 < row["crps"] for row in rows)
    told = call(*chosen).out.splitlines()
    assert told[0].startswith("CRPS skill over climatology on 3 paths")
    assert [line.partition(":")[0] for line in told[1:]] == list(horizons)
    assert call("report", "--json").out == stood
    with opened(f"sqlite:///{home}/candlecast.db", home) as stores:
        counted = read_trials(stores.database, study_of(replace(SPEC, symbols=("AAPL", "IBM"))))
    (tried,) = (trial for trial in counted if trial.kind == "climatology")
    assert abs(tried.score) < 1e-6
    assert "cross-validation" in tried.details
    refused = call(*chosen[:2], "--groups", "2")
    assert refused.code == 2
    assert "n_test_groups" in refused.err


def test_a_trial_is_counted_once_and_a_failed_one_may_still_succeed(database: Database) -> None:
    failed = TrialRecord("study", "spec", "{}", "har", None, '{"reason": "none"}', day(1))
    assert write_trial(database, failed)
    later = replace(failed, score=0.03, details="{}", created_at=day(2))
    assert not write_trial(database, later)
    assert not write_trial(database, replace(later, score=0.9))
    assert read_trials(database, "study") == [replace(later, created_at=day(1))]
    assert write_trial(database, replace(later, spec_id="other"))
    assert write_trial(database, replace(later, study="another"))
    assert (count_trials(database, "study"), count_trials(database, "none")) == (2, 0)
