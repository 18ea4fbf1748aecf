"""Training sets in the database: their manifests, and the rows of those that somebody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.errors import BadFrame, Conflict, NotFound
from candlecast.store.database import Database
from candlecast.store.features import TrainingSet, read_training_set
from candlecast.store.statements import schema_of
from candlecast.store.symbols import read_ids, with_ids, with_tickers
from candlecast.store.tables import ml_training_data as table
from candlecast.store.tables import ml_training_sets

TARGET: Final = "y_"
END: Final = "end_at_"
KEYS: Final = ("symbol", "ts", "as_of")
WEIGHT: Final = "weight"
ROWS_AT_ONCE: Final = 20_000
ISO: Final = "%Y-%m-%dT%H:%M:%S%.6f%:z"


def read_training_sets(database: Database) -> list[TrainingSet]:
    """All manifests, the newest first."""
    query = sa.select(ml_training_sets)
    with database.reading() as connection:
        rows = connection.execute(query).all()
    sets = [TrainingSet(**row._asdict()) for row in rows]
    return sorted(sets, key=lambda one: (one.created_at, one.set_id), reverse=True)


def horizons_of(frame: pl.DataFrame) -> list[str]:
    """The horizons of training rows: of each there are a target and its end."""
    targets = (name.removeprefix(TARGET) for name in frame.columns if name.startswith(TARGET))
    return [horizon for horizon in targets if f"{END}{horizon}" in frame.columns]


def write_training_data(
    database: Database, set_id: str, timeframe: Timeframe, rows: pl.DataFrame
) -> int:
    """Store the rows of a training set; how many were new or changed.

    `rows` have symbol, ts, as_of, a column a feature, then ``y_<horizon>`` and
    ``end_at_<horizon>`` for each horizon, and weight. Missing values are stored as null.
    """
    if rows.columns[:3] != list(KEYS) or WEIGHT not in rows.columns:
        raise BadFrame(f"training rows have columns {rows.columns}, not symbol, ts, as_of … weight")
    ids = read_ids(database)
    ordered = rows.sort("symbol", "ts")  # as the table is: rows are put behind each other
    packed = (_packed(part, set_id, timeframe) for part in ordered.iter_slices(ROWS_AT_ONCE))
    return sum(database.upsert(table, with_ids(part, ids)) for part in packed)


def read_training_data(database: Database, set_id: str) -> pl.DataFrame:
    """The stored rows of a training set, as they were written, sorted by as_of, symbol, ts.

    Conflict where writing them was interrupted: it names the command to repeat.
    """
    frames = [_unpacked(part) for part in _stored_parts(database, set_id)]
    if not frames:
        known = sa.select(table.c.set_id).distinct()
        with database.reading() as connection:
            raise NotFound.among("stored training set", set_id, connection.execute(known).scalars())
    rows = pl.concat(frames).sort("as_of", "symbol", "ts")
    if len(rows) != (n_rows := read_training_set(database, set_id).n_rows):
        raise Conflict(
            f"{len(rows)} of the {n_rows} rows of training set {set_id} are stored, for writing "
            f"them was interrupted; repeat `candlecast dataset export {set_id} --to-table`"
        )
    return rows


def count_training_data(database: Database) -> dict[str, int]:
    """How many rows are stored of each training set that has any."""
    query = sa.select(table.c.set_id, sa.func.count().label("n")).group_by(table.c.set_id)
    return dict(database.read(query, {"set_id": pl.String, "n": pl.Int64}).iter_rows())


def _stored_parts(database: Database, set_id: str) -> Iterator[pl.DataFrame]:
    # Symbol by symbol, so that the text of one is in memory at a time.
    ids = read_ids(database)
    columns = [c for c in table.c if c.name not in {"set_id", "timeframe"}]
    of_set = table.c.set_id == set_id
    key = [table.c.timeframe, table.c.symbol_id]
    own = database.read(sa.select(*key).where(of_set).distinct(), schema_of(key)).sort("symbol_id")
    for minutes, symbol_id in own.iter_rows():
        is_own = sa.and_(of_set, key[0] == minutes, key[1] == symbol_id)
        part = database.read(sa.select(*columns).where(is_own), schema_of(columns))
        yield with_tickers(part, ids, "ts")


def _packed(rows: pl.DataFrame, set_id: str, timeframe: Timeframe) -> pl.DataFrame:
    horizons = horizons_of(rows)
    of_horizon = {f"{kind}{horizon}" for horizon in horizons for kind in (TARGET, END)}
    features = [n for n in rows.columns if n not in {*KEYS, WEIGHT, *of_horizon}]
    ends = (pl.col(f"{END}{h}").dt.strftime(ISO).alias(h) for h in horizons)
    targets = (pl.col(f"{TARGET}{h}").fill_nan(None).alias(h) for h in horizons)
    return rows.select(
        pl.lit(set_id).alias("set_id"),
        pl.lit(timeframe.minutes).alias("timeframe"),
        *KEYS,
        _json("features", [pl.col(name).fill_nan(None) for name in features]),
        _json("targets", targets),
        _json("end_at", ends),
        WEIGHT,
    )


def _json(name: str, columns: Any) -> pl.Expr:
    fields = list(columns)
    if not fields:
        return pl.lit("{}").alias(name)
    return pl.struct(fields).struct.json_encode().alias(name)


def _unpacked(part: pl.DataFrame) -> pl.DataFrame:
    first = part.row(0, named=True)
    features, horizons = (list(orjson.loads(first[n])) for n in ("features", "targets"))
    values = _decoded(part["features"], dict.fromkeys(features, pl.Float64))
    targets = _decoded(part["targets"], dict.fromkeys(horizons, pl.Float64))
    ends = _decoded(part["end_at"], dict.fromkeys(horizons, pl.String))
    paired = [
        column
        for horizon in horizons
        for column in (
            targets[horizon].alias(f"{TARGET}{horizon}"),
            ends[horizon].str.to_datetime("%+", time_unit="us").cast(INSTANT)
            .alias(f"{END}{horizon}"),
        )
    ]  # fmt: skip
    return part.select(KEYS).hstack([*values.get_columns(), *paired, part[WEIGHT]])


def _decoded(texts: pl.Series, schema: dict[str, Any]) -> pl.DataFrame:
    if not schema:
        return pl.DataFrame()
    return texts.str.json_decode(pl.Struct(schema)).struct.unnest()
