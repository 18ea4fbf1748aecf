"""How past forecasts fared: coverage, skill and a verdict, from settled ledger rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain.market import Horizon, Timeframe
from candlecast.errors import InvalidSpec, NotFound
from candlecast.store import ledger
from candlecast.store.bars import read_symbols
from candlecast.store.stores import Stores
from candlecast.validation.significance import SkillTest, mean_interval, skill_test

BANDS: Final = (0.5, 0.8, 0.95)
OUT_OF_SAMPLE: Final[tuple[ledger.Origin, ...]] = ("live", "walk_forward")
SEED: Final = 7
TOO_LITTLE: Final = "too little data"
SKILL: Final = "skill"


@dataclass(frozen=True)
class ReportQuery:
    """Which forecasts to report on; `origins` empty means all that are out of sample.

    `start` and `end` bound `as_of`, both inclusive.
    """

    symbols: tuple[str, ...] = ()
    horizon: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    origins: tuple[str, ...] = ()
    timeframe: str = "1d"
    model_version: str | None = None
    is_by_symbol: bool = True


def make_report(stores: Stores, query: ReportQuery) -> dict[str, Any]:
    """The report card: overall, by horizon and by symbol, naming the origins it counts."""
    rows = _read(stores, query)
    settled = rows.drop_nulls(["realised", "crps_climatology"])
    horizons = {h: _card(part) for h, part in _parts(settled, "horizon")}
    report: dict[str, Any] = {
        "origins": sorted(rows["origin"].unique()) or list(query.origins or OUT_OF_SAMPLE),
        "start": _iso(rows["as_of"].min()),
        "end": _iso(rows["as_of"].max()),
        "n_forecasts": len(rows),
        "n_settled": len(settled),
        "model_versions": sorted(rows["model_version"].unique()),
        "overall": _overall(settled, horizons),
        "horizons": horizons,
        "symbols": {},
    }
    if query.is_by_symbol:
        for symbol, part in _parts(settled, "symbol"):
            cards = {h: _card(own) for h, own in _parts(part, "horizon")}
            report["symbols"][symbol] = {**_overall(part, cards), "horizons": cards}
    return report


def _read(stores: Stores, query: ReportQuery) -> pl.DataFrame:
    known = [symbol.ticker for symbol in read_symbols(stores.database)]
    for ticker in query.symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    for origin in query.origins:
        if origin not in ledger.ORIGINS:
            raise NotFound.among("origin", origin, ledger.ORIGINS)
    if query.start and query.end and query.start > query.end:
        raise InvalidSpec(f"start {query.start} lies after end {query.end}; swap them")
    return ledger.read_scores(
        stores.database,
        Timeframe.parse(query.timeframe),
        symbols=list(query.symbols) or None,
        horizon=Horizon.parse(query.horizon).name if query.horizon else None,
        start=query.start,
        end=query.end,
        origins=list(query.origins or OUT_OF_SAMPLE),
        model_version=query.model_version,
    )


def _parts(frame: pl.DataFrame, column: str) -> list[tuple[str, pl.DataFrame]]:
    parts = frame.partition_by(column, as_dict=True)
    order = {"m": 0, "h": 1, "D": 2, "W": 3, "M": 4}

    def rank(key: tuple[str, ...]) -> tuple[int, int, str]:
        if column != "horizon":
            return 0, 0, key[0]
        horizon = Horizon.parse(key[0])
        return order[horizon.unit], horizon.count, key[0]

    return [(str(key[0]), parts[key]) for key in sorted(parts, key=rank)]  # type: ignore[arg-type]


def _overall(settled: pl.DataFrame, horizons: dict[str, Any]) -> dict[str, Any] | None:
    # One horizon: its card is the whole. Several: outcomes of different length are not one
    # series, so each score is put in units of its horizon's reference before it is averaged.
    if not horizons:
        return None
    if len(horizons) == 1:
        return next(iter(horizons.values()))
    unit = pl.col("crps_climatology").mean().over("horizon")
    scaled = settled.with_columns(
        pl.col("crps") / unit, pl.col("crps_climatology") / unit, pl.col("pinball") / unit
    )
    return _card(scaled)


def _card(settled: pl.DataFrame) -> dict[str, Any]:
    when = settled["as_of"].dt.replace_time_zone(None).to_numpy()
    crps, reference = (settled[n].to_numpy() for n in ("crps", "crps_climatology"))
    up = (settled["realised"] > 0).to_numpy()
    brier, brier_reference = (
        (settled[name].to_numpy() - up) ** 2 for name in ("prob_up", "prob_up_climatology")
    )
    n_bars = int(settled["horizon_bars"].max())  # type: ignore[arg-type]
    shape = skill_test(crps, reference, when, block_length=n_bars, seed=SEED)
    direction = skill_test(brier, brier_reference, when, block_length=n_bars, seed=SEED)
    hits = settled["is_hit"].to_numpy().astype(float)
    interval = mean_interval(hits, when, block_length=n_bars, seed=SEED)
    pits = settled["pit"].to_numpy()
    return {
        "n": len(settled),
        "n_dates": shape.n_dates,
        "coverage": {f"{level:g}": metrics.coverage(pits, level) for level in BANDS},
        "crps": float(crps.mean()),
        "crps_climatology": float(reference.mean()),
        "crps_skill_vs_climatology": metrics.skill(crps, reference),
        "crps_skill_interval": _relative(shape, float(reference.mean())),
        "pinball_skill_vs_climatology": metrics.skill(crps, reference),
        "hit_rate": float(hits.mean()),
        "hit_rate_interval": None if interval is None else list(interval),
        "brier_skill_vs_climatology": metrics.skill(brier, brier_reference),
        "verdict": verdict(shape.verdict, direction.verdict),
        "tests": {
            "distribution": {"verdict": shape.verdict, "p_value": shape.p_value},
            "direction": {"verdict": direction.verdict, "p_value": direction.p_value},
        },
    }


def verdict(distribution: str, direction: str) -> str:
    """Both tests in one phrase."""
    proven = [
        f"the {name}"
        for name, found in (("distribution", distribution), ("direction", direction))
        if found == SKILL
    ]
    if proven:
        return "skill in " + " and ".join(proven)
    return TOO_LITTLE if distribution == TOO_LITTLE else "no skill"


def _relative(test: SkillTest, reference: float) -> list[float] | None:
    if test.interval is None or reference <= 0:
        return None
    return [bound / reference for bound in test.interval]


def _iso(instant: Any) -> str | None:
    return None if instant is None else instant.isoformat()
