"""Files that cannot be right: good symbols are kept, bad ones named, nothing is half-written."""

from pathlib import Path

import polars as pl
import pytest

from candlecast.store.bars import read_bars
from command_line import call
from pipeline_rows import DAILY, all_rows, changes, opened, sample_bars

BARS = sample_bars("AAPL", "IBM", n_sessions=520).drop("source", "vwap", "trade_count")
GOOD = BARS.filter(symbol="IBM").drop("symbol").with_columns(pl.col("ts").dt.date())
ROW = pl.int_range(pl.len())
FORMS = {"ts": "Date", "adj_close": "Adj Close"} | {
    name: name.capitalize() for name in ("open", "high", "low", "close", "volume")
}


def with_cell(name, row, value):
    return GOOD.with_columns(pl.when(row == ROW).then(pl.lit(value)).otherwise(name).alias(name))


def with_text(name, row, text):
    return GOOD.with_columns(
        pl.when(row == ROW).then(pl.lit(text)).otherwise(pl.col(name).cast(pl.String)).alias(name)
    )


DAY_7, DAY_9 = GOOD["ts"][7], GOOD["ts"][9]
# What is wrong with the file, the line that says so (the header is line 1), and why.
BAD = {
    "DATES": (with_text("ts", 7, "20x1-02-03"), 9, "time '20x1-02-03' cannot be read"),
    "NODATE": (with_text("ts", 7, None), 9, "time is missing"),
    "TWICE": (with_cell("ts", 8, DAY_7), 9, f"{DAY_7} stands there 2 times: lines 9, 10"),
    "ORDER": (
        pl.concat([GOOD[:7], GOOD[9:10], GOOD[7:9], GOOD[10:]]), 10, f"comes after {DAY_9}"
    ),
    "HILO": (with_cell("high", 7, 1.0), 9, "high 1.0 is below low"),
    "NEGATIVE": (with_cell("close", 7, -1.0), 9, "close is -1.0; a price is a positive number"),
    "ZERO": (with_cell("open", 7, 0.0), 9, "open is 0.0; a price is a positive number"),
    "NAN": (with_cell("low", 7, float("nan")), 9, "low is NaN; a price is a positive number"),
    "INFINITE": (with_cell("close", 7, float("inf")), 9, "close is inf"),
    "WORDS": (with_text("close", 7, "ten"), 9, "close 'ten' cannot be read"),
    "HOLE": (with_cell("close", 7, None), 9, "close is missing"),
    "VOLUME": (with_cell("volume", 7, -5.0), 9, "volume -5.0 is no count"),
}  # fmt: skip
BROKEN = {
    "COLUMN.csv": "no column for low",
    "EMPTY.csv": "is empty",
    "HEADER.csv": "no row follows the header",
    "NOISE.csv": "cannot be read",
    "NOISE.parquet": "cannot be read",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, and a folder `files` in it with good and bad files."""
    files = tmp_path / "files"
    files.mkdir()
    GOOD.rename(FORMS).write_csv(files / "GOOD.csv")
    BARS.filter(symbol="AAPL").drop("symbol").write_parquet(files / "FINE.parquet")
    for name, (frame, _, _) in BAD.items():
        frame.rename(FORMS).write_csv(files / f"{name}.csv")
    GOOD.drop("low").write_csv(files / "COLUMN.csv")
    (files / "EMPTY.csv").touch()
    (files / "HEADER.csv").write_text("date,open,high,low,close,volume\n")
    noise = bytes(range(1, 256)) * 20
    (files / "NOISE.csv").write_bytes(noise)
    (files / "NOISE.parquet").write_bytes(noise)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "var"))
    return tmp_path


def stored(home):
    url = f"sqlite:///{home}/var/candlecast.db"
    with opened(url, home / "var") as stores:
        return read_bars(stores.database, DAILY)


def test_the_good_symbols_of_a_folder_are_kept_and_the_bad_ones_named(home):
    answer = call("ingest", "files", "files", "--json")
    assert answer.code == 1
    told = answer.json()
    assert told["symbols"] == ["FINE", "GOOD"]
    assert told["inserted"] == 2 * 520
    assert set(told["failures"]) == {*BAD, *(f"files/{name}" for name in BROKEN)}
    for name, reason in BROKEN.items():
        assert reason in told["failures"][f"files/{name}"]
    bars = stored(home)
    assert set(bars["symbol"]) == {"FINE", "GOOD"}
    kept = bars.filter(symbol="GOOD")
    assert kept["close"].equals(GOOD["close"])
    assert kept["adj_close"].equals(GOOD["adj_close"])
    assert kept["ts"].dt.date().equals(GOOD["ts"])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_with_file_line_and_reason(home, name):
    _, line, reason = BAD[name]
    answer = call("ingest", "files", f"files/{name}.csv")
    assert answer.code == 1
    assert f"files/{name}.csv:{line}" in answer.err
    assert reason in answer.err
    assert "Traceback" not in answer.err
    assert "0 symbols: 0 bars inserted" in answer.out
    assert len(stored(home)) == 0


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_table_is_refused_and_nothing_written(home, name):
    answer = call("ingest", "files", f"files/{name}")
    assert answer.code == 1
    assert f"files/{name}" in answer.err
    assert BROKEN[name] in answer.err
    rows = all_rows(f"sqlite:///{home}/var/candlecast.db")
    assert rows["bars"] == rows["symbols"] == rows["bar_changes"] == []


def test_the_good_rows_of_a_bad_symbol_are_kept_on_request_only(home):
    answer = call("ingest", "files", "files/NEGATIVE.csv", "--skip-bad-rows", "--json")
    assert answer.code == 1
    assert answer.json()["inserted"] == 519
    (refusal,) = answer.json()["refusals"]
    assert "files/NEGATIVE.csv:9" in refusal
    assert DAY_7 not in set(stored(home)["ts"].dt.date())


def test_a_bad_file_does_not_touch_what_is_stored_of_its_symbol(home):
    GOOD.rename(FORMS).write_csv("files/HILO.csv")
    assert call("ingest", "files", "files/HILO.csv").code == 0
    before = all_rows(f"sqlite:///{home}/var/candlecast.db")
    BAD["HILO"][0].rename(FORMS).write_csv("files/HILO.csv")
    assert call("ingest", "files", "files/HILO.csv").code == 1
    changed = changes(before, all_rows(f"sqlite:///{home}/var/candlecast.db"))
    assert set(changed) == {"bar_quarantine"}  # what was refused is kept aside
    (row,) = changed["bar_quarantine"]
    assert "files/HILO.csv:9" in row


def test_a_symbol_in_two_files_that_disagree_is_refused_naming_both(home):
    Path("twice").mkdir()
    rows = BARS.filter(symbol="IBM").with_columns(pl.col("ts").dt.date())
    rows.head(300).write_csv("twice/a.csv")
    rows.tail(230).write_csv("twice/b.csv")
    answer = call("ingest", "files", "twice", "--json")
    assert answer.code == 1
    assert set(answer.json()["failures"]) == {"IBM"}
    assert "twice/a.csv:292" in answer.json()["failures"]["IBM"]
    assert "twice/b.csv:2" in answer.json()["failures"]["IBM"]
    assert len(stored(home)) == 0


def test_days_that_are_no_sessions_are_refused_with_the_remedy(home):
    moved = GOOD.with_columns(pl.col("ts").dt.offset_by("1d"))
    moved.rename(FORMS).write_csv("files/COIN.csv")
    answer = call("ingest", "files", "files/COIN.csv")
    assert answer.code == 1
    assert "no session of XNYS" in answer.err
    assert "--calendar" in answer.err
    assert len(stored(home)) == 0
    assert call("ingest", "files", "files/COIN.csv", "--calendar", "24/7").code == 0
    assert len(stored(home)) == 520


def test_a_symbol_that_a_provider_has_not_is_named_and_the_others_kept(home):
    answer = call("ingest", "sample", "--symbols", "IBM,AAPX", "--json")
    assert answer.code == 1
    assert answer.json()["symbols"] == ["IBM"]
    assert "AAPL" in answer.json()["failures"]["AAPX"]


def test_columns_are_named_by_hand_where_they_cannot_be_guessed(home):
    odd = GOOD.rename({"ts": "when", "close": "last trade", "low": "1"})
    odd.write_csv("files/ODD.csv")
    guessed = call("ingest", "files", "files/ODD.csv")
    assert guessed.code == 1
    assert "no column for" in guessed.err
    named = ("--map", "ts=when", "--map", "close=last trade", "--map", "low=1")
    assert call("ingest", "files", "files/ODD.csv", *named).code == 0
    assert stored(home)["low"].equals(GOOD["low"])
