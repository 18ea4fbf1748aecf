"""The command that brings data in: ingest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from candlecast.cli.printing import echo_json, progress, warn
from candlecast.cli.providing import (
    CalendarName,
    make_providers,
    symbols_of,
    template_of,
)
from candlecast.cli.session import (
    Assignments,
    End,
    Json,
    Start,
    Symbols,
    TimeframeName,
    assignments,
    instant,
    opened,
    pairs,
    tickers,
)
from candlecast.config import Settings
from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.sources import BarSource, Request
from candlecast.errors import InvalidSpec
from candlecast.pipelines.backfill import Wanted, backfill, backfill_actions
from candlecast.pipelines.facts import KINDS, FactsRun, ingest_facts
from candlecast.pipelines.ingest import IngestRun, find_short
from candlecast.pipelines.ingest import ingest as run_ingest
from candlecast.pipelines.resample import derive_changed
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

MAX_SHOWN: Final = 20
WHAT: Final = "bars, " + ", ".join(KINDS)


def register(app: typer.Typer) -> None:
    """Enter this command."""
    app.command()(ingest)


def ingest(  # noqa: PLR0913 - one argument an option
    provider: Annotated[
        str,
        typer.Argument(
            help="One provider, or several with commas: the next fills in for the last."
        ),
    ] = "",
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders.")] = None,
    what: Annotated[str, typer.Option(help=f"What to fetch: {WHAT}.")] = "bars",
    timeframe: TimeframeName = "1d",
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    calendar: CalendarName = "",
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help='A column\'s name, e.g. --map close="Adj Close"; repeatable.'),
    ] = None,
    is_skipping: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Keep the good rows of a symbol with bad ones.")
    ] = False,
    is_simulation_allowed: Annotated[
        bool, typer.Option("--allow-simulated", help="Let a chain end with invented bars.")
    ] = False,
    is_deriving: Annotated[
        bool, typer.Option("--derive/--no-derive", help="Make coarser bars of intraday ones.")
    ] = True,
    parameters: Assignments = None,
    is_json: Json = False,
) -> None:
    """Read bars (or news, actions …) from providers and store them; goes on where it stopped.

    What cannot be right is refused and named. Live providers are asked for what is missing only.

    Example: candlecast ingest alpaca,yahoo --symbols AAPL,MSFT --timeframe 1m
    """
    names = _names(provider, symbols)
    offered = {
        "paths": list(paths or ()) or None,
        "columns": pairs(columns, "--map") or None,
        "skip_bad_rows": is_skipping or None,
        **assignments(parameters),
    }
    providers = make_providers(names, offered, {"calendar": calendar or "XNYS"})
    template = template_of(calendar, providers)
    span = _span(start, end)
    with opened() as stores:
        if what != "bars":
            _ingest_facts(stores, what, providers, (tickers(symbols), template, span), is_json)
            return
        run = _ingest_bars(
            stores,
            providers,
            Wanted(
                _wanted_symbols(stores, providers, tickers(symbols), template),
                Timeframe.parse(timeframe),
                *span,
                is_simulation_allowed=is_simulation_allowed,
                is_order_given=bool(provider),
            ),
            template,
            tickers(symbols),
        )
        if is_deriving:
            derive_changed(stores, Timeframe.parse(timeframe))
    _tell(run, is_json)
    raise typer.Exit(1 if run.failures or run.refusals else 0)


def _span(start: str, end: str) -> tuple[datetime | None, datetime | None]:
    begin, stop = instant(start), instant(end, is_end=True)
    if begin is not None and stop is not None and begin >= stop:
        raise InvalidSpec(f"--start {start} is not before --end {end}; swap them")
    return begin, stop


def _names(provider: str, symbols: str) -> tuple[str, ...]:
    named = tuple(part.strip() for part in provider.split(",") if part.strip())
    if named or Settings().providers:
        return named or Settings().providers
    with opened() as stores:
        asked = set(tickers(symbols))
        known = [s for s in read_symbols(stores.database) if not asked or s.ticker in asked]
    found = tuple(dict.fromkeys(name for symbol in known for name in symbol.providers))
    if not found:
        raise InvalidSpec(
            f"name a provider ({', '.join(PROVIDERS.names())}), set CANDLECAST_PROVIDERS, or "
            "give symbols theirs with `candlecast symbols set`"
        )
    return found


def _is_bulk(providers: Mapping[str, Any]) -> bool:
    return len(providers) == 1 and all(getattr(p, "is_bulk", False) for p in providers.values())


def _wanted_symbols(
    stores: Stores, providers: Mapping[str, Any], named: tuple[str, ...], template: Symbol
) -> tuple[Symbol, ...]:
    return () if _is_bulk(providers) else symbols_of(stores, named, template)


def _ingest_bars(
    stores: Stores,
    providers: Mapping[str, Any],
    wanted: Wanted,
    template: Symbol,
    named: tuple[str, ...],
) -> IngestRun:
    for name, provider in providers.items():
        if not isinstance(provider, BarSource):
            raise InvalidSpec(f"{name} offers no bars; say what to fetch with --what")
    min_bars = Settings().min_bars
    if _is_bulk(providers):
        (provider,) = providers.values()
        return run_ingest(
            stores,
            provider,
            template=template,
            timeframe=wanted.timeframe,
            request=Request(tuple(map(Symbol, named)) if named else None, wanted.start, wanted.end),
            min_bars=min_bars,
        )
    with progress() as tell:
        run = backfill(stores, providers, wanted, tell)
    return replace(
        run,
        failures=run.failures | backfill_actions(stores, providers, wanted),
        shortfalls=find_short(stores, wanted.timeframe, run.symbols, min_bars),
    )


def _ingest_facts(
    stores: Stores,
    what: str,
    providers: Mapping[str, Any],
    asked: tuple[tuple[str, ...], Symbol, tuple[datetime | None, datetime | None]],
    is_json: bool,
) -> None:
    named, template, span = asked
    chosen = symbols_of(stores, named, template) if named or what in ("actions", "quotes") else None
    runs = {
        name: ingest_facts(stores, what, name, provider, Request(chosen, *span))
        for name, provider in providers.items()
    }
    if is_json:
        echo_json({name: asdict(run) for name, run in runs.items()})
    for name, run in runs.items():
        _tell_facts(name, what, run, is_json)
    raise typer.Exit(1 if any(run.failures for run in runs.values()) else 0)


def _tell_facts(name: str, what: str, run: FactsRun, is_json: bool) -> None:
    if not is_json:
        typer.echo(f"{name}: {run.n_fetched} {what} rows, {run.n_new} of them new")
        warn(run.failures, "failed:")


def _tell(run: IngestRun, is_json: bool) -> None:
    if is_json:
        echo_json(
            asdict(run.written)
            | {
                "symbols": list(run.symbols),
                "failures": run.failures,
                "refusals": [str(refusal) for refusal in run.refusals],
                "shortfalls": run.shortfalls,
            }
        )
        return
    written = run.written
    typer.echo(
        f"{len(run.symbols)} symbols: {written.inserted} bars inserted, "
        f"{written.revised} revised, {written.unchanged} unchanged"
    )
    warn(run.shortfalls, "less history than asked for:")
    warn(run.failures, "refused:")
    for refusal in run.refusals[:MAX_SHOWN]:
        typer.echo(str(refusal), err=True)
    if len(run.refusals) > MAX_SHOWN:
        typer.echo(f"… and {len(run.refusals) - MAX_SHOWN} more rows; --json lists all", err=True)
