"""The first tables: bars and their revisions, features, labels, models, the ledger."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from candlecast.store.schema import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LEVELS = "010 025 050 100 200 250 300 400 500 600 700 750 800 900 950 975 990"
QUANTILES = [f"q{level}" for level in LEVELS.split()]
TABLES = (
    "ml_forecasts ml_ledger_blocks ml_outcomes ml_predictions ml_prediction_sources "
    "ml_model_versions ml_training_sets ml_labels ml_features_ohlcv bar_changes bar_revisions "
    "bars symbols database_identity"
)
LABELS = "IN ('Bearish', 'Neutral', 'Bullish')"
LEDGER = ("ml_predictions", "ml_outcomes")
MESSAGE = "the ledger is append-only: its rows are never changed"

TEXT, INTEGER, BIG = sa.Text(), sa.Integer(), sa.BigInteger()
REAL: Any = sa.REAL()
DOUBLE: Any = sa.Double()
COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_market_tables()
    _create_science_tables()
    _create_model_tables()
    _create_ledger()
    _create_outcomes()
    _create_current_forecasts()
    _protect_ledger()


def downgrade() -> None:
    for name in TABLES.split():
        op.drop_table(name)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_ledger_change()")


def _columns(kind: Any, names: str, *, is_nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=is_nullable) for name in names.split()]


def _instants(names: str) -> list[sa.Column[Any]]:
    return _columns(Instant(), names)


def _id() -> sa.Column[Any]:
    return sa.Column("id", COUNTED, sa.Identity(), nullable=False)


def _keyed(name: str, columns: list[sa.Column[Any]], key: str) -> None:
    # Small rows that are read in the order of their key lie in its order.
    primary = sa.PrimaryKeyConstraint(*key.split(), name=f"pk_{name}")
    op.create_table(name, *columns, primary, sqlite_with_rowid=False)


def _bar_columns() -> list[sa.Column[Any]]:
    return [
        *_columns(INTEGER, "timeframe symbol_id"),
        *_instants("ts"),
        *_columns(DOUBLE, "open high low close volume"),
        *_columns(DOUBLE, "adj_close vwap", is_nullable=True),
        *_columns(BIG, "trade_count", is_nullable=True),
        *_columns(TEXT, "source"),
        *_instants("known_at first_known_at"),
    ]


def _create_market_tables() -> None:
    op.create_table(
        "database_identity",
        *_columns(INTEGER, "id"),
        *_columns(TEXT, "identity"),
        sa.PrimaryKeyConstraint("id", name="pk_database_identity"),
        sa.CheckConstraint("id = 1", name="ck_database_identity_one_row"),
    )
    op.create_table(
        "symbols",
        _id(),
        *_columns(TEXT, "ticker asset_class calendar currency"),
        *_columns(sa.Boolean(), "is_active"),
        sa.PrimaryKeyConstraint("id", name="pk_symbols"),
        sa.UniqueConstraint("ticker", name="uq_symbols"),
    )
    _keyed("bars", _bar_columns(), "timeframe symbol_id ts")
    _keyed(
        "bar_revisions",
        [*_bar_columns(), *_instants("superseded_at")],
        "timeframe symbol_id ts known_at",
    )
    _keyed(
        "bar_changes",
        [
            *_columns(INTEGER, "timeframe"),
            *_columns(BIG, "change"),
            *_columns(INTEGER, "symbol_id"),
            *_instants("first_ts last_ts"),
            *_columns(BIG, "token"),
        ],
        "timeframe change symbol_id first_ts",
    )


def _create_science_tables() -> None:
    place = [*_columns(INTEGER, "timeframe symbol_id"), *_instants("ts")]
    _keyed(
        "ml_features_ohlcv",
        [*place, *_instants("as_of"), *_columns(TEXT, "set_id")],
        "timeframe symbol_id ts",
    )
    _keyed(
        "ml_labels",
        [
            *_columns(INTEGER, "timeframe"),
            *_columns(TEXT, "kind"),
            *_columns(INTEGER, "symbol_id"),
            *_instants("ts"),
            *_columns(TEXT, "horizon"),
            *_columns(INTEGER, "horizon_bars"),
            *_columns(DOUBLE, "value", is_nullable=True),
            *_instants("end_at"),
        ],
        "timeframe kind symbol_id ts horizon",
    )
    op.create_table(
        "ml_training_sets",
        *_columns(TEXT, "set_id spec"),
        *_instants("as_of"),
        *_columns(BIG, "n_rows"),
        *_columns(TEXT, "sha256"),
        *_instants("created_at"),
        sa.PrimaryKeyConstraint("set_id", name="pk_ml_training_sets"),
    )


def _create_model_tables() -> None:
    op.create_table(
        "ml_model_versions",
        *_columns(TEXT, "version kind"),
        *_columns(INTEGER, "timeframe"),
        *_columns(TEXT, "horizons spec metrics artifact_sha256 files_sha256"),
        *_instants("training_from training_until"),
        *_columns(TEXT, "training_set_id", is_nullable=True),
        *_columns(TEXT, "stage"),
        *_columns(sa.Boolean(), "is_active"),
        *_instants("created_at"),
        sa.PrimaryKeyConstraint("version", name="pk_ml_model_versions"),
    )
    op.create_index(
        "ix_ml_model_versions_champion",
        "ml_model_versions",
        ["timeframe"],
        unique=True,
        sqlite_where=sa.text("is_active"),
        postgresql_where=sa.text("is_active"),
    )


def _create_ledger() -> None:
    origins = "origin IN ('live', 'walk_forward', 'simulated')"
    source_key = ("timeframe", "origin", "model_version", "run_id")
    op.create_table(
        "ml_prediction_sources",
        _id(),
        *_columns(INTEGER, "timeframe"),
        *_columns(TEXT, "origin model_version run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ml_prediction_sources"),
        sa.UniqueConstraint(*source_key, name="uq_ml_prediction_sources"),
        sa.CheckConstraint(origins, name="ck_ml_prediction_sources_origin"),
    )
    prediction_key = ("source_id", "symbol_id", "as_of", "horizon")
    op.create_table(
        "ml_predictions",
        _id(),
        *_columns(INTEGER, "source_id symbol_id"),
        *_instants("as_of"),
        *_columns(TEXT, "horizon"),
        *_columns(INTEGER, "horizon_bars"),
        *_instants("ts end_at"),
        *_columns(DOUBLE, "last_close lower upper"),
        *_columns(REAL, " ".join(QUANTILES)),
        *_columns(DOUBLE, "yhat yhat_std prob_up"),
        *_columns(TEXT, "label"),
        *_columns(DOUBLE, "confidence"),
        *_columns(TEXT, "threshold_rule"),
        *_columns(INTEGER, "fold", is_nullable=True),
        *_columns(TEXT, "feature_hash features", is_nullable=True),
        *_instants("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_ml_predictions"),
        sa.UniqueConstraint(*prediction_key, name="uq_ml_predictions"),
    )


def _create_outcomes() -> None:
    op.create_table(
        "ml_outcomes",
        _id(),
        *_columns(BIG, "prediction_id"),
        *_columns(DOUBLE, "realised"),
        *_instants("settled_at"),
        *_columns(DOUBLE, "pinball crps pit"),
        *_columns(DOUBLE, "crps_climatology prob_up_climatology", is_nullable=True),
        sa.Column("n_past", sa.Integer()),
        *_columns(sa.Boolean(), "is_hit", is_nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ml_outcomes"),
        sa.UniqueConstraint("prediction_id", name="uq_ml_outcomes"),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["ml_predictions.id"], name="fk_ml_outcomes_prediction_id"
        ),
    )
    op.create_table(
        "ml_ledger_blocks",
        *_columns(TEXT, "table_name"),
        *_columns(BIG, "first_id last_id"),
        *_columns(sa.LargeBinary(), "rows"),
        sa.PrimaryKeyConstraint("table_name", "first_id", name="pk_ml_ledger_blocks"),
    )


def _create_current_forecasts() -> None:
    op.create_table(
        "ml_forecasts",
        *_columns(INTEGER, "symbol_id"),
        *_columns(TEXT, "horizon"),
        *_columns(INTEGER, "timeframe"),
        *_columns(TEXT, "overall_label label"),
        *_columns(DOUBLE, "confidence"),
        *_columns(TEXT, "points details model_version threshold_rule"),
        *_instants("as_of run_at created_at updated_at"),
        sa.PrimaryKeyConstraint("symbol_id", "horizon", name="pk_ml_forecasts"),
        sa.CheckConstraint(f"label {LABELS}", name="ck_ml_forecasts_label"),
        sa.CheckConstraint(f"overall_label {LABELS}", name="ck_ml_forecasts_overall_label"),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="ck_ml_forecasts_confidence"),
    )


def _protect_ledger() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in LEDGER:
            for event in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_refuse_{event.lower()} BEFORE {event} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$"
    )
    for table in LEDGER:
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()"
        )
