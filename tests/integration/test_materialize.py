"""Features of stored bars into their tables: the same, however many symbols are in flight."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.errors import NotFound
from candlecast.features.compute import compute
from candlecast.pipelines import materialize
from candlecast.pipelines.materialize import Span, feature_sets, materialize_features, read_values
from candlecast.pipelines.universe import read_market
from candlecast.store.features import read_features
from pipeline_rows import DAILY, opened, put, sample_bars
from training_rows import tell

BARS = sample_bars("AAPL", "GOOG", "IBM", "MSFT", n_sessions=700)
DAYS = BARS["ts"].unique().sort()


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as opened_stores:
        put(opened_stores, BARS)
        yield opened_stores


def test_some_symbols_at_a_time_give_what_all_at_once_give(stores, monkeypatch):
    assert materialize_features(stores, "1d", Span()) == len(BARS)
    whole = read_features(stores.database, DAILY)
    monkeypatch.setattr(materialize, "SYMBOLS_IN_FLIGHT", 3)
    assert materialize_features(stores, "1d", Span()) == 0, "no value differs"
    assert read_features(stores.database, DAILY).equals(whole)
    names = feature_sets()["ohlcv"].names
    expected = compute(read_market(stores, DAILY, (), None).prices, names)
    assert whole.select(names).equals(expected.select(names))


def test_a_span_is_stored_and_nothing_beside_it(stores, monkeypatch):
    span = Span(("IBM",), DAYS[-20], DAYS[-11])
    assert materialize_features(stores, "1d", span) == 10
    first = read_features(stores.database, DAILY)
    assert set(first["symbol"]) == {"IBM"}
    assert (first["ts"].min(), first["ts"].max()) == (span.start, span.end)
    monkeypatch.setattr(materialize, "SYMBOLS_IN_FLIGHT", 1)
    assert materialize_features(stores, "1d", span) == 0


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (Span(("IBN",)), "unknown symbol 'IBN'; did you mean IBM"),
        (Span((), DAYS[-1] + timedelta(days=1)), "no 1d bars of any symbol from 20.* are stored"),
        (Span(("IBM",), None, DAYS[0] - timedelta(days=1)), "no 1d bars of IBM until"),
    ],
)
def test_a_span_that_selects_nothing_is_told(stores, span, message):
    with pytest.raises(NotFound, match=message):
        materialize_features(stores, "1d", span)


def test_sets_name_every_feature_once_and_each_has_its_id():
    sets = feature_sets()
    names = [name for features in sets.values() for name in features.names]
    assert sorted(names) == list(FEATURES.names())
    assert len({features.id for features in sets.values()}) == len(sets) == 2


@pytest.mark.parametrize("name", ["rsi_14", "return_rank_21"])
def test_values_of_one_feature_are_read_as_they_were_known(stores, name):
    day = DAYS[-50] + timedelta(hours=23)
    then = read_values(stores, DAILY, name, symbols=("IBM",), as_of=day)
    assert (then["symbol"].to_list(), then["ts"].to_list()) == (["IBM"], [DAYS[-50]])
    whole = read_values(stores, DAILY, name, symbols=("IBM",), is_whole=True)
    row = whole.filter(pl.col("ts") == DAYS[-50])
    assert len(whole) == 700
    assert row[name].item() == pytest.approx(then[name].item(), rel=1e-6)


def test_facts_are_read_once_however_many_groups_of_symbols_there_are(stores, monkeypatch):
    for number, day in enumerate(DAYS[-60:-2:3]):
        tell(stores, number, ("IBM profit soars", "IBM warns of losses")[number % 2], day)
    assert materialize_features(stores, "1d", Span()) == 2 * len(BARS)
    whole = read_features(stores.database, DAILY, table="sentiment")
    assert whole["news_sentiment_score"].n_unique() > 2
    read, n_read = materialize.read_known_facts, []
    noted = lambda *given: n_read.append(1) or read(*given)  # noqa: E731 - a line says it all
    monkeypatch.setattr(materialize, "read_known_facts", noted)
    monkeypatch.setattr(materialize, "SYMBOLS_IN_FLIGHT", 1)
    assert materialize_features(stores, "1d", Span()) == 0, "no value differs"
    assert n_read == [1]
    assert read_features(stores.database, DAILY, table="sentiment").equals(whole)
