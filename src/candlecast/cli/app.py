"""The command line: its commands, and how an error leaves it.

Every option can also come from the environment: ``--n-splits`` of ``train`` is
``CANDLECAST_TRAIN_N_SPLITS``. Exit codes: 0 done, 1 something failed and was named, 2 the call
itself was wrong.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated, Final

import structlog
import typer

from candlecast.cli import data, modelling, serving
from candlecast.config import Settings
from candlecast.errors import CandlecastError, InvalidSpec, NotFound

app: Final = typer.Typer(
    name="candlecast",
    help="Bars in, calibrated distributions out: forecast, settle, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "auto_envvar_prefix": "CANDLECAST",
        "help_option_names": ["-h", "--help"],
    },
)
for commands in (data, modelling, serving):
    commands.register(app)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"candlecast {version('candlecast')}")
        raise typer.Exit


@app.callback()
def _options(
    is_debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
    is_version_asked: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    level = logging.DEBUG if is_debug else getattr(logging, Settings().log_level)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """Run the command line; an error is one clear line, never a traceback without --debug."""
    is_debug = "--debug" in sys.argv
    try:
        app()
    except CandlecastError as error:
        if is_debug:
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, InvalidSpec | NotFound) else 1)
    except KeyboardInterrupt:
        typer.secho("stopped; what was finished is kept", err=True)
        sys.exit(130)
    except Exception as error:
        if is_debug:
            raise
        kind = type(error).__name__
        typer.secho(f"error: {kind}: {error} (--debug shows where)", fg="red", err=True)
        sys.exit(1)
