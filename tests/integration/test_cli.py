"""The command line: help, JSON, options from the environment, and errors in one line."""

import json
import re
import socket
from typing import Any

import pytest
import typer

from candlecast.cli.app import app
from candlecast.cli.printing import echo_table
from command_line import call
from pipeline_rows import sample_bars

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
CARD = {
    *("n", "n_dates", "coverage", "crps", "crps_climatology", "crps_skill_vs_climatology"),
    *("crps_skill_interval", "hit_rate", "hit_rate_interval", "brier_skill_vs_climatology"),
    *("verdict", "tests"),
}
VERDICTS = {
    *("no skill", "too little data", "skill in the distribution", "skill in the direction"),
    "skill in the distribution and the direction",
}


def commands_of(command, *names):
    """(names, command) of every command that does something."""
    children = getattr(command, "commands", None)
    if children is None:
        yield names, command
        return
    for name, child in children.items():
        yield from commands_of(child, *names, name)


COMMANDS = dict(commands_of(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with three stocks, a champion, its track record and its forecasts."""
    folder = tmp_path_factory.mktemp("home")
    BARS.write_parquet(folder / "bars.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CANDLECAST_HOME", str(folder / "var"))
        assert call("ingest", "files", "bars.parquet").code == 0
        assert call("train", "--model", "har", "--n-splits", "2").code == 0
        assert call("forecast").code == 0
    return folder


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CANDLECAST_HOME", str(home / "var"))


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example_that_it_understands(names):
    answer = call(*names, "--help")
    assert answer.code == 0
    text = " ".join(answer.out.split())
    found = re.search(r"Example: candlecast (.*?)(?: ╭|$)", text)
    assert found, text
    example = found[1].split()
    assert example[: len(names)] == list(names)
    options = {option for p in COMMANDS[names].params for option in (*p.opts, *p.secondary_opts)}
    assert {part for part in example if part.startswith("--")} <= options


def test_the_commands_are_those_of_the_documentation():
    assert {" ".join(names) for names in COMMANDS} == {
        *("demo", "db upgrade", "ingest", "train", "evaluate", "forecast", "settle", "report"),
        *("rank", "cross-validate", "search", "select", "update"),
        *("models list", "models activate", "audit", "serve", "explain"),
        *("labels list", "labels compute", "labels show", "stream", "symbols list", "symbols set"),
        *("features list", "features show", "features materialize", "features compute"),
        *("dataset list", "dataset show", "dataset export", "skew", "data check", "db prune"),
    }


JSON: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "db upgrade": ((), {"revision"}),
    "ingest": (
        ("files", "bars.parquet"),
        {"inserted", "revised", "unchanged", "symbols", "failures", "refusals", "shortfalls"},
    ),
    "train": (
        ("--model", "har", "--n-splits", "2"),
        {"version", "kind", "spec", "metrics", "is_new", "is_active", "shortfalls", "horizons"},
    ),
    "evaluate": (("--model", "ewma", "--n-splits", "1"), {"overall", "horizons", "origins"}),
    "forecast": ((), {"model_version", "origin", "as_of", "forecasts", "shortfalls", "n_new"}),
    "rank": ((), {"as_of", "horizon", "ranks", "portfolio", "left_out", "model_version"}),
    "settle": ((), {"n_settled", "n_waiting"}),
    "report": ((), {"overall", "horizons", "symbols", "origins", "n_settled", "model_versions"}),
    "labels compute": (("--horizon", "1D"), {"n_written"}),
    "features compute": ((), {"n_written"}),
    "data check": ((), {"as_of", "symbols"}),
    "db prune": ((), {"ml_features_ohlcv", "ml_features_sentiment"}),
    "audit": (("--symbols", "IBM"), {"features", "findings"}),
}


@pytest.mark.parametrize("name", JSON)
def test_what_a_machine_asked_for_is_json_and_nothing_else(name):
    arguments, keys = JSON[name]
    answer = call(*name.split(), *arguments, "--json")
    assert answer.code == 0, answer.err
    assert keys <= set(answer.json())


def test_every_command_that_has_something_to_say_can_say_it_in_json():
    has_json = {
        " ".join(names)
        for names, c in COMMANDS.items()
        if any("--json" in p.opts for p in c.params)
    }
    silent = {"serve", "models activate", "symbols set"}
    assert has_json == {" ".join(names) for names in COMMANDS} - silent
    (version,) = call("models", "list", "--json").json()
    assert version["is_active"]
    assert version["spec"]["symbols"] == ["AAPL", "IBM", "MSFT"]


def check_card(card: dict[str, Any]) -> None:
    assert set(card) >= CARD
    assert 0 < card["coverage"]["0.5"] < card["coverage"]["0.8"] < card["coverage"]["0.95"] < 1
    assert -1 < card["crps_skill_vs_climatology"] < 1
    assert card["verdict"] in VERDICTS


def test_a_report_says_the_same_overall_and_of_every_symbol_and_horizon():
    report = call("report", "--json").json()
    check_card(report["overall"])
    assert set(report["horizons"]) == {"1D", "1W", "1M"}
    assert set(report["symbols"]) == {"AAPL", "IBM", "MSFT"}
    for card in report["horizons"].values():
        check_card(card)
    for symbol in report["symbols"].values():
        check_card(symbol)
        assert set(symbol["horizons"]) == {"1D", "1W", "1M"}
        for card in symbol["horizons"].values():
            check_card(card)
    n = [card["n"] for card in report["horizons"].values()]
    assert report["overall"]["n"] == report["n_settled"] == sum(n)


def test_a_report_can_be_narrowed():
    whole = call("report", "--json").json()
    days = ("--start", "2012-03-01", "--end", "2012-03-30")
    part = call("report", "--horizon", "1D", "--symbols", "IBM,AAPL", *days, "--json").json()
    assert set(part["horizons"]) == {"1D"}
    assert set(part["symbols"]) == {"AAPL", "IBM"}
    assert part["overall"] == part["horizons"]["1D"]
    assert (part["start"][:10], part["end"][:10]) == ("2012-03-01", "2012-03-30")
    assert part["n_settled"] == 2 * 22
    assert whole["n_settled"] > part["n_settled"]


def test_options_come_from_the_environment_under_their_own_names(monkeypatch):
    monkeypatch.setenv("CANDLECAST_EVALUATE_N_SPLITS", "3")
    monkeypatch.setenv("CANDLECAST_EVALUATE_TEST_SIZE", "60")
    monkeypatch.setenv("CANDLECAST_EVALUATE_MODEL", "climatology")
    monkeypatch.setenv("CANDLECAST_EVALUATE_JSON", "1")
    monkeypatch.setenv("CANDLECAST_SYMBOLS", "IBM,MSFT")
    monkeypatch.setenv("CANDLECAST_HORIZONS", "1D,3d")
    answer = call("evaluate")
    assert "walk-forward: 6/6" in answer.err  # three spans, and the holdout in as long ones
    assert set(answer.json()["horizons"]) == {"1D", "3d"}
    monkeypatch.setenv("CANDLECAST_REPORT_MODEL", answer.json()["model_versions"][0])
    assert set(call("report", "--json").json()["symbols"]) == {"IBM", "MSFT"}
    assert call("report", "--symbols", "AAPL", "--json").json()["n_forecasts"] == 0
    monkeypatch.setenv("CANDLECAST_TRAIN_SET", "n_estimator=5 max_bin=15")
    assert "'n_estimator'" in call("train").err


def test_the_help_names_the_variable_of_every_option(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for names, command in COMMANDS.items():
        text = call(*names, "--help").out
        for parameter in command.params:
            if parameter.param_type_name == "option":
                option = max(parameter.opts, key=len).lstrip("-")
                variable = "_".join(("candlecast", *names, option)).replace("-", "_").upper()
                assert f"[env var: {variable}]" in text, variable


WRONG = {
    "train --symbols IBN": ("IBM",),
    "train --model lightgmb": ("lightgbm",),
    "train --set n_estimator=5": ("n_estimators",),
    "train --set n_estimators=many": ("n_estimators", "int"),
    "train --set learning_rate=nan": ("learning_rate",),
    "train --model har --set trees=5": ("trees",),
    "train --horizons 1Q": ("1D", "30m"),
    "train --threshold fixed:2": ("fixed:0.02",),
    "train --n-splits 0": ("n_splits",),
    "train --embargo-days nan": ("embargo_days",),
    "train nowhere.toml": ("nowhere.toml",),
    "train --as-of soon": ("2015-06-30",),
    "train --as-of 0001-01-01T00:00+14:00": ("2015-06-30",),
    "train --set n_estimators": ("--set", "name=value"),
    "evaluate --model harr": ("har",),
    "forecast --symbols ibm": ("IBM",),
    "forecast --model har": ("har-2013",),
    "forecast --timeframe 1w": ("1m", "1d"),
    "settle --timeframe day": ("1d",),
    "report --symbols MSFX": ("MSFT",),
    "report --horizon 1X": ("1D",),
    "report --origin liv": ("live",),
    "report --model nothing": ("har-walk-forward",),
    "report --timeframe 2m": ("1m",),
    "report --start 2012-13-01": ("2015-06-30",),
    "report --start 2013-01-01 --end 2012-01-01": ("swap",),
    "labels compute --horizon 1Q": ("1D",),
    "labels compute --symbols IBN": ("IBM",),
    "features compute --timeframe 7m": ("1m",),
    "audit --symbols MSFX": ("MSFT",),
    "ingest file bars.parquet": ("files",),
    "ingest files": ("paths",),
    "ingest files nowhere": ("nowhere",),
    "ingest files bars.parquet --timeframe 1x": ("1m",),
    "ingest files bars.parquet --calendar NYSE2": ("NYSE",),
    "ingest files bars.parquet --map close": ("--map", "name=value"),
    "ingest files bars.parquet --map closing=close": ("close",),
    "ingest sample --set seed=5": ("seed",),
    "ingest sample --timeframe 5m": ("1d",),
    "ingest synthetic --set kind=regime": ("regimes",),
    "ingest synthetic --set n_symbols=few": ("n_symbols", "int"),
    "ingest synthetic --set n_sessions=-1": ("sessions",),
    "ingest synthetic --set seed=-1": ("synthetic",),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_call_ends_with_2_and_one_line_that_names_the_remedy(line):
    answer = call(*line.split())
    assert answer.code == 2
    assert answer.out == ""
    (only,) = answer.err.splitlines()
    assert only.startswith("error: ")
    assert all(word in only for word in WRONG[line]), only


@pytest.mark.parametrize(
    "line", ["foecast", "report --jsn", "models lst", "train --n-splits x", ""]
)
def test_what_is_no_command_or_option_is_refused_without_a_traceback(line):
    answer = call(*line.split())
    assert answer.code == 2
    assert "Traceback" not in answer.err + answer.out
    assert "Usage: candlecast" in answer.err + answer.out


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_that_is_taken_is_told_before_the_work(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = call(command, "--port", port)
    assert answer.code == 1
    (only,) = answer.err.splitlines()
    assert f"127.0.0.1:{port}" in only
    assert "--port" in only
    assert call(command, "--port", "99999").code == 2


def test_a_wrong_setting_is_told_with_its_variable_and_without_the_password(monkeypatch):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", "mysql://me:secret@somewhere/db")
    answer = call("report")
    assert answer.code == 2
    assert "CANDLECAST_DATABASE_URL" in answer.err
    assert "secret" not in answer.err


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(monkeypatch):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", "postgresql://me:secret@127.0.0.1:9/db")
    answer = call("report")
    assert answer.code == 1
    (only,) = answer.err.splitlines()
    assert "127.0.0.1:9" in only
    assert "secret" not in only


def test_nothing_known_by_then_is_no_wrong_call_but_a_failure():
    for line in ("forecast --as-of 1990-01-01", "train --as-of 1990-01-01 --model har"):
        answer = call(*line.split())
        assert answer.code == 1
        assert answer.err.splitlines()[-1].startswith("error: no 1d bars are known at 1990-01-01")


def test_a_symbol_that_was_asked_for_and_got_no_forecast_is_named_and_a_failure(tmp_path):
    young = BARS.filter(symbol="IBM").tail(30).drop("symbol")
    young.write_csv(tmp_path / "YOUNG.csv")
    before = call("forecast", "--json").json()["forecasts"]
    assert call("ingest", "files", tmp_path).code == 0
    both = call("forecast", "--symbols", "YOUNG,AAPL", "--json")
    assert both.code == 1
    assert set(both.json()["failures"]) == {"YOUNG"}
    assert {row["symbol"] for row in both.json()["forecasts"]} == {"AAPL"}
    alone = call("forecast", "--symbols", "YOUNG")
    assert alone.code == 1
    assert "YOUNG" in alone.err
    assert call("forecast", "--json").json()["forecasts"] == before


def test_a_traceback_is_shown_when_it_is_asked_for_wherever_that_stands():
    from candlecast.errors import NotFound

    for line in ("--debug report --symbols X", "report --symbols X --debug"):
        with pytest.raises(NotFound, match="unknown symbol 'X'"):
            call(*line.split())


def test_tables_name_what_they_show():
    report = call("report")
    assert report.code == 0
    assert "origins: walk_forward" in report.out
    assert [line.split("│")[1].strip() for line in report.out.splitlines() if "│" in line] == [
        *("all", "1D", "1W", "1M", "AAPL", "IBM", "MSFT")
    ]
    forecasts = call("forecast").out
    assert forecasts.count("2013-03-01") == 9
    assert json.loads(call("models", "list", "--json").out)[0]["version"] in forecasts


def test_a_ticker_in_brackets_is_shown_as_it_is(capsys):
    echo_table("Models", ("version", "n"), [["[/bold] [x]", "1"]])
    assert "[/bold] [x]" in capsys.readouterr().out
