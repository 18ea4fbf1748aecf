"""Commands about the database: db upgrade, db prune."""

from __future__ import annotations

from typing import Annotated

import typer

from candlecast.cli.printing import echo_json
from candlecast.cli.session import Json, opened
from candlecast.pipelines.prune import prune as run_prune
from candlecast.store.migrate import HEAD
from candlecast.store.retention import KEEP_DAYS


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    database = typer.Typer(no_args_is_help=True, help="The database's schema.")
    database.command("upgrade")(upgrade)
    database.command("prune")(prune)
    app.add_typer(database, name="db")


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
