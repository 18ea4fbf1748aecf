"""Columns of features: those of a file that is not loaded stay, no name stands for two things."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES as CATALOG
from candlecast.domain.catalog import check_feature_name
from candlecast.domain.frames import FEATURES
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.specs import FeatureSpec
from candlecast.errors import InvalidSpec
from candlecast.pipelines.demands import feature_names
from candlecast.store.database import Database
from candlecast.store.features import read_features, write_features
from candlecast.store.symbols import write_symbols

DAILY = Timeframe.parse("1d")
DAYS = [datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=n) for n in range(3)]


def features_of(**values: float | None) -> pl.DataFrame:
    rows = [{"symbol": "A", "ts": day, "as_of": day, **values} for day in DAYS]
    return FEATURES.conform(pl.DataFrame(rows))


@pytest.fixture
def named(database: Database) -> Database:
    write_symbols(database, [Symbol("A")])
    return database


def test_columns_of_a_users_feature_stay_while_its_file_is_not_loaded(
    named: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_features(named, DAILY, features_of(rsi_14=50.0, har_1=1.0, gap_of_mine=7.0), "with-it")
    assert write_features(named, DAILY, features_of(rsi_14=51.0), "without-it") == len(DAYS)
    stored = read_features(named, DAILY)
    assert stored.select("rsi_14", "har_1", "gap_of_mine").unique().rows() == [(51.0, None, 7.0)]
    entry = replace(CATALOG.get("har_1"), name="gap_of_mine")
    monkeypatch.setitem(CATALOG._entries, "gap_of_mine", entry)
    write_features(named, DAILY, features_of(rsi_14=51.0), "loaded-but-left-out")
    assert read_features(named, DAILY)["gap_of_mine"].null_count() == len(DAYS)


RESERVED = (
    *("ticker", "timeframe", "dt", "as_of", "set_id", "label_ret_1d", "symbol_id", "ts"),
    *("symbol", "weight", "y_1d", "y_anything", "end_at_1d"),
)


@pytest.mark.parametrize("name", RESERVED)
def test_a_feature_named_like_another_column_is_refused_before_anything_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSpec, match=rf"'{name}' cannot name a feature: .*rename the feature"):
        check_feature_name(name)
    monkeypatch.setitem(CATALOG._entries, name, replace(CATALOG.get("har_1"), name=name))
    with pytest.raises(InvalidSpec, match=rf"'{name}' cannot name a feature: "):
        feature_names(FeatureSpec(("har_5", name)))


def test_a_feature_named_like_another_column_gets_no_column(named: Database) -> None:
    for name in ("ticker", "weight", "label_ret_1d", "y_1d"):
        with pytest.raises(InvalidSpec, match=f"'{name}' cannot name a feature: "):
            write_features(named, DAILY, features_of(**{name: 1.0}), "set")
    assert read_features(named, DAILY).is_empty()


def test_a_name_that_stands_in_the_other_table_is_refused(named: Database) -> None:
    write_features(named, DAILY, features_of(rsi_14=50.0), "set")
    with pytest.raises(InvalidSpec, match=r"'rsi_14' .* is stored in ml_features_ohlcv already"):
        write_features(named, DAILY, features_of(mood=0.5, rsi_14=50.0), "set", "sentiment")
    assert read_features(named, DAILY, table="sentiment").is_empty()
    write_features(named, DAILY, features_of(mood=0.5), "set", "sentiment")
    with pytest.raises(InvalidSpec, match=r"'mood' .* is stored in ml_features_sentiment already"):
        write_features(named, DAILY, features_of(mood=0.5), "set")


def test_every_feature_has_a_name_that_can_be_stored() -> None:
    for name in CATALOG.names():
        check_feature_name(name)
