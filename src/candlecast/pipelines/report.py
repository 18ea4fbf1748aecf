"""How past forecasts fared: coverage, skill and a verdict, from settled ledger rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias, cast, get_args

import polars as pl

from candlecast import metrics
from candlecast.domain.market import Horizon, Timeframe
from candlecast.errors import InvalidSpec, NotFound
from candlecast.store import ledger
from candlecast.store.origins import read_simulated
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols
from candlecast.validation.significance import (
    NO_SKILL,
    SKILL,
    TOO_LITTLE_DATA,
    mean_interval,
    reference_margin,
    skill_test,
)

BANDS: Final = (0.5, 0.8, 0.95)
OUT_OF_SAMPLE: Final[tuple[ledger.Origin, ...]] = ("live", "walk_forward")
SEED: Final = 7
Card: TypeAlias = dict[str, Any]
COLUMNS: Final = (
    *("id", "symbol", "origin", "model_version", "run_id", "fold", "ts", "horizon"),
    "horizon_bars",
    *("prob_up", "n_past", "is_hit"),
    *("realised", "crps", "pit", "crps_climatology", "prob_up_climatology"),
)


@dataclass(frozen=True)
class ReportQuery:
    """Which forecasts to report on; `origins` empty means all that are out of sample.

    Without a `model_version` walk-forward forecasts are those of the champion's own run (of the
    newest run where nothing was trained). An outcome counts once, however many forecasts it had.
    `start` and `end` bound the newest bar used (`ts`), both inclusive. Walk-forward folds numbered
    above `holdout_after` are the holdout: they count with the rest, and stand beside it as well.
    """

    symbols: tuple[str, ...] = ()
    horizon: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    origins: tuple[str, ...] = ()
    timeframe: str = "1d"
    model_version: str | None = None
    is_by_symbol: bool = True
    holdout_after: int | None = None


def make_report(stores: Stores, query: ReportQuery) -> dict[str, Any]:
    """The report card: overall, by horizon and by symbol, naming the origins it counts."""
    rows = _read(stores, query)
    settled = rows.drop_nulls(["realised", "crps_climatology"])
    horizons = {h: _card(part) for h, part in _parts(settled, "horizon")}
    report: dict[str, Any] = {
        "origins": sorted(settled["origin"].unique()) or list(query.origins or OUT_OF_SAMPLE),
        "start": _iso(settled["ts"].min()),
        "end": _iso(settled["ts"].max()),
        "n_forecasts": len(rows),
        "n_settled": len(settled),
        "model_versions": sorted(settled["model_version"].unique()),
        "overall": _overall(settled, horizons) if horizons else None,
        "horizons": horizons,
        "symbols": {},
        "simulated": _simulated(stores, query, settled),
    }
    if query.is_by_symbol:
        for symbol, part in _parts(settled, "symbol"):
            cards = {h: _card(own) for h, own in _parts(part, "horizon")}
            report["symbols"][symbol] = {**_overall(part, cards), "horizons": cards}
    if query.holdout_after is not None:
        report["holdout"] = _holdout(settled.filter(pl.col("fold") > query.holdout_after))
    return report


def _holdout(settled: pl.DataFrame) -> dict[str, Any] | None:
    # What no choice has looked at; None where nothing of it is settled.
    horizons = {h: _card(part) for h, part in _parts(settled, "horizon")}
    if not horizons:
        return None
    start, end = _iso(settled["ts"].min()), _iso(settled["ts"].max())
    overall = _overall(settled, horizons)
    return {"start": start, "end": end, "overall": overall, "horizons": horizons}


def _simulated(stores: Stores, query: ReportQuery, settled: pl.DataFrame) -> list[str]:
    # The symbols whose bars were never traded: skill on them says nothing of a market.
    invented = read_simulated(stores.database, Timeframe.parse(query.timeframe))
    return sorted(invented & {*settled["symbol"].unique()})


def _read(stores: Stores, query: ReportQuery) -> pl.DataFrame:
    known = [symbol.ticker for symbol in read_symbols(stores.database)]
    for ticker in query.symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    for origin in query.origins:
        if origin not in get_args(ledger.Origin):
            raise NotFound.among("origin", origin, get_args(ledger.Origin))
    if query.start and query.end and query.start > query.end:
        raise InvalidSpec(f"start {query.start} lies after end {query.end}; swap them")
    timeframe = Timeframe.parse(query.timeframe)
    rows = ledger.read_forecasts(
        stores.database,
        timeframe,
        symbols=list(query.symbols) or None,
        horizon=Horizon.parse(query.horizon).name if query.horizon else None,
        start=query.start,
        end=query.end,
        origins=cast("Sequence[ledger.Origin]", query.origins or OUT_OF_SAMPLE),
        model_version=query.model_version,
        columns=COLUMNS,
    )
    if query.model_version is not None and rows.is_empty():
        _check_version(stores, timeframe, query.model_version)
    champion = stores.registry.champion(timeframe)
    if query.model_version is None and champion is not None:
        is_own = pl.col("run_id") == champion.training_set_id
        rows = rows.filter((pl.col("origin") != "walk_forward") | is_own)
    # One outcome counts once: live before replayed ones, then what was made last.
    by_worth = rows.sort("origin", "id", descending=[False, True])
    return by_worth.unique(["symbol", "ts", "horizon"], keep="first", maintain_order=True)


def _check_version(stores: Stores, timeframe: Timeframe, version: str) -> None:
    stored = ledger.read_forecasts(stores.database, timeframe, columns=("model_version",))
    known = {*stored["model_version"], *(entry.version for entry in stores.registry.list())}
    if version not in known:
        raise NotFound.among("model version", version, known)


def _parts(frame: pl.DataFrame, column: str) -> list[tuple[str, pl.DataFrame]]:
    parts = frame.partition_by(column, as_dict=True)
    named = {str(key[0]): part for key, part in parts.items()}
    if column == "horizon":
        return sorted(named.items(), key=lambda item: Horizon.parse(item[0]).rank)
    return sorted(named.items())


def _overall(settled: pl.DataFrame, horizons: dict[str, Card]) -> Card:
    # One horizon: its card is the whole. Several: outcomes of different length are not one
    # series, so each score is put in units of its horizon's reference before it is averaged.
    if len(horizons) == 1:
        return next(iter(horizons.values()))
    unit = pl.col("crps_climatology").mean().over("horizon")
    scaled = settled.with_columns(pl.col("crps") / unit, pl.col("crps_climatology") / unit)
    return _card(scaled)


def _card(settled: pl.DataFrame) -> Card:
    when = settled["ts"].dt.replace_time_zone(None).to_numpy()
    crps, reference = (settled[n].to_numpy() for n in ("crps", "crps_climatology"))
    up = (settled["realised"] > 0).to_numpy()
    brier, brier_reference = (
        (settled[name].to_numpy() - up) ** 2 for name in ("prob_up", "prob_up_climatology")
    )
    horizon_bars = settled["horizon_bars"].to_numpy()
    margin = reference_margin(settled["n_past"].to_numpy(), horizon_bars)
    n_bars = int(horizon_bars.max())
    shape = skill_test(crps, reference, when, horizon_bars=n_bars, seed=SEED, margin=margin)
    direction = skill_test(
        brier, brier_reference, when, horizon_bars=n_bars, seed=SEED, margin=margin
    )
    hits = settled["is_hit"].to_numpy().astype(float)
    interval = mean_interval(hits, when, horizon_bars=n_bars, seed=SEED)
    pits = settled["pit"].to_numpy()
    return {
        "n": len(settled),
        "n_dates": shape.n_dates,
        "coverage": {f"{level:g}": metrics.coverage(pits, level) for level in BANDS},
        "crps": float(crps.mean()),
        "crps_climatology": float(reference.mean()),
        "crps_skill_vs_climatology": metrics.skill(crps, reference),
        "crps_skill_interval": _plain(shape.skill_interval),
        "hit_rate": float(hits.mean()),
        "hit_rate_interval": _plain(interval),
        "brier_skill_vs_climatology": metrics.skill(brier, brier_reference),
        "verdict": verdict(shape.verdict, direction.verdict),
        "tests": {
            "distribution": {"verdict": shape.verdict, "p_value": shape.p_value},
            "direction": {"verdict": direction.verdict, "p_value": direction.p_value},
        },
    }


def verdict(distribution: str, direction: str) -> str:
    """Both tests in one phrase."""
    tests = {"the distribution": distribution, "the direction": direction}
    proven = [name for name, found in tests.items() if found == SKILL]
    if proven:
        return "skill in " + " and ".join(proven)
    return TOO_LITTLE_DATA if distribution == direction == TOO_LITTLE_DATA else NO_SKILL


def _plain(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _iso(instant: Any) -> str | None:
    return None if instant is None else instant.isoformat()
