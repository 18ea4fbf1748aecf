"""The commands about labels as a shell sees them: list, compute, show, and wrong calls."""

from __future__ import annotations

import polars as pl
import pytest

from candlecast.domain.catalog import LABELS
from candlecast.domain.market import Timeframe
from candlecast.store.database import Database
from candlecast.store.features import read_labels
from command_line import call
from label_prices import awkward_prices
from pipeline_rows import sample_bars

HOURS = Timeframe.parse("1h")
PRICE = ("open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with three stocks, daily, and three coins, by the hour."""
    folder = tmp_path_factory.mktemp("labels")
    sample_bars("AAPL", "IBM", "MSFT", n_sessions=300).write_parquet(folder / "bars.parquet")
    names = {"A": "BTC-USD", "B": "ETH-USD", "C": "SOL-USD"}
    coins = awkward_prices(4, timeframe=HOURS, calendar="24/7", n_sessions=12, is_late=False)
    coins = coins.select(pl.col("symbol").replace_strict(names), "ts", *PRICE)
    coins.write_parquet(folder / "coins.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CANDLECAST_HOME", str(folder / "var"))
        assert call("ingest", "files", "bars.parquet").code == 0
        hourly = ("--timeframe", "1h", "--calendar", "24/7")
        answer = call("ingest", "files", "coins.parquet", *hourly)
        assert answer.code == 0, answer.err
    return folder


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CANDLECAST_HOME", str(home / "var"))


def stored(home, timeframe, **asked):
    opened = Database.open(f"sqlite:///{home}/var/candlecast.db")
    try:
        return read_labels(opened, Timeframe.parse(timeframe), **asked)
    finally:
        opened.close()


def written(*arguments):
    answer = call("labels", "compute", *arguments, "--json")
    assert answer.code == 0, answer.err
    return answer.json()["n_written"]


def test_every_label_is_listed_with_its_horizons_and_parameters():
    told = {label["name"]: label for label in call("labels", "list", "--json").json()}
    assert tuple(told) == LABELS.names()
    assert told["triple_barrier"]["parameters"] == {"upper": 1.0, "lower": 1.0}
    assert told["regime_change"]["daily"] == ["10D"]
    assert told["regime_change"]["intraday"] == ["12h"]
    shown = call("labels", "list").out
    for name, label in told.items():
        assert name in shown
        assert label["description"] in shown
        assert all(f"--set {parameter}=" in shown for parameter in label["parameters"])


def test_the_same_labels_are_written_once(home):
    first = written("--horizon", "1D,1W")
    assert first > 1500
    assert written("--horizon", "1D,1W") == 0
    found = stored(home, "1d", kind="forward_return")
    assert len(found) == first
    assert set(found["horizon"]) == {"1D", "1W"}
    assert found["confidence"].drop_nulls().n_unique() > 500


def test_a_span_of_some_symbols_can_be_computed(home):
    days = ("--start", "2012-06-01", "--end", "2012-06-29")
    some = ("--kind", "realised_volatility", "--symbols", "IBM", "--horizon", "1W")
    assert written(*some, *days) == 21
    found = stored(home, "1d", kind="realised_volatility")
    assert found["symbol"].unique().to_list() == ["IBM"]
    assert found["ts"].min().day == 1


def test_the_parameters_are_part_of_the_stored_kind(home):
    assert written("--kind", "regime_change", "--set", "threshold=0.7", "--timeframe", "1h") > 500
    kind = "regime_change[threshold=0.7]"
    found = stored(home, "1h", kind=kind)
    assert found["horizon"].unique().to_list() == ["12h"]
    assert set(found["value"].drop_nulls()) == {-1.0, 0.0, 1.0}
    told = call("labels", "show", *kind_of("regime_change", "threshold=0.7"), "--timeframe", "1h",
                "--json").json()  # fmt: skip
    assert {row["kind"] for row in told} == {kind}
    assert call("labels", "show", "--kind", "regime_change", "--timeframe", "1h").code == 2
    assert written("--kind", "regime_change", "--set", "threshold=0.5", "--timeframe", "1h") > 500
    assert len(stored(home, "1h", kind="regime_change")) == len(found)


def kind_of(kind, *parameters):
    return ("--kind", kind, *(part for given in parameters for part in ("--set", given)))


def test_bitcoin_leads_the_coins(home):
    assert written("--kind", "sector_rotation", "--timeframe", "1h") > 500
    found = stored(home, "1h", kind="sector_rotation")
    by_hour = found.drop_nulls("value").group_by("ts").agg(pl.col("value").n_unique())
    assert by_hour["value"].max() == 1


def test_what_is_shown_is_the_newest_of_each_symbol_and_horizon(home):
    written("--kind", "triple_barrier", "--horizon", "1W")
    kind = ("--kind", "triple_barrier", "--symbols", "AAPL,IBM")
    told = call("labels", "show", *kind, "--last", "3", "--json").json()
    assert [row["symbol"] for row in told] == ["AAPL"] * 3 + ["IBM"] * 3
    found = stored(home, "1d", kind="triple_barrier", symbols=["IBM"])
    assert [row["value"] for row in told[3:]] == found["value"].tail(3).to_list()
    shown = call("labels", "show", *kind, "--last", "3").out
    assert "triple_barrier" in shown
    assert f"{found['end_at'][-1]:%Y-%m-%d %H:%M}" in shown
    early = call("labels", "show", *kind, "--end", "2012-03-01", "--json").json()
    assert max(row["ts"] for row in early)[:7] <= "2012-03"


def test_the_threshold_of_the_experiment_is_that_of_the_direction(home, monkeypatch):
    (home / "experiments").mkdir(exist_ok=True)
    spec = home / "experiments" / "default.toml"
    spec.write_text('[labels]\nthreshold = "fixed:0.03"\n')
    try:
        assert written("--kind", "price_direction", "--horizon", "1D") > 500
    finally:
        spec.unlink()
    kinds = set(stored(home, "1d")["kind"])
    assert "price_direction[threshold=fixed:0.03]" in kinds
    assert "price_direction" not in kinds


WRONG = {
    "compute --kind forward_retrun": ("forward_return",),
    "compute --kind tripple_barrier": ("triple_barrier",),
    "compute --kind triple_barrier --set uper=2": ("upper",),
    "compute --kind triple_barrier --set upper=high": ("upper", "float"),
    "compute --kind triple_barrier --set upper=-1": ("positive",),
    "compute --kind triple_barrier --set upper=nan": ("upper", "finite"),
    "compute --kind price_direction --set threshold=0.02": ("threshold", "str"),
    "compute --kind price_direction --set threshold=fixed:2": ("fixed:0.02",),
    "compute --kind sector_rotation": ("--set leader=SPY",),
    "compute --kind sector_rotation --set leader=IBN": ("IBM",),
    "compute --kind regime_change --set threshold": ("--set", "name=value"),
    "compute --horizon 1Q": ("1D",),
    "compute --horizon 90m": ("finer timeframe",),
    "compute --timeframe 1h --horizon 90m": ("whole number of 1h bars",),
    "compute --timeframe 4h --kind sector_rotation": ("--horizon", "finer"),
    "compute --timeframe 1x": ("1m",),
    "compute --symbols IBN": ("IBM",),
    "compute --start soon": ("2015-06-30",),
    "compute --start 2050-01-01": ("from 2050-01-01", "choose another span"),
    "compute --horizon 5000d": ("over 5000d", "shorter horizons"),
    "show --kind forward_retrun": ("forward_return",),
    "show --kind regime_change": ("labels compute",),
    "show --kind regime_change --set threshold=0.9 --symbols IBM": (
        "labels compute --kind regime_change --timeframe 1d --set threshold=0.9 --symbols IBM`",
    ),
    "show --symbols IBN": ("IBM",),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_call_ends_with_2_and_one_line_that_names_the_remedy(line):
    answer = call("labels", *line.split())
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert all(text in answer.err for text in WRONG[line]), answer.err
