"""`candlecast ingest` killed at random moments: no bar is lost, none is there twice."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest

from candlecast.domain.market import Timeframe
from candlecast.store.bars import read_bars
from command_line import ended, start
from fakes.alpaca_server import AlpacaServer, Fault, wire_bar
from pipeline_rows import opened
from vendor import true_minutes

N_KILLS = int(os.environ.get("CANDLECAST_SOAK_KILLS", "100"))
TICKERS = ("A", "B", "C", "D")
FIRST = datetime(2024, 1, 2, tzinfo=UTC)
MINUTE = Timeframe.parse("1m")
ANSWER_SECONDS = 0.05
"""How long the vendor takes for a page, so that a run is long enough to be killed within."""


@pytest.fixture
def vendor():
    truth = true_minutes(*TICKERS, start=FIRST, n_sessions=60)
    with AlpacaServer(page_size=500) as server:
        for ticker in TICKERS:
            own = truth.filter(symbol=ticker).iter_rows(named=True)
            bars = [
                wire_bar(f"{row['ts']:%Y-%m-%dT%H:%M:%SZ}", row["close"], volume=row["volume"])
                for row in own
            ]
            server.add_bars(ticker, "1Min", bars)
        slow = partial(time.sleep, ANSWER_SECONDS)
        server.faults.append(Fault("call", path="/bars", times=float("inf"), before=slow))
        yield server, truth


def test_killed_at_random_moments_it_goes_on_where_it_was(database_url, tmp_path, vendor):
    server, truth = vendor
    run = partial(
        start,
        *("ingest", "alpaca", "--symbols", ",".join(TICKERS), "--timeframe", "1m", "--no-derive"),
        *("--start", f"{FIRST:%Y-%m-%d}", "--set", f"data_url={server.data_url}", "--json"),
        folder=tmp_path,
        CANDLECAST_DATABASE_URL=database_url,
        CANDLECAST_ALPACA_KEY_ID=server.access["key_id"],
        CANDLECAST_ALPACA_SECRET_KEY=server.access["secret_key"],
    )
    generator = np.random.default_rng(1)
    n_killed = 0
    counts = []
    for _ in range(N_KILLS):
        process = run()
        try:
            process.wait(timeout=generator.uniform(1.0, 8.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            n_killed += 1
        process.communicate()
        with opened(database_url, tmp_path / "looked") as stores:
            counts.append(len(read_bars(stores.database, MINUTE)))
    assert n_killed > N_KILLS / 2
    assert counts == sorted(counts)
    answer = ended(run())
    assert answer.code == 0, answer.err
    with opened(database_url, tmp_path / "looked") as stores:
        bars = read_bars(stores.database, MINUTE)
    assert bars.select("symbol", "ts", "volume").equals(truth.select("symbol", "ts", "volume"))
    sys.stdout.write(f"{n_killed} of {N_KILLS} runs were killed; bars after each: {counts}\n")
