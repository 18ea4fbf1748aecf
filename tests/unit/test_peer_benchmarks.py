"""Peers run on one core in an environment of their own, on the very bars that we have."""

import os
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("peers", "qlib_peer", "measure")


@pytest.fixture
def bench(monkeypatch):
    """The modules peers and qlib_peer of benchmarks/, as its scripts import them."""
    monkeypatch.syspath_prepend(FOLDER)
    try:
        yield [import_module(name) for name in MODULES[:2]]
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)


def daily_bars(symbols, n_days):
    days = [datetime(2007, 1, 3, tzinfo=UTC) + timedelta(days=number) for number in range(n_days)]
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": symbol,
                "ts": days,
                **{
                    field: [100.0 * place + number + 0.25 for number in range(n_days)]
                    for place, field in enumerate(("open", "high", "low", "close", "volume"))
                },
            }
        )
        for symbol in symbols
    )


def test_qlibs_files_hold_each_value_behind_its_place_in_the_calendar(bench, tmp_path):
    _, qlib_peer = bench
    bars = daily_bars(["AAA", "BBB"], 3)
    qlib_peer.write_bars(tmp_path, bars)
    stored = np.fromfile(tmp_path / "features" / "bbb" / "close.day.bin", dtype="<f4")
    assert stored.tolist() == [0.0, 300.25, 301.25, 302.25]
    days = (tmp_path / "calendars" / "day.txt").read_text().split()
    assert days == ["2007-01-03", "2007-01-04", "2007-01-05"]
    spans = (tmp_path / "instruments" / "all.txt").read_text().splitlines()
    assert spans == [f"{symbol}\t2007-01-03\t2007-01-05" for symbol in ("AAA", "BBB")]


def test_a_symbol_that_lacks_a_session_is_refused_for_qlib(bench, tmp_path):
    _, qlib_peer = bench
    bars = pl.concat([daily_bars(["AAA"], 3), daily_bars(["BBB"], 2)])
    with pytest.raises(ValueError, match="BBB has 2 bars on 3 sessions"):
        qlib_peer.write_bars(tmp_path, bars)


def test_a_peer_has_one_core_and_none_of_our_settings_and_pins(bench, tmp_path, monkeypatch):
    peers, _ = bench
    monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")
    monkeypatch.setenv("CANDLECAST_HOME", "elsewhere")
    script = tmp_path / "peer.py"
    script.write_text(
        "import json, os\n"
        "names = [n for n in os.environ if n.startswith(('CANDLECAST_', 'PIP_CONSTRAINT'))]\n"
        "cores = len(os.sched_getaffinity(0))\n"
        "print('noise')\n"
        "print(json.dumps([names, cores, os.environ['OMP_NUM_THREADS']]))\n"
    )
    before = os.sched_getaffinity(0)
    assert peers.run(sys.executable, str(script)) == [[], 1, "1"]
    assert os.sched_getaffinity(0) == before


def test_a_peer_that_fails_says_what_it_said(bench, tmp_path):
    peers, _ = bench
    script = tmp_path / "peer.py"
    script.write_text("raise SystemExit('no such bars')\n")
    with pytest.raises(RuntimeError, match="no such bars"):
        peers.run(sys.executable, str(script))


def test_a_peer_that_cannot_be_installed_is_told_and_leaves_nothing(bench, tmp_path, monkeypatch):
    peers, _ = bench
    monkeypatch.setattr(peers, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "peers")
    monkeypatch.setattr(peers.sys, "executable", str(tmp_path / "no-such-python"))
    (tmp_path / "absent.txt").write_text("absent==1.0\n")
    with pytest.raises(peers.PeerMissing, match="no-such-python"):
        peers.interpreter("absent")
    assert [path.name for path in (tmp_path / "peers").iterdir()] == ["absent.lock"]


def test_an_environment_is_made_once_for_a_list_of_versions(bench, tmp_path, monkeypatch):
    peers, _ = bench
    monkeypatch.setattr(peers, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "peers")
    made = []

    def install(peer, folder):
        folder.mkdir()
        (folder / peers.INSTALLED).touch()
        made.append(folder)

    monkeypatch.setattr(peers, "_install", install)
    (tmp_path / "own.txt").write_text("some==1.0\n")
    first = peers.interpreter("own")
    assert peers.interpreter("own") == first
    (tmp_path / "own.txt").write_text("some==2.0\n")
    assert peers.interpreter("own") != first
    assert [folder.exists() for folder in made] == [False, True]
