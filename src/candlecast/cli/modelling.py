"""Commands that train models and judge forecasts: train, evaluate, forecast, settle, report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from candlecast.cli.models import version_values
from candlecast.cli.printing import (
    echo_evaluation,
    echo_forecasts,
    echo_json,
    echo_report,
    echo_simulated,
    forecast_rows,
    progress,
    warn,
)
from candlecast.cli.session import (
    AsOf,
    Assignments,
    End,
    FeatureFiles,
    Json,
    Start,
    Symbols,
    TimeframeName,
    assignments,
    experiment,
    instant,
    opened,
    tickers,
)
from candlecast.domain.specs import ExperimentSpec
from candlecast.pipelines.answer import DISCLAIMER
from candlecast.pipelines.evaluate import evaluate as run_evaluate
from candlecast.pipelines.evaluation import evaluate_in_full
from candlecast.pipelines.forecast import ForecastRun
from candlecast.pipelines.forecast import forecast as run_forecast
from candlecast.pipelines.report import ReportQuery, make_report
from candlecast.pipelines.settle import settle as run_settle
from candlecast.pipelines.train import train as run_train

SpecArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[SPEC]", help="Experiment as TOML; else experiments/default.toml."),
]
ModelKind = Annotated[
    str, typer.Option("--model", help="A kind, e.g. lightgbm; an unknown one is told the others.")
]
NSplits = Annotated[int | None, typer.Option("--n-splits", help="Walk-forward test spans.")]
TestSize = Annotated[int | None, typer.Option("--test-size", help="Instants in a test span.")]
EmbargoDays = Annotated[float | None, typer.Option("--embargo-days", help="Days kept free.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Horizons = Annotated[str, typer.Option("--horizons", help="With commas, e.g. 1D,1W,1M.")]
Threshold = Annotated[
    str | None, typer.Option("--threshold", help="scaled, or fixed:0.02 for ±2 %.")
]

BarLength = Annotated[
    str, typer.Option("--timeframe", help="1m 5m 10m 15m 30m 1h 4h 1d; the spec's by default.")
]
AllowSimulated = Annotated[
    bool | None,
    typer.Option("--allow-simulated/--real-only", help="Whether invented bars may be learnt from."),
]


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    for command in (train, evaluate, forecast, settle, report):
        app.command()(command)


def train(  # noqa: PLR0913 - one argument an option
    spec_file: SpecArgument = None,
    symbols: Symbols = "",
    model: ModelKind = "",
    horizons: Horizons = "",
    threshold: Threshold = None,
    n_splits: NSplits = None,
    test_size: TestSize = None,
    embargo_days: EmbargoDays = None,
    seed: Seed = None,
    timeframe: BarLength = "",
    is_simulation_allowed: AllowSimulated = None,
    parameters: Assignments = None,
    as_of: AsOf = "",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Train, prove by walk-forward, register and serve a model.

    Example: candlecast train experiments/default.toml --symbols AAPL,MSFT --set n_estimators=200
    """
    options = (symbols, model, horizons, threshold, n_splits, test_size, embargo_days, seed)
    spec = _spec(spec_file, (*options, timeframe, is_simulation_allowed), parameters)
    with opened() as stores, progress() as tell:
        run = run_train(stores, spec, as_of=instant(as_of, is_end=True), progress=tell)
    metrics = orjson.loads(run.version.metrics)
    if is_json:
        told = {"is_new": run.is_new, "shortfalls": run.shortfalls}
        echo_json(version_values(run.version) | told)
        return
    echo_report(metrics)
    state = "trained" if run.is_new else "unchanged: this spec on these data was trained before"
    serves = (
        "it serves now"
        if run.version.is_active
        else (
            "the champion has seen later data and goes on serving; "
            f"`candlecast models activate {run.version.version}` changes that"
        )
    )
    typer.echo(f"{run.version.version} {state}; {serves}")
    warn(run.shortfalls, "left out of training:")


def evaluate(  # noqa: PLR0913 - one argument an option
    spec_file: SpecArgument = None,
    symbols: Symbols = "",
    model: ModelKind = "",
    horizons: Horizons = "",
    threshold: Threshold = None,
    n_splits: NSplits = None,
    test_size: TestSize = None,
    embargo_days: EmbargoDays = None,
    seed: Seed = None,
    timeframe: BarLength = "",
    is_simulation_allowed: AllowSimulated = None,
    parameters: Assignments = None,
    as_of: AsOf = "",
    folder: Annotated[
        Path | None,
        typer.Option("--report", help="Write report.html, metrics.json and tables into it."),
    ] = None,
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Walk forward and put the out-of-sample forecasts into the ledger; register nothing.

    With --report every model is also scored in full: against EWMA and GARCH, by fold, symbol and
    year, with tests, calibration and importances.

    Example: candlecast evaluate experiments/default.toml --report report
    """
    options = (symbols, model, horizons, threshold, n_splits, test_size, embargo_days, seed)
    spec = _spec(spec_file, (*options, timeframe, is_simulation_allowed), parameters)
    at = instant(as_of, is_end=True)
    with opened() as stores, progress() as tell:
        if folder is None:
            card, evaluation = run_evaluate(stores, spec, as_of=at, progress=tell), None
        else:
            evaluation, card = evaluate_in_full(stores, spec, folder, as_of=at, progress=tell)
    if is_json:
        echo_json(card)
        return
    echo_report(card)
    if evaluation is not None and folder is not None:
        echo_evaluation(evaluation, folder)


def forecast(
    version: Annotated[
        str, typer.Option("--model", help="A version; by default the champion.")
    ] = "",
    symbols: Symbols = "",
    as_of: AsOf = "",
    timeframe: TimeframeName = "1d",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Forecast from the newest bars, or from what was known at --as-of.

    Example: candlecast forecast --symbols AAPL --as-of 2012-06-29
    """
    with opened() as stores:
        run = run_forecast(
            stores,
            timeframe=timeframe,
            version=version or None,
            symbols=tickers(symbols),
            as_of=instant(as_of, is_end=True),
        )
    _tell_forecast(run, is_json)
    raise typer.Exit(1 if run.failures or run.forecasts.is_empty() else 0)


def settle(timeframe: TimeframeName = "1d", as_of: AsOf = "", is_json: Json = False) -> None:
    """Score the forecasts whose outcome has come; each is scored once.

    Example: candlecast settle
    """
    with opened() as stores:
        run = run_settle(stores, timeframe=timeframe, as_of=instant(as_of, is_end=True))
    if is_json:
        echo_json(asdict(run))
    else:
        typer.echo(f"{run.n_settled} forecasts settled, {run.n_waiting} wait for a bar")


def report(  # noqa: PLR0913 - one argument an option
    symbols: Symbols = "",
    horizon: Annotated[str, typer.Option(help="One horizon, e.g. 1D; all by default.")] = "",
    start: Start = "",
    end: End = "",
    origin: Annotated[
        str,
        typer.Option(help="live, walk_forward, simulated, with commas; the first two by default."),
    ] = "",
    version: Annotated[str, typer.Option("--model", help="Only this version or run.")] = "",
    timeframe: TimeframeName = "1d",
    is_json: Json = False,
) -> None:
    """Tell how past forecasts fared against what came.

    Example: candlecast report --horizon 1D --start 2014-01-01 --json
    """
    query = ReportQuery(
        symbols=tickers(symbols),
        horizon=horizon or None,
        start=instant(start),
        end=instant(end, is_end=True),
        origins=tuple(part.strip() for part in origin.split(",") if part.strip()),
        timeframe=timeframe,
        model_version=version or None,
    )
    with opened() as stores:
        card = make_report(stores, query)
    if is_json:
        echo_json(card)
        return
    echo_report(card)
    echo_simulated(card["simulated"])


def _spec(
    spec_file: Path | None, options: tuple[Any, ...], parameters: list[str] | None
) -> ExperimentSpec:
    symbols, model, horizons, threshold, *numbers, timeframe, is_simulation_allowed = options
    n_splits, test_size, embargo_days, seed = numbers
    spec = experiment(
        spec_file,
        {
            "symbols": tickers(symbols),
            "model.kind": model or None,
            "labels.horizons": tuple(h.strip() for h in horizons.split(",") if h.strip()),
            "labels.threshold": threshold,
            "splits.n_splits": n_splits,
            "splits.test_size": test_size,
            "splits.embargo_days": embargo_days,
            "seed": seed,
            "timeframe": timeframe or None,
            "allow_simulated": is_simulation_allowed,
        },
    )
    return spec.with_parameters(assignments(parameters))


def _tell_forecast(run: ForecastRun, is_json: bool) -> None:
    summary = {
        "model_version": run.model_version,
        "origin": run.origin,
        "as_of": run.as_of.isoformat(),
        "is_in_sample": run.is_in_sample,
        "n_new": run.n_new,
        "shortfalls": run.shortfalls,
        "failures": run.failures,
        "simulated": sorted(run.simulated),
        "disclaimer": DISCLAIMER,
    }
    if is_json:
        echo_json(summary | {"forecasts": forecast_rows(run.forecasts)})
        return
    echo_forecasts(run.forecasts)
    echo_simulated(run.simulated)
    typer.echo(f"{run.model_version}, {run.origin}, {run.n_new} new rows in the ledger")
    if run.is_in_sample:
        typer.echo("the model has seen later data: this is no out-of-sample forecast", err=True)
    warn(run.shortfalls, "forecast, but with little history of their own:")
    warn(run.failures, "no forecast:")
    typer.echo(DISCLAIMER)
