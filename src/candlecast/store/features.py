"""Feature values, labels, training sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.catalog import FEATURES as CATALOG
from candlecast.domain.catalog import FeatureTable, check_feature_name
from candlecast.domain.frames import FEATURES, LABELS
from candlecast.domain.market import Timeframe
from candlecast.errors import InvalidSpec, NotFound
from candlecast.store import timescale, views
from candlecast.store.database import Database
from candlecast.store.statements import schema_of, within
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers
from candlecast.store.tables import (
    ml_features_ohlcv,
    ml_features_sentiment,
    ml_labels,
    ml_training_sets,
)

TABLES: Final = {"ohlcv": ml_features_ohlcv, "sentiment": ml_features_sentiment}
"""The tables of feature values, by the name that a feature says."""
LABEL_COLUMNS: Final = (*LABELS.columns, "kind")


@dataclass(frozen=True)
class TrainingSet:
    """The manifest of a training set: what it takes to build the same rows again.

    `sha256` is over the prices, `rows_sha256` over the examples, `code_sha256` over the code that
    makes the one from the other, `version` that of candlecast; `first_bars` tells each symbol's
    first bar as JSON, for history may be added in front later. The oldest sets lack these four.
    """

    set_id: str
    spec: str
    as_of: datetime
    n_rows: int
    sha256: str
    created_at: datetime
    rows_sha256: str | None = None
    code_sha256: str | None = None
    version: str | None = None
    first_bars: str | None = None


def write_features(
    database: Database,
    timeframe: Timeframe,
    features: pl.DataFrame,
    set_id: str,
    table: FeatureTable = "ohlcv",
) -> int:
    """Store FEATURES as the newest values of their bars; how many rows were new or changed.

    A feature without a column in `table` gets one. Of the other columns those of features that are
    known here become null in its rows: what stood there was made of another state of the bars.
    Those of features that are not, as of a user's file that is not loaded, stay as they are.
    """
    FEATURES.check(features)
    if features.is_empty():
        return 0
    given = [name for name in features.columns if name not in FEATURES.columns]
    stored = _ensure_columns(database, table, given)
    absent = [name for name in stored if name not in given and name in CATALOG]
    rows = with_ids(features, read_ids(database)).with_columns(
        pl.lit(timeframe.minutes).alias("timeframe"),
        pl.lit(set_id).alias("set_id"),
        *(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent),
    )
    return database.upsert(_with_columns(TABLES[table], [*given, *absent]), rows)


def read_features(
    database: Database,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    table: FeatureTable = "ohlcv",
) -> pl.DataFrame:
    """FEATURES of one table with start <= ts <= end as they were stored last."""
    ids = chosen(read_ids(database), symbols)
    with database.reading() as connection:
        names = sorted(views.feature_columns(connection, TABLES[table]))
    stored = _with_columns(TABLES[table], names)
    columns = ["symbol_id", "ts", "as_of", *names]
    query = sa.select(*(stored.c[name] for name in columns)).where(
        stored.c.timeframe == timeframe.minutes,
        is_among(stored.c.symbol_id, ids, symbols),
        *within(stored.c.ts, start, end),
    )
    frame = database.read(query, schema_of(stored.c[name] for name in columns))
    return FEATURES.check(with_tickers(frame, ids, "ts"))


def write_labels(database: Database, timeframe: Timeframe, labels: pl.DataFrame, kind: str) -> int:
    """Store LABELS of one kind; how many rows were new or changed."""
    LABELS.check(labels)
    if labels.is_empty():
        return 0
    rows = with_ids(labels, read_ids(database)).with_columns(
        pl.lit(timeframe.minutes).alias("timeframe"), pl.lit(kind).alias("kind")
    )
    return database.upsert(ml_labels, rows)


def read_labels(  # noqa: PLR0913 - each says what to leave out
    database: Database,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    horizons: Sequence[str] | None = None,
    kind: str | None = None,
) -> pl.DataFrame:
    """LABELS with start <= ts <= end, and their kind as a last column."""
    ids = chosen(read_ids(database), symbols)
    table = ml_labels
    stored = ["symbol_id", *(name for name in LABEL_COLUMNS if name != "symbol")]
    query = sa.select(*(table.c[name] for name in stored)).where(
        table.c.timeframe == timeframe.minutes,
        is_among(table.c.symbol_id, ids, symbols),
        *within(table.c.ts, start, end),
        *([table.c.horizon.in_(list(horizons))] if horizons is not None else []),
        *([table.c.kind == kind] if kind is not None else []),
    )
    frame = database.read(query, schema_of(table.c[name] for name in stored))
    return with_tickers(frame, ids, "ts", "horizon", "kind").select(LABEL_COLUMNS)


def write_training_set(database: Database, manifest: TrainingSet) -> None:
    """Store a manifest; one with the same id stays as it is."""
    row = pl.DataFrame([vars(manifest)])
    database.upsert(ml_training_sets, row, on_conflict="nothing")


def read_training_set(database: Database, set_id: str) -> TrainingSet:
    """The manifest of a training set; NotFound names the close ids."""
    with database.reading() as connection:
        query = sa.select(ml_training_sets)
        row = connection.execute(query.where(ml_training_sets.c.set_id == set_id)).one_or_none()
        if row is None:
            known = connection.execute(sa.select(ml_training_sets.c.set_id)).scalars()
            raise NotFound.among("training set", set_id, known)
    return TrainingSet(**row._asdict())


def _ensure_columns(
    database: Database, name_of_table: FeatureTable, names: Sequence[str]
) -> list[str]:
    # All feature columns of the table, after adding those that it lacks of `names`. A name stands
    # in one table only: the view `features` shows both.
    for name in names:
        check_feature_name(name)
    table = TABLES[name_of_table]
    others = [other for other in TABLES.values() if other is not table]
    with database.transaction(lock="features") as connection:
        taken = {
            n: other.name for other in others for n in views.feature_columns(connection, other)
        }
        for name in sorted(taken.keys() & {*names}):
            raise InvalidSpec(
                f"{name!r} cannot name a feature of {table.name}: it is stored in {taken[name]} "
                "already, and the view `features` shows both; rename the feature"
            )
        stored = views.feature_columns(connection, table)
        missing = [name for name in names if name not in stored]
        if missing:
            connection.execute(sa.text("DROP VIEW IF EXISTS features"))
            with timescale.renewing_feature_aggregates(connection):
                for name in missing:
                    connection.exec_driver_sql(
                        f'ALTER TABLE {table.name} ADD COLUMN "{name}" DOUBLE PRECISION'
                    )
            views.recreate_features_view(connection)
    return sorted([*stored, *missing])


def _with_columns(table: sa.Table, names: Sequence[str]) -> sa.Table:
    wider = table.to_metadata(sa.MetaData())
    for name in names:
        wider.append_column(sa.Column(name, sa.Double()))
    return wider
