"""`candlecast stream` killed at random moments loses no bar and doubles none.

A file of minutes is replayed into a store again and again, each time killed (SIGKILL) after a
random while, and goes on where the stored bars end; a last run is left alone. How often:
CANDLECAST_SOAK_KILLS, 100 by default.
"""

import os
import signal
import sqlite3
import sys
import time
from datetime import timedelta

import numpy as np
import pytest

from candlecast.domain.market import Timeframe
from candlecast.store.bars import read_bars
from candlecast.store.coverage import read_coverage
from command_line import ended, start
from pipeline_rows import opened
from stream_feeds import OPEN, seeded_bars, unstamped, values

N_KILLS = int(os.environ.get("CANDLECAST_SOAK_KILLS", "100"))
N_MINUTES = 390
TICKERS = [f"S{number:02}" for number in range(20)]
SPEED = 60 * N_MINUTES / 60  # a session of 390 minutes within a minute
MOST_RUNS = 40
MINUTE = timedelta(minutes=1)


def truth():
    """Bars of a session; some minutes are silent."""
    draw = np.random.default_rng(7)
    bars = seeded_bars(TICKERS, OPEN, N_MINUTES)
    return [item for item, keeps in zip(bars, draw.random(len(bars)) < 0.9, strict=True) if keeps]


def replaying(folder, speed):
    """The command that plays the file."""
    options = ("--paths", "bars.parquet", "--speed", str(speed), "--json")
    return start("stream", "replay", *options, folder=folder)


def n_stored(folder):
    """How many bars the store holds, asked with SQLite alone; none before it has tables."""
    path = folder / "var" / "candlecast.db"
    if not path.exists():
        return 0
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute("SELECT count(*) FROM bars").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def killed(folder, draw):
    """Start a replay and kill it within two seconds of the moment when it begins to store."""
    process = replaying(folder, SPEED)
    before, deadline = n_stored(folder), time.monotonic() + 60
    while n_stored(folder) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(float(draw.uniform(0.0, 2.0)))
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return was_running


@pytest.mark.slow
def test_a_stream_killed_at_random_moments_loses_no_bar_and_doubles_none(tmp_path):
    bars, draw = truth(), np.random.default_rng(11)
    n_killed, round_number = 0, 0
    while n_killed < N_KILLS:
        folder = tmp_path / f"round_{round_number}"
        folder.mkdir()
        rows = unstamped(bars).drop("adj_close", "vwap", "trade_count", "source")
        rows.write_parquet(folder / "bars.parquet")
        n_before = n_killed
        while n_killed < N_KILLS and n_killed - n_before < MOST_RUNS:
            if not killed(folder, draw):
                break
            n_killed += 1
        answer = ended(replaying(folder, 0))
        assert answer.code == 0, answer.err
        check(folder, bars)
        sys.stdout.write(f"round {round_number}: {n_killed - n_before} kills survived\n")
        round_number += 1
        if n_killed == n_before:
            pytest.fail("no replay lived long enough to be killed")


def check(folder, bars):
    """The store holds exactly the true bars, each in one version, and vouches for the session."""
    database_url = f"sqlite:///{folder}/var/candlecast.db"
    with opened(database_url, folder / "var") as stores:
        stored = read_bars(stores.database, Timeframe(1))
        coverage = read_coverage(stores.database, Timeframe(1))
    assert len(stored) == len(bars)
    assert values(stored) == values(bars)
    assert stored.select("symbol", "ts").is_unique().all()
    connection = sqlite3.connect(folder / "var" / "candlecast.db")
    # Coarser bars may have been made before the last minute was there, at such a speed.
    of_minutes = "SELECT count(*) FROM bar_revisions WHERE timeframe = 1"
    assert connection.execute(of_minutes).fetchone() == (0,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    last = max(item.ts for item in bars) + MINUTE
    for ticker in TICKERS:
        own = coverage.filter(symbol=ticker)
        assert own["start_at"].min() <= OPEN + MINUTE
        assert own["end_at"].max() >= last
