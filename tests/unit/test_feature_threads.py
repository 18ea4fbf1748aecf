"""However many threads work on them, features have the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from candlecast.domain.catalog import FEATURES

TESTS = Path(__file__).parents[1]
HASHES = """
import hashlib, sys
import numpy as np
import polars as pl
sys.path.insert(0, sys.argv[1])
from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute, newest
from fact_frames import seeded_facts
from price_frames import daily_prices

prices = daily_prices(seed=3, n_symbols=3, n_sessions=420)
facts = seeded_facts(prices, 4)
for make in (compute, newest):
    values = make(prices, FEATURES.names(), facts)
    assert values["multi_timeframe_sentiment"].null_count() < len(values)
    for name in FEATURES.names():
        bits = values[name].fill_null(float("nan")).to_numpy()
        print(make.__name__, name, hashlib.sha256(np.ascontiguousarray(bits)).hexdigest())
print(pl.thread_pool_size(), file=sys.stderr)
"""


def hashes(n_threads: int) -> dict[str, str]:
    """The hash of each feature's values, as a process with so many threads computes them."""
    done = subprocess.run(
        [sys.executable, "-c", HASHES, str(TESTS)],
        env=os.environ | {"POLARS_MAX_THREADS": str(n_threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stderr) == n_threads
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())


def test_values_do_not_depend_on_the_number_of_threads():
    alone, together = hashes(1), hashes(2)
    assert len(alone) == 2 * len(FEATURES.names())
    assert [name for name in alone if alone[name] != together.get(name)] == []
