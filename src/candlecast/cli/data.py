"""Commands about stored data: db, labels, features, audit."""

from __future__ import annotations

from typing import Annotated

import typer

from candlecast.cli.printing import echo_json, progress
from candlecast.cli.session import (
    End,
    Json,
    Start,
    Symbols,
    TimeframeName,
    experiment,
    instant,
    opened,
    tickers,
)
from candlecast.pipelines.audit import audit_features
from candlecast.pipelines.materialize import Span, materialize_features, materialize_labels
from candlecast.pipelines.prune import prune as run_prune
from candlecast.store.migrate import HEAD
from candlecast.store.retention import KEEP_DAYS


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    database = typer.Typer(no_args_is_help=True, help="The database's schema.")
    database.command("upgrade")(upgrade)
    database.command("prune")(prune)
    app.add_typer(database, name="db")
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


def prune(
    keep_days: Annotated[
        int, typer.Option(help="How old intraday features may become.", min=1)
    ] = KEEP_DAYS,
    is_json: Json = False,
) -> None:
    """Delete old intraday features, which can be computed again; bars and forecasts always stay.

    Example: candlecast db prune --keep-days 30
    """
    with opened() as stores:
        counts = run_prune(stores, keep_days=keep_days)
    if is_json:
        echo_json(counts)
        return
    for table, n_rows in counts.items():
        typer.echo(f"{table}: {n_rows} rows deleted")


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
