"""Features and labels of stored bars into their tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from candlecast.domain.catalog import FEATURES, LABELS
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec, content_hash
from candlecast.features.compute import compute
from candlecast.pipelines.prune import prune_unattended
from candlecast.pipelines.universe import read_market
from candlecast.store.features import write_features, write_labels
from candlecast.store.stores import Stores


@dataclass(frozen=True)
class Span:
    """Which symbols (all when empty) and which bars, by `ts`, both ends inclusive."""

    symbols: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None

    def cut(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of `frame` within the span."""
        kept = pl.col("symbol").is_in(self.symbols) if self.symbols else pl.lit(True)
        if self.start is not None:
            kept &= pl.col("ts") >= self.start
        if self.end is not None:
            kept &= pl.col("ts") <= self.end
        return frame.filter(kept)


def materialize_features(stores: Stores, timeframe: str, span: Span) -> int:
    """Compute every feature, over the whole universe, and store the values within `span`.

    Returns how many rows changed. Features of intraday bars are kept for 90 days by the
    clock of the stores: older ones are pruned and not written, so that retention needs nobody's
    hand. With TimescaleDB all are written, and its own job prunes them.
    """
    market = read_market(stores, Timeframe.parse(timeframe), (), None)
    names = FEATURES.names()
    features = span.cut(compute(market.prices, names))
    since = None if market.timeframe.is_daily else prune_unattended(stores)
    if since is not None:
        features = features.filter(pl.col("ts") >= since)
    return write_features(stores.database, market.timeframe, features, content_hash(list(names)))


def materialize_labels(stores: Stores, spec: ExperimentSpec, span: Span) -> int:
    """Compute the labels of `spec` and store those within `span`; returns the rows that changed."""
    market = read_market(stores, Timeframe.parse(spec.timeframe), span.symbols, None)
    labels = LABELS.get(spec.labels.kind).compute(
        market.prices,
        timeframe=market.timeframe,
        horizons=spec.labels.horizons,
        calendars=market.calendars,
    )
    known = span.cut(labels).filter(pl.col("end_at") <= market.as_of)
    return write_labels(stores.database, market.timeframe, known, spec.labels.kind)
