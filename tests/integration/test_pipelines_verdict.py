"""The report's verdict on markets whose truth is known; `make soak` asks many more seeds."""

import pytest

from seeded_runs import Run, reported, verdicts

FEW = range(3)


@pytest.mark.parametrize("seed", FEW)
def test_a_random_walk_shows_no_skill(seed):
    assert set(verdicts(reported(Run("random_walk", "har", seed))).values()) == {"no skill"}


def test_a_random_walk_shows_the_default_model_no_skill():
    found = verdicts(reported(Run("random_walk", "lightgbm", seed=0, n_splits=3)))
    assert set(found.values()) == {"no skill"}


@pytest.mark.parametrize("seed", FEW)
def test_volatility_regimes_are_found_in_the_distribution_and_not_in_the_direction(seed):
    report = reported(Run("regimes", "har", seed, n_sessions=2500))
    assert verdicts(report)["1D"] == "skill in the distribution"
    assert report["horizons"]["1D"]["crps_skill_vs_climatology"] > 0.02
    assert report["horizons"]["1D"]["coverage"]["0.8"] == pytest.approx(0.8, abs=0.03)
    assert {card["tests"]["direction"]["verdict"] for card in report["horizons"].values()} == {
        "no skill"
    }
