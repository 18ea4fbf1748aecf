"""Which symbols there are, and how much is known of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
from fastapi import APIRouter, Response

from candlecast.api.dependencies import StoresDep, TimeframeDep
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.domain.market import Symbol
from candlecast.store.bars import read_extent
from candlecast.store.symbols import read_symbols

router = APIRouter(tags=["market"])


class SymbolExtent(ApiModel):
    """A symbol and its bars; the dates and the close are null where there are none."""

    symbol: str
    asset_class: str
    calendar: str
    currency: str
    n_bars: int
    first_ts: datetime | None
    last_ts: datetime | None
    last_close: float | None


class Symbols(ApiModel):
    """All symbols, by ticker."""

    now: datetime
    symbols: list[SymbolExtent]


@router.get("/api/v1/symbols", response_model=Symbols)
def symbols(stores: StoresDep, timeframe: TimeframeDep) -> Response:
    """All symbols and the extent of their bars of one timeframe."""
    rows = {
        row["symbol"]: row
        for row in read_extent(stores.database, timeframe)
        .with_columns(pl.col("first_ts", "last_ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        .to_dicts()
    }
    known = [_extent(s, rows.get(s.ticker)) for s in read_symbols(stores.database)]
    return as_json({"now": iso(stores.clock.now()), "symbols": known})


def _extent(symbol: Symbol, row: dict[str, Any] | None) -> dict[str, Any]:
    found = row or {"n_bars": 0}
    return {
        "symbol": symbol.ticker,
        "asset_class": symbol.asset_class,
        "calendar": symbol.calendar,
        "currency": symbol.currency,
        "n_bars": found["n_bars"],
        **{name: found.get(name) for name in ("first_ts", "last_ts", "last_close")},
    }
