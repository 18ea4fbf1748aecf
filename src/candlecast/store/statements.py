"""SQL that both databases share: what a table's columns hold, and the idempotent upsert."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from candlecast.domain.frames import INSTANT
from candlecast.errors import BadFrame, InvalidSpec
from candlecast.store.schema import Instant

Schema: TypeAlias = Mapping[str, Any]
"""Column names and Polars dtypes."""
OnConflict: TypeAlias = Literal["update", "nothing"]

SQLITE: Final = sqlite.dialect()
POSTGRES: Final[sa.Dialect] = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
_POLARS_TYPES: Final[tuple[tuple[type[Any], Any], ...]] = (
    (Instant, INSTANT),
    (sa.Boolean, pl.Boolean),
    (sa.REAL, pl.Float32),
    (sa.Float, pl.Float64),
    (sa.Integer, pl.Int64),
    (sa.Text, pl.String),
    (sa.LargeBinary, pl.Binary),
)


def schema_of(columns: Iterable[sa.Column[Any]]) -> dict[str, Any]:
    """The Polars dtypes that hold the values of `columns`."""
    return {column.name: _polars_type(column) for column in columns}


def key_of(table: sa.Table) -> list[str]:
    """The columns that name a row: the primary key, or the unique one where it is counted up."""
    if table.primary_key.columns.keys() == ["id"] and table.c.id.identity is not None:
        unique = next(c for c in table.constraints if isinstance(c, sa.UniqueConstraint))
        return unique.columns.keys()
    return table.primary_key.columns.keys()


def shaped(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` as `table` stores it: cast, NaN as null, unique by key; BadFrame otherwise."""
    wrong = [name for name in frame.columns if name not in table.c]
    missing = [name for name in key_of(table) if name not in frame.columns]
    if wrong or missing:
        raise BadFrame(f"{table.name} knows no {wrong} and needs {missing}; see its module")
    cast = frame.select(
        pl.col(name).cast(_polars_type(table.c[name])) for name in frame.columns
    ).with_columns(pl.selectors.float().fill_nan(None))
    for name in frame.columns:
        if not table.c[name].nullable and cast[name].null_count():
            raise BadFrame(f"{table.name}.{name} holds missing values; drop or fill these rows")
    if cast.select(pl.struct(key_of(table)).n_unique()).item() < len(cast):
        raise BadFrame(f"rows for {table.name} repeat a key; keep one of each")
    return cast


def completed(table: sa.Table, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with all columns of `table` in order, absent ones null; BadFrame when they may not."""
    absent = [c for c in table.c if c.name not in rows.columns]
    required = [c.name for c in absent if not c.nullable]
    if required:
        raise BadFrame(f"rows for {table.name} lack {', '.join(required)}")
    nulls = [pl.lit(None, dtype=_polars_type(c)).alias(c.name) for c in absent]
    return rows.with_columns(nulls).select(c.name for c in table.c)


def upsert_statement(
    dialect: sa.Dialect,
    table: sa.Table,
    columns: Sequence[str],
    source: sa.TableClause | None,
    on_conflict: OnConflict = "update",
) -> sa.Executable:
    """INSERT … ON CONFLICT from `source`, or from bound values where there is none."""
    insert = sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
    if source is None:
        insert = insert.values({name: sa.bindparam(name) for name in columns})
    else:
        rows = sa.select(*(source.c[name] for name in columns)).where(sa.true())
        insert = insert.from_select(list(columns), rows)
    key = key_of(table)
    fixed = [*key, *table.info.get("kept", ())]
    values = [name for name in columns if name not in fixed]
    telling = [name for name in values if name not in table.info.get("ignored", ())]
    if on_conflict == "nothing" or not telling:
        return insert.on_conflict_do_nothing(index_elements=key)
    new = insert.excluded
    where = differ([new[name] for name in telling], [table.c[name] for name in telling])
    if "never_older" in table.info:
        instant = table.info["never_older"]
        where = sa.and_(where, new[instant] >= table.c[instant])
    return insert.on_conflict_do_update(
        index_elements=key, set_={name: new[name] for name in values}, where=where
    )


def differ(
    left: Sequence[sa.ColumnElement[Any]], right: Sequence[sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether two rows of values differ, null being a value like any other."""
    return sa.tuple_(*left).is_distinct_from(sa.tuple_(*right))


def aware(instant: datetime) -> datetime:
    """`instant` unchanged; InvalidSpec when it is naive, and so no instant."""
    if instant.tzinfo is None:
        raise InvalidSpec(f"{instant} has no time zone; name instants in UTC")
    return instant


def within(
    column: sa.Column[Any], start: datetime | None, end: datetime | None
) -> list[sa.ColumnElement[bool]]:
    """The conditions that start <= column <= end, where given."""
    after = [] if start is None else [column >= aware(start)]
    before = [] if end is None else [column <= aware(end)]
    return [*after, *before]


def as_sql(statement: sa.Executable, dialect: sa.Dialect) -> str:
    """`statement` as text with its values written out."""
    chosen = SQLITE if dialect.name == "sqlite" else POSTGRES
    compiled = statement.compile(dialect=chosen, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
    return str(compiled)


def _polars_type(column: sa.Column[Any]) -> Any:
    return next(dtype for kind, dtype in _POLARS_TYPES if isinstance(column.type, kind))
