"""What is served reads the facts that it depends on, and none that are older."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.domain.frames import CAPITALISATIONS, INDICES, LARGE_TRADES, NEWS
from candlecast.domain.specs import FeatureSpec
from candlecast.features.compute import newest
from candlecast.features.recent_facts import first_fact_at
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.train import train
from candlecast.pipelines.universe import read_market, with_facts
from candlecast.store.facts import write_facts
from fact_frames import seeded_facts
from pipeline_rows import DAILY, opened, put, sample_bars
from training_rows import SPEC

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=1100)
DAYS = BARS["ts"].unique().sort()
SENTIMENT = [name for name in FEATURES.names() if FEATURES.get(name).table == "sentiment"]
ALL = (*FEATURES.names(),)


@dataclass
class Counting:
    """Scores by length, and every text that it was asked about."""

    id: str = "counting-1"
    asked: list[str] = field(default_factory=list)

    def score(self, texts):
        self.asked += texts
        return np.array([np.tanh(len(text) % 7 - 3) for text in texts], dtype=np.float64)


def write_all(stores, facts: Facts):
    """Store seeded facts, their texts as headlines."""
    texts = facts.texts.with_columns(
        headline=pl.format("{} {}", "id", pl.col("score").abs() * 1e4),
        published_at="known_at",
        source=pl.lit("wire"),
    )
    write_facts(stores.database, NEWS, NEWS.conform(texts))
    write_facts(stores.database, INDICES, facts.indices)
    write_facts(stores.database, CAPITALISATIONS, facts.capitalisations)
    write_facts(stores.database, LARGE_TRADES, facts.large_trades)


@pytest.fixture
def stores(tmp_path):
    # The last bars of IBM are missing: what it is compared with lies further back.
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as opened_stores:
        put(opened_stores, BARS.filter((pl.col("symbol") != "IBM") | (pl.col("ts") < DAYS[-30])))
        prices = read_market(opened_stores, DAILY, (), None).prices
        write_all(opened_stores, seeded_facts(prices, 6))
        yield replace(opened_stores, make_scorer=Counting)


@pytest.mark.parametrize("names", [ALL, SENTIMENT, ("whale_sentiment_proxy",), ("has_news",)])
@pytest.mark.parametrize("symbols", [(), ("MSFT",)])
def test_older_facts_change_no_bit_of_the_newest_values(stores, names, symbols):
    market = read_market(stores, DAILY, symbols, None, is_newest=True)
    since = first_fact_at(market.prices, names)
    whole = with_facts(stores, market, names)
    recent = with_facts(stores, market, names, since=since)
    assert 0 < len(recent.facts.texts) < len(whole.facts.texts) * 0.8
    assert len(recent.facts.large_trades) < len(whole.facts.large_trades)
    expected = newest(market.prices, names, whole.facts)
    found = newest(market.prices, names, recent.facts)
    assert found.equals(expected, null_equal=True)
    given = expected.select(pl.col(*names).is_not_null().any()).row(0)
    assert sum(given) > 0.3 * len(names)


def test_without_features_made_of_facts_there_is_no_first_fact(stores):
    market = read_market(stores, DAILY, (), None)
    assert first_fact_at(market.prices, ("har_1", "return_rank_21")) is None
    assert first_fact_at(market.prices.head(0), SENTIMENT) is None


def test_a_forecast_asks_only_about_texts_that_it_depends_on(stores):
    spec = replace(SPEC, features=FeatureSpec(("har_1", "news_sentiment_score")))
    train(stores, spec)
    everything = with_facts(stores, read_market(stores, DAILY, (), None), SENTIMENT).facts.texts
    scorer = Counting("counting-2")
    run = forecast(replace(stores, make_scorer=lambda: scorer))
    assert len(run.forecasts) > 0
    market = read_market(stores, DAILY, (), None, is_newest=True)
    since = first_fact_at(market.prices, spec.features.names)
    recent = everything.filter(pl.col("known_at") > since)
    assert {text.split()[0] for text in scorer.asked} == {
        name.removeprefix("news:") for name in recent["id"]
    }
    assert since > market.prices["known_at"].min() + timedelta(days=365)
