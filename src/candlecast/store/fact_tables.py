"""Tables of what is known besides bars: actions, news, posts, indices, sizes; and the last quotes.

A fact is never changed: what is said anew is one more version, known later.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import (
    ACTIONS,
    CAPITALISATIONS,
    INDICES,
    INSTANT,
    LARGE_TRADES,
    NEWS,
    POSTS,
    QUOTES,
    FrameSpec,
)
from candlecast.store.schema import Instant, key_column, metadata, required


def _kind(dtype: Any) -> Any:
    if dtype == INSTANT:
        return Instant()
    if dtype in (pl.String, pl.List(pl.String)):  # tickers: JSON
        return sa.Text()
    return sa.Double() if dtype == pl.Float64 else sa.BigInteger()


def _columns(spec: FrameSpec, key: tuple[str, ...]) -> list[sa.Column[Any]]:
    made = []
    for frame_name, dtype in spec.columns.items():
        is_symbol = frame_name == "symbol"
        name, kind = ("symbol_id", sa.Integer()) if is_symbol else (frame_name, _kind(dtype))
        if frame_name in key:
            made.append(key_column(name, kind))
        else:
            made.append(sa.Column(name, kind, nullable=frame_name in spec.nullable))
    return made


def _facts(name: str, spec: FrameSpec) -> sa.Table:
    columns = _columns(spec, (*spec.key, "known_at"))
    return sa.Table(name, metadata, *columns, sqlite_with_rowid=False)


FACTS: Final = {
    "ACTIONS": _facts("corporate_actions", ACTIONS),
    "NEWS": _facts("news", NEWS),
    "POSTS": _facts("social_posts", POSTS),
    "INDICES": _facts("sentiment_index", INDICES),
    "CAPITALISATIONS": _facts("market_caps", CAPITALISATIONS),
    "LARGE_TRADES": _facts("large_trades", LARGE_TRADES),
}
"""The table of each kind of fact, by the name of its frame."""

text_scores: Final = sa.Table(
    "text_scores",  # how good or bad a text is, said by one scorer: no fact, made anew at any time
    metadata,
    key_column("scorer", sa.Text()),
    key_column("text_sha256", sa.Text()),
    required("score", sa.Double()),
    sqlite_with_rowid=False,
)

EVENT_TIME: Final = {
    "ACTIONS": "ex_date",
    "NEWS": "published_at",
    "POSTS": "posted_at",
    "INDICES": "ts",
    "CAPITALISATIONS": "ts",
    "LARGE_TRADES": "ts",
}
"""Which of a fact's instants is the time it is about."""

for _name, _table in FACTS.items():
    sa.Index(f"ix_{_table.name}_{EVENT_TIME[_name]}", _table.c[EVENT_TIME[_name]])

fact_progress: Final = sa.Table(
    "fact_progress",  # up to when a provider was asked for facts of a kind
    metadata,
    key_column("kind", sa.Text()),
    key_column("provider", sa.Text()),
    key_column("scope", sa.Text()),  # the ticker, or empty for all
    required("start_at", Instant()),
    required("end_at", Instant()),
)

fact_reads: Final = sa.Table(
    "fact_reads",  # the latest as_of of which a stored result was made: nothing slips in before it
    metadata,
    key_column("kind", sa.Text()),
    required("as_of", Instant()),
    sqlite_with_rowid=False,
    info={"never_older": "as_of"},
)

quotes: Final = sa.Table(
    "quotes",
    metadata,
    *_columns(QUOTES, QUOTES.key),
    sqlite_with_rowid=False,
    info={"never_older": "known_at"},
)
