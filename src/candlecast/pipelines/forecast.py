"""Newest bars to stored forecasts: features, champion, ledger, current rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import cast

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from candlecast.domain import distribution as dist
from candlecast.domain.catalog import FeatureTable
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import FEATURES, FORECASTS, QUANTILES
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, LabelSpec
from candlecast.domain.thresholds import class_bounds
from candlecast.errors import NotFound
from candlecast.features.chosen import by_table, check_code
from candlecast.features.recent_facts import first_fact_at
from candlecast.models.conformal import load_model
from candlecast.pipelines.adaptation import adapted_to
from candlecast.pipelines.answer import make_answers
from candlecast.pipelines.dataset import Dataset, newest_dataset, refused_simulations
from candlecast.pipelines.demands import feature_names, windows_of
from candlecast.pipelines.provenance import has_facts
from candlecast.pipelines.reasons import keep_reasons
from candlecast.pipelines.sequences import with_timeframes
from candlecast.pipelines.universe import Market, read_pinned_market, with_facts
from candlecast.store import ledger
from candlecast.store.features import read_features, write_features
from candlecast.store.registry import ModelVersion
from candlecast.store.stores import Stores


@dataclass(frozen=True, eq=False)
class ForecastRun:
    """What one run yielded: `forecasts` (FORECASTS and what is derived) and what was left out.

    `origin` is ``live`` where the outcome was still open when it was made, else ``simulated``;
    `is_in_sample` says that the model was trained on data later than `as_of`. `failures` name the
    symbols without a forecast, `simulated` those forecast from bars that were never traded.
    """

    forecasts: pl.DataFrame
    model_version: str
    origin: str
    as_of: datetime
    is_in_sample: bool
    n_new: int
    shortfalls: dict[str, str]
    failures: dict[str, str]
    simulated: frozenset[str]


def forecast(
    stores: Stores,
    *,
    timeframe: str = "1d",
    version: str | None = None,
    symbols: tuple[str, ...] = (),
    as_of: datetime | None = None,
    has_contributions: bool = False,
) -> ForecastRun:
    """Forecast `symbols` (by default all that the model knows) from what was known at `as_of`.

    New rows enter the ledger; rows that stand there stay as they are. A forecast from the newest
    bars also becomes the current one of its symbol and horizon. Which bars the model looked at is
    kept beside it, and with `has_contributions` what each feature adds.
    """
    model_version = chosen_model(stores, Timeframe.parse(timeframe), version)
    spec = ExperimentSpec.from_mapping(orjson.loads(model_version.spec))
    check_code(spec.features)
    universe = tuple(sorted({*spec.symbols, *symbols}))
    market = _read(stores, spec, universe, as_of)
    dataset, features = newest_dataset(spec, market, symbols)
    invented = {t: why for t, why in refused_simulations(spec, market).items() if t in universe}
    model = load_model(stores.registry.fetch(model_version.version), model_version.artifact_sha256)
    now = stores.clock.now()
    made = adapted_to(stores, model_version, min(as_of or now, now), model.predict(dataset.rows))
    quantiles = dist.as_stored(made)
    forecasts = make_forecasts(dataset, quantiles, spec.labels)
    forecasts = forecasts.join(_fingerprints(features), on="symbol", how="left")
    is_newest = as_of is None or _is_newest(stores, market, universe)
    batch = ledger.Batch(
        timeframe=market.timeframe,
        origin="live",
        model_version=model_version.version,
        run_id=None,
        created_at=stores.clock.now(),
        threshold_rule=spec.labels.threshold,
        universe=universe or market.tickers,
    )
    n_new, standing = _append(stores, forecasts, batch, is_newest=is_newest)
    keep_reasons(stores, model, dataset.rows, standing, has_contributions=has_contributions)
    if is_newest:
        _write_features(stores, market.timeframe, features, spec.features)
        ledger.write_current(stores.database, make_answers(dataset, standing, batch, market))
    origins = standing["origin"].unique().sort().to_list()
    return ForecastRun(
        standing, model_version.version, ", ".join(origins), market.as_of,
        is_in_sample=market.as_of < model_version.training_until,
        n_new=n_new, shortfalls=dataset.shortfalls, failures=dataset.failures | invented,
        simulated=market.simulated - {*invented},
    )  # fmt: skip


def _read(
    stores: Stores, spec: ExperimentSpec, universe: tuple[str, ...], as_of: datetime | None
) -> Market:
    market = read_pinned_market(
        stores,
        Timeframe.parse(spec.timeframe),
        universe,
        as_of,
        is_newest=True,
        is_simulation_allowed=spec.allow_simulated,
    )
    names = feature_names(spec.features)
    windows = windows_of(spec)
    reaches_back = windows is not None and has_facts(windows.features)
    since = None if reaches_back else first_fact_at(market.prices, names)
    market = with_facts(stores, market, names, since=since, is_pinned=True)
    return with_timeframes(stores, market, spec, is_newest=True)


def chosen_model(stores: Stores, timeframe: Timeframe, version: str | None) -> ModelVersion:
    """The model called `version`, or the champion; NotFound says how to get one."""
    if version is not None:
        return stores.registry.get(version)
    champion = stores.registry.champion(timeframe)
    if champion is None:
        raise NotFound(f"there is no {timeframe} model yet; run `candlecast train` first")
    return champion


def make_forecasts(
    dataset: Dataset,
    quantiles: FloatArray,
    labels: LabelSpec,
    folds: NDArray[np.integer] | None = None,
) -> pl.DataFrame:
    """FORECASTS of (n_rows, n_horizons, 17) quantiles, with all that the ledger derives.

    `folds` (n_rows,) number the walk-forward fold of each row.
    """
    rows = dataset.rows
    n_horizons = len(rows.horizons)
    bounds = class_bounds(rows.climatology, labels.threshold)
    lower, upper = (bound.reshape(-1) for bound in bounds)
    flat = quantiles.reshape(-1, dist.N_LEVELS)
    names, confidence = dist.label(dist.class_probabilities(flat, lower, upper))
    keys = dataset.keys[np.repeat(np.arange(len(rows)), n_horizons)]
    frame = keys.select("symbol", "as_of", "ts", "last_close").with_columns(
        pl.Series("horizon", np.tile(np.array(rows.horizons), len(rows))),
        pl.Series("horizon_bars", np.tile(rows.horizon_bars, len(rows))),
        pl.Series("end_at", dataset.end_at.reshape(-1)).dt.replace_time_zone("UTC"),
        pl.Series("lower", lower),
        pl.Series("upper", upper),
        *(pl.Series(name, flat[:, level]) for level, name in enumerate(QUANTILES)),
        pl.Series("yhat", dist.mean(flat)),
        pl.Series("yhat_std", dist.std(flat)),
        pl.Series("prob_up", dist.prob_up(flat)),
        pl.Series("label", names),
        pl.Series("confidence", confidence),
        pl.lit(None, dtype=pl.Int64).alias("fold")
        if folds is None
        else pl.Series("fold", np.repeat(folds, n_horizons), dtype=pl.Int64),
    )
    return FORECASTS.conform(frame)


def _append(
    stores: Stores, forecasts: pl.DataFrame, batch: ledger.Batch, *, is_newest: bool
) -> tuple[int, pl.DataFrame]:
    # A forecast is live while its outcome is open. What is shown is what stands in the ledger:
    # a bar corrected after the forecast does not change what was said.
    is_live = (pl.col("end_at") > batch.created_at) & is_newest
    origins: dict[ledger.Origin, pl.Expr] = {"live": is_live, "simulated": ~is_live}
    n_new = 0
    for origin, is_own in origins.items():
        own = forecasts.filter(is_own)
        n_new += ledger.append(stores.database, own, replace(batch, origin=origin))
    stored = ledger.read_forecasts(
        stores.database,
        batch.timeframe,
        symbols=forecasts["symbol"].unique().to_list(),
        start=cast("datetime | None", forecasts["ts"].min()),
        end=cast("datetime | None", forecasts["ts"].max()),
        origins=list(origins),
        model_version=batch.model_version,
    )
    asked = forecasts.select("symbol", "as_of", "horizon")
    standing = asked.join(
        stored.unique(asked.columns, keep="first", maintain_order=True),
        on=asked.columns,
        how="inner",
        maintain_order="left",
    )
    return n_new, standing


def _is_newest(stores: Stores, market: Market, universe: tuple[str, ...]) -> bool:
    stored = stores.mirror.read(market.timeframe, symbols=list(universe))
    return cast("datetime", stored["known_at"].max()) <= market.as_of


def _write_features(
    stores: Stores, timeframe: Timeframe, features: pl.DataFrame, spec: FeatureSpec
) -> None:
    # What `materialize_features` stored is more than what a forecast has: it stays.
    for table, names in by_table(feature_names(spec)).items():
        own = features.select(*FEATURES.columns, *names)
        unstored = _unstored(stores, timeframe, own, table)
        write_features(stores.database, timeframe, unstored, spec.id, table)


def _unstored(
    stores: Stores, timeframe: Timeframe, features: pl.DataFrame, table: FeatureTable
) -> pl.DataFrame:
    key = ["symbol", "ts"]
    read = partial(read_features, stores.database, timeframe, table=table)
    rows = [
        part.join(read(start=ts, end=ts), on=key, how="anti")
        for (ts,), part in features.partition_by("ts", as_dict=True).items()
    ]
    return pl.concat(rows).sort(key) if rows else features


def _fingerprints(features: pl.DataFrame) -> pl.DataFrame:
    # The values that the model saw, and their hash: what a later recomputation is held against.
    def text() -> Iterator[tuple[str, str]]:
        for row in features.drop("ts", "as_of").iter_rows(named=True):
            yield row.pop("symbol"), orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode()

    pairs = list(text())
    return pl.DataFrame(
        {
            "symbol": [symbol for symbol, _ in pairs],
            "features": [values for _, values in pairs],
            "feature_hash": [hashlib.sha256(v.encode()).hexdigest()[:16] for _, v in pairs],
        },
        schema={"symbol": pl.String, "features": pl.String, "feature_hash": pl.String},
    )
