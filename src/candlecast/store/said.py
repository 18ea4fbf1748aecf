"""Whether anything has changed that is said of a timeframe's bars: one small query."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.store.database import Database
from candlecast.store.fact_tables import FACTS
from candlecast.store.tables import bar_changes, bar_coverage, bar_quarantine

_SCHEMA: Final[dict[str, Any]] = {
    "change": pl.Int64,
    "token": pl.Int64,
    "n_refused": pl.Int64,
    "refused_at": INSTANT,
    "n_actions": pl.Int64,
    "acted_at": INSTANT,
    "checked_at": INSTANT,
}


class State(NamedTuple):
    """The last writing of bars, and how much was said of them by when; equal if nothing changed."""

    change: int | None
    token: int | None
    n_refused: int
    refused_at: datetime | None
    n_actions: int
    acted_at: datetime | None
    checked_at: datetime | None


def read_state(database: Database, timeframe: Timeframe) -> State:
    """Of the bars of `timeframe`, what was refused of them and answered, and of all actions."""
    actions = FACTS["ACTIONS"]

    def of(table: sa.Table, value: Any) -> sa.ScalarSelect[Any]:
        query = sa.select(value)
        if "timeframe" in table.c:
            query = query.where(table.c.timeframe == timeframe.minutes)
        return query.select_from(table).scalar_subquery()

    last = sa.select(bar_changes.c.token).where(bar_changes.c.timeframe == timeframe.minutes)
    values = (
        of(bar_changes, sa.func.max(bar_changes.c.change)),
        last.order_by(bar_changes.c.change.desc()).limit(1).scalar_subquery(),
        of(bar_quarantine, sa.func.count()),
        of(bar_quarantine, sa.func.max(bar_quarantine.c.seen_at)),
        of(actions, sa.func.count()),
        of(actions, sa.func.max(actions.c.known_at)),
        of(bar_coverage, sa.func.max(bar_coverage.c.checked_at)),
    )
    named = (value.label(name) for value, name in zip(values, _SCHEMA, strict=True))
    return State(*database.read(sa.select(*named), _SCHEMA).row(0))
