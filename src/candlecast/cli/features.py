"""Commands about features: features list, show, materialize; audit, which puts them on trial."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from textwrap import shorten
from typing import Annotated, Any, Final

import typer

from candlecast.cli.printing import echo_json, echo_table, progress
from candlecast.cli.session import (
    AsOf,
    End,
    FeatureFiles,
    Json,
    Start,
    Symbols,
    TimeframeName,
    instant,
    load_own_features,
    opened,
    tickers,
)
from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import FeatureSpec
from candlecast.features.user_files import code_of
from candlecast.pipelines.audit import GateReport, audit_features
from candlecast.pipelines.materialize import (
    Span,
    feature_sets,
    materialize_features,
    read_values,
)

MAX_WIDTH: Final = 80
ALIAS: Final = """The same as materialize.

Example: candlecast features compute --symbols AAPL,MSFT
"""

Name = Annotated[str, typer.Argument(help="Its name, as `features list` tells it.")]


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    group = typer.Typer(no_args_is_help=True, help="Features: what there are, and their values.")
    group.command("list")(list_features)
    group.command("show")(show)
    group.command("materialize")(materialize)
    group.command("compute", hidden=True, help=ALIAS)(materialize)
    app.add_typer(group, name="features")
    app.command()(audit)


def list_features(_feature_files: FeatureFiles = None, is_json: Json = False) -> None:
    """List all features, and which of them a model may see; * marks those of your own.

    Example: candlecast features list --feature-file my_features.py
    """
    load_own_features()
    told = [_entry(name) for name in FEATURES.names()]
    sets = {table: features.id for table, features in feature_sets().items()}
    if is_json:
        echo_json({"features": told, "sets": sets})
        return
    rows = [
        [
            ("* " if one["origin"] else "  ") + one["name"],
            one["table"],
            one["scope"],
            f"{one['warmup_bars']}",
            "input" if one["is_input"] else "shown",
            shorten(one["description"], MAX_WIDTH, placeholder=" …"),
        ]
        for one in told
    ]
    echo_table("Features", ("name", "table", "scope", "warm-up", "use", "what it is"), rows)
    for table, set_id in sets.items():
        typer.echo(f"the set in ml_features_{table}: {set_id}")


def show(  # noqa: PLR0913 - one argument an option
    name: Name,
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    as_of: AsOf = "",
    timeframe: TimeframeName = "1d",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Explain a feature and show its newest values, or those of a span of bars.

    Example: candlecast features show rsi_14 --symbols AAPL --start 2013-01-01
    """
    load_own_features()
    entry = _entry(name)
    span = Span(tickers(symbols), instant(start), instant(end, is_end=True))
    with opened() as stores:
        values = read_values(
            stores,
            Timeframe.parse(timeframe),
            name,
            symbols=span.symbols,
            as_of=instant(as_of, is_end=True),
            is_whole=bool(start or end),
        )
    values = span.cut(values)
    text = inspect.getdoc(FEATURES.get(name).expression) or ""
    if is_json:
        echo_json(entry | {"docstring": text, "values": values.to_dicts()})
        return
    typer.echo(f"{name} ({entry['table']}, {entry['scope']}, {entry['origin'] or 'built in'})")
    typer.echo(f"\n{text}\n")
    rows = [
        [f"{symbol}", f"{ts:%Y-%m-%d %H:%M}", "" if value is None else f"{value:.6g}"]
        for symbol, ts, value in values.select("symbol", "ts", name).iter_rows()
    ]
    echo_table(f"{name}, set {entry['set_id']}", ("symbol", "bar", "value"), rows)


def materialize(
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    timeframe: TimeframeName = "1d",
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Compute every feature of stored bars and store them.

    Example: candlecast features materialize --symbols AAPL,MSFT
    """
    span = Span(tickers(symbols), instant(start), instant(end, is_end=True))
    with opened() as stores:
        n_written = materialize_features(stores, timeframe, span)
    sets = {table: features.id for table, features in feature_sets().items()}
    if is_json:
        echo_json({"n_written": n_written, "sets": sets})
    else:
        typer.echo(f"{n_written} feature rows written")


def audit(
    names: Annotated[
        str, typer.Option("--features", help="Features with commas; every one by default.")
    ] = "",
    symbols: Symbols = "",
    timeframe: TimeframeName = "1d",
    is_whole: Annotated[
        bool, typer.Option("--all-bars", help="Every symbol and bar instead of a sample.")
    ] = False,
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Put features on trial: look-ahead, newest bar against history, warm-up, units of price.

    What fails is named with feature, bar and both values, and the exit code is 1.

    Example: candlecast audit --feature-file my_features.py --symbols AAPL,IBM
    """
    with opened() as stores, progress() as tell:
        chosen = tuple(part.strip() for part in names.split(",") if part.strip())
        report = audit_features(
            stores, timeframe, tickers(symbols), chosen, is_sampled=not is_whole, progress=tell
        )
    if is_json:
        echo_json(_report_values(report))
    else:
        _tell_report(report)
    raise typer.Exit(1 if report.findings else 0)


def _entry(name: str) -> dict[str, Any]:
    entry = FEATURES.get(name)
    return {
        "name": name,
        "table": entry.table,
        "scope": entry.scope,
        "warmup_bars": entry.warmup_bars,
        "is_input": entry.is_input,
        "description": FEATURES.describe(name),
        "origin": entry.origin or None,
        "set_id": FeatureSpec((name,), code_of((name,))).id,
    }


def _report_values(report: GateReport) -> dict[str, Any]:
    return {
        "features": list(report.names),
        "symbols": list(report.symbols),
        "n_bars": report.n_bars,
        "untested_warm_up": list(report.untested),
        "unseen": list(report.unseen),
        "findings": [asdict(f) | {"text": str(f)} for f in report.findings],
    }


def _tell_report(report: GateReport) -> None:
    for finding in report.findings:
        typer.echo(str(finding))
    short = [name for name in report.untested if name not in report.unseen]
    if short:
        typer.echo(f"too little history to try the warm-up of {', '.join(short)}", err=True)
    if report.unseen:
        typer.echo(
            f"nothing was tried of {', '.join(report.unseen)}: no bar has a value; add more "
            "history, or the facts that they are made of",
            err=True,
        )
    n_features = "1 feature" if len(report.names) == 1 else f"{len(report.names)} features"
    typer.echo(
        f"{n_features} audited on {report.n_bars} bars of "
        f"{len(report.symbols)} symbols, {len(report.failed)} failed"
        + (f", {len(report.untried)} not tried or in part only" if report.untried else "")
    )
