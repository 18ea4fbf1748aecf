"""Stores and bounded parameters as Annotated types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, cast

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator

from candlecast.domain.market import Symbol, Timeframe
from candlecast.errors import NotFound
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

MAX_NAME: Final = 32
MAX_SYMBOLS: Final = 200
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def _stores(request: Request) -> Stores:
    return cast("Stores", request.app.state.stores)


def _timeframe(
    timeframe: Annotated[
        str, Query(max_length=8, description="Length of a bar, e.g. 1d or 5m.")
    ] = "1d",
) -> Timeframe:
    return Timeframe.parse(timeframe)


def _in_utc(instant: datetime) -> datetime:
    # Bounded before any arithmetic: the ends of the calendar overflow when they change zone.
    if not EARLIEST.year <= instant.year < LATEST.year:
        raise ValueError(f"the year lies in {EARLIEST.year} … {LATEST.year - 1}")
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


StoresDep = Annotated[Stores, Depends(_stores)]
TimeframeDep = Annotated[Timeframe, Depends(_timeframe)]
SymbolPath = Annotated[str, Path(min_length=1, max_length=MAX_NAME, examples=["AAPL"])]
HorizonQuery = Annotated[
    str | None, Query(max_length=8, description="1D, 1W, 1M or a count such as 5d; none: all.")
]
InstantInUtc = Annotated[datetime, AfterValidator(_in_utc)]
"""An instant of a query: UTC where no zone is given."""


def known_symbol(stores: Stores, ticker: str) -> Symbol:
    """The symbol called `ticker`; NotFound names the close matches."""
    by_ticker = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    if ticker not in by_ticker:
        raise NotFound.among("symbol", ticker, by_ticker)
    return by_ticker[ticker]
