"""Retention as a job: intraday features past their time leave the store, nothing else does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from candlecast.errors import InvalidSpec
from candlecast.store import timescale
from candlecast.store.retention import KEEP_DAYS, prune_features
from candlecast.store.stores import Stores

MOST_DAYS: Final = 36_525
"""A century: longer than any intraday history."""


def prune(stores: Stores, *, keep_days: int = KEEP_DAYS) -> dict[str, int]:
    """Delete intraday features older than `keep_days`; the number of rows, by table.

    Daily features, bars, revisions, labels, predictions and outcomes stay, whatever their age.
    """
    if not 1 <= keep_days <= MOST_DAYS:
        raise InvalidSpec(
            f"keep_days is {keep_days}; keep intraday features for at least 1 day and at most "
            f"{MOST_DAYS}"
        )
    return prune_features(stores.database, _oldest_kept(stores, keep_days))


def prune_unattended(stores: Stores) -> datetime | None:
    """`prune`, where the database has no job of its own for it; since when features are kept.

    Who writes intraday features calls it, so that they never pile up, and writes none that are
    older. None with TimescaleDB, which prunes by itself and by its own settings.
    """
    with stores.database.reading() as connection:
        if timescale.is_enabled(connection):
            return None
    prune(stores)
    return _oldest_kept(stores, KEEP_DAYS)


def _oldest_kept(stores: Stores, keep_days: int) -> datetime:
    return stores.clock.now() - timedelta(days=keep_days)
