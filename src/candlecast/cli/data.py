"""Commands about data: db, ingest, labels, features, audit."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from candlecast.cli.printing import echo_json, progress, warn
from candlecast.cli.session import (
    Assignments,
    End,
    Json,
    Start,
    Symbols,
    TimeframeName,
    assignments,
    experiment,
    instant,
    opened,
    pairs,
    tickers,
)
from candlecast.config import Settings
from candlecast.domain.catalog import PROVIDERS, Provider
from candlecast.domain.market import Symbol, Timeframe, trading_calendar
from candlecast.domain.specs import check_parameters
from candlecast.errors import InvalidSpec
from candlecast.pipelines.audit import audit_features
from candlecast.pipelines.ingest import IngestRun
from candlecast.pipelines.ingest import ingest as run_ingest
from candlecast.pipelines.materialize import Span, materialize_features, materialize_labels
from candlecast.store.migrate import HEAD

MAX_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    database = typer.Typer(no_args_is_help=True, help="The database's schema.")
    database.command("upgrade")(upgrade)
    app.add_typer(database, name="db")
    app.command()(ingest)
    for name, command in (("labels", labels), ("features", features)):
        group = typer.Typer(no_args_is_help=True, help=f"Stored {name}.")
        group.command("compute")(command)
        app.add_typer(group, name=name)
    app.command()(audit)


def upgrade(is_json: Json = False) -> None:
    """Bring the database to the newest schema.

    Example: candlecast db upgrade
    """
    with opened() as stores:
        stores.database.upgrade()
    if is_json:
        echo_json({"revision": HEAD})
    else:
        typer.echo("the database has the newest schema")


def ingest(  # noqa: PLR0913 - one argument an option
    provider: Annotated[str, typer.Argument(help="files, sample or synthetic.")],
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders.")] = None,
    timeframe: TimeframeName = "1d",
    symbols: Symbols = "",
    calendar: Annotated[
        str, typer.Option(help="Where new symbols trade: XNYS, BVMF …, or 24/7.")
    ] = "XNYS",
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help='A column\'s name, e.g. --map close="Adj Close"; repeatable.'),
    ] = None,
    is_skipping: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Keep the good rows of a symbol with bad ones.")
    ] = False,
    parameters: Assignments = None,
    is_json: Json = False,
) -> None:
    """Read bars from a provider and store them; what cannot be right is refused and named.

    Example: candlecast ingest files prices/ --map close="Adj Close"
    """
    offered = {
        "paths": list(paths or ()) or None,
        "columns": pairs(columns, "--map") or None,
        "skip_bad_rows": is_skipping or None,
        **assignments(parameters),
    }
    source = _provider(provider, offered, {"calendar": calendar})
    asset_class = "crypto" if trading_calendar(calendar).name == "24/7" else "equity"
    with opened() as stores:
        run = run_ingest(
            stores,
            source,
            template=Symbol("", asset_class, calendar),
            timeframe=Timeframe.parse(timeframe),
            symbols=tickers(symbols) or None,
            min_bars=Settings().min_bars,
        )
    _tell(run, is_json)
    raise typer.Exit(1 if run.failures or run.refusals else 0)


def labels(
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    horizon: Annotated[str, typer.Option(help="Horizons with commas, e.g. 1D,1W.")] = "",
    is_json: Json = False,
) -> None:
    """Compute the labels of stored bars and store them.

    Example: candlecast labels compute --symbols AAPL --start 2010-01-01 --horizon 1D
    """
    horizons = tuple(part.strip() for part in horizon.split(",") if part.strip())
    spec = experiment(None, {"labels.horizons": horizons})
    with opened() as stores:
        changed = materialize_labels(stores, spec, _span(symbols, start, end))
    _tell_written("label", changed, is_json)


def features(
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    timeframe: TimeframeName = "1d",
    is_json: Json = False,
) -> None:
    """Compute every feature of stored bars and store them.

    Example: candlecast features compute --symbols AAPL,MSFT
    """
    with opened() as stores:
        changed = materialize_features(stores, timeframe, _span(symbols, start, end))
    _tell_written("feature", changed, is_json)


def audit(symbols: Symbols = "", timeframe: TimeframeName = "1d", is_json: Json = False) -> None:
    """Look for look-ahead: does cutting or changing the future change any feature's past?

    Example: candlecast audit --symbols AAPL,IBM
    """
    with opened() as stores, progress() as tell:
        run = audit_features(stores, timeframe, tickers(symbols), tell)
    if is_json:
        echo_json({"features": list(run.names), "findings": [str(f) for f in run.findings]})
    else:
        for finding in run.findings:
            typer.echo(str(finding))
        typer.echo(f"{len(run.names)} features audited, {len(run.findings)} look ahead")
    raise typer.Exit(1 if run.findings else 0)


def _tell_written(what: str, n_rows: int, is_json: bool) -> None:
    if is_json:
        echo_json({"n_written": n_rows})
    else:
        typer.echo(f"{n_rows} {what} rows written")


def _span(symbols: str, start: str, end: str) -> Span:
    return Span(tickers(symbols), instant(start), instant(end, is_end=True))


def _provider(name: str, offered: dict[str, Any], defaults: dict[str, Any]) -> Provider:
    # `offered` is what the user said, `defaults` what a provider may take or leave.
    factory = PROVIDERS.get(name)
    known = inspect.signature(factory).parameters
    given = {key: value for key, value in offered.items() if value is not None}
    given = {key: value for key, value in defaults.items() if key in known} | given
    check_parameters(name, factory, given)
    missing = [key for key, p in known.items() if p.default is p.empty and key not in given]
    if missing:
        raise InvalidSpec(f"{name} needs {', '.join(missing)}; see candlecast ingest --help")
    try:
        return factory(**given)
    except ValueError as error:
        raise InvalidSpec(f"{name}: {error}") from error


def _tell(run: IngestRun, is_json: bool) -> None:
    if is_json:
        echo_json(
            asdict(run.written)
            | {
                "symbols": list(run.symbols),
                "failures": run.failures,
                "refusals": [str(refusal) for refusal in run.refusals],
                "shortfalls": run.shortfalls,
            }
        )
        return
    written = run.written
    typer.echo(
        f"{len(run.symbols)} symbols: {written.inserted} bars inserted, "
        f"{written.revised} revised, {written.unchanged} unchanged"
    )
    warn(run.shortfalls, "less history than asked for:")
    warn(run.failures, "refused:")
    for refusal in run.refusals[:MAX_SHOWN]:
        typer.echo(str(refusal), err=True)
    if len(run.refusals) > MAX_SHOWN:
        typer.echo(f"… and {len(run.refusals) - MAX_SHOWN} more rows; --json lists all", err=True)
