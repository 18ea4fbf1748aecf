"""Hourly and daily aggregates of bars and features: what they hold, and as plain views.

They are for people who query by hand. A row is a UTC bucket, named by its start `ts`, of one
symbol and timeframe; buckets of the clock, where coarser *bars* follow the session. An aggregate
takes the timeframes that fit into its bucket, and shows a bucket only once it is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from candlecast.domain.market import MINUTES
from candlecast.store.statements import as_sql
from candlecast.store.tables import bars, ml_features_ohlcv, ml_features_sentiment

MICROSECONDS_PER_MINUTE: Final = 60_000_000
SQLITE_NOW: Final = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
UNIX_EPOCH: Final = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"


@dataclass(frozen=True)
class Aggregate:
    """The rows of `table`, put together in buckets of so many minutes."""

    name: str
    table: sa.Table
    minutes: int

    @property
    def interval(self) -> sa.ColumnElement[Any]:
        """The width of a bucket on Postgres."""
        return sa.literal_column(f"INTERVAL '{self.minutes} minutes'")


AGGREGATES: Final = tuple(
    Aggregate(f"{table.name}_{word}", table, MINUTES[timeframe])
    for table in (bars, ml_features_ohlcv, ml_features_sentiment)
    for word, timeframe in (("hourly", "1h"), ("daily", "1d"))
)


def create_view(connection: sa.Connection, aggregate: Aggregate) -> None:
    """Create `aggregate` as a plain view, which any database can hold."""
    query = _plain_query(connection, aggregate)
    text = as_sql(query, connection.dialect)
    connection.exec_driver_sql(f"CREATE VIEW {aggregate.name} AS {text}")


def grouped(
    connection: sa.Connection,
    aggregate: Aggregate,
    rows: sa.FromClause,
    bucket: sa.ColumnElement[Any],
    edges: tuple[sa.ColumnElement[Any], ...],
) -> sa.Select[Any]:
    """The query for `aggregate` over `rows`; `edges` are the first open and the last close."""
    keys = (rows.c.timeframe, rows.c.symbol_id)
    measured = _of_bars(rows, *edges) if edges else _of_features(connection, aggregate, rows)
    return (
        sa.select(*keys, bucket.label("ts"), *measured)
        .where(rows.c.timeframe <= aggregate.minutes)
        .group_by(*keys, bucket)
    )


def _plain_query(connection: sa.Connection, aggregate: Aggregate) -> sa.Select[Any]:
    table = aggregate.table
    is_sqlite = connection.dialect.name == "sqlite"
    now = sa.literal_column(SQLITE_NOW, sa.Integer()) if is_sqlite else sa.func.now()
    start_of = _sqlite_start if is_sqlite else _postgres_start
    bucket, is_over = start_of(table.c.ts, aggregate), table.c.ts < start_of(now, aggregate)
    if table is not bars:
        return grouped(connection, aggregate, table, bucket, ()).where(is_over)
    within: dict[str, Any] = {"partition_by": (table.c.timeframe, table.c.symbol_id, bucket)}
    rows = (
        sa.select(
            *table.c,
            bucket.label("bucket"),
            sa.func.row_number().over(**within, order_by=table.c.ts).label("from_start"),
            sa.func.row_number().over(**within, order_by=table.c.ts.desc()).label("from_end"),
        )
        .where(is_over)
        .subquery("rows_in_buckets")
    )
    edges = (
        sa.func.max(sa.case((rows.c.from_start == 1, rows.c.open))),
        sa.func.max(sa.case((rows.c.from_end == 1, rows.c.close))),
    )
    return grouped(connection, aggregate, rows, rows.c.bucket, edges)


def _of_bars(
    rows: sa.FromClause, opening: sa.ColumnElement[Any], closing: sa.ColumnElement[Any]
) -> list[sa.ColumnElement[Any]]:
    return [
        opening.label("open"),
        sa.func.max(rows.c.high).label("high"),
        sa.func.min(rows.c.low).label("low"),
        closing.label("close"),
        sa.func.sum(rows.c.volume).label("volume"),
        sa.func.count().label("n_bars"),
        sa.func.max(rows.c.known_at).label("known_at"),
    ]


def _of_features(
    connection: sa.Connection, aggregate: Aggregate, rows: sa.FromClause
) -> list[sa.ColumnElement[Any]]:
    # The mean of each feature that the table has a column for by now.
    stored = (c["name"] for c in sa.inspect(connection).get_columns(aggregate.table.name))
    names = [name for name in stored if name not in aggregate.table.c]
    means = (
        sa.func.avg(sa.column(name, sa.Double(), _selectable=rows)).label(name) for name in names
    )
    return [sa.func.max(rows.c.as_of).label("as_of"), *means]


def _postgres_start(instant: sa.ColumnElement[Any], aggregate: Aggregate) -> sa.ColumnElement[Any]:
    return sa.func.date_bin(aggregate.interval, instant, sa.literal_column(UNIX_EPOCH))


def _sqlite_start(instant: sa.ColumnElement[Any], aggregate: Aggregate) -> sa.ColumnElement[Any]:
    # Rounded down before 1970 too, where the remainder of the negative count is negative.
    count = sa.type_coerce(instant, sa.Integer())
    width = aggregate.minutes * MICROSECONDS_PER_MINUTE
    return count - (count % width + width) % width
