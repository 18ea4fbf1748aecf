"""The command that goes on for ever: stream, live or as a replay."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import polars as pl
import typer

from candlecast.cli.printing import warn
from candlecast.cli.providing import CalendarName, make_provider, symbols_of, template_of
from candlecast.cli.session import Assignments, Json, Symbols, assignments, instant, opened, tickers
from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.market import Symbol, SystemClock, Timeframe
from candlecast.domain.sources import BarSource, FeedSource, Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines.polling import PollingSource
from candlecast.pipelines.replay import ReplayClock, ReplaySource
from candlecast.pipelines.stream import stream as run_stream
from candlecast.pipelines.stream_options import StreamOptions, StreamRun
from candlecast.store.bars import read_bars, read_ends
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

MINUTE: Final = Timeframe(1)
REPLAY: Final = "replay"
MAX_SHOWN: Final = 5


def register(app: typer.Typer) -> None:
    """Enter this command."""
    app.command()(stream)


def stream(  # noqa: PLR0913 - one argument an option
    provider: Annotated[
        str, typer.Argument(help="A provider, or replay: stored bars or those of --paths.")
    ],
    symbols: Symbols = "",
    speed: Annotated[
        float, typer.Option(min=0, help="Of a replay: 60 plays an hour a minute, 0 at once.")
    ] = 60.0,
    start: Annotated[
        str, typer.Option(help="A replay begins here; by default where the stored bars end.")
    ] = "",
    until: Annotated[str, typer.Option(help="Stop then, e.g. 2024-03-05T21:00.")] = "",
    paths: Annotated[
        list[Path] | None, typer.Option("--paths", help="Files or folders to replay; repeatable.")
    ] = None,
    calendar: CalendarName = "",
    is_simulation_allowed: Annotated[
        bool, typer.Option("--allow-simulated", help="Let a provider stream invented bars.")
    ] = False,
    parameters: Assignments = None,
    is_json: Json = False,
) -> None:
    """Store bars of one minute as they close, live or replayed, until it is stopped.

    A vendor without a socket is asked after each minute. Gaps are healed from the vendor's archive.

    Example: candlecast stream replay --paths minutes.parquet --symbols AAPL --speed 60
    """
    span = (instant(start), instant(until))
    if provider == REPLAY:
        run = _replay(symbols, span, speed or inf, (paths or [], calendar, parameters), is_json)
    else:
        if paths or start:
            raise InvalidSpec("--paths and --start belong to a replay; leave them out")
        making = (calendar, parameters, is_simulation_allowed)
        run = _follow(provider, symbols, span[1], making, is_json)
    if is_json:
        _echo_line({"run": asdict(run)})
    else:
        typer.echo(
            f"{run.n_bars} bars stored live, {run.n_healed} healed, {run.n_revised} revised, "
            f"{run.n_refused} ticks refused, {run.n_connections} connections"
        )
        warn(run.failures, "not healed:")
    raise typer.Exit(1 if run.failures else 0)


def _follow(
    name: str,
    symbols: str,
    until: datetime | None,
    making: tuple[str, list[str] | None, bool],
    is_json: bool,
) -> StreamRun:
    calendar, parameters, is_simulation_allowed = making
    if name not in PROVIDERS.names():
        raise NotFound.among("provider", name, [*PROVIDERS.names(), REPLAY])
    source = make_provider(name, assignments(parameters), {"calendar": calendar or "XNYS"})
    if getattr(source, "is_simulated", False) and not is_simulation_allowed:
        raise InvalidSpec(f"{name} invents its bars; allow it with --allow-simulated")
    template = template_of(calendar, {name: source})
    feed = source if isinstance(source, FeedSource) else None
    if feed is None and isinstance(source, BarSource):
        feed = PollingSource(source)
    if feed is None:
        raise InvalidSpec(f"{name} has neither a feed nor bars; choose another provider")
    with opened() as stores:
        chosen = symbols_of(stores, tickers(symbols), template)
        return _run(stores, feed, chosen, StreamOptions(source=name, until=until), is_json)


def _replay(
    symbols: str,
    span: tuple[datetime | None, datetime | None],
    speed: float,
    making: tuple[list[Path], str, list[str] | None],
    is_json: bool,
) -> StreamRun:
    paths, calendar, parameters = making
    named = tickers(symbols)
    with opened() as stores:
        if paths:
            bars = _bars_of_files(paths, named, calendar or "XNYS", parameters)
        elif span[0] is None:
            raise InvalidSpec("a replay of stored bars needs --start, e.g. 2024-03-05T14:30")
        else:
            bars = read_bars(stores.database, MINUTE, symbols=named or None, start=span[0])
        if bars.is_empty():
            raise InvalidSpec("there are no bars of 1m to replay; name other --paths or symbols")
        template = template_of(calendar or "XNYS", {})
        chosen = _symbols_in(stores, bars, template)
        clock = ReplayClock(span[0] or _resumed(stores, bars), speed)
        options = StreamOptions(source=REPLAY, until=span[1], is_covering=bool(paths))
        source = ReplaySource(bars, clock, span[1])
        return _run(replace(stores, clock=clock), source, chosen, options, is_json)


def _bars_of_files(
    paths: list[Path], named: tuple[str, ...], calendar: str, parameters: list[str] | None
) -> pl.DataFrame:
    offered = {"paths": paths, **assignments(parameters)}
    source = make_provider("files", offered, {"calendar": calendar})
    wanted = tuple(Symbol(ticker, calendar=calendar) for ticker in named) or None
    fetched = source.fetch_bars(Request(wanted), MINUTE, SystemClock())
    warn(fetched.failures, "refused:")
    bars: pl.DataFrame = fetched.bars
    return bars


def _symbols_in(stores: Stores, bars: pl.DataFrame, template: Symbol) -> list[Symbol]:
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    named = bars["symbol"].unique().sort()
    return [known.get(ticker) or replace(template, ticker=ticker) for ticker in named]


def _resumed(stores: Stores, bars: pl.DataFrame) -> datetime:
    # After the newest stored bar, if that is one that can be played; else from the beginning.
    known = {symbol.ticker for symbol in read_symbols(stores.database)}
    stored = sorted(known & {*bars["symbol"].unique()})
    newest = read_ends(stores.database, MINUTE, stored)["last"].max() if stored else None
    first, last = bars["ts"].min(), bars["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    if isinstance(newest, datetime) and first <= newest <= last:
        return newest.astimezone(UTC) + timedelta(minutes=1)
    return first


def _run(
    stores: Stores,
    source: FeedSource,
    symbols: Any,
    options: StreamOptions,
    is_json: bool,
) -> StreamRun:
    def tell(text: str) -> None:
        typer.secho(text, fg="yellow", err=True)

    closed = _echo_json_bars if is_json else _echo_bars
    with _stopping() as stop:
        return run_stream(
            stores, source, symbols, replace(options, tell=tell), on_closed=closed, stop=stop
        )


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    # The first SIGINT or SIGTERM ends the stream in order; what closed is stored before.
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _echo_bars(bars: pl.DataFrame) -> None:
    shown = [
        f"{symbol} {close:g}"
        for symbol, close in bars.select("symbol", "close").head(MAX_SHOWN).iter_rows()
    ]
    more = f" and {len(bars) - MAX_SHOWN} more" if len(bars) > MAX_SHOWN else ""
    first, last, known_at = bars.select(
        pl.col("ts").min().alias("first"),
        pl.col("ts").max().alias("last"),
        pl.col("known_at").max(),
    ).row(0)
    span = f"{first:%Y-%m-%d %H:%M}" + ("" if first == last else f" to {last:%Y-%m-%d %H:%M}")
    typer.echo(f"{span}  known {known_at:%H:%M:%S}  {', '.join(shown)}{more}")


def _echo_json_bars(bars: pl.DataFrame) -> None:
    _echo_line({"bars": bars.to_dicts()})


def _echo_line(value: object) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode())
