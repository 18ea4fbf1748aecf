"""The views that people query by hand; derived from the tables, so made anew after changes."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from candlecast.store.ledger_tables import ml_prediction_sources, ml_predictions
from candlecast.store.statements import as_sql
from candlecast.store.tables import ml_features_ohlcv, ml_labels, ml_model_versions, symbols

NAMES: Final = ("preds", "features", "ml_models_metadata", "ml_predictions_flat")
LABEL_KIND: Final = "forward_return"


def drop_views(connection: sa.Connection) -> None:
    """Drop those that are there."""
    for name in NAMES:
        connection.execute(sa.text(f"DROP VIEW IF EXISTS {name}"))


def create_views(connection: sa.Connection) -> None:
    """Create all of them; none may be there."""
    _create(connection, "preds", _preds())
    _create(connection, "ml_models_metadata", _models_metadata())
    _create(connection, "ml_predictions_flat", _predictions_flat())
    _create(connection, "features", _features(feature_columns(connection)))


def recreate_features_view(connection: sa.Connection) -> None:
    """Make the view `features` show the columns its table has now."""
    connection.execute(sa.text("DROP VIEW IF EXISTS features"))
    _create(connection, "features", _features(feature_columns(connection)))


def feature_columns(connection: sa.Connection) -> list[str]:
    """The features that `ml_features_ohlcv` has columns for."""
    columns = sa.inspect(connection).get_columns(ml_features_ohlcv.name)
    return [c["name"] for c in columns if c["name"] not in ml_features_ohlcv.c]


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


def _features(names: list[str]) -> sa.Select[tuple[object, ...]]:
    f, label = ml_features_ohlcv, ml_labels
    return (
        sa.select(
            symbols.c.ticker,
            f.c.timeframe,
            f.c.ts.label("dt"),
            f.c.as_of,
            f.c.set_id,
            *(sa.column(name, _selectable=f) for name in names),
            label.c.value.label("label_ret_1d"),
        )
        .join_from(f, symbols, symbols.c.id == f.c.symbol_id)
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


def _models_metadata() -> sa.Select[tuple[object, ...]]:
    hidden = ("artifact_sha256", "files_sha256")
    return sa.select(*(c for c in ml_model_versions.c if c.name not in hidden))


def _predictions_flat() -> sa.Select[tuple[object, ...]]:
    p, source = ml_predictions, ml_prediction_sources
    return (
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
            sa.cast(sa.null(), sa.Text()).label("attention_weights"),
        )
        .join_from(p, source, source.c.id == p.c.source_id)
        .join(symbols, symbols.c.id == p.c.symbol_id)
    )
