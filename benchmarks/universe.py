"""All features of a large universe into the database: how long, and how much memory at most."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl

from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.store.bars import write_bars
from candlecast.store.stores import open_stores
from candlecast.store.symbols import write_symbols
from datasets import daily_bars, frame_sha256
from measure import Row, Section

MOST_BYTES = 2 * 2**30
N_SESSIONS_WRITTEN = 5
RUN = """
import json, resource, sys
from datetime import datetime
from pathlib import Path
from time import perf_counter
from candlecast.domain.market import FixedClock
from candlecast.pipelines.materialize import Span, materialize_features
from candlecast.store.stores import open_stores
home, now, start = Path(sys.argv[1]), *map(datetime.fromisoformat, sys.argv[2:])
stores = open_stores(database_url=f"sqlite:///{home / 'candlecast.db'}", home=home,
                     artifacts_url=None, clock=FixedClock(now))
started_at = perf_counter()
n_written = materialize_features(stores, "1d", Span(start=start))
taken = perf_counter() - started_at
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": taken, "peak": peak, "n_written": n_written}))
"""


def measure(*, is_quick: bool) -> Section:
    """Run `features materialize` over many symbols in a process of its own."""
    n_symbols, n_sessions = (300, 200) if is_quick else (5_000, 500)
    bars = daily_bars(n_symbols, n_sessions)
    with tempfile.TemporaryDirectory(prefix="candlecast-universe-") as folder:
        answer = _materialized(Path(folder), bars)
    peak = answer["peak"]
    verdict = "reached" if peak <= MOST_BYTES else "missed"
    return Section(
        title="A large universe",
        about=(
            "`features materialize` of all features, from the mirror to the table, for the last "
            f"{N_SESSIONS_WRITTEN} sessions; every bar is computed. The mirror is built within. "
            f"Resident memory reached {peak / 2**30:.2f} GiB (goal: at most "
            f"{MOST_BYTES / 2**30:.0f} GiB: {verdict}); {answer['n_written']:,.0f} rows written."
        ),
        data=f"{n_symbols:,} symbols x {n_sessions} daily bars, synthetic",
        data_sha256=frame_sha256(bars),
        rows=(Row("features materialize", answer["seconds"], None, len(bars)),),
    )


def _materialized(home: Path, bars: pl.DataFrame) -> dict[str, float]:
    now = bars["known_at"].max() + timedelta(hours=1)
    start = bars["ts"].unique().sort()[-N_SESSIONS_WRITTEN]
    stores = open_stores(
        database_url=f"sqlite:///{home / 'candlecast.db'}",
        home=home,
        artifacts_url=None,
        clock=FixedClock(now),
    )
    write_symbols(stores.database, [Symbol(ticker) for ticker in bars["symbol"].unique().sort()])
    write_bars(stores.database, Timeframe.parse("1d"), bars)
    stores.close()
    command = [sys.executable, "-c", RUN, str(home), now.isoformat(), start.isoformat()]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found
