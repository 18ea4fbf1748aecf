"""A schema taken back to an earlier revision has the views of that revision."""

from datetime import UTC, datetime

import polars as pl
import sqlalchemy as sa

from candlecast.domain.frames import FEATURES
from candlecast.domain.market import Symbol, Timeframe
from candlecast.store import migrate, views
from candlecast.store.aggregates import AGGREGATES
from candlecast.store.features import read_features, write_features
from candlecast.store.symbols import read_symbols, write_symbols
from candlecast.store.tables import ml_features_ohlcv


def views_of(database):
    with database.reading() as reader:
        return set(sa.inspect(reader).get_view_names())


def test_the_first_revision_has_its_views_and_no_aggregates(database):
    write_symbols(database, [Symbol("A", aliases=(("yahoo", "B"),))])
    everything = views_of(database)
    database.downgrade("0001")
    assert views_of(database) == set(views.FIRST)
    for name in views.FIRST:
        count = database.read(sa.text(f"SELECT count(*) AS n FROM {name}"), {"n": pl.Int64})
        assert count.item() == 0
    database.upgrade()
    assert views_of(database) == everything
    assert [symbol.ticker for symbol in read_symbols(database)] == ["A"]


def columns_of(database):
    with database.reading() as reader:
        described = sa.inspect(reader).get_columns("ml_features_ohlcv")
        found = {column["name"] for column in described} - {*ml_features_ohlcv.c.keys()}
        rows = reader.execute(sa.select(sa.text("*")).select_from(sa.text("ml_features_ohlcv")))
        return {name: value for name, value in rows.one()._mapping.items() if name in found}


def test_features_that_have_another_name_by_now_keep_their_values(database):
    write_symbols(database, [Symbol("A")])
    at = datetime(2026, 1, 5, tzinfo=UTC)
    row = {"symbol": "A", "ts": at, "as_of": at, "rsi_14": 50.0, "atr": 1.0, "obv": 2.0}
    write_features(database, Timeframe.parse("1d"), FEATURES.conform(pl.DataFrame([row])), "set")
    database.downgrade("0002")
    assert columns_of(database) == {"rsi_14": 50.0, "atr_level_14": 1.0, "obv_level_63": 2.0}
    with database.transaction() as connection:  # a column that nobody wrote since is beside it
        added = "ALTER TABLE ml_features_ohlcv ADD COLUMN obv DOUBLE PRECISION"
        connection.execute(sa.text(added))
    database.upgrade()
    assert columns_of(database) == {"rsi_14": 50.0, "atr": 1.0, "obv": None}
    assert read_features(database, Timeframe.parse("1d"))["atr"].to_list() == [1.0]


def test_taking_it_back_to_where_it_is_leaves_all_views(database):
    database.downgrade(migrate.HEAD)
    assert views_of(database) == {*views.NAMES, *(aggregate.name for aggregate in AGGREGATES)}
