"""Which symbols have bars that were never traded, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import sqlalchemy as sa

from candlecast.domain.market import Timeframe
from candlecast.domain.sources import SIMULATED
from candlecast.store.database import Database
from candlecast.store.symbols import chosen, is_among, read_ids
from candlecast.store.tables import bars as bar_table
from candlecast.store.tables import symbols as symbol_table


def read_simulated(
    database: Database, timeframe: Timeframe, symbols: Sequence[str] | None = None
) -> frozenset[str]:
    """Those of `symbols` (None: all) that have bars of `timeframe` of which none was traded.

    Instant for a symbol with a traded bar, whose search ends there; of others all bars are read.
    """
    ids = chosen(read_ids(database), symbols)
    own = sa.select(bar_table.c.symbol_id).where(
        bar_table.c.timeframe == timeframe.minutes, bar_table.c.symbol_id == symbol_table.c.id
    )
    query = sa.select(symbol_table.c.ticker).where(
        is_among(symbol_table.c.id, ids, symbols),
        sa.exists(own),
        ~sa.exists(own.where(~_is_simulated())),
    )
    return frozenset(database.read(query, {"ticker": pl.String})["ticker"])


def _is_simulated() -> sa.ColumnElement[bool]:
    # As domain.sources.is_simulated says of a frame.
    source = bar_table.c.source
    derived = (sa.func.substr(source, 1, len(name) + 1) == f"{name}@" for name in SIMULATED)
    return sa.or_(source.in_(SIMULATED), *derived)
