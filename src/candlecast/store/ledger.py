"""Predictions (append-only), outcomes, current forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import polars as pl
import sqlalchemy as sa

from candlecast.domain.distribution import LABELS, check_quantiles
from candlecast.domain.frames import FORECASTS, INSTANT, QUANTILES
from candlecast.domain.market import Timeframe
from candlecast.errors import BadFrame, NotFound
from candlecast.store import blocks
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.ledger_tables import (
    ml_forecasts,
    ml_outcomes,
    ml_prediction_runs,
    ml_prediction_sources,
    ml_predictions,
)
from candlecast.store.predictions import OUTCOME, Asked, read_predictions
from candlecast.store.statements import aware, key_of, schema_of, shaped
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers

Origin: TypeAlias = Literal["live", "walk_forward", "simulated"]

OPTIONAL: Final = {"fold": pl.Int64, "feature_hash": pl.String, "features": pl.String}
DERIVED: Final = ("yhat", "yhat_std", "prob_up", "label", "confidence")
SOURCE: Final = ("origin", "model_version", "run_id")
COLUMNS: Final = (
    *("id", "symbol", *SOURCE, "fold", "as_of", "ts", "horizon", "horizon_bars", "end_at"),
    *("last_close", "lower", "upper", *QUANTILES, *DERIVED),
    *("threshold_rule", "feature_hash", "features", "created_at", *OUTCOME),
)
"""What `read_forecasts` returns."""
UNSETTLED: Final = (
    *("id", "symbol", "ts", "as_of", "end_at", "horizon", "horizon_bars", "last_close"),
    *("prob_up", "label", "lower", "upper", *QUANTILES),
)
ORDER: Final = ("symbol_id", "as_of", "horizon", "id")
CURRENT: Final = ("symbol", *(c.name for c in ml_forecasts.c if c.name != "symbol_id"))


@dataclass(frozen=True)
class Batch:
    """What the forecasts of one append have in common.

    `run_id` names the run whose walk-forward or simulation made them (None for live ones); it
    is part of their key, so that two runs of one model stand side by side. `universe` names the
    symbols whose features were compared with one another; it is stored where it is told.
    """

    timeframe: Timeframe
    origin: Origin
    model_version: str
    run_id: str | None
    created_at: datetime
    threshold_rule: str
    universe: tuple[str, ...] = ()


def append(database: Database, forecasts: pl.DataFrame, batch: Batch) -> int:
    """Add forecasts that the ledger has not got; how many were new. What is there stays.

    `forecasts` are FORECASTS with yhat, yhat_std, prob_up, label, confidence, and where they
    have them fold, feature_hash and features (JSON).
    """
    if forecasts.is_empty():
        return 0
    known = _checked(forecasts)
    with database.bulk(lock="ledger") as bulk:
        source_id = _source_id(bulk, batch)
        rows = with_ids(known, read_ids(bulk)).with_columns(
            pl.lit(source_id, dtype=pl.Int64).alias("source_id"),
            pl.lit(batch.threshold_rule).alias("threshold_rule"),
            pl.lit(batch.created_at, dtype=INSTANT).alias("created_at"),
        )
        new = _new_rows(bulk, ml_predictions, rows, "as_of")
        if batch.universe and len(new):
            values = (source_id, batch.created_at, ",".join(batch.universe))
            run = pl.DataFrame([values], ml_prediction_runs.c.keys(), orient="row")
            bulk.upsert(ml_prediction_runs, shaped(ml_prediction_runs, run), "nothing")
        return blocks.add_rows(bulk, ml_predictions, new)


def unsettled(database: Database, timeframe: Timeframe, *, due_by: datetime) -> pl.DataFrame:
    """The forecasts whose outcome is known by `due_by` and not yet in the ledger.

    Columns as in `UNSETTLED`, sorted by symbol, as_of, horizon, id.
    """
    with database.snapshot() as snapshot:
        ids, sources = read_ids(snapshot), _read_sources(snapshot, timeframe)
        stored = _stored([*UNSETTLED, "source_id"])
        made = blocks.read_rows(snapshot, ml_predictions, stored)
        settled = blocks.read_rows(snapshot, ml_outcomes, ["prediction_id"])
    is_own = pl.col("source_id").is_in(sources["source_id"].to_list())
    due = made.filter(is_own, pl.col("end_at") <= aware(due_by)).join(
        settled, left_on="id", right_on="prediction_id", how="anti", maintain_order="left"
    )
    return with_tickers(due, ids, *ORDER[1:]).select(UNSETTLED)


def settle(database: Database, outcomes: pl.DataFrame) -> int:
    """Add outcomes (the columns of ml_outcomes) of unsettled forecasts; how many were new."""
    if outcomes.is_empty():
        return 0
    with database.bulk(lock="ledger") as bulk:
        rows = _new_rows(bulk, ml_outcomes, outcomes, "prediction_id")
        return blocks.add_rows(bulk, ml_outcomes, rows)


def read_forecasts(  # noqa: PLR0913 - each says what to leave out
    database: Database,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    horizon: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    origins: Sequence[Origin] | None = None,
    model_version: str | None = None,
    created_since: datetime | None = None,
    settled_only: bool = False,
    columns: Sequence[str] = COLUMNS,
) -> pl.DataFrame:
    """Forecasts with start <= ts <= end and their outcomes (null while open), sorted by symbol,
    as_of, horizon, id. Ask for fewer `columns` of `COLUMNS` to read faster.
    """
    for name in columns:
        if name not in COLUMNS:
            raise NotFound.among("column of the ledger", name, COLUMNS)
    with database.snapshot() as snapshot:
        ids = chosen(read_ids(snapshot), symbols)
        sources = _read_sources(snapshot, timeframe, origins, model_version)
        asked = Asked(
            sources["source_id"].to_list(),
            None if symbols is None else ids["symbol_id"].to_list(),
            horizon,
            start if start is None else aware(start),
            end if end is None else aware(end),
            created_since if created_since is None else aware(created_since),
            settled_only,
        )
        frame = read_predictions(snapshot, asked, _stored(columns))
    named = with_tickers(frame, ids, *ORDER[1:])
    if any(name in SOURCE for name in columns):
        named = named.join(sources, on="source_id", how="left", maintain_order="left")
    return named.select(columns)


def read_universes(
    database: Database, timeframe: Timeframe, origin: Origin = "live"
) -> dict[tuple[str, datetime], tuple[str, ...]]:
    """The symbols that each run compared, by model version and created_at, where it was stored."""
    s, r = ml_prediction_sources, ml_prediction_runs
    columns = [s.c.model_version, r.c.created_at, r.c.universe]
    query = sa.select(*columns).where(
        s.c.id == r.c.source_id, s.c.timeframe == timeframe.minutes, s.c.origin == origin
    )
    found = database.read(query, schema_of(columns))
    return {(name, at): tuple(tickers.split(",")) for name, at, tickers in found.iter_rows()}


def has_run(database: Database, run_id: str) -> bool:
    """Whether the forecasts of the run are there; an append is all or nothing."""
    s = ml_prediction_sources
    query = sa.select(sa.func.count().label("n")).where(s.c.run_id == run_id)
    return bool(database.read(query, {"n": pl.Int64}).item())


def write_current(database: Database, forecasts: pl.DataFrame) -> int:
    """Make `forecasts` the current ones; how many rows are new or differ from what was there.

    Columns as in `CURRENT`, of which created_at and updated_at default to run_at. A forecast
    never replaces one with a later as_of; one that says the same leaves the row as it is.
    """
    if forecasts.is_empty():
        return 0
    absent = [name for name in CURRENT if name not in forecasts.columns]
    stamps = [pl.col("run_at").alias(name) for name in absent if name.endswith("ed_at")]
    if len(stamps) < len(absent):
        raise BadFrame(f"current forecasts need {', '.join(CURRENT)}; {absent} are missing")
    minutes = {name: Timeframe.parse(name).minutes for name in forecasts["timeframe"].unique()}
    complete = forecasts.with_columns(
        pl.col("timeframe").replace_strict(minutes, return_dtype=pl.Int64), *stamps
    )
    rows = with_ids(complete.select(CURRENT), read_ids(database))
    return database.upsert(ml_forecasts, rows)


def read_current(
    database: Database,
    *,
    symbols: Sequence[str] | None = None,
    horizons: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The current forecasts, columns as in `CURRENT`, sorted by symbol and horizon_minutes."""
    ids = chosen(read_ids(database), symbols)
    conditions = [is_among(ml_forecasts.c.symbol_id, ids, symbols)]
    if horizons is not None:
        conditions.append(ml_forecasts.c.horizon.in_(list(horizons)))
    query = sa.select(ml_forecasts).where(*conditions)
    frame = database.read(query, schema_of(ml_forecasts.c))
    names = {minutes: Timeframe(minutes).name for minutes in frame["timeframe"].unique()}
    return (
        with_tickers(frame, ids, "horizon")
        .with_columns(pl.col("timeframe").replace_strict(names, return_dtype=pl.String))
        .select(CURRENT)
    )


def _checked(forecasts: pl.DataFrame) -> pl.DataFrame:
    absent = [name for name in DERIVED if name not in forecasts.columns]
    if absent:
        raise BadFrame(f"forecasts lack {', '.join(absent)}; derive them from the quantiles first")
    known = FORECASTS.conform(forecasts)
    check_quantiles(known.select(QUANTILES).to_numpy())
    is_sound = pl.col("label").is_in(LABELS) & pl.col("confidence").is_between(0, 1)
    wrong = known.filter(~is_sound)
    if len(wrong):
        label, confidence = wrong.select("label", "confidence").row(0)
        raise BadFrame(f"label {label!r} with confidence {confidence}: name one of {LABELS}")
    optional = [
        pl.col(name) if name in known.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in OPTIONAL.items()
    ]
    return known.select(*FORECASTS.columns, *DERIVED, *optional)


def _new_rows(bulk: Bulk, table: sa.Table, rows: pl.DataFrame, by: str) -> pl.DataFrame:
    # The rows whose key is not in the table yet, looking only where `by` could match.
    stored = shaped(table, rows)
    key = key_of(table)
    low, high = stored[by].min(), stored[by].max()
    query = sa.select(*(table.c[name] for name in key)).where(table.c[by].between(low, high))
    if "source_id" in key:
        query = query.where(table.c.source_id == stored["source_id"][0])
    known = bulk.read(query, schema_of(table.c[name] for name in key))
    return stored.join(known, on=key, how="anti", maintain_order="left")


def _source_id(bulk: Bulk, batch: Batch) -> int:
    s = ml_prediction_sources
    values = {
        "timeframe": batch.timeframe.minutes,
        "origin": batch.origin,
        "model_version": batch.model_version,
        "run_id": batch.run_id or "",
    }
    bulk.upsert(s, shaped(s, pl.DataFrame([values])), "nothing")
    query = sa.select(s.c.id).where(*(s.c[name] == value for name, value in values.items()))
    return int(bulk.read(query, schema_of([s.c.id])).item())


def _read_sources(
    snapshot: Bulk,
    timeframe: Timeframe,
    origins: Sequence[Origin] | None = None,
    model_version: str | None = None,
) -> pl.DataFrame:
    s = ml_prediction_sources
    query = sa.select(s.c.id.label("source_id"), *(s.c[name] for name in SOURCE)).where(
        s.c.timeframe == timeframe.minutes,
        *([s.c.origin.in_(list(origins))] if origins is not None else []),
        *([s.c.model_version == model_version] if model_version is not None else []),
    )
    schema: dict[str, Any] = {"source_id": pl.Int64, **dict.fromkeys(SOURCE, pl.String)}
    is_given = pl.col("run_id") != ""
    run_id = pl.when(is_given).then("run_id").alias("run_id")
    return snapshot.read(query, schema).with_columns(run_id)


def _stored(columns: Sequence[str]) -> list[str]:
    # What has to be read for `columns`: keys in place of names, and what rows are sorted by.
    wanted = [*ORDER, *(name for name in columns if name != "symbol" and name not in SOURCE)]
    if any(name in SOURCE for name in columns):
        wanted.append("source_id")
    return list(dict.fromkeys(wanted))
