"""The commands about features: what there are, what they say, what fails a gate and why."""

from __future__ import annotations

import re

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.features import user_files
from candlecast.store.features import read_features
from command_line import call, ended, start
from pipeline_rows import DAILY, opened, sample_bars

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
MINE = '''
import polars as pl
from candlecast import feature


@feature("gap_mine", warmup_bars=1, settling_bars=0)
def gap_mine() -> pl.Expr:
    """The night's log return.

    Returns
    -------
    Expr : in [-1, 1]
    """
    return (pl.col("open") / pl.col("close").shift()).log().clip(-1, 1)
'''
LEAK = '''
import polars as pl
from candlecast import feature


@feature("best_price", warmup_bars=0)
def best_price() -> pl.Expr:
    """The close over its mean of all time."""
    return pl.col("close") / pl.col("close").mean()
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with three stocks, two files of features, and a model on one of them."""
    folder = tmp_path_factory.mktemp("home")
    BARS.write_parquet(folder / "bars.parquet")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    (folder / "leak.py").write_text(LEAK, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CANDLECAST_HOME", str(folder / "var"))
        assert call("ingest", "files", "bars.parquet").code == 0
    return folder


@pytest.fixture(autouse=True)
def _at_home_with_the_catalogue_as_it_was(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CANDLECAST_HOME", str(home / "var"))
    FEATURES.names()
    monkeypatch.setattr(FEATURES, "_entries", dict(FEATURES._entries))
    monkeypatch.setattr(user_files, "_FILES", {})


def stored(home, table):
    with opened(f"sqlite:///{home}/var/candlecast.db", home / "var") as stores:
        return read_features(stores.database, DAILY, table=table)


def test_the_list_says_of_every_feature_where_it_stands_and_who_may_see_it():
    answer = call("features", "list", "--json").json()
    entries = {entry["name"]: entry for entry in answer["features"]}
    assert tuple(entries) == FEATURES.names()
    assert entries["rsi_14"] == {
        "name": "rsi_14",
        "table": "ohlcv",
        "scope": "symbol",
        "warmup_bars": FEATURES.get("rsi_14").warmup_bars,
        "is_input": True,
        "description": FEATURES.describe("rsi_14"),
        "origin": None,
        "set_id": entries["rsi_14"]["set_id"],
    }
    assert {entry["table"] for entry in entries.values()} == {"ohlcv", "sentiment"}
    assert len({entry["set_id"] for entry in entries.values()}) == len(entries)
    assert set(answer["sets"]) == {"ohlcv", "sentiment"}


def test_a_users_features_are_marked_and_change_the_id_of_the_set(home):
    before = call("features", "list", "--json").json()["sets"]
    answer = call("features", "list", "--feature-file", "mine.py")
    assert answer.code == 0, answer.err
    assert re.search(r"\* gap_mine .* ohlcv .* input .* The night's log return\.", answer.out)
    listed = call("features", "list", "--json").json()
    assert listed["sets"]["ohlcv"] != before["ohlcv"]
    assert listed["sets"]["sentiment"] == before["sentiment"]
    (own,) = [entry for entry in listed["features"] if entry["origin"]]
    assert (own["name"], own["origin"]) == ("gap_mine", str(home / "mine.py"))


def test_files_may_be_named_in_the_settings(monkeypatch):
    monkeypatch.setenv("CANDLECAST_FEATURE_FILES", "mine.py, leak.py")
    names = {e["name"] for e in call("features", "list", "--json").json()["features"]}
    assert {"gap_mine", "best_price"} <= names


def test_show_explains_a_feature_and_gives_its_newest_values():
    answer = call("features", "show", "rsi_14", "--json").json()
    assert answer["docstring"].startswith(answer["description"])
    assert [row["symbol"] for row in answer["values"]] == ["AAPL", "IBM", "MSFT"]
    text = call("features", "show", "rsi_14", "--symbols", "IBM").out
    assert "Wilder" in text
    assert f"{answer['values'][1]['rsi_14']:.6g}" in text
    assert "AAPL" not in text


def test_show_gives_a_span_and_what_was_known_then():
    day = BARS["ts"].unique().sort()[-30]
    span = call(
        *("features", "show", "return_1", "--symbols", "AAPL", "--json"),
        *("--start", f"{day:%Y-%m-%d}", "--end", f"{day:%Y-%m-%d}"),
    ).json()["values"]
    asked = ("features", "show", "return_1", "--as-of", f"{day:%Y-%m-%d}", "--json")
    then = call(*asked).json()["values"]
    assert [row["symbol"] for row in then] == ["AAPL", "IBM", "MSFT"]
    assert then[0]["ts"] == span[0]["ts"] == f"{day:%Y-%m-%dT%H:%M:%S}+00:00"
    assert then[0]["return_1"] == pytest.approx(span[0]["return_1"], rel=1e-6)


def test_an_unknown_feature_names_the_close_ones():
    answer = call("features", "show", "rsi_41")
    assert answer.code == 2
    assert "did you mean rsi_14" in answer.err


@pytest.mark.parametrize("verb", ["materialize", "compute"])
def test_features_are_stored_under_the_id_of_their_set(home, verb):
    answer = call("features", verb, "--symbols", "IBM", "--start", "2013-01-01", "--json")
    assert answer.code == 0, answer.err
    values = stored(home, "ohlcv")
    assert set(values["symbol"]) == {"IBM"}
    assert "rsi_14" in values.columns
    assert answer.json()["sets"] == call("features", "list", "--json").json()["sets"]
    assert len(stored(home, "sentiment")) == 0, "nothing but prices is known"
    again = call("features", verb, "--symbols", "IBM", "--start", "2013-01-01", "--json")
    assert again.json()["n_written"] == 0


def test_features_of_news_are_stored_in_their_own_table(home):
    headlines = pl.DataFrame(
        {
            "id": ["1", "2"],
            "published_at": ["2013-02-25T14:00:00Z", "2013-02-26T15:00:00Z"],
            "text": ["IBM raises its outlook after record profit", "IBM sued over fraud"],
            "symbols": [["IBM"], ["IBM"]],
        }
    )
    headlines.rename({"published_at": "posted_at"}).write_ndjson(home / "posts.jsonl")
    told = call("ingest", "posts", "posts.jsonl", "--what", "posts", "--json")
    assert told.code == 0, told.err
    answer = call("features", "materialize", "--start", "2013-02-20", "--json")
    assert answer.code == 0, answer.err
    values = stored(home, "sentiment")
    assert set(values["symbol"]) == {"AAPL", "IBM", "MSFT"}
    assert values.filter(pl.col("symbol") == "IBM")["social_sentiment_score"].count() > 0


def test_the_audit_passes_what_is_shipped_and_says_what_it_tried():
    answer = call("audit", "--symbols", "AAPL,IBM", "--features", "rsi_14, return_rank_21")
    assert answer.code == 0, answer.err
    assert answer.out.endswith("2 features audited on 1800 bars of 2 symbols, 0 failed\n")
    assert "gates: 4/4" in answer.err


def test_the_audit_names_feature_bar_and_first_differing_value_of_a_leak(home):
    # In a process of its own, as a user runs it.
    process = start(
        *("audit", "--feature-file", "leak.py", "--features", "best_price", "--json"),
        folder=home,
        CANDLECAST_HOME=str(home / "var"),
    )
    answer = ended(process)
    assert answer.code == 1, answer.err
    told = answer.json()
    assert told["features"] == ["best_price"]
    first = told["findings"][0]
    assert (first["gate"], first["column"], first["symbol"]) == ("causality", "best_price", "AAPL")
    assert first["before"] != first["after"]
    shown = call("audit", "--feature-file", "leak.py", "--features", "best_price")
    assert shown.code == 1
    day = first["ts"][:10]
    assert re.search(rf"causality: best_price of AAPL at {day} .*: [\d.]+ became [\d.]+", shown.out)
    assert "1 feature audited" in shown.out


def test_all_bars_are_audited_where_it_is_asked():
    sampled = call("audit", "--features", "rsi_14", "--json").json()
    whole = call("audit", "--features", "rsi_14", "--all-bars", "--json").json()
    assert sampled["findings"] == whole["findings"] == []
    assert whole["n_bars"] == len(BARS)


def test_too_little_history_for_a_gate_is_said(home):
    folder = home / "short"
    folder.mkdir(exist_ok=True)
    sample_bars("FB", n_sessions=120).write_parquet(folder / "bars.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANDLECAST_HOME", str(folder / "var"))
        call("ingest", "files", str(folder / "bars.parquet"))
        answer = call("audit", "--features", "rsi_14")
        nothing = call("audit", "--features", "news_sentiment_score,news_sentiment_score")
        told = call("audit", "--features", "news_sentiment_score,return_1", "--json").json()
    assert answer.code == 0
    assert "too little history to try the warm-up of rsi_14" in answer.err
    assert "0 failed, 1 not tried or in part only" in answer.out
    assert "nothing was tried of news_sentiment_score: no bar has a value; add" in nothing.err
    assert "1 feature audited" in nothing.out
    assert told["unseen"] == ["news_sentiment_score"]


def test_a_file_that_cannot_be_run_is_one_clear_line(home):
    (home / "broken.py").write_text("import polars as pl\nx = nothing\n", encoding="utf-8")
    answer = call("features", "list", "--feature-file", "broken.py")
    assert answer.code == 2
    assert re.fullmatch(
        r"error: \S*broken\.py:2: NameError: name 'nothing' is not defined; mend the file\n",
        answer.err,
    )


def test_a_model_on_a_users_feature_serves_with_its_file_only(home):
    for name, features, kind in (
        ("own", ["rsi_14", "gap_mine"], "linear"),
        ("other", ["rsi_14"], "ewma"),
    ):
        (home / f"{name}.toml").write_text(
            f"min_bars = 300\n[features]\nnames = {features}\n[splits]\nn_splits = 1\n"
            f"[model]\nkind = '{kind}'\n",
            encoding="utf-8",
        )
    file = ("--feature-file", "mine.py")
    trained = call("train", "own.toml", *file, "--json")
    assert trained.code == 0, trained.err
    version = trained.json()
    assert version["spec"]["features"]["names"] == ["rsi_14", "gap_mine"]
    assert len(version["spec"]["features"]["code"]) == 64
    assert call("forecast", *file, "--json").code == 0
    later = call("train", "other.toml", "--json")
    assert later.code == 0, later.err
    activate = ("models", "activate", version["version"])
    refused = ended(start(*activate, folder=home, CANDLECAST_HOME="var"))
    assert refused.code == 2
    assert "gap_mine; name the file that defines them with --feature-file" in refused.err
    accepted = ended(start(*activate, *file, folder=home, CANDLECAST_HOME="var"))
    assert accepted.code == 0, accepted.err
    assert accepted.out == f"{version['version']} serves now\n"
