"""The views that people query by hand; derived from the tables, so made anew after changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from candlecast.store.ledger_tables import ml_prediction_sources, ml_predictions
from candlecast.store.statements import as_sql
from candlecast.store.tables import (
    explanations,
    ml_features_ohlcv,
    ml_features_sentiment,
    ml_labels,
    ml_model_versions,
    symbols,
)

FIRST: Final = ("preds", "ml_models_metadata", "ml_predictions_flat")
"""Views of the tables of the first revision: they stand at every revision."""
NAMES: Final = (*FIRST, "features", "ml_labels_flat")
LABEL_KIND: Final = "forward_return"


def drop_views(connection: sa.Connection) -> None:
    """Drop those that are there."""
    for name in NAMES:
        connection.execute(sa.text(f"DROP VIEW IF EXISTS {name}"))


def create_views(connection: sa.Connection, names: Sequence[str] = NAMES) -> None:
    """Create those called `names`; none of them may be there."""
    queries = {
        "preds": _preds,
        "ml_models_metadata": _models_metadata,
        "ml_predictions_flat": lambda: _predictions_flat(connection),
        "features": lambda: _features(connection),
        "ml_labels_flat": _labels_flat,
    }
    for name in names:
        _create(connection, name, queries[name]())


def recreate_features_view(connection: sa.Connection) -> None:
    """Make the view `features` show the columns its tables have now."""
    connection.execute(sa.text("DROP VIEW IF EXISTS features"))
    create_views(connection, ["features"])


def feature_columns(connection: sa.Connection, table: sa.Table) -> list[str]:
    """The features that a feature table has columns for."""
    columns = sa.inspect(connection).get_columns(table.name)
    return [c["name"] for c in columns if c["name"] not in table.c]


def _create(connection: sa.Connection, name: str, query: sa.Select[tuple[object, ...]]) -> None:
    text = as_sql(query, connection.dialect)
    connection.exec_driver_sql(f"CREATE VIEW {name} AS {text}")


def _preds() -> sa.Select[tuple[object, ...]]:
    # The champion's live forecasts.
    p, source, model = ml_predictions, ml_prediction_sources, ml_model_versions
    return (
        sa.select(
            symbols.c.ticker,
            p.c.ts.label("dt"),
            p.c.horizon,
            p.c.yhat,
            p.c.yhat_std,
            p.c.prob_up,
        )
        .join_from(p, source, source.c.id == p.c.source_id)
        .join(model, model.c.version == source.c.model_version)
        .join(symbols, symbols.c.id == p.c.symbol_id)
        .where(source.c.origin == "live", model.c.is_active)
    )


def _features(connection: sa.Connection) -> sa.Select[tuple[object, ...]]:
    f, said, label = ml_features_ohlcv, ml_features_sentiment, ml_labels
    return (
        sa.select(
            symbols.c.ticker,
            f.c.timeframe,
            f.c.ts.label("dt"),
            f.c.as_of,
            f.c.set_id,
            *(sa.column(name, _selectable=f) for name in feature_columns(connection, f)),
            *(sa.column(name, _selectable=said) for name in feature_columns(connection, said)),
            label.c.value.label("label_ret_1d"),
        )
        .join_from(f, symbols, symbols.c.id == f.c.symbol_id)
        .outerjoin(
            said,
            sa.and_(*(said.c[name] == f.c[name] for name in ("timeframe", "symbol_id", "ts"))),
        )
        .outerjoin(
            label,
            sa.and_(
                label.c.timeframe == f.c.timeframe,
                label.c.kind == LABEL_KIND,
                label.c.symbol_id == f.c.symbol_id,
                label.c.ts == f.c.ts,
                label.c.horizon == "1D",
            ),
        )
    )


def _labels_flat() -> sa.Select[tuple[object, ...]]:
    row = ml_labels
    return sa.select(
        symbols.c.ticker,
        row.c.timeframe,
        row.c.ts.label("dt"),
        row.c.kind.label("label_type"),
        row.c.horizon,
        row.c.horizon_bars,
        row.c.value,
        row.c.end_at.label("future_timestamp"),
        row.c.confidence.label("label_confidence"),
    ).join_from(row, symbols, symbols.c.id == row.c.symbol_id)


def _models_metadata() -> sa.Select[tuple[object, ...]]:
    hidden = ("artifact_sha256", "files_sha256")
    return sa.select(*(c for c in ml_model_versions.c if c.name not in hidden))


def _predictions_flat(connection: sa.Connection) -> sa.Select[tuple[object, ...]]:
    p, source = ml_predictions, ml_prediction_sources
    kept = explanations.alias("attention")
    # The oldest revisions keep no explanations, and have this view all the same.
    is_kept = sa.inspect(connection).has_table(explanations.name)
    weights = kept.c.content if is_kept else sa.cast(sa.null(), sa.Text())
    rows = (
        sa.select(
            p.c.id,
            symbols.c.ticker,
            source.c.timeframe,
            p.c.ts.label("dt"),
            p.c.as_of,
            p.c.end_at,
            p.c.horizon,
            (p.c.horizon_bars * source.c.timeframe).label("horizon_minutes"),
            source.c.origin,
            source.c.model_version,
            p.c.last_close,
            (p.c.last_close * sa.func.exp(p.c.q500)).label("predicted_price"),
            p.c.label,
            p.c.confidence,
            p.c.label.label("signal"),
            weights.label("attention_weights"),
        )
        .join_from(p, source, source.c.id == p.c.source_id)
        .join(symbols, symbols.c.id == p.c.symbol_id)
    )
    if not is_kept:
        return rows
    is_own = sa.and_(kept.c.prediction_id == p.c.id, kept.c.kind == "attention")
    return rows.outerjoin(kept, is_own)
