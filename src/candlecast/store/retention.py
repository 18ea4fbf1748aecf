"""Which stored rows may be forgotten: intraday features past their time, and nothing else.

Bars, their revisions, daily features, labels, training sets and the ledger are kept for good.
Features are no loss: any past value is computed again from the bars.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from candlecast.domain.market import MINUTES
from candlecast.store.statements import aware
from candlecast.store.tables import ml_features_ohlcv, ml_features_sentiment

if TYPE_CHECKING:
    from candlecast.store.database import Database

KEEP_DAYS: Final = 90
"""How long intraday features stay unless told otherwise."""
FORGETTABLE: Final = (ml_features_ohlcv, ml_features_sentiment)


def forget_before(table: sa.Table, instant: sa.ColumnElement[Any]) -> sa.Delete:
    """The statement that deletes the intraday rows of `table` with ts < instant."""
    return sa.delete(table).where(table.c.timeframe < MINUTES["1d"], table.c.ts < instant)


def prune_features(database: Database, before: datetime) -> dict[str, int]:
    """Delete intraday features of bars that opened before the instant; how many, by table."""
    instant = sa.literal(aware(before), ml_features_ohlcv.c.ts.type)
    with database.transaction(lock="features") as connection:
        return {
            str(table.name): connection.execute(forget_before(table, instant)).rowcount
            for table in FORGETTABLE
        }
