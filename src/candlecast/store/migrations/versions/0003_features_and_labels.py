"""Confidence of labels, scores of texts, rows of training sets, as of when facts were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from candlecast.store.schema import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RENAMED = {"atr_level_14": "atr", "obv_level_63": "obv", "volume_level": "volume"}
"""Features by their names before and since."""
MANIFEST = ("rows_sha256", "code_sha256", "version", "first_bars")


def upgrade() -> None:
    op.add_column("ml_labels", sa.Column("confidence", sa.Double()))
    for name in MANIFEST:
        op.add_column("ml_training_sets", sa.Column(name, sa.Text()))
    op.create_table(
        "text_scores",
        sa.Column("scorer", sa.Text(), nullable=False),
        sa.Column("text_sha256", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("scorer", "text_sha256", name="pk_text_scores"),
        sqlite_with_rowid=False,
    )
    _create_prediction_runs()
    op.create_table(
        "ml_training_data",
        sa.Column("set_id", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Integer(), nullable=False),
        sa.Column("symbol_id", sa.Integer(), nullable=False),
        sa.Column("ts", Instant(), nullable=False),
        sa.Column("as_of", Instant(), nullable=False),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.Column("end_at", sa.Text(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "set_id", "timeframe", "symbol_id", "ts", name="pk_ml_training_data"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fact_reads",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("as_of", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_fact_reads"),
        sqlite_with_rowid=False,
    )
    _rename_features(RENAMED)


def _create_prediction_runs() -> None:
    op.create_table(
        "ml_prediction_runs",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("universe", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "created_at", name="pk_ml_prediction_runs"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    _rename_features({new: old for old, new in RENAMED.items()})
    op.drop_table("fact_reads")
    op.drop_table("ml_training_data")
    op.drop_table("ml_prediction_runs")
    op.drop_table("text_scores")
    for name in reversed(MANIFEST):
        op.drop_column("ml_training_sets", name)
    op.drop_column("ml_labels", "confidence")


def _rename_features(names: dict[str, str]) -> None:
    # Values can be computed anew: where both names have a column, the newer one is kept.
    table = "ml_features_ohlcv"
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for old, new in names.items():
        if old in columns and new in columns:
            op.execute(f'ALTER TABLE {table} DROP COLUMN "{old}"')
        elif old in columns:
            op.execute(f'ALTER TABLE {table} RENAME COLUMN "{old}" TO "{new}"')
