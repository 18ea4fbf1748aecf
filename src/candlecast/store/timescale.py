"""TimescaleDB where the server has it: hypertables, compression, retention, aggregates.

Without the extension the same tables are plain, the aggregates plain views, and retention is the
pipeline `prune`. With it:

- The tables whose key holds `ts` are hypertables, compressed one day after their chunk's end. The
  ledger's keys hold none, so it stays plain.
- A retention policy would drop whole chunks, daily rows and all. So retention is a job of ours
  that deletes intraday features; no job ever touches bars, revisions, labels or the ledger.
- Continuous aggregates are a cache: `materialized_only`, refreshed to the end of the last bucket
  that is over, from the beginning, so a late correction reaches them however old its bar.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from candlecast.domain.market import MINUTES
from candlecast.store import views
from candlecast.store.aggregates import AGGREGATES, Aggregate, create_view, grouped
from candlecast.store.retention import FORGETTABLE, KEEP_DAYS, forget_before
from candlecast.store.statements import as_sql
from candlecast.store.tables import (
    bar_revisions,
    bars,
    ml_features_ohlcv,
    ml_features_sentiment,
    ml_labels,
)

TIME_TABLES: Final = (bars, bar_revisions, ml_features_ohlcv, ml_features_sentiment, ml_labels)
SEGMENT: Final = ("timeframe", "symbol_id")
CHUNK_DAYS: Final = 28
"""Few enough chunks for decades of daily bars: a query locks each with its indexes."""
COMPRESS_AFTER: Final = "1 day"
END_OFFSET: Final = "1 minute"
"""A refresh takes the buckets that end before now less this; never one that is open."""
REFRESH_EVERY: Final = {MINUTES["1h"]: "10 minutes", MINUTES["1d"]: "1 hour"}
BATCH_MINUTES: Final = CHUNK_DAYS * MINUTES["1d"]
"""A refresh takes a chunk at a time, so that decades fit into memory."""
DROP_RETRIES: Final = 5
DEADLOCK: Final = "40P01"
"""A refresh and a DROP may wait for each other's locks; the server then ends one of them."""
LEAST_VERSION: Final = "{2,19}"
"""The first that refreshes in batches."""
PRUNE: Final = "candlecast_prune_features"
NO_LIMIT: Final = "timescaledb.max_tuples_decompressed_per_dml_transaction"
"""At 0 a correction may touch as many compressed bars as there are."""

_AVAILABLE: Final = sa.text(
    """
    SELECT coalesce(current_setting('timescaledb.license', true), '') <> 'apache' AND EXISTS (
        SELECT FROM pg_available_extensions AS extension
        JOIN pg_available_extension_versions AS version USING (name)
        WHERE name = 'timescaledb'
            AND version.version = coalesce(installed_version, default_version)
            AND string_to_array(substring(version.version FROM '^\\d+\\.\\d+'), '.')::INTEGER[]
                >= CAST(:least AS INTEGER[])
            AND (installed OR current_setting('timescaledb.disable_load', true) = 'off' AND (
                (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                OR trusted AND has_database_privilege(current_database(), 'CREATE')
            ))
    )
    """
)


def is_available(connection: sa.Connection) -> bool:
    """Whether the extension is there, or is loaded by the server and ours to create.

    An older version counts as none, as does a build or setting of the Apache licence, which lacks
    compression and aggregates.
    """
    is_postgres = connection.dialect.name == "postgresql"
    return is_postgres and bool(connection.execute(_AVAILABLE, {"least": LEAST_VERSION}).scalar())


def is_enabled(connection: sa.Connection) -> bool:
    """Whether all that `enable` makes is there."""
    if not _has_extension(connection):
        return False
    has_tables = _hypertables(connection) == {table.name for table in TIME_TABLES}
    has_aggregates = _continuous(connection) >= {aggregate.name for aggregate in AGGREGATES}
    return has_tables and has_aggregates and bool(_prune_jobs(connection))


def enable(connection: sa.Connection, keep_days: int = KEEP_DAYS) -> bool:
    """Make all that TimescaleDB adds, where it is available; whether it is on.

    Wants the transaction under the migration lock, with the newest tables. Does nothing where
    all is there, so an operator's changes to jobs stay. Rows that are there move into chunks.
    """
    if is_enabled(connection):
        return True
    if not is_available(connection):
        return False
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS timescaledb")
    if not is_available(connection):  # a build tells its licence only once it is loaded
        return False
    _lift_limit(connection)
    for table in TIME_TABLES:
        _make_hypertable(connection, table)
    missing = [a for a in AGGREGATES if a.name not in _continuous(connection)]
    drop_aggregates(connection, missing)
    create_aggregates(connection, missing)
    if not _prune_jobs(connection):
        _create_prune_job(connection, keep_days)
    return True


def disable(connection: sa.Connection) -> None:
    """Give all rows back to plain tables and views; the extension itself stays.

    Wants what `enable` wants. What other roles were granted on the tables is to be granted anew.
    """
    if not _has_extension(connection):
        return
    views.drop_views(connection)
    suspend(connection)
    for name in sorted(_hypertables(connection)):
        _make_plain(connection, name)
    connection.exec_driver_sql(f"{_own_settings(connection)} RESET {NO_LIMIT}")
    views.create_views(connection)
    create_aggregates(connection)


def suspend(connection: sa.Connection) -> None:
    """Drop what stands in a migration's way: the aggregates, of either kind, and the job."""
    drop_aggregates(connection)
    if not _has_extension(connection):
        return
    for job_id in _prune_jobs(connection):
        connection.execute(sa.text("SELECT delete_job(:job_id)"), {"job_id": job_id})
    connection.exec_driver_sql(f"DROP PROCEDURE IF EXISTS {PRUNE}")


def create_aggregates(
    connection: sa.Connection, aggregates: Sequence[Aggregate] = AGGREGATES
) -> None:
    """Create them: continuous over hypertables, plain views elsewhere; none may be there."""
    is_hypertable = _hypertables(connection)
    for aggregate in aggregates:
        if aggregate.table.name in is_hypertable:
            _create_continuous(connection, aggregate)
        else:
            create_view(connection, aggregate)


def drop_aggregates(
    connection: sa.Connection, aggregates: Sequence[Aggregate] = AGGREGATES
) -> None:
    """Drop those that are there, of either kind."""
    continuous = _continuous(connection)
    names = [aggregate.name for aggregate in aggregates if aggregate.name in continuous]
    for aggregate in aggregates:
        if aggregate.name not in continuous:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {aggregate.name}")
    for is_last in (*[False] * DROP_RETRIES, True):
        try:
            with connection.begin_nested():  # undone, it holds no lock that a refresh waits for
                _drop_continuous(connection, names)
        except sa.exc.OperationalError as error:
            if is_last or getattr(error.orig, "sqlstate", None) != DEADLOCK:
                raise
        else:
            return


@contextmanager
def renewing_feature_aggregates(connection: sa.Connection) -> Iterator[None]:
    """Around a change to the feature tables' columns: their aggregates go, and come anew.

    A continuous one starts empty; its first refresh, of all rows, is due at once.
    """
    of_features = [a for a in AGGREGATES if a.table in FORGETTABLE]
    drop_aggregates(connection, of_features)
    yield
    create_aggregates(connection, of_features)


def _has_extension(connection: sa.Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return False
    query = sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
    return bool(connection.execute(query).scalar())


def _hypertables(connection: sa.Connection) -> set[str]:
    names = "SELECT hypertable_name FROM timescaledb_information.hypertables"
    named = {table.name for table in TIME_TABLES}
    return named & _names(connection, f"{names} WHERE hypertable_schema = current_schema()")


def _continuous(connection: sa.Connection) -> set[str]:
    names = "SELECT view_name FROM timescaledb_information.continuous_aggregates"
    return _names(connection, f"{names} WHERE view_schema = current_schema()")


def _names(connection: sa.Connection, query: str) -> set[str]:
    if not _has_extension(connection):
        return set()
    return set(connection.execute(sa.text(query)).scalars())


def _prune_jobs(connection: sa.Connection) -> list[int]:
    query = sa.text(
        "SELECT job_id FROM timescaledb_information.jobs "
        "WHERE proc_name = :name AND proc_schema = current_schema()"
    )
    return list(connection.execute(query, {"name": PRUNE}).scalars())


def _own_settings(connection: sa.Connection) -> str:
    name = connection.execute(sa.text("SELECT quote_ident(current_database())")).scalar()
    return f"ALTER ROLE CURRENT_USER IN DATABASE {name}"


def _lift_limit(connection: sa.Connection) -> None:
    # For the connections to come, and for this one.
    connection.exec_driver_sql(f"{_own_settings(connection)} SET {NO_LIMIT} = 0")
    connection.exec_driver_sql(f"SET {NO_LIMIT} = 0")


def _make_hypertable(connection: sa.Connection, table: sa.Table) -> None:
    if table.name in _hypertables(connection):
        return
    connection.exec_driver_sql(
        f"SELECT create_hypertable('{table.name}', 'ts', migrate_data => true, "
        f"chunk_time_interval => INTERVAL '{CHUNK_DAYS} days', create_default_indexes => false)"
    )
    rest = [name for name in table.primary_key.columns.keys() if name not in (*SEGMENT, "ts")]
    connection.exec_driver_sql(
        f"ALTER TABLE {table.name} SET (timescaledb.compress, "
        f"timescaledb.compress_segmentby = '{', '.join(SEGMENT)}', "
        f"timescaledb.compress_orderby = '{', '.join(['ts', *rest])}')"
    )
    connection.exec_driver_sql(
        f"SELECT add_compression_policy('{table.name}', INTERVAL '{COMPRESS_AFTER}')"
    )


def _make_plain(connection: sa.Connection, name: str) -> None:
    for statement in (
        f"CREATE TABLE plain_{name} (LIKE {name} INCLUDING ALL)",
        f"INSERT INTO plain_{name} SELECT * FROM {name}",  # noqa: S608 - names of ours
        f"DROP TABLE {name}",
        f"ALTER TABLE plain_{name} RENAME TO {name}",
        f"ALTER TABLE {name} RENAME CONSTRAINT plain_{name}_pkey TO pk_{name}",
    ):
        connection.exec_driver_sql(statement)


def _create_continuous(connection: sa.Connection, aggregate: Aggregate) -> None:
    table = aggregate.table
    edges: tuple[sa.ColumnElement[Any], ...] = ()
    if table is bars:
        edges = (sa.func.first(bars.c.open, bars.c.ts), sa.func.last(bars.c.close, bars.c.ts))
    bucket = sa.func.time_bucket(aggregate.interval, table.c.ts)
    query = grouped(connection, aggregate, table, bucket, edges)
    connection.exec_driver_sql(
        f"CREATE MATERIALIZED VIEW {aggregate.name} "
        "WITH (timescaledb.continuous, timescaledb.materialized_only = true) "
        f"AS {as_sql(query, connection.dialect)} WITH NO DATA"
    )
    connection.exec_driver_sql(
        f"SELECT add_continuous_aggregate_policy('{aggregate.name}', start_offset => NULL, "
        f"end_offset => INTERVAL '{END_OFFSET}', "
        f"schedule_interval => INTERVAL '{REFRESH_EVERY[aggregate.minutes]}', "
        f"buckets_per_batch => {BATCH_MINUTES // aggregate.minutes})"
    )


def _drop_continuous(connection: sa.Connection, names: list[str]) -> None:
    # Policies first: that ends a refresh that runs, and none begins.
    for name in names:
        connection.exec_driver_sql(
            f"SELECT remove_continuous_aggregate_policy('{name}', if_exists => true)"
        )
    for name in names:
        connection.exec_driver_sql(f"DROP MATERIALIZED VIEW {name}")


def _create_prune_job(connection: sa.Connection, keep_days: int) -> None:
    oldest: sa.ColumnElement[Any] = sa.literal_column("now() - CAST(config ->> 'keep' AS INTERVAL)")
    deletes = "; ".join(
        as_sql(forget_before(table, oldest), connection.dialect) for table in FORGETTABLE
    )
    connection.exec_driver_sql(
        f"CREATE OR REPLACE PROCEDURE {PRUNE}(job_id INTEGER, config JSONB) LANGUAGE plpgsql "
        f"SET search_path FROM CURRENT SET {NO_LIMIT} = 0 AS $$ BEGIN {deletes}; END $$"
    )
    connection.execute(
        sa.text("SELECT add_job(:name, INTERVAL '1 day', config => CAST(:config AS JSONB))"),
        {"name": PRUNE, "config": json.dumps({"keep": f"{keep_days} days"})},
    )
