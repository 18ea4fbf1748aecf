"""Invented bars at the command line: asked for on purpose, and named wherever they show."""

import pytest

from candlecast.domain.market import FixedClock, Timeframe
from candlecast.store.origins import read_simulated
from candlecast.store.stores import open_stores
from command_line import call
from pipeline_rows import LATER, sample_bars

SPAN = ("--start", "2010-01-01", "--end", "2013-03-01")
ALLOWED = "--allow-simulated"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A real stock and two invented ones, a champion of all three, and one of the real one."""
    folder = tmp_path_factory.mktemp("home")
    real = sample_bars("IBM", n_sessions=600)
    real.drop("source", "vwap", "trade_count").write_parquet(folder / "bars.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CANDLECAST_HOME", str(folder / "var"))
        assert call("ingest", "files", "bars.parquet").code == 0
        assert call("ingest", "simulated", "--symbols", "S2,S1", *SPAN, ALLOWED).code == 0
        for options in (("--symbols", "IBM"), (ALLOWED,)):
            model = ("--model", "climatology", "--n-splits", "2", "--horizons", "1D")
            trained = call("train", *model, *options)
            assert trained.code == 0, trained.err
    return folder


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CANDLECAST_HOME", str(home / "var"))


@pytest.mark.parametrize("command", ["forecast", "report"])
def test_symbols_without_a_traded_bar_are_named_with_what_is_made_of_them(command):
    both = call(command)
    assert both.code == 0, both.err
    assert "made of simulated bars: S1, S2\n" in both.out
    assert call(command, "--json").json()["simulated"] == ["S1", "S2"]


def test_of_real_symbols_nothing_is_said():
    report = call("report", "--symbols", "IBM")
    assert (report.code, "simulated bars" in report.out) == (0, False)
    assert call("report", "--symbols", "IBM", "--json").json()["simulated"] == []


def test_versions_that_may_have_learnt_from_invented_bars_are_marked():
    listed = call("models", "list")
    assert listed.code == 0
    rows = [line for line in listed.out.splitlines() if "climatology-" in line]
    assert sorted("simulated allowed" in row for row in rows) == [False, True]
    assert sorted("real only" in row for row in rows) == [False, True]


WRONG = {
    "ingest simulated --symbols X --start 2024-01-01": ALLOWED,
    "stream simulated --symbols X": ALLOWED,
    "stream synthetic": ALLOWED,
    f"ingest simulated --symbols X --start 2024-01-01 {ALLOWED} --set seed=-5": "seed is -5",
    f"ingest synthetic {ALLOWED} --set seed=-5": "non-negative",
    f"ingest simulated --symbols X --start 2024-01-01 {ALLOWED} --set volatility_daily=nan": (
        "volatility_daily is nan"
    ),
    f"ingest simulated --symbols X --start 2024-01-01 {ALLOWED} --set start_price=1e308": (
        "start_price is 1e+308"
    ),
    f"stream simulated --symbols X {ALLOWED} --set seed=-5": "seed is -5",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_makes_no_sense_ends_with_2_and_one_line(line):
    answer = call(*line.split())
    assert (answer.code, answer.out) == (2, "")
    (only,) = answer.err.splitlines()
    assert only.startswith("error: ")
    assert WRONG[line] in only


def test_the_store_knows_whose_bars_were_never_traded(home):
    var = home / "var"
    url = f"sqlite:///{var}/candlecast.db"
    stores = open_stores(database_url=url, home=var, artifacts_url=None, clock=FixedClock(LATER))
    try:
        daily = Timeframe.parse("1d")
        assert read_simulated(stores.database, daily) == {"S1", "S2"}
        assert read_simulated(stores.database, daily, ["IBM", "S2"]) == {"S2"}
        assert read_simulated(stores.database, Timeframe.parse("1m")) == frozenset()
    finally:
        stores.close()
