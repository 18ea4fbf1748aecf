"""`candlecast stream` from a shell: replays, what it prints, how it stops and what it refuses."""

import json
import signal

import polars as pl
import pytest

from candlecast.store.bars import read_bars
from command_line import call, ended, start
from stream_feeds import CLOSE, MINUTE, ONE, ManualClock, opened, seeded_bars, unstamped, values

START = CLOSE - 20 * MINUTE
BARS = seeded_bars(["A", "B"], START, 20)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rows = unstamped(BARS).drop("adj_close", "vwap", "trade_count", "source")
    rows.write_parquet(tmp_path / "bars.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path))
    return tmp_path


def stored(folder):
    stores = opened(folder, ManualClock(CLOSE))
    bars = read_bars(stores.database, ONE)
    stores.close()
    return bars


def replay(*options):
    return call("stream", "replay", "--speed", 0, *options)


def test_a_replay_of_files_stores_them_as_if_they_came_live(folder):
    answer = replay("--paths", "bars.parquet", "--json")
    assert (answer.code, answer.err) == (0, "")
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert [len(line["bars"]) for line in lines[:-1]] == [2] * 20
    assert lines[-1]["run"]["n_bars"] == 40
    bars = stored(folder)
    assert values(bars) == values(BARS)
    assert (bars["known_at"] == bars["ts"] + MINUTE).all()


def test_a_replay_goes_on_where_the_stored_bars_end_and_again_says_nothing_new(folder):
    first = replay("--paths", "bars.parquet", "--until", f"{START + 8 * MINUTE:%Y-%m-%dT%H:%M}")
    assert first.code == 0
    assert len(stored(folder)) == 16
    second = json.loads(replay("--paths", "bars.parquet", "--json").out.splitlines()[-1])
    assert second["run"]["n_bars"] + second["run"]["n_healed"] == 24
    assert values(stored(folder)) == values(BARS)


def test_a_replay_of_the_store_changes_nothing_in_it(folder):
    replay("--paths", "bars.parquet")
    before = stored(folder)
    answer = replay("--start", f"{START:%Y-%m-%dT%H:%M}", "--symbols", "B")
    assert answer.code == 0
    assert answer.out.splitlines()[0].startswith("2024-03-05 20:40  known 20:41:00  B ")
    assert len(answer.out.splitlines()) == 20 + 1
    assert stored(folder).equals(before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stream_in_order_with_all_closed_bars_stored(folder, number):
    options = ("--paths", "bars.parquet", "--speed", "180", "--json")
    process = start("stream", "replay", *options, folder=folder, CANDLECAST_HOME=str(folder))
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(number)
    answer = ended(process)
    assert answer.code == 0, answer.err
    lines += [json.loads(line) for line in answer.out.splitlines()]
    printed = sum(len(line["bars"]) for line in lines if "bars" in line)
    assert 6 <= printed < len(BARS)
    bars = stored(folder)
    assert len(bars) == printed == lines[-1]["run"]["n_bars"]
    assert set(bars.group_by("ts").len()["len"]) == {2}, "no minute is half stored"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay",), "needs --start"),
        (("replay", "--start", "2024-03-05", "--symbols", "NOBODY"), "NOBODY"),
        (("sample", "--symbols", "AAPL"), "daily bars only"),
        (("fear_greed", "--symbols", "AAPL"), "neither a feed nor bars"),
        (("sample", "--start", "2024-03-05"), "belong to a replay"),
        (("replai",), "replay"),
    ],
)
def test_what_cannot_be_streamed_is_said_in_one_line(folder, arguments, said):
    answer = call("stream", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_file_without_minutes_is_refused(folder):
    pl.read_parquet("bars.parquet").head(0).write_parquet("none.parquet")
    answer = replay("--paths", "none.parquet")
    assert answer.code == 2
    assert "no bars of 1m" in answer.err
