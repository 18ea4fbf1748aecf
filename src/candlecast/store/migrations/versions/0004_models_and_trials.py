"""Trials that were counted, calibration that follows outcomes, explanations of forecasts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from candlecast.store.schema import Identifier, Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ml_trials",
        sa.Column("id", Identifier, sa.Identity(), nullable=False),
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("spec_id", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("score", sa.Double()),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ml_trials"),
        sa.UniqueConstraint("study", "spec_id", name="uq_ml_trials"),
    )
    op.create_table(
        "calibration_state",
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("n_settled", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "model_version", "horizon", "updated_at", name="pk_calibration_state"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "explanations",
        sa.Column("prediction_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", "kind", name="pk_explanations"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("explanations")
    op.drop_table("calibration_state")
    op.drop_table("ml_trials")
