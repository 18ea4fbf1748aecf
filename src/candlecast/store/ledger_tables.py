"""Tables of the ledger: who predicted what, what came of it, and the current forecasts."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from candlecast.domain.frames import QUANTILES
from candlecast.store.schema import Instant, counted, key_column, metadata, required

ml_prediction_sources: Final = sa.Table(
    "ml_prediction_sources",  # who made predictions: one row for many of them
    metadata,
    counted(),
    required("timeframe", sa.Integer()),
    required("origin", sa.Text()),
    required("model_version", sa.Text()),
    required("run_id", sa.Text()),  # empty when there is none
    sa.UniqueConstraint("timeframe", "origin", "model_version", "run_id"),
    sa.CheckConstraint("origin IN ('live', 'walk_forward', 'simulated')", name="origin"),
)

LABEL_CHECK: Final = "label IN ('Bearish', 'Neutral', 'Bullish')"

ml_predictions: Final = sa.Table(
    "ml_predictions",  # the ledger: triggers refuse UPDATE and DELETE
    metadata,
    counted(),
    required("source_id", sa.Integer()),
    required("symbol_id", sa.Integer()),
    required("as_of", Instant()),
    required("horizon", sa.Text()),
    required("horizon_bars", sa.Integer()),
    required("ts", Instant()),
    required("end_at", Instant()),
    *(required(name, sa.Double()) for name in ("last_close", "lower", "upper")),
    *(required(name, sa.REAL()) for name in QUANTILES),
    *(required(name, sa.Double()) for name in ("yhat", "yhat_std", "prob_up")),
    required("label", sa.Text()),
    required("confidence", sa.Double()),
    required("threshold_rule", sa.Text()),
    sa.Column("fold", sa.Integer()),
    sa.Column("feature_hash", sa.Text()),
    sa.Column("features", sa.Text()),
    required("created_at", Instant()),
    sa.UniqueConstraint("source_id", "symbol_id", "as_of", "horizon"),
)

ml_prediction_runs: Final = sa.Table(
    "ml_prediction_runs",  # which symbols one forecast compared
    metadata,
    key_column("source_id", sa.Integer()),
    key_column("created_at", Instant()),
    required("universe", sa.Text()),  # tickers with commas
)

ml_outcomes: Final = sa.Table(
    "ml_outcomes",  # inserted once; triggers refuse UPDATE and DELETE
    metadata,
    counted(),
    sa.Column("prediction_id", sa.BigInteger(), sa.ForeignKey("ml_predictions.id"), nullable=False),
    required("realised", sa.Double()),
    required("settled_at", Instant()),
    *(required(name, sa.Double()) for name in ("pinball", "crps", "pit")),
    sa.Column("crps_climatology", sa.Double()),
    sa.Column("prob_up_climatology", sa.Double()),
    sa.Column("n_past", sa.Integer()),  # outcomes that the climatology was made of
    sa.Column("is_hit", sa.Boolean()),
    sa.UniqueConstraint("prediction_id"),
)

ml_ledger_blocks: Final = sa.Table(
    "ml_ledger_blocks",  # columnar copies of all rows of a ledger table up to last_id
    metadata,
    key_column("table_name", sa.Text()),
    key_column("first_id", sa.BigInteger()),
    required("last_id", sa.BigInteger()),
    required("rows", sa.LargeBinary()),
)

ml_forecasts: Final = sa.Table(
    "ml_forecasts",  # the current forecast of each symbol and horizon
    metadata,
    key_column("symbol_id", sa.Integer()),
    key_column("horizon", sa.Text()),
    required("timeframe", sa.Integer()),
    required("overall_label", sa.Text()),
    required("label", sa.Text()),
    required("confidence", sa.Double()),
    *(required(n, sa.Text()) for n in ("points", "details", "model_version", "threshold_rule")),
    *(required(n, Instant()) for n in ("as_of", "run_at", "created_at", "updated_at")),
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
