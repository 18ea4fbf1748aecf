"""Commands about labels, what happened after each bar: labels list, compute, show."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Final

import polars as pl
import typer

from candlecast.cli.printing import echo_json, echo_table
from candlecast.cli.session import (
    Assignments,
    End,
    Json,
    Start,
    Symbols,
    assignments,
    experiment,
    instant,
    opened,
    tickers,
)
from candlecast.domain.catalog import LABELS
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import NotFound
from candlecast.pipelines.label import (
    default_horizons,
    look_up,
    materialize_labels,
    own_parameters,
)
from candlecast.pipelines.materialize import Span
from candlecast.store.features import read_labels

LAST: Final = 5

Kind = Annotated[
    str, typer.Option("--kind", help="Which label; `labels list` names them. As in the experiment.")
]
Bars = Annotated[
    str, typer.Option("--timeframe", help="1m 5m 10m 15m 30m 1h 4h 1d. As in the experiment.")
]
HorizonNames = Annotated[
    str, typer.Option("--horizon", help="Horizons with commas, e.g. 1D,1W; the label's by default.")
]


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    group = typer.Typer(no_args_is_help=True, help="Labels: what happened after each bar.")
    group.command("list")(list_labels)
    group.command("compute")(compute_labels)
    group.command("show")(show_labels)
    app.add_typer(group, name="labels")


def list_labels(is_json: Json = False) -> None:
    """All labels, their horizons by default and their parameters.

    Example: candlecast labels list
    """
    found = [(name, LABELS.get(name), LABELS.describe(name)) for name in LABELS.names()]
    if is_json:
        echo_json(
            [
                {
                    "name": name,
                    "description": description,
                    "daily": label.daily,
                    "intraday": label.intraday,
                    "parameters": own_parameters(label),
                }
                for name, label, description in found
            ]
        )
        return
    for name, label, description in found:
        typer.secho(name, bold=True)
        typer.echo(f"  {description}")
        typer.echo(f"  horizons: {', '.join(label.daily)}; intraday {', '.join(label.intraday)}")
        for parameter, default in own_parameters(label).items():
            typer.echo(f"  --set {parameter}={_shown(default)}")


def compute_labels(  # noqa: PLR0913 - one argument an option
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    horizon: HorizonNames = "",
    kind: Kind = "",
    parameter: Assignments = None,
    timeframe: Bars = "",
    is_json: Json = False,
) -> None:
    """Compute the labels of stored bars and store them.

    Example: candlecast labels compute --kind triple_barrier --set upper=2 --horizon 1W
    """
    spec = _experiment(kind, parameter, timeframe, horizon)
    with opened() as stores:
        changed = materialize_labels(stores, spec, _span(symbols, start, end))
    if is_json:
        echo_json({"n_written": changed})
    else:
        typer.echo(f"{changed} label rows written")


def show_labels(  # noqa: PLR0913 - one argument an option
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    horizon: HorizonNames = "",
    kind: Kind = "",
    parameter: Assignments = None,
    timeframe: Bars = "",
    last: Annotated[
        int, typer.Option(help="How many of each symbol and horizon, the newest.", min=1)
    ] = LAST,
    is_json: Json = False,
) -> None:
    """Labels that are stored, the newest of each symbol and horizon.

    Example: candlecast labels show --symbols AAPL --kind triple_barrier --set upper=2
    """
    spec = _experiment(kind, parameter, timeframe, horizon)
    stored_kind = look_up(spec.labels)[1].stored_kind
    span = _span(symbols, start, end)
    with opened() as stores:
        found = read_labels(
            stores.database,
            Timeframe.parse(spec.timeframe),
            symbols=span.symbols or None,
            start=span.start,
            end=span.end,
            horizons=spec.labels.horizons if horizon else None,
            kind=stored_kind,
        )
    if found.is_empty():
        command = _command(spec, parameter, symbols, horizon)
        raise NotFound(
            f"no {stored_kind} of {spec.timeframe} bars is stored there; run `{command}` first, or "
            "ask for others"
        )
    place = pl.int_range(pl.len()).reverse().over("symbol", "horizon")
    _tell(found.filter(place < last), stored_kind, is_json)


def _tell(labels: pl.DataFrame, kind: str, is_json: bool) -> None:
    if is_json:
        echo_json(labels.to_dicts())
        return
    rows = [
        [
            f"{row['symbol']:6} {row['horizon']}",
            f"{row['ts']:%Y-%m-%d %H:%M}",
            _shown(row["value"]),
            f"{row['end_at']:%Y-%m-%d %H:%M}",
            "" if row["confidence"] is None else f"{row['confidence']:.0%}",
        ]
        for row in labels.sort("symbol", "horizon_bars", "ts").iter_rows(named=True)
    ]
    echo_table(f"Labels: {kind}", ("symbol", "bar", "value", "known", "confidence"), rows)


def _experiment(
    kind: str, parameter: list[str] | None, timeframe: str, horizon: str
) -> ExperimentSpec:
    # What is not named stays as in the experiment; of another label or timeframe, the horizons are
    # the label's own.
    named = tuple(part.strip() for part in horizon.split(",") if part.strip())
    overrides: dict[str, Any] = {"timeframe": timeframe or None, "labels.kind": kind or None}
    if kind or parameter:
        overrides["labels.parameters"] = assignments(parameter)
    if kind or timeframe:
        plain = experiment(None, overrides)
        own = default_horizons(plain.labels.kind, Timeframe.parse(plain.timeframe))
        named = named or own
    return experiment(None, overrides | {"labels.horizons": named})


def _command(spec: ExperimentSpec, parameter: list[str] | None, symbols: str, horizon: str) -> str:
    # What computes the labels that were asked for.
    named = {"--symbols": symbols, "--horizon": horizon}
    return shlex.join(
        [
            *("candlecast", "labels", "compute", "--kind", spec.labels.kind),
            *("--timeframe", spec.timeframe),
            *(part for given in parameter or [] for part in ("--set", given)),
            *(part for option, value in named.items() if value for part in (option, value)),
        ]
    )


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:+.4g}" if isinstance(value, float) else str(value)


def _span(symbols: str, start: str, end: str) -> Span:
    return Span(tickers(symbols), instant(start), instant(end, is_end=True))
