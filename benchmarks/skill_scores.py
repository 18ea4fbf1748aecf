"""From out-of-sample forecasts of a market to what the page of skill says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.distribution import FloatArray
from candlecast.pipelines.dataset import TrainingSet
from candlecast.pipelines.report import verdict
from candlecast.validation.comparison import diebold_mariano
from candlecast.validation.significance import mean_interval, reference_margin, skill_test
from candlecast.validation.walk_forward import OutOfSample
from skill_sets import Market

LEVELS = (0.5, 0.8, 0.9, 0.95)
REFERENCES = ("climatology", "ewma", "har", "garch")
NETWORKS = ("lstm", "transformer")
SIMPLER = ("linear", "lightgbm")
"""What a network has to beat to be worth its cost."""
SEED = 7
MIN_YEAR_DATES = 60
"""A year with fewer dates says nothing of its coverage."""


@dataclass(frozen=True)
class Scored:
    """One horizon: what the page says, and mean losses by date, to be compared with others."""

    summary: dict[str, Any]
    dates: np.ndarray
    losses: FloatArray


Losses: TypeAlias = tuple[np.ndarray, FloatArray]
"""Dates, and mean losses of each."""


def against(own: Losses, reference: Losses, horizon_bars: int) -> dict[str, Any]:
    """The share of the reference's loss that is saved, and whether that is more than luck."""
    dates, losses = own
    if not np.array_equal(dates, reference[0]):
        raise ValueError("the reference was measured on other dates; measure it again")
    test = diebold_mariano(losses, reference[1], dates, horizon_bars=horizon_bars)
    return {"skill": 1 - losses.mean() / reference[1].mean(), "p_value": test.p_value}


def score(training: TrainingSet, made: OutOfSample, market: Market) -> dict[str, Scored]:
    """The scores of each horizon over the forecasts of the market's span whose outcome came."""
    examples = training.examples.take(made.rows)
    ts = training.keys["ts"].dt.replace_time_zone(None).to_numpy()[made.rows]
    is_counted = np.ones(len(ts), dtype=bool)
    if market.start is not None:
        is_counted &= ts >= np.datetime64(market.start.replace(tzinfo=None))
    if market.end is not None:
        is_counted &= ts <= np.datetime64(market.end.replace(tzinfo=None))
    n_past = _n_past(training, made.rows)
    found = {}
    for place, horizon in enumerate(examples.horizons):
        y = examples.y[:, place]
        rows = np.flatnonzero(is_counted & ~np.isnan(y))
        quantiles = dist.as_stored(made.quantiles[rows, place])
        past = examples.climatology[rows, place]
        n_bars = int(examples.horizon_bars[place])
        margin = reference_margin(n_past[rows], n_bars)
        found[horizon] = _scored(quantiles, past, y[rows], ts[rows], (n_bars, margin))
        found[horizon].summary["n_holdout"] = int(made.is_holdout[rows].sum())
    return found


def _n_past(training: TrainingSet, rows: np.ndarray) -> FloatArray:
    # How many outcomes stood behind the climatology of each row, for a horizon of one bar.
    place = pl.int_range(pl.len()).over("symbol").alias("place")
    placed = training.market.prices.select("symbol", "ts", place)
    keys = training.keys.select("symbol", "ts")[rows]
    return keys.join(placed, on=["symbol", "ts"], how="left", maintain_order="left")[
        "place"
    ].to_numpy()


def _scored(
    quantiles: FloatArray,
    past: FloatArray,
    y: FloatArray,
    ts: np.ndarray,
    length: tuple[int, float],
) -> Scored:
    n_bars, margin = length
    crps, reference = metrics.crps(quantiles, y), metrics.crps(past, y)
    brier, brier_reference = (metrics.brier(dist.prob_up(q), y) for q in (quantiles, past))
    options = {"horizon_bars": n_bars, "seed": SEED}
    shape = skill_test(crps, reference, ts, **options, margin=margin)
    direction = skill_test(brier, brier_reference, ts, **options, margin=margin)
    pits = metrics.pit(quantiles, y)
    dates, where = np.unique(ts, return_inverse=True)
    losses = np.bincount(where, weights=crps) / np.bincount(where)
    summary = {
        "n": len(y),
        "horizon_bars": n_bars,
        "n_dates": len(dates),
        "crps": float(crps.mean()),
        "skill": metrics.skill(crps, reference),
        "skill_interval": shape.skill_interval,
        "hit_rate": float(metrics.hit_rate(dist.prob_up(quantiles), y)),
        "verdict": verdict(shape.verdict, direction.verdict),
        "years": _years(crps, reference, pits, ts),
        "coverage": {
            f"{level:g}": {
                "share": metrics.coverage(pits, level),
                "interval": mean_interval(_inside(pits, level), ts, **options, level=0.99),
            }
            for level in LEVELS
        },
    }
    return Scored(summary, dates, losses)


def _inside(pits: FloatArray, level: float) -> FloatArray:
    return (np.abs(pits - 0.5) <= level / 2 + metrics.EDGE).astype(float)


def _years(
    crps: FloatArray, reference: FloatArray, pits: FloatArray, ts: np.ndarray
) -> dict[str, Any]:
    years = ts.astype("datetime64[Y]")
    found = {}
    for year in np.unique(years):
        own = years == year
        if len(np.unique(ts[own].astype("datetime64[D]"))) >= MIN_YEAR_DATES:
            found[str(year)] = {
                "skill": metrics.skill(crps[own], reference[own]),
                "coverage": {f"{v:g}": metrics.coverage(pits[own], v) for v in LEVELS},
            }
    return found
