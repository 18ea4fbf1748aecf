"""Commands about symbols: where they trade, who provides them, what they are called there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, Final

import typer

from candlecast.cli.printing import echo_json, echo_table
from candlecast.cli.session import Json, opened, pairs
from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.market import Symbol, trading_calendar
from candlecast.domain.tickers import VENUE_DOLLARS
from candlecast.errors import InvalidSpec, NotFound
from candlecast.store.symbols import read_symbols, write_symbols

ASSET_CLASSES: Final = ("equity", "etf", "crypto", "index", "fx")


def register(app: typer.Typer) -> None:
    """Enter these commands."""
    group = typer.Typer(no_args_is_help=True, help="Symbols: where they trade, who provides them.")
    group.command("list")(list_symbols)
    group.command("set")(set_symbol)
    app.add_typer(group, name="symbols")


def list_symbols(is_json: Json = False) -> None:
    """All symbols, where they trade, and who provides them.

    Example: candlecast symbols list
    """
    with opened() as stores:
        known = read_symbols(stores.database)
    if is_json:
        echo_json([asdict(symbol) for symbol in known])
        return
    rows = [
        [
            *(symbol.ticker, symbol.asset_class, symbol.calendar, symbol.currency),
            "yes" if symbol.is_active else "no",
            ", ".join(symbol.providers),
            ", ".join("=".join(pair) for pair in symbol.aliases),
        ]
        for symbol in known
    ]
    columns = ("symbol", "class", "calendar", "currency", "active", "providers", "aliases")
    echo_table("Symbols", columns, rows)


def set_symbol(  # noqa: PLR0913 - one argument an option
    ticker: Annotated[str, typer.Argument(help="The symbol, e.g. PETR4; new ones are made.")],
    calendar: Annotated[str, typer.Option(help="Where it trades, e.g. XNYS, BVMF, 24/7.")] = "",
    asset_class: Annotated[str, typer.Option(help="equity, etf, crypto, index or fx.")] = "",
    currency: Annotated[str, typer.Option(help="What its prices are in, e.g. USD.")] = "",
    providers: Annotated[
        str | None, typer.Option(help="Who is asked for it, in order, with commas; '' for none.")
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(help="What a provider calls it, e.g. --alias yahoo=PETR4.SA; repeatable."),
    ] = None,
    is_active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Whether it is still followed.")
    ] = None,
) -> None:
    """Say where a symbol trades, who provides it, and what they call it.

    Example: candlecast symbols set PETR4 --calendar BVMF --currency BRL --providers yahoo
    """
    _check_ticker(ticker)
    if asset_class and asset_class not in ASSET_CLASSES:
        raise InvalidSpec(f"no asset class {asset_class!r}; use {', '.join(ASSET_CLASSES)}")
    parts = (part.strip() for part in (providers or "").split(","))
    named = tuple(dict.fromkeys(part for part in parts if part))
    _check_order(named)
    aliases = pairs(alias, "--alias")
    _check_aliases(aliases)
    said: dict[str, Any] = {
        "calendar": trading_calendar(calendar).name if calendar else None,
        "asset_class": asset_class or None,
        "currency": currency or None,
        "providers": None if providers is None else named,
        "is_active": is_active,
        "aliases": tuple(aliases.items()) or None,
    }
    with opened() as stores:
        known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
        symbol = known.get(ticker, Symbol(ticker))
        changed = {name: value for name, value in said.items() if value is not None}
        write_symbols(stores.database, [replace(symbol, **changed)])
    typer.echo(f"{ticker} is stored")


def _check_ticker(ticker: str) -> None:
    if not ticker or ticker != ticker.strip() or "," in ticker:
        raise InvalidSpec(
            f"{ticker!r} is no ticker: it is not empty, and has no comma and no blanks around it"
        )


def _check_order(names: tuple[str, ...]) -> None:
    for place, name in enumerate(names):
        invents = getattr(PROVIDERS.get(name), "is_simulated", False)
        if invents and place < len(names) - 1:
            raise InvalidSpec(f"{name} invents its bars; name it last, after the real providers")


def _check_aliases(aliases: Mapping[str, str]) -> None:
    known = {*PROVIDERS.names(), *VENUE_DOLLARS}
    for provider, name in aliases.items():
        if provider not in known and not _is_exchange(provider):
            raise NotFound.among("provider", provider, known)
        if not name:
            raise InvalidSpec(f"--alias {provider}= gives no name; write {provider}=NAME")


def _is_exchange(name: str) -> bool:
    # One of the many that only ccxt knows; asked last, for it takes a while to load.
    try:
        import ccxt
    except ImportError:
        return False
    return name in ccxt.exchanges
