"""The command line: its commands, and how an error leaves it.

Every option of a command can also come from the environment: ``--n-splits`` of ``train`` is
``CANDLECAST_TRAIN_N_SPLITS``, ``--json`` of ``models list`` is ``CANDLECAST_MODELS_LIST_JSON``.
Exit codes: 0 done, 1 something failed and was named, 2 the call itself was wrong.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated, Any, Final

import structlog
import typer

from candlecast.cli import (
    data,
    dataset,
    explaining,
    features,
    ingesting,
    labels,
    modelling,
    models,
    quality,
    ranking,
    searching,
    serving,
    streaming,
    symbols,
)
from candlecast.config import PREFIX, Settings
from candlecast.errors import CandlecastError, InvalidSpec, NotFound

app: Final = typer.Typer(
    name="candlecast",
    help="Bars in, calibrated distributions out: forecast, settle, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (
    ingesting,
    streaming,
    symbols,
    quality,
    data,
    features,
    labels,
    modelling,
    explaining,
    ranking,
    searching,
    models,
    dataset,
    serving,
):
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
    _is_version_asked: Annotated[
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
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    is_debug = len(arguments) < len(sys.argv) - 1
    try:
        _command()(["--debug", *arguments] if is_debug else arguments)
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


def _command() -> Any:
    command = typer.main.get_command(app)
    for name, child in command.commands.items():  # type: ignore[attr-defined]
        _name_variables(child, _variable(PREFIX.rstrip("_"), name))
    return command


def _name_variables(command: Any, prefix: str) -> None:
    # Each option's variable is called after the option, not after the argument in our code.
    for parameter in command.params:
        if parameter.param_type_name == "option":
            parameter.envvar = _variable(prefix, max(parameter.opts, key=len).lstrip("-"))
    for name, child in getattr(command, "commands", {}).items():
        _name_variables(child, _variable(prefix, name))


def _variable(prefix: str, name: str) -> str:
    return f"{prefix}_{name.replace('-', '_').upper()}"
