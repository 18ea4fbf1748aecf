"""Commands about registered model versions: models list, models activate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer

from candlecast.cli.printing import echo_json, echo_table, progress
from candlecast.cli.session import FeatureFiles, Json, opened
from candlecast.pipelines.promote import promote
from candlecast.store.registry import ModelVersion


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    models = typer.Typer(no_args_is_help=True, help="Registered model versions.")
    models.command("list")(list_models)
    models.command("activate")(activate_model)
    app.add_typer(models, name="models")


def activate_model(
    version: Annotated[str, typer.Argument(help="Its name.")], _feature_files: FeatureFiles = None
) -> None:
    """Let a registered version serve, once its features have passed the gates.

    Example: candlecast models activate lightgbm-20130301-83871cf6
    """
    with opened() as stores, progress() as tell:
        promote(stores, version, progress=tell)
    typer.echo(f"{version} serves now")


def list_models(is_json: Json = False) -> None:
    """List the registered versions, the newest first.

    Example: candlecast models list --json
    """
    with opened() as stores:
        versions = sorted(stores.registry.list(), key=lambda v: v.created_at, reverse=True)
    if is_json:
        echo_json([version_values(version) for version in versions])
        return
    rows = [
        [
            ("* " if v.is_active else "  ") + v.version,
            ", ".join(v.horizons),
            f"{v.training_from:%Y-%m-%d} to {v.training_until:%Y-%m-%d}",
            _bars(v),
            _skill(v),
        ]
        for v in versions
    ]
    columns = ("version", "horizons", "trained on", "bars", "CRPS skill")
    echo_table("Models (* serves)", columns, rows)


def version_values(version: ModelVersion) -> dict[str, Any]:
    """A version as plain values."""
    plain = asdict(version)
    return plain | {
        "timeframe": version.timeframe.name,
        "spec": orjson.loads(version.spec),
        "metrics": orjson.loads(version.metrics),
    }


def _bars(version: ModelVersion) -> str:
    # What it may have learnt from; the first specs did not say.
    is_allowed = orjson.loads(version.spec).get("allow_simulated")
    if is_allowed is None:
        return "unknown"
    return "simulated allowed" if is_allowed else "real only"


def _skill(version: ModelVersion) -> str:
    overall = orjson.loads(version.metrics).get("overall")
    return f"{overall['crps_skill_vs_climatology']:+.2%}" if overall else "unknown"
