"""Which spans of bars each writing transaction touched: what mirrors and coarser bars follow."""

from __future__ import annotations

import secrets
from typing import Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.statements import Schema, shaped
from candlecast.store.symbols import read_ids, with_tickers
from candlecast.store.tables import bar_changes, bar_derivations

CHANGES_KEPT: Final = 4_096
"""A mirror that is further behind is built anew; a feed makes one change a minute."""
FORGOTTEN_EVERY: Final = 64
SPANS: Final[Schema] = {"symbol_id": pl.Int64, "first_ts": INSTANT, "last_ts": INSTANT}


def note_changes(bulk: Bulk, timeframe: Timeframe, touched: pl.DataFrame) -> None:
    """Note the `touched` spans (symbol_id, first_ts, last_ts) under the next count, if any."""
    if touched.is_empty():
        return
    count = sa.select(sa.func.max(bar_changes.c.change).label("change")).where(
        bar_changes.c.timeframe == timeframe.minutes
    )
    last = bulk.read(count, {"change": pl.Int64}).item()
    change = (last or 0) + 1
    if change % FORGOTTEN_EVERY == 0:
        old = bar_changes.c.change <= change - CHANGES_KEPT
        bulk.run(sa.delete(bar_changes).where(bar_changes.c.timeframe == timeframe.minutes, old))
    rows = touched.with_columns(
        pl.lit(timeframe.minutes).alias("timeframe"),
        pl.lit(change).alias("change"),
        pl.lit(secrets.randbits(62)).alias("token"),
    )
    bulk.insert(bar_changes, shaped(bar_changes, rows))


def read_underived(database: Database, timeframe: Timeframe) -> tuple[pl.DataFrame | None, int]:
    """What was written since coarser bars were made last, and the count of the last change.

    One row a symbol: symbol, first_ts, last_ts; None where that is no longer known.
    """
    changes, derived = bar_changes.c, bar_derivations.c
    is_own = changes.timeframe == timeframe.minutes
    counts = sa.select(
        sa.func.min(changes.change).label("oldest"), sa.func.max(changes.change).label("newest")
    ).where(is_own)
    noted = sa.select(derived.change).where(derived.timeframe == timeframe.minutes)
    with database.snapshot() as snapshot:
        oldest, newest = snapshot.read(counts, {"oldest": pl.Int64, "newest": pl.Int64}).row(0)
        done = snapshot.read(noted, {"change": pl.Int64})["change"].to_list()
        if not done or oldest is None or not oldest <= done[0] + 1 <= newest + 1:
            return None, newest or 0
        spans = (
            sa.select(
                changes.symbol_id,
                sa.func.min(changes.first_ts).label("first_ts"),
                sa.func.max(changes.last_ts).label("last_ts"),
            )
            .where(is_own, changes.change > done[0])
            .group_by(changes.symbol_id)
        )
        return with_tickers(snapshot.read(spans, SPANS), read_ids(snapshot)), newest


def note_derived(database: Database, timeframe: Timeframe, change: int) -> None:
    """Say that the coarser bars follow the bars up to this `change`."""
    row = pl.DataFrame({"timeframe": [timeframe.minutes], "change": [change]})
    database.upsert(bar_derivations, row)
