"""Measure candlecast against bare peers and write docs/benchmarks.md.

Takes half an hour: ``make bench``. Parts of it: ``make bench ARGS='--only features,newest'``; the
other sections stay as they were measured, each with its date. ``--quick`` only prints.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import factors
import features
import forecasting
import indicators_peer
import inference
import ingesting
import mlforecast_peer
import network_inference
import online
import resampling
import storage
import streaming
import tensors
import universe
import walk_forward
from candlecast.domain.market import SystemClock
from rendering import Entry, entry_of, page

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
RESULTS = Path(__file__).with_name("results.json")
MEASUREMENTS = {
    "walk_forward": walk_forward.measure,
    "global_model": walk_forward.measure_global,
    "mlforecast": mlforecast_peer.measure,
    "online": online.measure,
    "inference": inference.measure,
    "features": features.measure,
    "newest": features.measure_newest,
    "indicators": indicators_peer.measure,
    "factors": factors.measure,
    "factors_postgres": factors.measure_postgres,
    "tensors": tensors.measure,
    "networks": network_inference.measure,
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
    entries = _known_entries()
    for name in chosen:
        print(f"{name} ...", flush=True)
        started_at = perf_counter()
        section = MEASUREMENTS[name](is_quick=options.quick)
        entries[name] = entry_of(section, SystemClock().now())
        print(entries[name].text, flush=True)
        print(f"{name} took {perf_counter() - started_at:.0f} s", flush=True)
        if not options.quick:
            _keep(entries)
    if options.quick:
        print(f"(a quick run: {DOCUMENT.name} stays as it is)")


def _keep(entries: dict[str, Entry]) -> None:
    # After each section: a run that is stopped keeps what it has measured.
    known = {name: entries[name] for name in MEASUREMENTS if name in entries}
    plain = {name: asdict(entry) for name, entry in known.items()}
    RESULTS.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(page(list(known.values()), SystemClock().now()), encoding="utf-8")


def _known_entries() -> dict[str, Entry]:
    # What was measured before stays on the page, with its date, until it is measured again.
    if not RESULTS.exists():
        return {}
    plain = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {
        name: Entry(**(values | {"goals": tuple(map(tuple, values["goals"]))}))
        for name, values in plain.items()
    }


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
