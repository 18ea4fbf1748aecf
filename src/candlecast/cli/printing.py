"""What commands print: tables for people, JSON for machines, progress on the error stream."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import exp
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from candlecast.pipelines.progress import Progress
from candlecast.reports.evaluation import Evaluation

MAX_SHOWN: Final = 20


def echo_json(value: object) -> None:
    """Print `value` as indented JSON."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    typer.echo(orjson.dumps(value, option=option).decode())


def echo_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # else [brackets] in a ticker would be read as markup
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def warn(lines: Mapping[str, str], title: str) -> None:
    """Name what fell short, a line each, on the error stream."""
    if lines:
        typer.secho(title, fg="yellow", err=True)
        for name, reason in sorted(lines.items()):
            typer.secho(f"  {name}: {reason}", err=True)


def echo_simulated(tickers: Collection[str]) -> None:
    """Say which of the symbols shown have no bar that was ever traded."""
    if tickers:
        shown = ", ".join(sorted(tickers)[:MAX_SHOWN])
        more = f" and {len(tickers) - MAX_SHOWN} more" if len(tickers) > MAX_SHOWN else ""
        typer.secho(f"made of simulated bars: {shown}{more}", fg="yellow")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar for each step; plain lines where there is no terminal."""
    if not sys.stderr.isatty():
        yield _plain
        return
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    with RichProgress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield draw


def _plain(step: str, done: int, total: int) -> None:
    typer.echo(f"{step}: {done}/{total}", err=True)


def forecast_rows(forecasts: pl.DataFrame) -> list[dict[str, Any]]:
    """Forecasts as plain values, without what only the ledger keeps."""
    return forecasts.drop("features", "feature_hash", "fold").to_dicts()


def echo_forecasts(forecasts: pl.DataFrame) -> None:
    """Print forecasts, a row for each symbol and horizon."""
    rows = [
        [
            f"{row['symbol']:6} {row['horizon']}",
            f"{row['ts']:%Y-%m-%d}",
            f"{row['last_close']:.2f}",
            row["label"],
            f"{row['confidence']:.0%}",
            f"{row['prob_up']:.1%}",
            *(f"{row['last_close'] * exp(row[name]):.2f}" for name in ("q100", "q500", "q900")),
        ]
        for row in forecasts.sort("symbol", "horizon_bars").iter_rows(named=True)
    ]
    columns = ("symbol", "last bar", "close", "label", "confidence", "P(up)")
    echo_table("Current forecasts", (*columns, "80 % low", "median", "80 % high"), rows)


def echo_report(report: Mapping[str, Any]) -> None:
    """Print the cards of a report: all, by horizon, by symbol."""
    if report["overall"] is None:
        typer.echo(
            f"no settled forecasts among {report['n_forecasts']} "
            f"(origins: {', '.join(report['origins'])}); "
            + (
                "run `candlecast settle` once their outcomes are stored"
                if report["n_forecasts"]
                else "walk-forward runs other than the champion's show with --model RUN"
            )
        )
        return
    cards = {"all": report["overall"], **report["horizons"], **report["symbols"]}
    rows = [_card(name, card) for name, card in cards.items()]
    title = (
        f"Track record, {report['n_settled']} settled forecasts, "
        f"origins: {', '.join(report['origins'])}"
    )
    columns = ("", "n", "50 %", "80 %", "95 %", "CRPS skill", "hit rate", "interval", "verdict")
    echo_table(title, columns, rows)


def echo_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Print the verdicts of an evaluation in full, the ten features it rests on, and its place."""
    for part, found in evaluation.verdicts.items():
        typer.echo(f"{part}: {found['overall']['verdict']}. {found['overall']['sentence']}")
    for measure, top in evaluation.top_features().items():
        rows = [[f"{row['rank']}. {row['feature']}", f"{row['mean']:.4f}"] for row in top]
        echo_table(f"Importance by {measure}", ("feature", "mean of the folds"), rows)
    typer.echo(f"the whole report: {folder / 'report.html'}")


def _card(name: str, card: Mapping[str, Any]) -> list[str]:
    interval = card["hit_rate_interval"]
    return [
        name,
        f"{card['n']}",
        *(f"{card['coverage'][level]:.1%}" for level in ("0.5", "0.8", "0.95")),
        f"{card['crps_skill_vs_climatology']:+.2%}",
        f"{card['hit_rate']:.1%}",
        "" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}",
        card["verdict"],
    ]
