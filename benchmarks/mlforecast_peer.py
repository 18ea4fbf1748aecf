"""A year of forecasts of daily stocks, beside mlforecast with LightGBM and conformal intervals."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.distribution import FloatArray
from candlecast.domain.specs import ExperimentSpec, LabelSpec, ModelSpec, SplitSpec
from candlecast.pipelines.dataset import TrainingSet, make_training_set, read_training_market
from candlecast.pipelines.demands import resolved
from candlecast.pipelines.evaluate import out_of_sample
from candlecast.pipelines.universe import Market
from datasets import SEED, array_sha256
from measure import Row, Section
from peers import PeerMissing, interpreter, run, say_missing
from skill_sets import DATA, open_market

N_SCORED = 252
"""The last so many sessions of the span are forecast."""
H = 5
STEPS = {"1D": 1, "1W": 5}
TREES = {"n_estimators": 100, "learning_rate": 0.05, "num_leaves": 31}
SPEC = ExperimentSpec(
    seed=SEED,
    labels=LabelSpec(horizons=tuple(STEPS)),
    splits=SplitSpec(n_splits=1, test_size=N_SCORED, holdout_share=0.0),
    model=ModelSpec(parameters={"n_jobs": 1}),
)
FIRST, LAST = "2010-01-01", "2019-12-31"


def measure(*, is_quick: bool) -> Section:
    """Time the whole way from bars to quantiles on both sides, and score both on the same rows."""
    if not DATA.exists():
        say_missing("mlforecast", f"{DATA} is absent, and skill is measured on real bars only")
        return Section("mlforecast", "Not measured: no real bars here.", "none", "", ())
    market = _market(n_symbols=20 if is_quick else None)
    started_at = perf_counter()
    training = make_training_set(resolved(SPEC, market), market)
    forecasts = out_of_sample(training)
    seconds = perf_counter() - started_at
    about, theirs = "", None
    ours = _ours(training, forecasts)
    close = _closes(market)
    with tempfile.TemporaryDirectory(prefix="candlecast-mlforecast-") as folder:
        try:
            theirs = _theirs(Path(folder), close)
        except PeerMissing as missing:
            say_missing("mlforecast", missing)
            about = "MLFORECAST IS NOT INSTALLED HERE and left out. "
    if theirs is not None:
        about = _compared(ours, theirs, close)
    return Section(
        title="Beside mlforecast",
        about=(
            "From bars to forecasts of one year, a day and a week ahead: features, one global "
            "LightGBM fitted before the year, and its calibration. mlforecast: lags 1 to 21, "
            "rolling means and deviations, the same trees, conformal intervals of fifty windows, "
            f"forecasts every {H} sessions; ours are made for every session. One thread each. "
            f"{about}"
        ),
        data=f"us_daily, {close['symbol'].n_unique()} stocks with every session {FIRST} to {LAST}",
        data_sha256=array_sha256(close["close"].to_numpy()),
        rows=(
            Row(
                "a year of forecasts",
                seconds,
                None if theirs is None else theirs["seconds"],
                len(close),
            ),
        ),
    )


def _market(n_symbols: int | None) -> Market:
    stores = open_market("us_daily")
    market = read_training_market(stores, SPEC, None)
    stores.close()
    first, last = (pl.lit(text).str.to_datetime(time_zone="UTC") for text in (FIRST, LAST))
    prices = market.prices.filter(pl.col("ts").is_between(first, last))
    counts = prices.group_by("symbol").len()
    whole = counts.filter(pl.col("len") == counts["len"].max())["symbol"].sort()[:n_symbols]
    kept = prices.filter(pl.col("symbol").is_in(whole.implode()))
    return replace(market, prices=kept)


def _closes(market: Market) -> pl.DataFrame:
    session = pl.col("ts").rank("dense").cast(pl.Int64) - 1
    return market.prices.sort("symbol", "ts").select("symbol", "ts", "close", session=session)


def _ours(training: TrainingSet, made: Any) -> pl.DataFrame:
    keys = training.keys.select("symbol", "ts")[made.rows]
    parts = []
    for place, horizon in enumerate(training.rows.horizons):
        values = pl.Series("quantiles", dist.as_stored(made.quantiles[:, place]))
        y = pl.Series("y", training.examples.y[made.rows, place])
        parts.append(keys.with_columns(values, y, horizon=pl.lit(horizon)))
    return pl.concat(parts)


def _theirs(folder: Path, close: pl.DataFrame) -> dict[str, Any]:
    n_windows = N_SCORED // H
    task = {**TREES, "n_windows": n_windows, "h": H, "n_scores": 50}
    columns = {name: close[name].to_numpy() for name in ("session", "close")}
    codes = close["symbol"].rle_id().to_numpy()
    np.savez(folder / "bars.npz", symbol=codes, **columns)
    python, saved = interpreter("mlforecast"), folder / "made.npz"
    told = run(
        python, "mlforecast_runner.py", str(folder / "bars.npz"), str(saved), json.dumps(task)
    )
    with np.load(saved) as made:
        return told | {name: made[name] for name in made.files}


def _compared(ours: pl.DataFrame, theirs: dict[str, Any], close: pl.DataFrame) -> str:
    # CRPS of both on the rows that both forecast.
    tickers = close["symbol"].unique(maintain_order=True)
    days = close.filter(pl.col("symbol") == tickers[0]).select("session", "ts")
    logs = close.select("symbol", cutoff="session", last=pl.col("close").log())
    made = pl.DataFrame(
        {
            "symbol": tickers.gather(theirs["symbol"]),
            "cutoff": theirs["cutoff"],
            "step": theirs["session"] - theirs["cutoff"],
            "theirs": theirs["quantiles"],
        }
    ).join(logs, on=["symbol", "cutoff"])
    made = made.join(days, left_on="cutoff", right_on="session")
    told = []
    for horizon, step in STEPS.items():
        both = ours.filter((pl.col("horizon") == horizon) & pl.col("y").is_not_nan()).join(
            made.filter(pl.col("step") == step), on=["symbol", "ts"]
        )
        y = both["y"].to_numpy()
        quantiles = both["theirs"].to_numpy() - both["last"].to_numpy()[:, None]
        their_crps = _crps(dist.uncrossed(quantiles), y)
        our_crps = _crps(both["quantiles"].to_numpy(), y)
        told.append(
            f"{horizon}: CRPS {our_crps:.6f} against {their_crps:.6f} on {len(y):,} rows "
            f"({1 - our_crps / their_crps:+.1%} saved)"
        )
    return f"mlforecast {theirs['version']}. {'; '.join(told)}. "


def _crps(quantiles: FloatArray, y: FloatArray) -> float:
    return float(metrics.crps(quantiles, y).mean())
