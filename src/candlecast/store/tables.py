"""All tables, once (SQLAlchemy Core), for SQLite and Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from candlecast.domain.frames import QUANTILES

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(sa.TypeDecorator[datetime]):
    """An aware instant: INTEGER microseconds since 1970 on SQLite, timestamptz on Postgres."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column type of `dialect`."""
        is_integer = dialect.name == "sqlite"
        return dialect.type_descriptor(sa.Integer() if is_integer else self.impl_instance)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """What the driver stores; ValueError for a naive instant."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; store instants in UTC")
        if dialect.name == "sqlite":
            return (value - EPOCH) // timedelta(microseconds=1)
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """What the driver returned, in UTC."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return EPOCH + timedelta(microseconds=value)
        return value.astimezone(UTC)  # type: ignore[no-any-return]


Identifier: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A key that the database counts up; SQLite does so for INTEGER only."""

# A table's `info` says how an upsert treats some columns: `kept` are never overwritten, `ignored`
# alone do not make a row different, and no row replaces one with a later `never_older`.
metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _counted() -> sa.Column[Any]:
    return sa.Column("id", Identifier, sa.Identity(), primary_key=True)


def _bar_columns() -> list[sa.Column[Any]]:
    return [
        *(_required(name, sa.Double()) for name in ("open", "high", "low", "close", "volume")),
        sa.Column("adj_close", sa.Double()),
        sa.Column("vwap", sa.Double()),
        sa.Column("trade_count", sa.BigInteger()),
        _required("source", sa.Text()),
    ]


database_identity: Final = sa.Table(
    "database_identity",
    metadata,
    _key("id", sa.Integer()),
    _required("identity", sa.Text()),
    sa.CheckConstraint("id = 1", name="one_row"),
)

symbols: Final = sa.Table(
    "symbols",
    metadata,
    _counted(),
    _required("ticker", sa.Text()),
    _required("asset_class", sa.Text()),
    _required("calendar", sa.Text()),
    _required("currency", sa.Text()),
    _required("is_active", sa.Boolean()),
    sa.UniqueConstraint("ticker"),
)

bars: Final = sa.Table(
    "bars",
    metadata,
    _key("timeframe", sa.Integer()),
    _key("symbol_id", sa.Integer()),
    _key("ts", Instant()),
    *_bar_columns(),
    _required("known_at", Instant()),
    _required("first_known_at", Instant()),  # known_at of the bar's first version
    sqlite_with_rowid=False,
    info={"kept": ("first_known_at",)},
)

bar_revisions: Final = sa.Table(
    "bar_revisions",
    metadata,
    _key("timeframe", sa.Integer()),
    _key("symbol_id", sa.Integer()),
    _key("ts", Instant()),
    *_bar_columns(),
    _key("known_at", Instant()),
    _required("first_known_at", Instant()),
    _required("superseded_at", Instant()),  # known_at of the version that followed
    sqlite_with_rowid=False,
)

bar_changes: Final = sa.Table(
    "bar_changes",  # which spans each writing transaction touched; `change` counts them
    metadata,
    _key("timeframe", sa.Integer()),
    _key("change", sa.BigInteger()),
    _key("symbol_id", sa.Integer()),
    _key("first_ts", Instant()),
    _required("last_ts", Instant()),
    _required("token", sa.BigInteger()),  # random: tells two histories with equal counts apart
    sqlite_with_rowid=False,
)

ml_features_ohlcv: Final = sa.Table(
    "ml_features_ohlcv",  # further columns, one a feature, are added when first written
    metadata,
    _key("timeframe", sa.Integer()),
    _key("symbol_id", sa.Integer()),
    _key("ts", Instant()),
    _required("as_of", Instant()),
    _required("set_id", sa.Text()),
    sqlite_with_rowid=False,
)

ml_labels: Final = sa.Table(
    "ml_labels",
    metadata,
    _key("timeframe", sa.Integer()),
    _key("kind", sa.Text()),
    _key("symbol_id", sa.Integer()),
    _key("ts", Instant()),
    _key("horizon", sa.Text()),
    _required("horizon_bars", sa.Integer()),
    sa.Column("value", sa.Double()),
    _required("end_at", Instant()),
    sqlite_with_rowid=False,
)

ml_training_sets: Final = sa.Table(
    "ml_training_sets",
    metadata,
    _key("set_id", sa.Text()),
    _required("spec", sa.Text()),
    _required("as_of", Instant()),
    _required("n_rows", sa.BigInteger()),
    _required("sha256", sa.Text()),
    _required("created_at", Instant()),
)

ml_model_versions: Final = sa.Table(
    "ml_model_versions",
    metadata,
    _key("version", sa.Text()),
    _required("kind", sa.Text()),
    _required("timeframe", sa.Integer()),
    _required("horizons", sa.Text()),
    _required("spec", sa.Text()),
    _required("metrics", sa.Text()),
    _required("artifact_sha256", sa.Text()),
    _required("files_sha256", sa.Text()),  # over the names and contents of all files
    _required("training_from", Instant()),
    _required("training_until", Instant()),
    sa.Column("training_set_id", sa.Text()),
    _required("stage", sa.Text()),
    _required("is_active", sa.Boolean()),
    _required("created_at", Instant()),
    sa.Index(
        "ix_ml_model_versions_champion",
        "timeframe",
        unique=True,
        sqlite_where=sa.text("is_active"),
        postgresql_where=sa.text("is_active"),
    ),
)

ml_prediction_sources: Final = sa.Table(
    "ml_prediction_sources",  # who made predictions: one row for many of them
    metadata,
    _counted(),
    _required("timeframe", sa.Integer()),
    _required("origin", sa.Text()),
    _required("model_version", sa.Text()),
    _required("run_id", sa.Text()),  # empty when there is none
    sa.UniqueConstraint("timeframe", "origin", "model_version", "run_id"),
    sa.CheckConstraint("origin IN ('live', 'walk_forward', 'simulated')", name="origin"),
)

LABEL_CHECK: Final = "label IN ('Bearish', 'Neutral', 'Bullish')"

ml_predictions: Final = sa.Table(
    "ml_predictions",  # the ledger: triggers refuse UPDATE and DELETE
    metadata,
    _counted(),
    _required("source_id", sa.Integer()),
    _required("symbol_id", sa.Integer()),
    _required("as_of", Instant()),
    _required("horizon", sa.Text()),
    _required("horizon_bars", sa.Integer()),
    _required("ts", Instant()),
    _required("end_at", Instant()),
    *(_required(name, sa.Double()) for name in ("last_close", "lower", "upper")),
    *(_required(name, sa.REAL()) for name in QUANTILES),
    *(_required(name, sa.Double()) for name in ("yhat", "yhat_std", "prob_up")),
    _required("label", sa.Text()),
    _required("confidence", sa.Double()),
    _required("threshold_rule", sa.Text()),
    sa.Column("fold", sa.Integer()),
    sa.Column("feature_hash", sa.Text()),
    sa.Column("features", sa.Text()),
    _required("created_at", Instant()),
    sa.UniqueConstraint("source_id", "symbol_id", "as_of", "horizon"),
)

ml_outcomes: Final = sa.Table(
    "ml_outcomes",  # inserted once; triggers refuse UPDATE and DELETE
    metadata,
    _counted(),
    sa.Column("prediction_id", sa.BigInteger(), sa.ForeignKey("ml_predictions.id"), nullable=False),
    _required("realised", sa.Double()),
    _required("settled_at", Instant()),
    *(_required(name, sa.Double()) for name in ("pinball", "crps", "pit")),
    sa.Column("crps_climatology", sa.Double()),
    sa.Column("prob_up_climatology", sa.Double()),
    sa.Column("n_past", sa.Integer()),  # outcomes that the climatology was made of
    sa.Column("is_hit", sa.Boolean()),
    sa.UniqueConstraint("prediction_id"),
)

ml_ledger_blocks: Final = sa.Table(
    "ml_ledger_blocks",  # columnar copies of all rows of a ledger table up to last_id
    metadata,
    _key("table_name", sa.Text()),
    _key("first_id", sa.BigInteger()),
    _required("last_id", sa.BigInteger()),
    _required("rows", sa.LargeBinary()),
)

ml_forecasts: Final = sa.Table(
    "ml_forecasts",  # the current forecast of each symbol and horizon
    metadata,
    _key("symbol_id", sa.Integer()),
    _key("horizon", sa.Text()),
    _required("timeframe", sa.Integer()),
    _required("overall_label", sa.Text()),
    _required("label", sa.Text()),
    _required("confidence", sa.Double()),
    *(_required(n, sa.Text()) for n in ("points", "details", "model_version", "threshold_rule")),
    *(_required(n, Instant()) for n in ("as_of", "run_at", "created_at", "updated_at")),
    sa.CheckConstraint(LABEL_CHECK, name="label"),
    sa.CheckConstraint(LABEL_CHECK.replace("label", "overall_label"), name="overall_label"),
    sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
    info={
        "kept": ("created_at",),
        "ignored": ("run_at", "updated_at"),
        "never_older": "as_of",
    },
)

APPEND_ONLY: Final = (ml_predictions, ml_outcomes)
