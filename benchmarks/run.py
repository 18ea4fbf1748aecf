"""Measure candlecast against bare peers and write docs/benchmarks.md.

Takes some minutes: ``make bench``. While working on a part of it:
``python benchmarks/run.py --quick --only features,forecast``, which only prints.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import factors
import features
import forecasting
import indicators_peer
import ingesting
import resampling
import storage
import streaming
import tensors
import universe
import walk_forward
from candlecast.domain.market import SystemClock
from rendering import page

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
MEASUREMENTS = {
    "walk_forward": walk_forward.measure,
    "features": features.measure,
    "newest": features.measure_newest,
    "indicators": indicators_peer.measure,
    "factors": factors.measure,
    "factors_postgres": factors.measure_postgres,
    "tensors": tensors.measure,
    "universe": universe.measure,
    "forecast": forecasting.measure,
    "sqlite": storage.measure_sqlite,
    "postgres": storage.measure_postgres,
    "ingest": ingesting.measure,
    "resample": resampling.measure,
    "stream": streaming.measure,
}


def main() -> None:
    options = _options()
    chosen = [name for name in options.only.split(",") if name] or list(MEASUREMENTS)
    sections = []
    for name in chosen:
        print(f"{name} ...", flush=True)
        started_at = perf_counter()
        sections.append(MEASUREMENTS[name](is_quick=options.quick))
        print(f"{name} took {perf_counter() - started_at:.0f} s", flush=True)
    text = page(sections, SystemClock().now())
    print(text)
    if options.quick or len(chosen) < len(MEASUREMENTS):
        print(f"(a part or a quick run: {DOCUMENT.name} stays as it is)")
    else:
        DOCUMENT.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small data, few repetitions")
    parser.add_argument("--only", default="", help=f"of {','.join(MEASUREMENTS)}; all by default")
    options = parser.parse_args()
    for name in options.only.split(","):
        if name and name not in MEASUREMENTS:
            parser.error(f"there is no measurement {name!r}; use {', '.join(MEASUREMENTS)}")
    return options


if __name__ == "__main__":
    main()
