"""Commands that say whether bars can be trusted: data check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer

from candlecast.cli.printing import echo_json, echo_table, warn
from candlecast.cli.session import (
    End,
    Json,
    Start,
    Symbols,
    TimeframeName,
    instant,
    opened,
    pairs,
    tickers,
)
from candlecast.domain.market import SystemClock
from candlecast.monitoring.quality import KINDS, SEVERITIES
from candlecast.pipelines.check import (
    CheckQuery,
    CheckRun,
    check_data,
    check_files,
    finding_rows,
)
from candlecast.providers.files import FilesProvider

MAX_SHOWN, MAX_OF_A_KIND = 20, 4
SHORT: Final = {
    "impossible_action": "action",
    "unadjusted_split": "split",
    "stale_price": "stale",
    "zero_volume_run": "no volume",
}


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    group = typer.Typer(no_args_is_help=True, help="Can the bars be trusted?")
    group.command("check")(check)
    app.add_typer(group, name="data")


def check(  # noqa: PLR0913 - one argument an option
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files or folders to check instead of what is stored."),
    ] = None,
    symbols: Symbols = "",
    timeframe: TimeframeName = "1d",
    start: Start = "",
    end: End = "",
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help=f"Only these, repeatable: {', '.join(KINDS)}."),
    ] = None,
    calendar: Annotated[
        str, typer.Option(help="Where the symbols of files trade: XNYS, BVMF …, or 24/7.")
    ] = "XNYS",
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help='A column\'s name, e.g. --map close="Adj Close"; repeatable.'),
    ] = None,
    is_strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if anything cannot be true.")
    ] = False,
    is_json: Json = False,
) -> None:
    """Find gaps, stale prices, outliers, what is impossible, and splits not accounted for.

    Example: candlecast data check --symbols AAPL,MSFT --start 2015-01-01
    """
    query = CheckQuery(
        timeframe=timeframe,
        symbols=tickers(symbols),
        start=instant(start),
        end=instant(end, is_end=True),
        kinds=tuple(kinds or ()),
    )
    if paths:
        mapped = pairs(columns, "--map")
        source = FilesProvider(paths, columns=mapped, calendar=calendar, skip_bad_rows=True)
        run = check_files(source, query, calendar=calendar, clock=SystemClock())
    else:
        with opened() as stores:
            run = check_data(stores, query)
    _tell(run, is_json)
    raise typer.Exit(1 if is_strict and run.is_bad else 0)


def _tell(run: CheckRun, is_json: bool) -> None:
    counts, states = run.counts(), run.states()
    if is_json:
        parts = run.findings.partition_by("symbol", as_dict=True, include_key=False)
        by_symbol = {str(ticker): finding_rows(part) for (ticker,), part in parts.items()}
        echo_json(
            {
                "as_of": run.as_of,
                "failures": run.failures,
                "symbols": {
                    ticker: {
                        "n_bars": run.n_bars[ticker],
                        "state": states[ticker],
                        "counts": counts[ticker],
                        "findings": by_symbol.get(ticker, []),
                    }
                    for ticker in counts
                },
            }
        )
        return
    _tell_counts(run)
    _tell_worst(run.findings)
    failures = {_printable(name): _printable(why) for name, why in run.failures.items()}
    warn(failures, "could not be read as a whole:")


def _tell_counts(run: CheckRun) -> None:
    counts, states = run.counts(), run.states()
    found = [kind for kind in KINDS if any(kind in own for own in counts.values())]
    rows = [
        (
            _printable(ticker),
            states[ticker],
            f"{run.n_bars[ticker]:,}",
            *(str(own[kind]) if kind in own else "" for kind in found),
        )
        for ticker, own in counts.items()
        if own
    ]
    n_clean = sum(not own for own in counts.values())
    if rows:
        titles = (
            "symbol",
            "state",
            "bars",
            *(SHORT.get(kind, kind.partition("_")[0]) for kind in found),
        )
        echo_table(f"{len(run.findings)} findings as of {run.as_of:%Y-%m-%d %H:%M}", titles, rows)
    n_bars = sum(run.n_bars.values())
    typer.echo(f"{n_bars:,} bars of {len(counts)} symbols checked; nothing found in {n_clean}")


def _tell_worst(findings: pl.DataFrame) -> None:
    rank = pl.col("severity").replace_strict({s: n for n, s in enumerate(SEVERITIES)})
    order = pl.col("kind").replace_strict({kind: n for n, kind in enumerate(KINDS)})
    worst = findings.sort(rank, order, pl.col("n_bars"), descending=[False, False, True]).filter(
        pl.int_range(pl.len()).over("severity", "kind") < MAX_OF_A_KIND
    )
    for row in worst.head(MAX_SHOWN).iter_rows(named=True):
        typer.echo(
            _printable(
                f"{row['severity']:8}{row['symbol']} {_span(row)} "
                f"{row['kind'].replace('_', ' ')}: {row['message']}"
            )
        )
    n_hidden = len(findings) - min(len(worst), MAX_SHOWN)
    if n_hidden:
        typer.echo(f"… and {n_hidden} more; --json lists all of them")


def _printable(text: str) -> str:
    # Names and cells come from files: one with control characters could rewrite the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _span(row: dict[str, object]) -> str:
    first, last = (
        f"{row[name]:%Y-%m-%d %H:%M}".removesuffix(" 00:00") for name in ("start", "end")
    )
    return first if first == last else f"{first} to {last}"
