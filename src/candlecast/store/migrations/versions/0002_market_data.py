"""Coverage, quarantine, facts besides bars, quotes; who provides a symbol, and its other names."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from candlecast.store.schema import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    "quotes fact_progress large_trades market_caps sentiment_index social_posts news "
    "corporate_actions ml_features_sentiment bar_derivations bar_reads bar_quarantine bar_coverage"
)
WITH_ROWID = ("bar_derivations", "fact_progress")
TEXT, INTEGER, BIG = sa.Text(), sa.Integer(), sa.BigInteger()
DOUBLE: Any = sa.Double()
INSTANT = Instant()
SAID: dict[str, Any] = {"source": (TEXT,), "known_at": (INSTANT,)}
INDEXED = {
    "corporate_actions": "ex_date",
    "news": "published_at",
    "social_posts": "posted_at",
    "sentiment_index": "ts",
    "market_caps": "ts",
    "large_trades": "ts",
}


def upgrade() -> None:
    for name in ("providers", "aliases"):
        op.add_column("symbols", sa.Column(name, TEXT))
    _create_bar_tables()
    _create_told()
    _create_measured()
    _create_sizes()
    for name, column in INDEXED.items():
        op.create_index(f"ix_{name}_{column}", name, [column])


def downgrade() -> None:
    for name in TABLES.split():
        op.drop_table(name)
    for name in ("aliases", "providers"):
        op.drop_column("symbols", name)


def _create(table: str, key: str, /, **columns: Any) -> None:
    # A kind alone is a column that may be null, (kind,) one that may not.
    made = [
        sa.Column(column, *kind, nullable=False)
        if isinstance(kind, tuple)
        else sa.Column(column, kind)
        for column, kind in columns.items()
    ]
    names = key.split()
    primary = sa.PrimaryKeyConstraint(*names, name=f"pk_{table}")
    op.create_table(table, *made, primary, sqlite_with_rowid=table in WITH_ROWID)


def _create_bar_tables() -> None:
    bar_key: dict[str, Any] = {"timeframe": (INTEGER,), "symbol_id": (INTEGER,)}
    _create(
        "bar_coverage",
        "timeframe symbol_id start_at source",
        **bar_key,
        start_at=(INSTANT,),
        source=(TEXT,),
        end_at=(INSTANT,),
        checked_at=(INSTANT,),
    )
    _create(
        "bar_quarantine",
        "timeframe symbol_id source place",
        **bar_key,
        source=(TEXT,),
        place=(TEXT,),
        ts=INSTANT,
        **dict.fromkeys(("open", "high", "low", "close", "volume", "adj_close"), DOUBLE),
        reason=(TEXT,),
        seen_at=(INSTANT,),
    )
    _create("bar_reads", "timeframe symbol_id", **bar_key, as_of=(INSTANT,))
    _create("bar_derivations", "timeframe", timeframe=(INTEGER,), change=(BIG,))
    _create(
        "ml_features_sentiment",
        "timeframe symbol_id ts",
        **bar_key,
        ts=(INSTANT,),
        as_of=(INSTANT,),
        set_id=(TEXT,),
    )


def _create_told() -> None:
    _create(
        "corporate_actions",
        "symbol_id ex_date kind known_at",
        symbol_id=(INTEGER,),
        ex_date=(INSTANT,),
        kind=(TEXT,),
        value=(DOUBLE,),
        **SAID,
    )
    _create(
        "news",
        "id known_at",
        id=(TEXT,),
        published_at=(INSTANT,),
        source=(TEXT,),
        headline=(TEXT,),
        summary=TEXT,
        url=TEXT,
        symbols=(TEXT,),
        known_at=(INSTANT,),
    )
    _create(
        "social_posts",
        "id known_at",
        id=(TEXT,),
        posted_at=(INSTANT,),
        source=(TEXT,),
        author=TEXT,
        text=(TEXT,),
        symbols=(TEXT,),
        weight=DOUBLE,
        known_at=(INSTANT,),
    )


def _create_measured() -> None:
    _create(
        "sentiment_index",
        "name ts known_at",
        name=(TEXT,),
        ts=(INSTANT,),
        value=(DOUBLE,),
        label=TEXT,
        **SAID,
    )
    _create(
        "market_caps", "asset ts known_at", asset=(TEXT,), ts=(INSTANT,), value=(DOUBLE,), **SAID
    )
    _create(
        "large_trades",
        "symbol_id ts known_at",
        symbol_id=(INTEGER,),
        ts=(INSTANT,),
        n_trades=(BIG,),
        volume=(DOUBLE,),
        n_large=(BIG,),
        large_volume=(DOUBLE,),
        threshold=(DOUBLE,),
        **SAID,
    )


def _create_sizes() -> None:
    _create(
        "fact_progress",
        "kind provider scope",
        kind=(TEXT,),
        provider=(TEXT,),
        scope=(TEXT,),
        start_at=(INSTANT,),
        end_at=(INSTANT,),
    )
    _create(
        "quotes",
        "symbol_id",
        symbol_id=(INTEGER,),
        **dict.fromkeys(("bid", "ask", "bid_size", "ask_size"), DOUBLE),
        quote_at=INSTANT,
        **dict.fromkeys(("price", "size"), DOUBLE),
        trade_at=INSTANT,
        source=(TEXT,),
        known_at=(INSTANT,),
    )
