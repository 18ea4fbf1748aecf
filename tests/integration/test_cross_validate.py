"""A model over the paths of combinatorial cross-validation, in calm and wild times."""

from dataclasses import replace

import numpy as np
import pytest

from candlecast.pipelines.cross_validate import path_skills
from candlecast.validation.combinatorial import CombinatorialSpec
from candlecast.validation.splits import before_holdout
from seeded_runs import Run, family, training_set

FIVE_PATHS = CombinatorialSpec(n_groups=6, n_test_groups=2)


@pytest.fixture(scope="module")
def training():
    run = Run("regimes", seed=1, n_symbols=3, n_sessions=1200, horizons=("1D", "1W"))
    return training_set(run, "har")


@pytest.fixture(scope="module")
def found(training):
    told = []
    table = path_skills(training, FIVE_PATHS, lambda *done: told.append(done))
    assert told[-1] == ("cross-validation", 15, 15)
    return table


def test_every_path_has_all_outcomes_before_the_holdout(training, found):
    seen = before_holdout(training.examples, training.spec.splits)
    n_known = (~np.isnan(seen.y)).sum(axis=0).tolist()
    assert found.select("path", "horizon", "n").rows() == [
        (path, horizon, n)
        for path in range(1, 6)
        for horizon, n in zip(("1D", "1W"), n_known, strict=True)
    ]


def test_the_skill_of_a_volatility_model_shows_on_every_path_and_none_is_like_another(found):
    daily = found.filter(horizon="1D")
    assert daily["skill"].min() > 0.02
    assert daily["skill"].n_unique() == 5
    assert daily["crps_climatology"].n_unique() == 1


def test_nothing_of_the_holdout_changes_a_path(training, found):
    examples = training.examples
    is_held = examples.as_of > before_holdout(examples, training.spec.splits).as_of[-1]
    changed = replace(examples, y=np.where(is_held[:, None], 9.0, examples.y))
    again = path_skills(replace(training, examples=changed), FIVE_PATHS)
    assert again.equals(found)


def test_climatology_itself_has_no_skill_on_any_path(training):
    spec = replace(training.spec, model=replace(family("climatology"), calibration="none"))
    table = path_skills(replace(training, spec=spec), FIVE_PATHS)
    assert table["skill"].to_list() == pytest.approx([0.0] * 10, abs=1e-6)
