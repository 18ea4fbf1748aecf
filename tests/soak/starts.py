"""The demo and its parts in several processes that start at once, on either database."""

import pytest

from command_line import ended, start
from pipeline_rows import DAILY, all_rows, changes, opened, sample_bars

TOGETHER = 4
ROUNDS = range(3)
DEMO = ("demo", "--no-serve", "--json")


def at_once(*arguments, folder, **variables):
    """The answers of processes that were started together."""
    started = [start(*arguments, folder=folder, **variables) for _ in range(TOGETHER)]
    return [ended(process, timeout_seconds=1800) for process in started]


@pytest.mark.parametrize("number", ROUNDS)
def test_all_of_them_ingest_and_train_the_same_once(database_url, tmp_path, number):
    shared = {"folder": tmp_path, "CANDLECAST_DATABASE_URL": database_url}
    bars = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
    bars.write_parquet(tmp_path / "bars.parquet")
    answers = at_once("ingest", "files", "bars.parquet", "--json", **shared)
    assert [(answer.code, answer.err) for answer in answers] == [(0, "")] * TOGETHER
    assert sum(answer.json()["inserted"] for answer in answers) == len(bars)
    assert sum(answer.json()["revised"] for answer in answers) == 0
    answers = at_once("train", "--model", "har", "--n-splits", "2", "--json", **shared)
    assert [answer.code for answer in answers] == [0] * TOGETHER, [a.err for a in answers]
    (version,) = {answer.json()["version"] for answer in answers}
    rows = all_rows(database_url)
    assert len(rows["ml_model_versions"]) == len(rows["ml_training_sets"]) == 1
    assert len(rows["ml_predictions"]) == answers[0].json()["metrics"]["n_forecasts"]
    with opened(database_url, tmp_path / "var") as stores:
        assert stores.registry.champion(DAILY).version == version
        assert stores.registry.fetch(version).is_dir()


def test_the_demo_needs_nothing_but_the_database_and_runs_once_however_many_start(
    database_url, tmp_path
):
    shared = {"folder": tmp_path, "CANDLECAST_DATABASE_URL": database_url}
    answers = at_once(*DEMO, **shared)
    assert [answer.code for answer in answers] == [0] * TOGETHER, [a.err for a in answers]
    first = answers[0].json()
    assert all(answer.json() == first for answer in answers)
    assert len(first["forecasts"]) == 3 * 5
    assert set(first["shortfalls"]) == {"FB"}
    assert first["report"]["origins"] == ["walk_forward"]
    assert first["report"]["n_settled"] > 20_000
    before = all_rows(database_url)
    again = ended(start(*DEMO, **shared))
    assert again.json() == first
    assert changes(before, all_rows(database_url)) == {}
