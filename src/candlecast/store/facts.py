"""Facts besides bars: versions are added, never changed, and read as known at an instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import INSTANT, FrameSpec
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.fact_tables import EVENT_TIME, FACTS, fact_progress
from candlecast.store.pins import read_fact_pin
from candlecast.store.statements import schema_of, shaped, within
from candlecast.store.symbols import chosen, is_among, read_ids, with_ids, with_tickers

TICKERS: Final = "symbols"
SAME_NUMBER: Final = 1e-4
"""Relative: two sources that round one number differently do not correct each other."""


def write_facts(
    database: Database, spec: FrameSpec, rows: pl.DataFrame, now: datetime | None = None
) -> int:
    """Add the versions among `rows` (of kind `spec`) that say something new; how many.

    A row that repeats the newest stored version of its key adds nothing, nor does one that was
    known earlier than that version. Rows of one symbol need that symbol to be stored. With `now` a
    fact that would be older than a stored result which was made without it is known from now on.
    """
    spec.check(rows)
    if rows.is_empty():
        return 0
    table = FACTS[spec.name]
    with database.bulk(lock="bars") as bulk:
        new = shaped(table, _encoded(spec, rows, read_ids(bulk)))
        key = [_stored_name(name) for name in spec.key]
        stored = _newest_versions(bulk, table, key, new)
        fresh = _without_known(new, stored, key)
        pinned_at = None if now is None else read_fact_pin(bulk, spec.name)
        if now is not None and pinned_at is not None:
            fresh = _known_after(fresh, stored, key, pinned_at, now)
        return bulk.insert(table, fresh.select(table.c.keys())) if len(fresh) else 0


def read_facts(
    database: Database,
    spec: FrameSpec,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    as_of: datetime | None = None,
    symbols: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Facts of kind `spec` about start <= event time < end, each in the version known at `as_of`.

    `symbols` keeps the facts of these tickers (and of lists of tickers those that name one).
    """
    table = FACTS[spec.name]
    event = table.c[EVENT_TIME[spec.name]]
    has_symbol = "symbol" in spec.columns
    ids = read_ids(database) if has_symbol else None
    if ids is not None:
        ids = chosen(ids, symbols)
    conditions: list[Any] = [*within(event, start, None), *within(table.c.known_at, None, as_of)]
    if end is not None:
        conditions.append(event < end)
    if ids is not None:
        conditions.append(is_among(table.c.symbol_id, ids, symbols))
    frame = database.read(sa.select(table).where(*conditions), schema_of(table.c))
    key = [_stored_name(name) for name in spec.key]
    newest = frame.sort("known_at").unique(key, keep="last")
    return _only_of(spec, _decoded(spec, newest, ids), symbols)


def read_progress(database: Database, kind: str, provider: str) -> dict[str, tuple[Any, Any]]:
    """For each scope (a ticker, or empty for all) the span that `provider` was asked about."""
    t = fact_progress
    query = sa.select(t.c.scope, t.c.start_at, t.c.end_at).where(
        t.c.kind == kind, t.c.provider == provider
    )
    frame = database.read(query, {"scope": pl.String, "start_at": INSTANT, "end_at": INSTANT})
    return {scope: (start, end) for scope, start, end in frame.iter_rows()}


def write_progress(
    database: Database, kind: str, provider: str, spans: dict[str, tuple[datetime, datetime]]
) -> None:
    """Note the span of each scope that `provider` has answered about."""
    rows = [(kind, provider, scope, *span) for scope, span in sorted(spans.items())]
    if rows:
        schema = schema_of(fact_progress.c)
        database.upsert(fact_progress, pl.DataFrame(rows, schema=schema, orient="row"))


def _stored_name(name: str) -> str:
    return "symbol_id" if name == "symbol" else name


def _encoded(spec: FrameSpec, rows: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    if "symbol" in spec.columns:
        return with_ids(rows, ids)
    if TICKERS in spec.columns:
        return rows.with_columns(pl.col(TICKERS).list.join(","))
    return rows


def _decoded(spec: FrameSpec, rows: pl.DataFrame, ids: pl.DataFrame | None) -> pl.DataFrame:
    if ids is not None:
        return spec.conform(with_tickers(rows, ids, *spec.key[1:]))
    if TICKERS in spec.columns:
        tickers = pl.col(TICKERS).str.split(",").list.filter(pl.element() != "")
        rows = rows.with_columns(tickers)
    return spec.conform(rows)


def _only_of(spec: FrameSpec, rows: pl.DataFrame, symbols: Sequence[str] | None) -> pl.DataFrame:
    if symbols is None or TICKERS not in spec.columns:
        return rows
    return rows.filter(pl.col(TICKERS).list.set_intersection(list(symbols)).list.len() > 0)


def _newest_versions(
    bulk: Bulk, table: sa.Table, key: list[str], new: pl.DataFrame
) -> pl.DataFrame:
    # Only the keys at hand are looked up, however many facts there are.
    staged = bulk.stage(f"new_{table.name}", new.select(key).unique(), table)
    is_same = sa.and_(*(table.c[name] == staged.c[name] for name in key))
    stored = bulk.read(sa.select(table).join_from(staged, table, is_same), schema_of(table.c))
    return stored.sort("known_at").unique(key, keep="last")


def _known_after(
    fresh: pl.DataFrame, stored: pl.DataFrame, key: list[str], pinned_at: datetime, now: datetime
) -> pl.DataFrame:
    # What is said anew of a stored fact changes no result: each counts as it was known first.
    told_at = max(now, pinned_at + timedelta(microseconds=1))
    told = stored.select(*key, is_told=pl.lit(value=True))
    beside = fresh.join(told, on=key, how="left", maintain_order="left")
    was_read = pl.col("is_told").is_null() & (pl.col("known_at") <= pinned_at)
    moved = pl.when(was_read).then(pl.lit(told_at).cast(INSTANT)).otherwise("known_at")
    return beside.with_columns(known_at=moved).drop("is_told")


def _is_same(name: str, dtype: pl.DataType) -> pl.Expr:
    new, old = pl.col(name), pl.col(f"{name}_stored")
    if dtype != pl.Float64:
        return new.eq_missing(old)
    is_near = (new - old).abs() <= SAME_NUMBER * old.abs()
    return is_near.fill_null(value=False) | new.eq_missing(old)


def _without_known(new: pl.DataFrame, stored: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    values = [name for name in new.columns if name not in (*key, "known_at", "source")]
    beside = new.join(stored, on=key, how="left", suffix="_stored", maintain_order="left")
    says_same = pl.all_horizontal(
        pl.lit(value=True), *(_is_same(name, new.schema[name]) for name in values)
    )
    is_known = pl.col("known_at_stored").is_not_null() & (
        says_same | (pl.col("known_at") <= pl.col("known_at_stored"))
    )
    return beside.filter(~is_known).select(new.columns)
