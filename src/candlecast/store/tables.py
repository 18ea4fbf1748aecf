"""Tables of bars, features and models (SQLAlchemy Core), once, for SQLite and Postgres."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from candlecast.store.schema import Instant, counted, key_column, metadata, required


def _bar_columns() -> list[sa.Column[Any]]:
    return [
        *(required(name, sa.Double()) for name in ("open", "high", "low", "close", "volume")),
        sa.Column("adj_close", sa.Double()),
        sa.Column("vwap", sa.Double()),
        sa.Column("trade_count", sa.BigInteger()),
        required("source", sa.Text()),
    ]


database_identity: Final = sa.Table(
    "database_identity",
    metadata,
    key_column("id", sa.Integer()),
    required("identity", sa.Text()),
    sa.CheckConstraint("id = 1", name="one_row"),
)

symbols: Final = sa.Table(
    "symbols",
    metadata,
    counted(),
    required("ticker", sa.Text()),
    required("asset_class", sa.Text()),
    required("calendar", sa.Text()),
    required("currency", sa.Text()),
    required("is_active", sa.Boolean()),
    sa.Column("providers", sa.Text()),  # names with commas, in order; null for none
    sa.Column("aliases", sa.Text()),  # provider=name with commas; null for none
    sa.UniqueConstraint("ticker"),
)

bars: Final = sa.Table(
    "bars",
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("symbol_id", sa.Integer()),
    key_column("ts", Instant()),
    *_bar_columns(),
    required("known_at", Instant()),
    required("first_known_at", Instant()),  # known_at of the bar's first version
    sqlite_with_rowid=False,
    info={"kept": ("first_known_at",)},
)

bar_revisions: Final = sa.Table(
    "bar_revisions",
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("symbol_id", sa.Integer()),
    key_column("ts", Instant()),
    *_bar_columns(),
    key_column("known_at", Instant()),
    required("first_known_at", Instant()),
    required("superseded_at", Instant()),  # known_at of the version that followed
    sqlite_with_rowid=False,
)

bar_changes: Final = sa.Table(
    "bar_changes",  # which spans each writing transaction touched; `change` counts them
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("change", sa.BigInteger()),
    key_column("symbol_id", sa.Integer()),
    key_column("first_ts", Instant()),
    required("last_ts", Instant()),
    required("token", sa.BigInteger()),  # random: tells two histories with equal counts apart
    sqlite_with_rowid=False,
)

bar_coverage: Final = sa.Table(
    "bar_coverage",  # spans that a source answered to the end: what is absent was not traded
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("symbol_id", sa.Integer()),
    key_column("start_at", Instant()),
    key_column("source", sa.Text()),
    required("end_at", Instant()),
    required("checked_at", Instant()),
    sqlite_with_rowid=False,
)

bar_quarantine: Final = sa.Table(
    "bar_quarantine",  # bars that cannot be true, kept aside
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("symbol_id", sa.Integer()),
    key_column("source", sa.Text()),
    key_column("place", sa.Text()),
    sa.Column("ts", Instant()),
    *(sa.Column(n, sa.Double()) for n in ("open", "high", "low", "close", "volume", "adj_close")),
    required("reason", sa.Text()),
    required("seen_at", Instant()),
    sqlite_with_rowid=False,
    info={"kept": ("seen_at",)},
)

bar_reads: Final = sa.Table(
    "bar_reads",  # the latest as_of of which a stored result was made: nothing slips in before it
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("symbol_id", sa.Integer()),
    required("as_of", Instant()),
    sqlite_with_rowid=False,
    info={"never_older": "as_of"},
)

bar_derivations: Final = sa.Table(
    "bar_derivations",  # up to which change of these bars the coarser ones were made
    metadata,
    key_column("timeframe", sa.Integer()),
    required("change", sa.BigInteger()),
)


def _feature_table(name: str) -> sa.Table:
    # Further columns, one a feature, are added when first written.
    return sa.Table(
        name,
        metadata,
        key_column("timeframe", sa.Integer()),
        key_column("symbol_id", sa.Integer()),
        key_column("ts", Instant()),
        required("as_of", Instant()),
        required("set_id", sa.Text()),
        sqlite_with_rowid=False,
    )


ml_features_ohlcv: Final = _feature_table("ml_features_ohlcv")
ml_features_sentiment: Final = _feature_table("ml_features_sentiment")

ml_labels: Final = sa.Table(
    "ml_labels",
    metadata,
    key_column("timeframe", sa.Integer()),
    key_column("kind", sa.Text()),
    key_column("symbol_id", sa.Integer()),
    key_column("ts", Instant()),
    key_column("horizon", sa.Text()),
    required("horizon_bars", sa.Integer()),
    sa.Column("value", sa.Double()),
    required("end_at", Instant()),
    sa.Column("confidence", sa.Double()),
    sqlite_with_rowid=False,
)

ml_training_sets: Final = sa.Table(
    "ml_training_sets",
    metadata,
    key_column("set_id", sa.Text()),
    required("spec", sa.Text()),
    required("as_of", Instant()),
    required("n_rows", sa.BigInteger()),
    required("sha256", sa.Text()),  # over the prices
    required("created_at", Instant()),
    sa.Column("rows_sha256", sa.Text()),  # over the examples; the oldest sets have none
    sa.Column("code_sha256", sa.Text()),  # over what makes examples of prices
    sa.Column("version", sa.Text()),  # of candlecast
    sa.Column("first_bars", sa.Text()),  # JSON: ts of the first bar by ticker
)

ml_training_data: Final = sa.Table(
    "ml_training_data",  # the rows of a training set, where somebody asked for them
    metadata,
    key_column("set_id", sa.Text()),
    key_column("timeframe", sa.Integer()),
    key_column("symbol_id", sa.Integer()),
    key_column("ts", Instant()),
    required("as_of", Instant()),
    required("features", sa.Text()),  # JSON: value by name
    required("targets", sa.Text()),  # JSON: value by horizon, null where it has not come
    required("end_at", sa.Text()),  # JSON: when the outcome was known, by horizon
    required("weight", sa.Double()),
    sqlite_with_rowid=False,
)

ml_model_versions: Final = sa.Table(
    "ml_model_versions",
    metadata,
    key_column("version", sa.Text()),
    required("kind", sa.Text()),
    required("timeframe", sa.Integer()),
    required("horizons", sa.Text()),
    required("spec", sa.Text()),
    required("metrics", sa.Text()),
    required("artifact_sha256", sa.Text()),
    required("files_sha256", sa.Text()),  # over the names and contents of all files
    required("training_from", Instant()),
    required("training_until", Instant()),
    sa.Column("training_set_id", sa.Text()),
    required("stage", sa.Text()),
    required("is_active", sa.Boolean()),
    required("created_at", Instant()),
    sa.Index(
        "ix_ml_model_versions_champion",
        "timeframe",
        unique=True,
        sqlite_where=sa.text("is_active"),
        postgresql_where=sa.text("is_active"),
    ),
)

ml_trials: Final = sa.Table(
    "ml_trials",  # every model that was tried and scored: what luck has to be counted against
    metadata,
    counted(),
    required("study", sa.Text()),  # hash of what all trials of one search have in common
    required("spec_id", sa.Text()),
    required("spec", sa.Text()),
    required("kind", sa.Text()),
    sa.Column("score", sa.Double()),  # CRPS skill over climatology; null where the trial failed
    required("details", sa.Text()),  # JSON
    required("created_at", Instant()),
    sa.UniqueConstraint("study", "spec_id"),
)

calibration_state: Final = sa.Table(
    "calibration_state",  # how a model's bands follow its settled forecasts; never overwritten
    metadata,
    key_column("model_version", sa.Text()),
    key_column("horizon", sa.Text()),
    key_column("updated_at", Instant()),
    required("n_settled", sa.BigInteger()),
    required("state", sa.Text()),  # JSON
    sqlite_with_rowid=False,
)

explanations: Final = sa.Table(
    "explanations",  # what a forecast rests on: contributions of features, attention
    metadata,
    key_column("prediction_id", sa.BigInteger()),
    key_column("kind", sa.Text()),
    required("content", sa.Text()),  # JSON
    required("created_at", Instant()),
    sqlite_with_rowid=False,
)
