"""Training sets for others to use: as a Parquet file, or as rows in the database."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, Final

import polars as pl

from candlecast.domain.market import Timeframe
from candlecast.errors import InvalidSpec
from candlecast.pipelines.dataset import TrainingSet
from candlecast.store.features import TrainingSet as Manifest
from candlecast.store.stores import Stores
from candlecast.store.training_data import END, KEYS, TARGET, WEIGHT, write_training_data

ROW_GROUP: Final = 100_000
METADATA: Final = ("set_id", "spec", "as_of", "sha256", "rows_sha256", "version")
"""What a file says of itself, each under ``candlecast.<name>``."""


def training_rows(training: TrainingSet) -> pl.DataFrame:
    """The examples as a table, a row each: symbol, ts, as_of, the features, then for each horizon
    its target ``y_1D`` (null where it has not come) and ``end_at_1D``, and the weight.
    """
    examples = training.examples
    features = {
        name: pl.Series(examples.X[:, place]).fill_nan(None)
        for place, name in enumerate(examples.feature_names)
    }
    outcomes: dict[str, Any] = {}
    for place, horizon in enumerate(examples.horizons):
        outcomes[f"{TARGET}{horizon}"] = pl.Series(examples.y[:, place]).fill_nan(None)
        ends = pl.Series(examples.end_at[:, place]).cast(pl.Datetime("us"))
        outcomes[f"{END}{horizon}"] = ends.dt.replace_time_zone("UTC")
    if taken := {*features} & {*KEYS, WEIGHT, *outcomes}:
        raise InvalidSpec(f"features {sorted(taken)} have names of other columns; rename them")
    keys = training.keys.select(KEYS)
    return keys.with_columns(**features, **outcomes, **{WEIGHT: pl.Series(examples.weight)})


def check_target(path: Path, *, is_forced: bool = False) -> None:
    """InvalidSpec where the folder does not exist, or the file does and may not be replaced."""
    if not path.parent.is_dir():
        raise InvalidSpec(f"{path.parent} is no folder; make it first")
    if path.is_dir():
        raise InvalidSpec(f"{path} is a folder; name a file in it")
    if is_forced:
        return
    if path.exists():
        raise InvalidSpec(f"{path} exists; name another file, or replace it with --force")
    if path.is_symlink():
        raise InvalidSpec(
            f"{path} is a link to nothing; name another file, or replace it with --force"
        )


def export_parquet(
    training: TrainingSet, manifest: Manifest, path: Path, *, is_forced: bool = False
) -> int:
    """Write the examples to `path` as Parquet, all or nothing; how many rows.

    The file's metadata have what `METADATA` names. The same set gives the same bytes. InvalidSpec
    as from `check_target`, or where it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_target(path, is_forced=is_forced)
    rows = training_rows(training)
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    told = {f"candlecast.{name}": _text(getattr(manifest, name)) for name in METADATA}
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        described = table.replace_schema_metadata(told)
        pq.write_table(described, unfinished, compression="zstd", row_group_size=ROW_GROUP)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        _put(unfinished, path, is_forced)
    except (OSError, pa.ArrowException) as error:
        raise InvalidSpec(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return len(rows)


def export_table(stores: Stores, training: TrainingSet, manifest: Manifest) -> int:
    """Store the examples in the table `ml_training_data`; how many rows were new or changed."""
    timeframe = Timeframe.parse(training.spec.timeframe)
    rows = training_rows(training)
    return write_training_data(stores.database, manifest.set_id, timeframe, rows)


def _put(unfinished: Path, path: Path, is_forced: bool) -> None:
    # A link refuses what another process has put there meanwhile; a rename would replace it.
    if is_forced:
        unfinished.replace(path)
        return
    try:
        _link(unfinished, path)
    except FileExistsError as error:
        raise InvalidSpec(f"{path} was written by somebody else meanwhile") from error


def _link(unfinished: Path, path: Path) -> None:
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise
    except OSError:  # this file system has no such links: take the name, then put the file there
        path.touch(exist_ok=False)
        unfinished.replace(path)


def _text(value: object) -> str:
    return "" if value is None else str(value)
