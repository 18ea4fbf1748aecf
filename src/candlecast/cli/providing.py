"""From a provider's name and the options of a command to the provider."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from candlecast.config import Settings
from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.described import check_parameters
from candlecast.domain.market import ALWAYS_OPEN, Symbol, trading_calendar
from candlecast.errors import InvalidSpec
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

CalendarName = Annotated[
    str,
    typer.Option(help="Where new symbols trade: XNYS, BVMF …, or 24/7; by default XNYS."),
]


def make_provider(
    name: str, offered: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Any:
    """The provider called `name`, with the parameters that the user `offered`.

    What it takes and is not offered comes from the settings (its keys), or from `defaults`.
    """
    factory = PROVIDERS.get(name)
    known = inspect.signature(factory).parameters
    settings = Settings()
    secrets = {key: settings.of_provider(name, key) for key in known}
    given = {key: value for key, value in (defaults or {}).items() if key in known}
    for source in (secrets, offered):
        given |= {key: value for key, value in source.items() if value is not None}
    check_parameters(name, factory, given)
    missing = [key for key, p in known.items() if p.default is p.empty and key not in given]
    if missing:
        raise InvalidSpec(f"{name} needs {', '.join(missing)}; see candlecast ingest --help")
    try:
        return factory(**given)
    except ValueError as error:
        raise InvalidSpec(f"{name}: {error}") from error


def make_providers(
    names: tuple[str, ...], offered: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Several providers; each parameter goes to those that take it."""
    if len(names) == 1:
        return {names[0]: make_provider(names[0], offered, defaults)}
    taken = {name: inspect.signature(PROVIDERS.get(name)).parameters for name in names}
    for key in offered:
        if offered[key] is not None and not any(key in known for known in taken.values()):
            raise InvalidSpec(f"none of {', '.join(names)} takes {key}")
    return {
        name: make_provider(name, {k: v for k, v in offered.items() if k in known}, defaults)
        for name, known in taken.items()
    }


def template_of(calendar: str, providers: Mapping[str, Any]) -> Symbol:
    """What a symbol new to the store is like; crypto where the market never closes."""
    usual = [getattr(provider, "usual_calendar", "XNYS") for provider in providers.values()]
    name = trading_calendar(calendar or usual[0]).name
    return Symbol("", "crypto" if name == ALWAYS_OPEN else "equity", name)


def symbols_of(stores: Stores, tickers: tuple[str, ...], template: Symbol) -> tuple[Symbol, ...]:
    """The symbols named, or all active ones of the store; InvalidSpec where there are none."""
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    if tickers:
        return tuple(known.get(t) or replace(template, ticker=t) for t in tickers)
    found = tuple(symbol for symbol in known.values() if symbol.is_active)
    if not found:
        raise InvalidSpec("no symbols are stored yet; name some with --symbols AAPL,MSFT")
    return found
