"""The report's verdict on markets whose truth is known; `make soak` asks many more seeds."""

import pytest

from seeded_runs import Run, judged, reported, training_set, verdicts, verdicts_of

NO_SKILL = {"no skill"}
REGIMES = Run("regimes", seed=0, n_symbols=3, n_sessions=2200)


@pytest.mark.parametrize("seed", range(3))
def test_a_random_walk_shows_no_skill(seed):
    walk = Run("random_walk", seed, n_sessions=1000, n_splits=3)
    assert set(judged(walk, "har").values()) == NO_SKILL


def test_a_random_walk_shows_the_default_model_no_skill():
    walk = Run("random_walk", seed=0, n_sessions=1000, n_splits=2, horizons=("1D", "1W"))
    assert set(judged(walk, "lightgbm").values()) == NO_SKILL


@pytest.mark.parametrize("seed", range(1, 3))
def test_volatility_regimes_are_found_in_the_distribution_and_not_in_the_direction(seed):
    found = judged(Run("regimes", seed, n_sessions=2500), "har")
    assert found["1D"] == "skill in the distribution"
    assert not any("direction" in verdict for verdict in found.values())


def test_a_direction_that_the_last_return_tells_is_found():
    assert "direction" in judged(Run("momentum", seed=0), "linear")["1D"]


@pytest.fixture(scope="module")
def report():
    return reported(REGIMES, "har")


def test_what_went_through_the_database_is_judged_alike(report):
    assert verdicts(report) == verdicts_of(training_set(REGIMES, "har"))
    assert verdicts(report)["1D"] == "skill in the distribution"
    tests = [card["tests"]["direction"]["verdict"] for card in report["horizons"].values()]
    assert set(tests) == NO_SKILL


def test_the_card_of_a_market_with_regimes_is_skilled_and_covers_what_it_says(report):
    card = report["horizons"]["1D"]
    assert card["crps_skill_vs_climatology"] > 0.02
    assert card["coverage"]["0.8"] == pytest.approx(0.8, abs=0.03)


def test_the_holdout_stands_beside_the_rest_and_is_the_newest_part_of_it(report):
    held, whole = report["holdout"], report["horizons"]["1D"]
    assert report["start"] < held["start"] < held["end"] == report["end"]
    assert held["horizons"].keys() == report["horizons"].keys()
    # Five spans of a sixth of 80 % of the instants, and the holdout's 20 %.
    n_held, n_whole = held["horizons"]["1D"]["n_dates"], whole["n_dates"]
    assert n_held / n_whole == pytest.approx(0.2 / (0.8 * 5 / 6 + 0.2), abs=0.01)
    assert held["horizons"]["1D"]["crps"] != whole["crps"]
