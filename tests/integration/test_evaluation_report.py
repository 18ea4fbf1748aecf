"""candlecast evaluate --report and explain, from the shell on real bars."""

import json

import polars as pl
import pytest

from command_line import call
from pipeline_rows import sample_bars

SPEC = """
min_bars = 300
[labels]
horizons = ["1D", "1W"]
[splits]
n_splits = 2
[model]
kind = "lightgbm"
[model.parameters]
n_estimators = 5
n_jobs = 1
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    sample_bars("AAPL", "IBM", "MSFT", n_sessions=700).write_parquet(folder / "bars.parquet")
    (folder / "spec.toml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CANDLECAST_HOME", str(folder / "var"))
        assert call("ingest", "files", "bars.parquet").code == 0
        folder.joinpath("told.txt").write_text(
            call("evaluate", "spec.toml", "--report", "out/report").out
        )
    return folder


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CANDLECAST_HOME", str(home / "var"))


def test_the_report_tells_the_model_its_references_and_what_it_rests_on(home):
    values = json.loads((home / "out/report/metrics.json").read_bytes())
    assert values["facts"]["spec"]["model"]["kind"] == "lightgbm"
    assert values["facts"]["symbols"] == ["AAPL", "IBM", "MSFT"]
    assert values["facts"]["n_trials"] >= 1
    references = {row["reference"] for row in values["comparisons"]}
    assert references == {"climatology", "ewma", "garch"}
    assert {row["part"] for row in values["overall"]} == {"all", "development", "holdout"}
    assert set(values["top_features"]) == {"gain", "permutation", "contribution"}
    assert all(len(top) == 10 for top in values["top_features"].values())
    assert {one["kind"] for one in values["deletions"]} == {"contributions"}
    told = (home / "told.txt").read_text()
    assert "Importance by permutation" in told
    assert "report.html" in told
    for part, found in values["verdicts"].items():
        assert f"{part}: {found['overall']['verdict']}" in told


def test_the_report_scores_the_same_forecasts_as_the_ledger(home):
    card = call("evaluate", "spec.toml", "--json").json()
    values = json.loads((home / "out/report/metrics.json").read_bytes())
    for row in values["overall"]:
        if row["part"] == "all":
            stored = card["horizons"][row["horizon"]]
            assert row["n"] == stored["n"]
            for ours, theirs in (
                ("crps", "crps"),
                ("direction_accuracy", "hit_rate"),
                ("crps_skill_climatology", "crps_skill_vs_climatology"),
                ("brier_skill_climatology", "brier_skill_vs_climatology"),
                ("coverage_80", None),
            ):
                expected = stored["coverage"]["0.8"] if theirs is None else stored[theirs]
                assert row[ours] == pytest.approx(expected, rel=1e-6)
    tests = {
        row["horizon"]: row["p_value"]
        for row in values["comparisons"]
        if (row["part"], row["loss"], row["reference"]) == ("all", "crps", "climatology")
    }
    for horizon, p_value in tests.items():
        stored = card["horizons"][horizon]["tests"]["distribution"]["p_value"]
        assert p_value == pytest.approx(stored, rel=1e-6)


def test_the_importances_have_a_column_for_each_fold(home):
    frame = pl.read_csv(home / "out/report/importances.csv")
    folds = [name for name in frame.columns if name.startswith("fold_")]
    assert len(folds) >= 2
    own = frame.filter(measure="permutation").sort("rank")
    assert own["mean"].is_sorted(descending=True)
    row = own.row(0, named=True)
    known = [row[name] for name in folds if row[name] is not None]
    assert row["mean"] == pytest.approx(sum(known) / len(known))


def test_a_folder_with_other_things_is_refused_before_any_work(home):
    answer = call("evaluate", "spec.toml", "--report", ".")
    assert (answer.code, answer.out) == (1, "")
    assert "name another" in answer.err


def test_a_wrong_call_of_explain_names_the_remedy(home):
    answer = call("explain", "AAPL", "--plot", "a.png")
    assert answer.code == 2
    assert ".svg" in answer.err
    answer = call("explain", "AAPL", "--plot", "absent/a.svg")
    assert answer.code == 2
    assert "there is no folder absent" in answer.err
    answer = call("explain", "AAPL")
    assert answer.code == 2
    assert "candlecast train" in answer.err


def test_a_drawing_takes_no_other_files_place_and_says_so_before_the_work(home):
    (home / "logo.svg").write_text("<svg>mine</svg>")
    (home / "link.svg").symlink_to("absent.svg")
    for name in ("logo.svg", "link.svg"):
        answer = call("explain", "AAPL", "--plot", name)
        assert (answer.code, answer.out) == (1, "")
        assert f"{name} is no drawing of candlecast's; name another" in answer.err
    assert (home / "logo.svg").read_text() == "<svg>mine</svg>"


def test_another_kind_is_trained_without_the_members_of_the_file(home):
    members = "".join(f'[[model.members]]\nkind = "{kind}"\n' for kind in ("har", "ewma"))
    text = SPEC.partition("[model]")[0] + '[model]\nkind = "voting"\n' + members
    (home / "votes.toml").write_text(text + "[search.parameters]\nrate = { low = 1, high = 2 }\n")
    answer = call("evaluate", "votes.toml", "--model", "ewma", "--n-splits", "1", "--json")
    assert answer.code == 0, answer.err


def test_a_served_model_explains_its_forecast(home):
    assert call("train", "spec.toml").code == 0
    answer = call("explain", "AAPL", "--horizon", "1D", "--plot", "aapl.svg", "--json")
    assert answer.code == 0, answer.err
    (told,) = answer.json()
    assert (told["symbol"], told["horizon"]) == ("AAPL", "1D")
    sizes = [abs(one["value"]) for one in told["contributions"]]
    assert sizes
    assert sizes == sorted(sizes, reverse=True)
    assert (home / "aapl.svg").read_text().startswith("<svg")
    assert told["contributions"][0]["feature"] in call("explain", "AAPL").out
    before = (home / "aapl.svg").read_bytes()
    (home / "aapl.svg").write_bytes(before + b"older")
    assert call("explain", "AAPL", "--horizon", "1D", "--plot", "aapl.svg").code == 0
    assert (home / "aapl.svg").read_bytes() == before
    assert not list(home.glob(".aapl*"))
