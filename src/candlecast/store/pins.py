"""Which past was used: as of when stored results were made of a symbol's bars, or of facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.fact_tables import FACTS, fact_reads
from candlecast.store.statements import shaped
from candlecast.store.symbols import read_ids, with_ids
from candlecast.store.tables import bar_reads as table

PRICING: Final = "ACTIONS"
"""Facts that prices are made of: these are pinned with the bars."""
PINS: Final[dict[str, Any]] = {"symbol": pl.String, "pinned_at": INSTANT}


def read_pins(source: Database | Bulk, timeframe: Timeframe) -> pl.DataFrame:
    """Symbol and pinned_at, the latest `as_of` of which something stored was made of its bars."""
    columns = (table.c.symbol_id, table.c.as_of.label("pinned_at"))
    query = sa.select(*columns).where(table.c.timeframe == timeframe.minutes)
    pins = source.read(query, {"symbol_id": pl.Int64, "pinned_at": INSTANT})
    return pins.join(read_ids(source), on="symbol_id").select(*PINS).sort("symbol")


def pin(database: Database, timeframe: Timeframe, symbols: Sequence[str], as_of: datetime) -> None:
    """Say that something stored is made of these symbols as known at `as_of`: no bar of theirs
    that arrives from now on is stamped earlier. Writers of bars wait, or see it.
    """
    rows = pl.DataFrame({"symbol": sorted(set(symbols))}, schema={"symbol": pl.String})
    with database.bulk(lock="bars") as bulk:
        named = with_ids(rows, read_ids(bulk)).with_columns(
            timeframe=pl.lit(timeframe.minutes), as_of=pl.lit(as_of).cast(INSTANT)
        )
        bulk.upsert(table, shaped(table, named), "update")


def read_fact_pin(source: Database | Bulk, kind: str) -> datetime | None:
    """The latest `as_of` of which something stored was made of facts of a `kind` (as in FACTS)."""
    query = sa.select(fact_reads.c.as_of).where(fact_reads.c.kind == kind)
    rows = source.read(query, {"as_of": INSTANT})
    return rows.item() if len(rows) else None


def pin_facts(database: Database, as_of: datetime) -> None:
    """Say that something stored is made of all facts besides actions as known at `as_of`: none
    that is told from now on is known earlier. Writers of facts wait, or see it.
    """
    kinds = [kind for kind in FACTS if kind != PRICING]
    rows = pl.DataFrame({"kind": kinds}).with_columns(as_of=pl.lit(as_of).cast(INSTANT))
    with database.bulk(lock="bars") as bulk:
        bulk.upsert(fact_reads, shaped(fact_reads, rows), "update")
