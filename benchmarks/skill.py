"""Measure skill out of sample on real markets and write docs/skill.md.

``make bench-skill``, or parts: ``make bench-skill ARGS='--markets us_daily --only har,linear'``.
What was measured before stays on the page until it is measured again; forecasts are made in memory
and scored, nothing is put into a ledger. References come first: the others are held against them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import m6
from candlecast.domain.market import SystemClock
from candlecast.domain.specs import ExperimentSpec
from candlecast.pipelines.dataset import TrainingSet, make_training_set, read_training_market
from candlecast.pipelines.demands import resolved
from candlecast.pipelines.evaluate import out_of_sample
from candlecast.pipelines.sequences import with_sequences
from candlecast.store.migrate import file_lock
from candlecast.store.stores import Stores
from skill_page import DEFAULT, page
from skill_scores import LEVELS, REFERENCES, SIMPLER, Losses, Scored, against, score
from skill_sets import DATA, EXPERIMENTS, KEPT, MARKETS, ROOT, data_sha256, open_market, spec_of

RESULTS = Path(__file__).with_name("skill.json")
DOCUMENT = ROOT / "docs" / "skill.md"
M6 = "m6"


def main() -> None:
    options = _options()
    for name in options.markets:
        if name == M6:
            _keep({M6: m6.measure()})
        else:
            _measure_market(name, options.only)


def _measure_market(name: str, experiments: list[str]) -> None:
    market, stores = MARKETS[name], open_market(name)
    found: dict[str, Any] = {"data": {"file": market.file, "sha256": data_sha256(market)}}
    made: dict[str, TrainingSet] = {}
    for experiment in experiments:
        spec = spec_of(experiment, market)
        found[experiment] = _same(found, spec.id) or _measured(name, spec, stores, made)
        _tell(name, experiment, found[experiment])
        _keep({name: found})
    stores.close()


def _measured(
    name: str,
    spec: ExperimentSpec,
    stores: Stores,
    made: dict[str, TrainingSet],
) -> dict[str, Any]:
    started_at = perf_counter()
    training = _training_set(stores, spec, made)
    prepared_at = perf_counter()
    forecasts = out_of_sample(training)
    seconds = perf_counter() - prepared_at
    scored = score(training, forecasts, MARKETS[name])
    _keep_losses(name, spec.id, scored)
    floors = MARKETS[name].floors
    horizons = {h: own.summary | {"floor": floors[h]} for h, own in scored.items()}
    return {
        "spec_id": spec.id,
        "seconds": seconds,
        "seconds_of_rows": prepared_at - started_at,
        "measured_at": f"{SystemClock().now():%Y-%m-%d %H:%M UTC}",
        "horizons": horizons,
    }


def _same(found: dict[str, Any], spec_id: str) -> dict[str, Any] | None:
    # Another experiment of this run that says the same, as the default one does.
    told = (own for name, own in found.items() if name != "data")
    return next((own for own in told if own["spec_id"] == spec_id), None)


def _training_set(
    stores: Stores, spec: ExperimentSpec, made: dict[str, TrainingSet]
) -> TrainingSet:
    # The rows are the same for all that look at the same features.
    key = spec.features.id
    if key not in made:
        market = read_training_market(stores, spec, None)
        made[key] = make_training_set(resolved(spec, market), market)
    base = made[key]
    own = replace(base, spec=resolved(spec, base.market))
    return with_sequences(stores, own)


def _keep_losses(market: str, spec_id: str, scored: dict[str, Scored]) -> None:
    # What comparisons are made of, with the hash of the data that it was measured on.
    folder = KEPT / "losses" / market
    folder.mkdir(parents=True, exist_ok=True)
    for horizon, own in scored.items():
        np.savez(
            folder / f"{spec_id}-{horizon}.npz",
            dates=own.dates,
            losses=own.losses,
            data_sha256=data_sha256(MARKETS[market]),
        )


def _compare(name: str, found: dict[str, Any]) -> None:
    # Each experiment against each reference, as both stand now.
    for experiment, told in found.items():
        for horizon, own in told.get("horizons", {}).items():
            mine = _losses(name, experiment, horizon, found)
            own["against"] = {
                reference: against(mine, theirs, own["horizon_bars"])
                for reference in (*REFERENCES, *SIMPLER)
                if mine is not None and reference != experiment
                if (theirs := _losses(name, reference, horizon, found)) is not None
            }


def _losses(name: str, experiment: str, horizon: str, found: dict[str, Any]) -> Losses | None:
    spec_id = found.get(experiment, {}).get("spec_id")
    path = KEPT / "losses" / name / f"{spec_id}-{horizon}.npz"
    if not path.exists():
        return None
    with np.load(path) as kept:
        is_current = str(kept["data_sha256"]) == found["data"]["sha256"]
        return (kept["dates"], kept["losses"]) if is_current else None


def _tell(market: str, experiment: str, found: dict[str, Any]) -> None:
    for horizon, own in found["horizons"].items():
        covered = ", ".join(f"{own['coverage'][f'{level:g}']['share']:.2%}" for level in LEVELS)
        print(
            f"{market} {experiment} {horizon}: skill {own['skill']:+.2%}, coverage {covered}, "
            f"{found['seconds']:.0f} s",
            flush=True,
        )


def _keep(measured: dict[str, Any]) -> None:
    # Beside what other runs have measured, also those that go on now.
    KEPT.mkdir(parents=True, exist_ok=True)
    with file_lock(KEPT / "results.lock"):
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        for name, found in measured.items():
            known[name] = found if name == M6 else _merged(known.get(name, {}), found)
            if name != M6:
                _compare(name, known[name])
        written = page(known, SystemClock().now())
        text = json.dumps(known, indent=1, sort_keys=True)
        RESULTS.write_text(f"{text}\n", encoding="utf-8")
        DOCUMENT.write_text(written, encoding="utf-8")


def _merged(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    # What was measured of other data goes.
    return before | found if before.get("data") == found["data"] else dict(found)


def _options() -> argparse.Namespace:
    experiments = sorted(path.stem for path in EXPERIMENTS.glob("*.toml"))
    experiments.sort(key=lambda name: (name not in REFERENCES, name == DEFAULT, name))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--markets", default=",".join([*MARKETS, M6]))
    parser.add_argument("--only", default=",".join(experiments), help="experiments, with commas")
    options = parser.parse_args()
    for name, known in (("markets", [*MARKETS, M6]), ("only", experiments)):
        chosen = [part for part in getattr(options, name).split(",") if part]
        if unknown := [part for part in chosen if part not in known]:
            parser.error(f"there is no {', '.join(unknown)}; use {', '.join(known)}")
        setattr(options, name, sorted(chosen, key=known.index))
    if not DATA.exists():
        parser.error(f"NO REAL DATA: {DATA} is absent, so no skill can be measured")
    return options


if __name__ == "__main__":
    main()
