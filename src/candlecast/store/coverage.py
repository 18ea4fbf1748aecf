"""Which spans a source has answered to the end: a bar that is absent there was not traded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.domain.sources import Span
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.statements import schema_of, shaped
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers
from candlecast.store.tables import bar_coverage as table

SPANS: Final[dict[str, Any]] = {"symbol": pl.String, "start_at": INSTANT, "end_at": INSTANT}


def read_coverage(
    database: Database, timeframe: Timeframe, symbols: Sequence[str] | None = None
) -> pl.DataFrame:
    """symbol, start_at, end_at: spans start_at <= ts < end_at, merged whatever their source."""
    ids = chosen(read_ids(database), symbols)
    query = sa.select(table.c.symbol_id, table.c.start_at, table.c.end_at).where(
        table.c.timeframe == timeframe.minutes, is_among(table.c.symbol_id, ids, symbols)
    )
    names = ("symbol_id", "start_at", "end_at")
    frame = database.read(query, schema_of(table.c[name] for name in names))
    return merged_spans(with_tickers(frame, ids, "start_at"), ["symbol"]).select(*SPANS)


@dataclass(frozen=True, eq=False)
class Coverage:
    """What was answered to the end at `checked_at`: symbol, start_at, end_at, source."""

    spans: pl.DataFrame
    checked_at: datetime


def make_coverage(spans: Mapping[str, Span], source: str, checked_at: datetime) -> Coverage | None:
    """That `source` has answered these spans, by ticker; None where there are none."""
    rows = [(ticker, *span, source) for ticker, span in sorted(spans.items())]
    schema = {**SPANS, "source": pl.String}
    return Coverage(pl.DataFrame(rows, schema=schema, orient="row"), checked_at) if rows else None


def add_coverage(bulk: Bulk, timeframe: Timeframe, coverage: Coverage) -> None:
    """Note what was answered, in a transaction of the caller's.

    Touching spans of one source become one, so that a feed that goes on needs one row.
    """
    group = ["symbol_id", "source"]
    named = with_ids(coverage.spans, read_ids(bulk)).select(*group, "start_at", "end_at")
    ids = named["symbol_id"].unique().to_list()
    of_these = sa.and_(table.c.timeframe == timeframe.minutes, table.c.symbol_id.in_(ids))
    columns = [table.c[name] for name in named.columns]
    stored = bulk.read(sa.select(*columns).where(of_these), schema_of(columns))
    merged = merged_spans(pl.concat([stored, named.cast(stored.schema)]), group)
    absorbed = stored.join(merged, on=[*group, "start_at"], how="anti")
    for row in absorbed.iter_rows(named=True):
        bulk.run(sa.delete(table).where(of_these, *(table.c[n] == row[n] for n in row)))
    fresh = merged.join(stored, on=named.columns, how="anti").with_columns(
        timeframe=pl.lit(timeframe.minutes), checked_at=pl.lit(coverage.checked_at).cast(INSTANT)
    )
    bulk.upsert(table, shaped(table, fresh), "update")


def merged_spans(spans: pl.DataFrame, group: list[str]) -> pl.DataFrame:
    """The union of the spans of each `group`: start_at, end_at, sorted, touching ones joined."""
    # A new span begins where it starts after every earlier one of its group has ended.
    reached = pl.col("end_at").cum_max().shift().over(group)
    is_new = (pl.col("start_at") > reached).fill_null(value=True)
    return (
        spans.select(*group, "start_at", "end_at")
        .filter(pl.col("end_at") > pl.col("start_at"))
        .sort(*group, "start_at")
        .with_columns(run=is_new.cum_sum())
        .group_by(*group, "run", maintain_order=True)
        .agg(pl.col("start_at").min(), pl.col("end_at").max())
        .drop("run")
    )
