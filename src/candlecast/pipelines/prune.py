"""Retention as a job: intraday features past their time leave the store, nothing else does."""

from __future__ import annotations

from datetime import timedelta

from candlecast.errors import InvalidSpec
from candlecast.store.retention import KEEP_DAYS, prune_features
from candlecast.store.stores import Stores


def prune(stores: Stores, *, keep_days: int = KEEP_DAYS) -> dict[str, int]:
    """Delete intraday features older than `keep_days`; the number of rows, by table.

    Daily features, bars, revisions, labels, predictions and outcomes stay, whatever their age.
    """
    if keep_days < 1:
        raise InvalidSpec(f"keep_days is {keep_days}; keep intraday features for at least 1 day")
    return prune_features(stores.database, stores.clock.now() - timedelta(days=keep_days))
