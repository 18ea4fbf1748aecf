"""Score the forecasts whose outcome has come: once, beside their reference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.catalog import LABELS
from candlecast.domain.climatology import climatology
from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import Timeframe
from candlecast.pipelines.adaptation import update_states
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.universe import Market, read_market
from candlecast.store import ledger
from candlecast.store.stores import Stores


@dataclass(frozen=True)
class SettleRun:
    """How many forecasts were scored now, and how many are due but lack a bar."""

    n_settled: int
    n_waiting: int


def settle(
    stores: Stores,
    *,
    timeframe: str = "1d",
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> SettleRun:
    """Score every forecast that ended by `as_of` (by default now) and whose last bar is stored.

    Outcomes and the climatology they are held against use what was known at the time. The bands
    of adaptive models follow the outcomes of their live forecasts.
    """
    now = min(as_of or stores.clock.now(), stores.clock.now())
    run = _settle(stores, Timeframe.parse(timeframe), now, progress)
    update_states(stores, Timeframe.parse(timeframe), now)
    return run


def _settle(stores: Stores, timeframe: Timeframe, now: datetime, progress: Progress) -> SettleRun:
    due = ledger.unsettled(stores.database, timeframe, due_by=now)
    if due.is_empty():
        return SettleRun(0, 0)
    progress("settlement", 0, 1)
    symbols = tuple(due["symbol"].unique().sort())
    market = read_market(stores, timeframe, symbols, now)
    scored = _scored(due, market)
    n_settled = ledger.settle(stores.database, _outcomes(scored, now)) if len(scored) else 0
    progress("settlement", 1, 1)
    return SettleRun(n_settled, len(due) - len(scored))


def _scored(due: pl.DataFrame, market: Market) -> pl.DataFrame:
    # The due forecasts whose outcome is known, with their own and the reference's quantiles.
    labels = LABELS.get("forward_return").compute(
        market.prices,
        timeframe=market.timeframe,
        horizons=tuple(due["horizon"].unique().sort()),
        calendars=market.calendars,
    )
    outcome = labels.select("symbol", "ts", "horizon", realised="value").drop_nulls("realised")
    matched = due.join(outcome, on=["symbol", "ts", "horizon"], how="inner", maintain_order="left")
    past = climatology(labels, matched.select("symbol", "horizon", "as_of"))
    return _counted(matched, labels).with_columns(
        pl.Series(f"past_{name}", past[:, level]) for level, name in enumerate(QUANTILES)
    )


def _counted(matched: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    # How many outcomes of its symbol and horizon were known at each forecast's as_of.
    by = ["symbol", "horizon"]
    known = labels.drop_nulls("value").sort("end_at")
    counts = known.select(*by, "end_at", n_past=pl.int_range(1, pl.len() + 1).over(by))
    return (
        matched.with_row_index("row")
        .sort("as_of")
        .join_asof(counts, left_on="as_of", right_on="end_at", by=by, check_sortedness=False)
        .sort("row")
        .drop("row", "end_at_right")
        .with_columns(pl.col("n_past").fill_null(0))
    )


def _outcomes(scored: pl.DataFrame, settled_at: datetime) -> pl.DataFrame:
    y = scored["realised"].to_numpy()
    own = scored.select(QUANTILES).to_numpy().astype(float)
    past = scored.select(f"past_{name}" for name in QUANTILES).to_numpy()
    up = scored["prob_up"].to_numpy()
    return scored.select(
        pl.col("id").alias("prediction_id"),
        "realised",
        pl.lit(settled_at).alias("settled_at"),
        pl.Series("pinball", metrics.pinball(own, y)),
        pl.Series("crps", metrics.crps(own, y)),
        pl.Series("crps_climatology", metrics.crps(past, y), nan_to_null=True),
        pl.Series("pit", metrics.pit(own, y)),
        pl.Series("prob_up_climatology", dist.prob_up(past), nan_to_null=True),
        "n_past",
        pl.Series("is_hit", np.asarray((up > 0.5) == (y > 0))),
    )
