"""Commands about training sets and what was served: dataset list, show, export; skew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from candlecast.cli.printing import echo_json, echo_table, warn
from candlecast.cli.session import (
    AsOf,
    FeatureFiles,
    Json,
    SpecFile,
    Symbols,
    TimeframeName,
    experiment,
    instant,
    opened,
    tickers,
)
from candlecast.errors import InvalidSpec
from candlecast.pipelines.export import check_target, export_parquet, export_table
from candlecast.pipelines.skew import SkewReport, measure_skew
from candlecast.pipelines.training_sets import note_training_set, rebuild_training_set
from candlecast.store.features import TrainingSet, read_training_set
from candlecast.store.training_data import count_training_data, read_training_sets

MAX_SHOWN = 20

SetId = Annotated[str, typer.Argument(help="Its id, as `dataset list` tells it.")]


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    dataset = typer.Typer(no_args_is_help=True, help="Training sets, reproducible by their id.")
    for name, command in (("list", list_sets), ("show", show), ("export", export)):
        dataset.command(name)(command)
    app.add_typer(dataset, name="dataset")
    app.command()(skew)


def list_sets(is_json: Json = False) -> None:
    """List the training sets that were made, the newest first.

    Example: candlecast dataset list
    """
    with opened() as stores:
        sets, stored = read_training_sets(stores.database), count_training_data(stores.database)
    told = [_values(one) | {"n_stored": stored.get(one.set_id, 0)} for one in sets]
    if is_json:
        echo_json(told)
        return
    rows = [
        [
            one["set_id"],
            one["spec"]["timeframe"],
            one["spec"]["labels"]["kind"],
            f"{len(one['spec']['symbols'])}",
            one["as_of"][:16],
            f"{one['n_rows']}",
            f"{one['n_stored']}",
        ]
        for one in told
    ]
    columns = ("set", "bars", "label", "symbols", "as of", "rows", "in the table")
    echo_table("Training sets", columns, rows)


def show(set_id: SetId, is_json: Json = False) -> None:
    """Show what a training set was made of.

    Example: candlecast dataset show 83871cf6a0b1c2d3
    """
    with opened() as stores:
        values = _values(read_training_set(stores.database, set_id))
    if is_json:
        echo_json(values)
        return
    for name, value in values.items():
        typer.echo(f"{name:12} {orjson.dumps(value).decode() if name == 'spec' else value}")


def export(  # noqa: PLR0913 - one argument an option
    set_id: Annotated[
        str, typer.Argument(help="A set that was made; without it, one is made of a spec.")
    ] = "",
    spec_file: SpecFile = None,
    symbols: Symbols = "",
    as_of: AsOf = "",
    path: Annotated[Path | None, typer.Option("--out", help="The Parquet file to write.")] = None,
    is_stored: Annotated[
        bool, typer.Option("--to-table", help="Store the rows in ml_training_data.")
    ] = False,
    is_forced: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Write a training set, rebuilt as it was, to a Parquet file or into the database.

    Example: candlecast dataset export 83871cf6a0b1c2d3 --out rows.parquet
    """
    if path is None and not is_stored:
        raise InvalidSpec("say where to: --out rows.parquet, --to-table, or both")
    if set_id and (spec_file or symbols or as_of):
        raise InvalidSpec("a set's id says all; leave out --spec, --symbols and --as-of")
    told: dict[str, Any] = {}
    with opened() as stores:
        if path is not None:
            check_target(path, is_forced=is_forced)
        if set_id:
            training = rebuild_training_set(stores, set_id)
            manifest = read_training_set(stores.database, set_id)
        else:
            spec = experiment(spec_file, {"symbols": tickers(symbols)})
            manifest, training = note_training_set(stores, spec, instant(as_of, is_end=True))
        told |= {"set_id": manifest.set_id, "n_rows": manifest.n_rows}
        if path is not None:
            export_parquet(training, manifest, path, is_forced=is_forced)
            told["path"] = str(path)
        if is_stored:
            told["n_written"] = export_table(stores, training, manifest)
    told["shortfalls"] = training.shortfalls
    _tell_export(told, is_json)


def skew(
    since: Annotated[
        str, typer.Option("--since", help="Forecasts made from then on, e.g. 2015-06-30.")
    ] = "",
    timeframe: TimeframeName = "1d",
    is_rebuilt: Annotated[
        bool,
        typer.Option("--from-database", help="Read the bars anew, not from their fast copy."),
    ] = False,
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Compare what live forecasts were made of with what the store says was known then.

    Exit code 1 where anything differs, or could not be checked.

    Example: candlecast skew --since 2015-06-30
    """
    with opened() as stores:
        report = measure_skew(stores, instant(since), timeframe, is_rebuilt=is_rebuilt)
    if is_json:
        echo_json(report.values())
    else:
        _tell_skew(report)
    raise typer.Exit(1 if report.differences or report.unchecked else 0)


def _tell_export(told: dict[str, Any], is_json: bool) -> None:
    if is_json:
        echo_json(told)
        return
    places = [f"written to {told['path']}"] if "path" in told else []
    if "n_written" in told:
        places.append(f"in ml_training_data, {told['n_written']} of them new or changed")
    typer.echo(f"training set {told['set_id']}: {told['n_rows']} rows {' and '.join(places)}")
    warn(told["shortfalls"], "left out:")


def _tell_skew(report: SkewReport) -> None:
    for found in report.differences[:MAX_SHOWN]:
        typer.echo(str(found))
    if len(report.differences) > MAX_SHOWN:
        typer.echo(f"… and {len(report.differences) - MAX_SHOWN} more (--json tells all)")
    warn(report.unchecked, "could not be checked:")
    typer.echo(
        f"{report.n_vectors} feature vectors of {report.n_runs} forecast runs, "
        f"{report.n_values} values compared, {len(report.differences)} differ"
    )


def _values(manifest: TrainingSet) -> dict[str, Any]:
    return vars(manifest) | {
        "spec": orjson.loads(manifest.spec),
        "as_of": manifest.as_of.isoformat(),
        "created_at": manifest.created_at.isoformat(),
    }
