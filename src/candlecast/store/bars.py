"""Bars with known_at and their revisions: nothing that was once known is lost.

A write, in one transaction:

1. Bars outside the span a symbol has already are new: they are inserted as they are.
2. The others are staged, and only those that say something newer are kept.
3. What the rest replaces moves to `bar_revisions`; then it is overwritten.
4. `bar_changes` notes the touched spans under the next count, which the mirror follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import BARS, INSTANT
from candlecast.domain.market import Timeframe
from candlecast.errors import RetryableError
from candlecast.store.bulk import Bulk
from candlecast.store.changes import SPANS, note_changes
from candlecast.store.coverage import Coverage, add_coverage
from candlecast.store.database import Database
from candlecast.store.pins import read_pins
from candlecast.store.statements import (
    differ,
    key_of,
    schema_of,
    shaped,
    upsert_statement,
    within,
)
from candlecast.store.symbols import (
    chosen,
    is_among,
    read_ids,
    read_symbols,
    with_ids,
    with_tickers,
    write_symbols,
)
from candlecast.store.tables import bar_revisions
from candlecast.store.tables import bars as bar_table
from candlecast.store.tables import symbols as symbol_table

__all__ = [
    "BarsWritten",
    "read_bars",
    "read_ends",
    "read_extent",
    "read_symbols",
    "write_bars",
    "write_symbols",
]

VALUES: Final = ("open", "high", "low", "close", "volume", "adj_close", "vwap", "trade_count")
"""What makes a version: a bar that repeats all of these is no revision."""
STORED: Final = ("symbol_id", *(name for name in BARS.columns if name != "symbol"))


class PinnedMeanwhile(RetryableError):
    """A stored result was made of bars while others were being stamped beside them."""


@dataclass(frozen=True)
class BarsWritten:
    """How many bars were new, replaced an older version, or said nothing new."""

    inserted: int = 0
    revised: int = 0
    unchanged: int = 0

    def __add__(self, other: BarsWritten) -> BarsWritten:
        """Both together."""
        return BarsWritten(
            self.inserted + other.inserted,
            self.revised + other.revised,
            self.unchanged + other.unchanged,
        )


def write_bars(
    database: Database,
    timeframe: Timeframe,
    bars: pl.DataFrame,
    coverage: Coverage | None = None,
    pins: pl.DataFrame | None = None,
) -> BarsWritten:
    """Write BARS; a version that is no newer than the stored one, or equal to it, is left out.

    `coverage` becomes known in the same transaction. `pins` are those (`store.pins`) that the
    stamps heed: PinnedMeanwhile, and nothing is written, where one has moved on since.
    """
    BARS.check(bars)
    if bars.is_empty() and coverage is None:
        return BarsWritten()
    with database.bulk(lock="bars") as bulk:
        if pins is not None and not read_pins(bulk, timeframe).equals(pins):
            raise PinnedMeanwhile("a stored result was just made of these bars; stamp them again")
        if coverage is not None:
            add_coverage(bulk, timeframe, coverage)
        if bars.is_empty():
            return BarsWritten()
        rows = with_ids(bars, read_ids(bulk)).with_columns(
            pl.lit(timeframe.minutes).alias("timeframe"),
            pl.col("known_at").alias("first_known_at"),
        )
        stored = shaped(bar_table, rows)
        extents = _extents(bulk, timeframe, stored["symbol_id"].unique().to_list())
        placed = stored.join(extents, on="symbol_id", how="left", maintain_order="left")
        is_later = (pl.col("ts") > pl.col("last")).fill_null(value=True)
        is_earlier = (pl.col("ts") < pl.col("first")).fill_null(value=False)
        later, earlier, known = (
            placed.filter(condition).select(stored.columns)
            for condition in (is_later, is_earlier, ~is_later & ~is_earlier)
        )
        n_new = sum(bulk.insert(bar_table, part) for part in (later, earlier) if len(part))
        n_filled, n_revised, touched = _merge(bulk, known)
        note_changes(bulk, timeframe, pl.concat([_spans(later), _spans(earlier), touched]))
    n_inserted = n_new + n_filled
    return BarsWritten(n_inserted, n_revised, len(bars) - n_inserted - n_revised)


def read_bars(  # noqa: PLR0913 - each says what to leave out
    database: Database,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    as_of: datetime | None = None,
    is_first_version: bool = False,
) -> pl.DataFrame:
    """BARS with start <= ts <= end, from the database.

    Each bar in the version known at `as_of` (None: the newest), or in its first version if that
    was known by then. Bars not known by `as_of` are left out.
    """
    ids = chosen(read_ids(database), symbols)

    def query(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return sa.select(*(table.c[name] for name in STORED)).where(
            table.c.timeframe == timeframe.minutes,
            is_among(table.c.symbol_id, ids, symbols),
            *within(table.c.ts, start, end),
            *within(table.c.known_at, None, as_of),
            *conditions,
        )

    old = bar_revisions
    statement: sa.Executable = query(bar_table)
    if is_first_version:
        statement = sa.union_all(
            query(bar_table, bar_table.c.known_at == bar_table.c.first_known_at),
            query(old, old.c.known_at == old.c.first_known_at),
        )
    elif as_of is not None:
        statement = sa.union_all(query(bar_table), query(old, old.c.superseded_at > as_of))
    frame = database.read(statement, schema_of(bar_table.c[name] for name in STORED))
    return with_tickers(frame, ids, "ts").select(*BARS.columns)


def read_extent(database: Database, timeframe: Timeframe) -> pl.DataFrame:
    """One row for each symbol with bars: symbol, n_bars, first_ts, last_ts, last_close,
    last_known_at; sorted by symbol.
    """
    spans = (
        sa.select(
            bar_table.c.symbol_id,
            sa.func.count().label("n_bars"),
            sa.func.min(bar_table.c.ts).label("first_ts"),
            sa.func.max(bar_table.c.ts).label("last_ts"),
        )
        .where(bar_table.c.timeframe == timeframe.minutes)
        .group_by(bar_table.c.symbol_id)
        .subquery()
    )
    is_last = sa.and_(
        bar_table.c.timeframe == timeframe.minutes,
        bar_table.c.symbol_id == spans.c.symbol_id,
        bar_table.c.ts == spans.c.last_ts,
    )
    query = sa.select(
        *spans.c,
        bar_table.c.close.label("last_close"),
        bar_table.c.known_at.label("last_known_at"),
    ).join_from(spans, bar_table, is_last)
    schema = {**SPANS, "n_bars": pl.Int64, "last_close": pl.Float64, "last_known_at": INSTANT}
    order = ["symbol_id", "n_bars", "first_ts", "last_ts", "last_close", "last_known_at"]
    frame = database.read(query, {name: schema[name] for name in order})
    return with_tickers(frame, read_ids(database))


def read_ends(
    database: Database, timeframe: Timeframe, symbols: Sequence[str] | None = None
) -> pl.DataFrame:
    """symbol, first, last: the outermost bars of each symbol that has any; quick at any size."""
    ids = chosen(read_ids(database), symbols)
    with database.snapshot() as snapshot:
        ends = _extents(snapshot, timeframe, ids["symbol_id"].to_list())
    return with_tickers(ends.drop_nulls(), ids)


def _extents(bulk: Bulk, timeframe: Timeframe, symbol_ids: list[int]) -> pl.DataFrame:
    # By two look-ups a symbol, which the key's order makes instant however many bars there are.
    def end_of(function: Any) -> sa.ScalarSelect[Any]:
        return (
            sa.select(function(bar_table.c.ts))
            .where(
                bar_table.c.timeframe == timeframe.minutes,
                bar_table.c.symbol_id == symbol_table.c.id,
            )
            .scalar_subquery()
        )

    query = sa.select(
        symbol_table.c.id.label("symbol_id"),
        end_of(sa.func.min).label("first"),
        end_of(sa.func.max).label("last"),
    ).where(symbol_table.c.id.in_(symbol_ids))
    return bulk.read(query, {"symbol_id": pl.Int64, "first": INSTANT, "last": INSTANT})


def _merge(bulk: Bulk, known: pl.DataFrame) -> tuple[int, int, pl.DataFrame]:
    # Bars filled in, bars revised, and the spans touched.
    if known.is_empty():
        return 0, 0, _spans(known)
    staged = bulk.stage("staged_bars", known, bar_table)
    new_values, old_values = ([t.c[name] for name in VALUES] for t in (staged, bar_table))
    is_news = sa.or_(
        bar_table.c.symbol_id.is_(None),
        sa.and_(staged.c.known_at > bar_table.c.known_at, differ(new_values, old_values)),
    )
    news = bulk.keep(
        "new_bars",
        sa.select(staged)
        .join_from(staged, bar_table, _is_same(staged), isouter=True)
        .where(is_news),
    )
    replaced = sa.select(*bar_table.c, news.c.known_at.label("superseded_at")).join_from(
        news, bar_table, _is_same(news)
    )
    columns = [*bar_table.c.keys(), "superseded_at"]
    n_revised = bulk.run(sa.insert(bar_revisions).from_select(columns, replaced))
    n_written = bulk.run(upsert_statement(bulk.dialect, bar_table, known.columns, news))
    spans = sa.select(
        news.c.symbol_id,
        sa.func.min(news.c.ts).label("first_ts"),
        sa.func.max(news.c.ts).label("last_ts"),
    ).group_by(news.c.symbol_id)
    return n_written - n_revised, n_revised, bulk.read(spans, SPANS)


def _is_same(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(*(rows.c[name] == bar_table.c[name] for name in key_of(bar_table)))


def _spans(rows: pl.DataFrame) -> pl.DataFrame:
    first, last = pl.col("ts").min().alias("first_ts"), pl.col("ts").max().alias("last_ts")
    return rows.group_by("symbol_id").agg(first, last)
