"""Commands that serve: serve, demo."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from candlecast.cli.printing import (
    echo_forecasts,
    echo_json,
    echo_report,
    forecast_rows,
    progress,
    warn,
)
from candlecast.cli.session import FeatureFiles, Json, experiment, opened
from candlecast.config import Settings
from candlecast.errors import Conflict
from candlecast.pipelines.demo import DemoRun, run_demo
from candlecast.store.stores import Stores

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    app.command()(serve)
    app.command()(demo)


def serve(host: Host = "127.0.0.1", port: Port = 8000, _feature_files: FeatureFiles = None) -> None:
    """Serve the API and the dashboard.

    Example: candlecast serve --port 8080
    """
    _check_free(host, port)
    with opened() as stores:
        _serve(stores, host, port)


def demo(
    is_serving: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the dashboard at the end.")
    ] = True,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    is_json: Json = False,
) -> None:
    """Real bars to forecasts on a page, in one go; a second run repeats nothing.

    Example: candlecast demo --no-serve
    """
    if is_serving:
        _check_free(host, port)
    with opened() as stores:
        with progress() as tell:
            run = run_demo(stores, experiment(None, {}), tell)
        _tell_demo(run, is_json)
        if is_serving:
            _serve(run.stores, host, port)


def _tell_demo(run: DemoRun, is_json: bool) -> None:
    now = run.stores.clock.now()
    if is_json:
        plain = {"model_version": run.model_version, "now": now, "shortfalls": run.shortfalls}
        echo_json(plain | {"report": run.report, "forecasts": forecast_rows(run.forecasts)})
        return
    echo_report(run.report)
    echo_forecasts(run.forecasts)
    warn(run.shortfalls, "forecast, but with little history of their own:")
    typer.echo(f"{run.model_version} serves; the demo's clock stands at {now:%Y-%m-%d %H:%M}")


def _check_free(host: str, port: int) -> None:
    # Before the work, not after it.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise Conflict(
            f"cannot listen at {host}:{port}: {reason}; choose another --port or --host"
        ) from error


def _serve(stores: Stores, host: str, port: int) -> None:
    import uvicorn

    from candlecast.api.app import create_app

    settings = Settings()
    app = create_app(stores, cors_origins=settings.cors_origins)
    typer.echo(f"dashboard at http://{host}:{port}")
    uvicorn.run(app, host=host, port=port, log_level=settings.log_level.lower())
