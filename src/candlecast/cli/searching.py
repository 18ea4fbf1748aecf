"""Commands that try models, or let one learn on: cross-validate, search, select, update."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from candlecast.cli.models import version_values
from candlecast.cli.printing import echo_json, progress
from candlecast.cli.session import AsOf, FeatureFiles, Json, TimeframeName, instant, opened
from candlecast.config import Settings
from candlecast.domain.spec_text import as_toml, table_as_toml
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import InvalidSpec, NotFound
from candlecast.models.search import default_table, parse_space
from candlecast.pipelines.cross_validate import cross_validate as run_cross_validate
from candlecast.pipelines.search import SearchPlan, SearchRun
from candlecast.pipelines.search import search as run_search
from candlecast.pipelines.select import select as run_select
from candlecast.pipelines.update import update as run_update
from candlecast.validation.combinatorial import CombinatorialSpec

SpecPath = Annotated[Path, typer.Argument(help="Experiment as TOML.")]


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    for command in (cross_validate, search, select, update):
        app.command()(command)


def cross_validate(
    spec_file: SpecPath,
    n_groups: Annotated[int, typer.Option("--groups", help="Parts of the history.")] = 6,
    n_test_groups: Annotated[
        int, typer.Option("--test-groups", help="Parts that are forecast by the others.")
    ] = 2,
    as_of: AsOf = "",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Show how far skill depends on the span, by every choice of parts to be forecast.

    What is forecast is purged from what is learnt, before and after it. Models that knew what came
    after leave no track record: no forecast is stored, bands do not follow outcomes, and the
    holdout is left alone. The experiment counts as tried.

    Example: candlecast cross-validate experiments/default.toml --groups 6 --test-groups 2
    """
    spec, _ = _read(spec_file)
    paths = CombinatorialSpec(n_groups, n_test_groups, spec.splits.embargo_days)
    with opened() as stores, progress() as tell:
        found = run_cross_validate(
            stores, spec, paths, as_of=instant(as_of, is_end=True), progress=tell
        )
    if is_json:
        echo_json(found.to_dicts())
        return
    typer.echo(f"CRPS skill over climatology on {paths.n_paths} paths, none of them a track record")
    for horizon in spec.labels.horizons:
        skill = found.filter(horizon=horizon)["skill"]
        told = (skill.min(), skill.median(), skill.max())
        typer.echo("{}: worst {:+.2%}, median {:+.2%}, best {:+.2%}".format(horizon, *told))


def search(
    spec_file: SpecPath,
    n_trials: Annotated[int, typer.Option("--trials", help="In all, earlier runs included.")] = 50,
    n_workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
    as_of: AsOf = "",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Search for parameters before the holdout, and print the best experiment as TOML.

    What is searched stands in the file as [search.parameters], name = { low, high, log } or
    { choices }; without it, what the model's family suggests. Repeated, it goes on.

    Example: candlecast search experiments/default.toml --trials 50 > best.toml
    """
    spec, table = _read(spec_file)
    space = parse_space(spec.model.kind, table or default_table(spec.model.kind))
    plan = SearchPlan(space, n_trials, n_workers, Settings().home / "studies")
    with opened() as stores, progress() as tell:
        run = run_search(stores, spec, plan, as_of=instant(as_of, is_end=True), progress=tell)
    if is_json:
        echo_json(_told(run))
        return
    state = {name: sum(t.state == name for t in run.trials) for name in ("pruned", "failed")}
    typer.echo(f"# search {run.id}: {len(run.trials)} trials, {state['pruned']} given up,")
    typer.echo(f"# {state['failed']} failed; {run.n_tried} specs were tried on this question")
    typer.echo(f"# best: trial {run.best.number}, CRPS skill {run.best.score:+.3%} before holdout")
    typer.echo(as_toml(run.spec), nl=False)


def select(
    spec_file: SpecPath,
    as_of: AsOf = "",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Judge each feature out of sample, and print those to keep as TOML.

    Example: candlecast select experiments/default.toml
    """
    spec, _ = _read(spec_file)
    with opened() as stores, progress() as tell:
        found = run_select(stores, spec, as_of=instant(as_of, is_end=True), progress=tell)
    if is_json:
        echo_json(asdict(found) | {"kept": list(found.kept)})
        return
    if not found.kept:
        typer.echo("no feature is worth more than a shuffled one; keep to ewma or climatology")
        raise typer.Exit(1)
    names = [name for name in found.importances if name in found.kept]
    typer.echo(f"# worth more than each of {found.n_shadows} shuffled columns ({found.bar:.4%}):")
    typer.echo("".join(f"# {name}: {found.importances[name]:.3%}\n" for name in names), nl=False)
    typer.echo(table_as_toml("features", {"names": names}), nl=False)


def update(
    version: Annotated[
        str, typer.Option("--model", help="A version; by default the champion.")
    ] = "",
    timeframe: TimeframeName = "1d",
    as_of: AsOf = "",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Let a model of kind online learn from what was settled since, as a new version.

    Example: candlecast update
    """
    with opened() as stores, progress() as tell:
        run = run_update(
            stores,
            version or None,
            timeframe=timeframe,
            as_of=instant(as_of, is_end=True),
            progress=tell,
        )
    if is_json:
        echo_json(version_values(run.version) | {"is_new": run.is_new})
        return
    state = "learnt" if run.is_new else "has nothing new to learn"
    serves = "it serves" if run.version.is_active else "another version serves"
    typer.echo(f"{run.version.version} {state}; {serves}")


def _read(path: Path) -> tuple[ExperimentSpec, dict[str, Any]]:
    # The experiment of a file, and the table that says what is searched.
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        asked = values.pop("search", {})
        spec = ExperimentSpec.from_mapping(values)
    except NotFound as error:
        raise NotFound(f"{path}: {error}") from error
    except (OSError, ValueError, InvalidSpec) as error:
        raise InvalidSpec(f"{path}: {error}") from error
    if not isinstance(asked, dict) or set(asked) - {"parameters"}:
        raise InvalidSpec(f"{path}: [search] has one table, [search.parameters]")
    table = asked.get("parameters", {})
    if not isinstance(table, dict):
        raise InvalidSpec(f"{path}: [search.parameters] is a table")
    settings = Settings()
    if settings.symbols and not spec.symbols:
        spec = replace(spec, symbols=settings.symbols)
    return spec, table


def _told(run: SearchRun) -> dict[str, Any]:
    return {
        "search": run.id,
        "best": asdict(run.best),
        "spec": as_toml(run.spec),
        "trials": [asdict(trial) for trial in run.trials],
        "n_tried": run.n_tried,
    }
