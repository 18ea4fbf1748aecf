"""From ingested facts to features: first versions, scores told once, nothing known too early."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.domain.frames import CAPITALISATIONS, INDICES, LARGE_TRADES, NEWS, POSTS
from candlecast.domain.market import Symbol
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import InvalidSpec
from candlecast.features.compute import compute, newest
from candlecast.pipelines.facts import ingest_facts
from candlecast.pipelines.score import read_known_facts
from candlecast.pipelines.universe import read_market
from candlecast.store import first_facts
from candlecast.store.bars import write_symbols
from candlecast.store.facts import write_facts
from candlecast.store.first_facts import read_first_facts
from candlecast.store.scores import read_scores, sha256_of, write_scores
from pipeline_rows import DAILY, at, closing, opened, put, sample_bars

NOW = datetime(2013, 3, 2, tzinfo=UTC)
"""Shortly after the last bar of the sample."""
NAMES = [name for name in FEATURES.names() if FEATURES.get(name).table == "sentiment"]


@dataclass
class Counting:
    """Good words less bad ones, and every text that it was asked about."""

    id: str = "counting-1"
    asked: list[str] = field(default_factory=list)

    def score(self, texts):
        self.asked += texts
        return np.array([0.5 * (("up" in t) - ("down" in t)) for t in texts], dtype=np.float64)


@dataclass
class Wire:
    """Tells these rows, whatever is asked."""

    rows: list[dict]

    def fetch_news(self, request, clock):
        return FetchedRows(NEWS.conform(pl.DataFrame(self.rows)))

    def fetch_posts(self, request, clock):
        return FetchedRows(POSTS.conform(pl.DataFrame(self.rows)))

    def fetch_index(self, request, clock):
        return FetchedRows(INDICES.conform(pl.DataFrame(self.rows)))

    def fetch_capitalisations(self, request, clock):
        return FetchedRows(CAPITALISATIONS.conform(pl.DataFrame(self.rows)))


def ago(hours):
    return NOW - timedelta(hours=hours)


def story(name, headline, hours, symbols=("MSFT",), known=None):
    told = {"id": f"wire:{name}", "published_at": ago(hours), "source": "wire"}
    stamp = ago(hours if known is None else known)
    return {**told, "headline": headline, "symbols": list(symbols), "known_at": stamp}


def post(name, text, hours, weight=None, symbols=("MSFT",)):
    told = {"id": name, "posted_at": ago(hours), "source": "posts", "text": text}
    return {**told, "weight": weight, "symbols": list(symbols), "known_at": ago(hours)}


@pytest.fixture
def stores(database_url, tmp_path):
    with opened(database_url, tmp_path, NOW) as opened_stores:
        write_symbols(opened_stores.database, [Symbol("MSFT"), Symbol("IBM")])
        yield opened_stores


@pytest.fixture
def scorer():
    return Counting()


def scores_of(facts):
    return dict(facts.texts.select("id", "score").iter_rows())


def test_each_text_is_scored_once_in_its_life_by_each_scorer(stores, scorer):
    ingest_facts(stores, "news", "w", Wire([story("1", "up", 9), story("2", "down", 8)]), Request())
    same = [post("p1", "up", 7), post("p2", "flat", 6)]
    ingest_facts(stores, "posts", "p", Wire(same), Request())
    facts = read_known_facts(stores, (), NOW, scorer)
    told = {"news:wire:1": 0.5, "news:wire:2": -0.5, "post:p1": 0.5, "post:p2": 0.0}
    assert scores_of(facts) == told
    assert sorted(scorer.asked) == ["down", "flat", "up"]
    again = read_known_facts(stores, (), NOW, scorer)
    assert again.texts.equals(facts.texts)
    assert len(scorer.asked) == 3
    other = Counting("counting-2")
    assert read_known_facts(stores, (), NOW, other).texts.equals(facts.texts)
    assert len(other.asked) == 3


def test_the_headline_is_scored_without_its_summary(stores, scorer):
    row = {**story("1", "Alpha up", 9), "summary": "but later down, down, down"}
    ingest_facts(stores, "news", "wire", Wire([row]), Request())
    assert scores_of(read_known_facts(stores, (), NOW, scorer)) == {"news:wire:1": 0.5}
    assert scorer.asked == ["Alpha up"]


def test_the_standard_scorer_is_used_where_none_is_named(stores):
    rows = [
        story("1", "Profit rises sharply, beats expectations", 9),
        story("2", "Company files for bankruptcy after fraud", 8),
    ]
    ingest_facts(stores, "news", "wire", Wire(rows), Request())
    told = scores_of(read_known_facts(stores, (), NOW))
    assert told["news:wire:1"] > 0 > told["news:wire:2"]


def test_a_corrected_headline_counts_as_it_was_first_told(stores, scorer):
    wire = Wire([story("1", "Alpha up", 9)])
    ingest_facts(stores, "news", "wire", wire, Request())
    before = read_known_facts(stores, (), NOW, scorer)
    wire.rows = [story("1", "Alpha down", 9)]
    later = at(stores, NOW + timedelta(hours=5))
    assert ingest_facts(later, "news", "wire", wire, Request()).n_new == 1
    for as_of in (NOW, NOW + timedelta(hours=9)):
        assert read_known_facts(later, (), as_of, scorer).texts.equals(before.texts)
    assert scorer.asked == ["Alpha up"]


def test_what_came_late_is_known_from_then_on(stores, scorer):
    wire = Wire([story("1", "up", 30)])
    ingest_facts(stores, "news", "wire", wire, Request())
    wire.rows += [story("2", "down", 40)]
    later = NOW + timedelta(hours=2)
    ingest_facts(at(stores, later), "news", "wire", wire, Request())
    assert scores_of(read_known_facts(stores, (), NOW, scorer)) == {"news:wire:1": 0.5}
    known = read_known_facts(stores, (), later, scorer)
    assert dict(known.texts.select("id", "known_at").iter_rows())["news:wire:2"] == later


def test_pages_of_any_length_give_the_same_texts(stores, scorer, monkeypatch):
    odd = ["it's", "50%", "a:b", 'say "x"', "naïve", "back\\slash", "日本"]
    rows = [story(name, f"{name} up {i}", i) for i, name in enumerate(odd)]
    ingest_facts(stores, "news", "wire", Wire(rows), Request())
    wire = Wire([{**row, "headline": row["headline"] + " again"} for row in rows])
    ingest_facts(at(stores, NOW + timedelta(hours=1)), "news", "wire", wire, Request())
    until = NOW + timedelta(hours=2)
    whole = read_known_facts(stores, (), until, scorer)
    assert set(scores_of(whole)) == {f"news:wire:{name}" for name in odd}
    assert not any("again" in text for text in scorer.asked)
    for n_rows in (1, 2, len(odd)):
        monkeypatch.setattr(first_facts, "PAGE_ROWS", n_rows)
        assert read_known_facts(stores, (), until, scorer).texts.equals(whole.texts)


def test_news_and_posts_may_share_an_id_and_weights_are_kept(stores, scorer):
    ingest_facts(stores, "news", "wire", Wire([story("x", "up", 9, ())]), Request())
    posts = [post("wire:x", "down", 8, 2.5), post("b", "up", 7, 0.0), post("c", "up", 6)]
    ingest_facts(stores, "posts", "posts", Wire(posts), Request())
    texts = read_known_facts(stores, (), NOW, scorer).texts
    assert texts.select("id", "weight").rows() == [
        ("news:wire:x", 1.0),
        ("post:c", 1.0),
        ("post:wire:x", 2.5),
    ]
    assert texts["symbols"].to_list() == [[], ["MSFT"], ["MSFT"]]


def minute(symbol, hours, large):
    stamp = ago(hours).replace(minute=0, second=0)
    row = {"symbol": symbol, "ts": stamp, "n_trades": 9, "volume": 100.0, "n_large": 1}
    told = {"large_volume": large, "threshold": 1e5, "source": "x"}
    return {**row, **told, "known_at": stamp + timedelta(minutes=1)}


def test_indices_sizes_and_large_trades_come_in_their_first_version(stores, scorer):
    value = {"name": "fear_greed", "ts": ago(40), "value": 40.0, "label": "Fear", "source": "x"}
    wire = Wire([{**value, "known_at": ago(36)}])
    ingest_facts(stores, "index", "x", wire, Request())
    wire.rows = [{**value, "value": 44.0, "known_at": ago(36)}]
    later = NOW + timedelta(hours=5)
    ingest_facts(at(stores, later), "index", "x", wire, Request())
    size = {"asset": "BTC-USD", "ts": ago(40), "value": 6e11, "source": "x", "known_at": ago(36)}
    ingest_facts(stores, "capitalisations", "x", Wire([size]), Request())
    trades = LARGE_TRADES.conform(pl.DataFrame([minute("MSFT", 30, 5.0), minute("IBM", 29, 7.0)]))
    write_facts(stores.database, LARGE_TRADES, trades)
    facts = read_known_facts(stores, ["IBM"], later, scorer)
    assert facts.indices.select("value", "known_at").rows() == [(40.0, ago(36))]
    assert facts.capitalisations["value"].to_list() == [6e11]
    assert facts.large_trades.equals(trades.filter(symbol="IBM"))
    assert read_known_facts(stores, (), later, scorer).large_trades.equals(trades)
    assert read_known_facts(stores, (), ago(37), scorer).is_empty
    recent = read_known_facts(stores, (), later, scorer, since=ago(29))
    assert recent.large_trades.equals(trades.filter(symbol="IBM"))
    assert recent.indices.equals(facts.indices)
    assert read_first_facts(stores.database, INDICES, since=ago(37)).equals(facts.indices)


@pytest.mark.parametrize("told", [[2.0], [float("nan")], [0.1, 0.2], []])
def test_a_scorer_that_tells_nonsense_is_refused_and_nothing_is_stored(stores, told):
    broken = Counting("broken-1")
    broken.score = lambda texts: np.array(told)
    ingest_facts(stores, "news", "wire", Wire([story("1", "up", 9)]), Request())
    with pytest.raises(InvalidSpec, match="broken-1"):
        read_known_facts(stores, (), NOW, broken)
    assert read_scores(stores.database, "broken-1", sha256_of(["up"])).is_empty()


def test_a_score_that_is_stored_stays_as_it_is(stores):
    hashes = sha256_of(["one", "two"])
    assert write_scores(stores.database, "s", hashes, np.array([0.25, -1.0])) == 2
    assert write_scores(stores.database, "s", hashes, np.array([0.5, 0.5])) == 0
    found = read_scores(stores.database, "s", [*hashes, *hashes, "unknown"])
    assert dict(found.iter_rows()) == dict(zip(hashes, (0.25, -1.0), strict=True))
    assert read_scores(stores.database, "t", hashes).is_empty()


@pytest.fixture
def market(stores):
    put(stores, sample_bars("MSFT", "IBM", n_sessions=90))
    told = [
        story("1", "up at first", 24 * 12),
        story("2", "down", 24 * 5),
        story("3", "up again", 24 * 5, ("IBM", "MSFT")),
        story("4", "up with the market", 24 * 6, ()),
    ]
    ingest_facts(stores, "news", "wire", Wire(told), Request())
    value = {"name": "fear_greed", "ts": ago(47), "value": 40.0, "label": "Fear", "source": "x"}
    ingest_facts(stores, "index", "x", Wire([{**value, "known_at": ago(40)}]), Request())
    return read_market(stores, DAILY, (), None)


def test_features_are_made_of_what_was_ingested(stores, scorer, market):
    facts = read_known_facts(stores, market.tickers, NOW, scorer)
    values = compute(market.prices, NAMES, facts)
    msft, ibm = (values.filter(symbol=symbol) for symbol in ("MSFT", "IBM"))
    told_at = ago(24 * 5)
    first = msft.filter(pl.col("as_of") >= told_at).row(0, named=True)
    assert first["as_of"] < told_at + timedelta(days=3)
    assert first["news_sentiment_score"] == 0.0
    assert (first["bullish_sentiment_ratio"], first["bearish_sentiment_ratio"]) == (0.5, 0.5)
    assert first["sentiment_momentum"] == pytest.approx(-0.5 / 3, abs=1e-4)
    assert first["market_sentiment_score"] == 0.5
    assert ibm.filter(as_of=first["as_of"])["news_sentiment_score"].to_list() == [0.5]
    before = msft.filter(pl.col("as_of") < ago(24 * 12))
    assert before["multi_timeframe_sentiment"].null_count() == len(before)
    last = msft.row(-1, named=True)
    assert last["as_of"] == closing(last["ts"])
    assert (last["fear_greed_index"], last["has_fear_greed"]) == (40.0, 1.0)
    assert last["social_sentiment_score"] is None
    assert last["has_posts"] == 0.0


def test_a_row_is_the_same_whenever_the_facts_are_read(stores, scorer, market):
    whole = compute(market.prices, NAMES, read_known_facts(stores, (), NOW, scorer))
    for as_of in market.prices["known_at"].unique().sort()[[60, 80, 84, 88]]:
        prices = market.prices.filter(pl.col("known_at") <= as_of)
        then = compute(prices, NAMES, read_known_facts(stores, (), as_of, scorer))
        assert then.equals(whole.filter(pl.col("as_of") <= as_of), null_equal=True)


def test_what_is_served_is_what_is_trained_on(stores, scorer, market):
    whole = compute(market.prices, NAMES, read_known_facts(stores, (), NOW, scorer))
    as_of = market.prices["known_at"].max()
    recent = read_known_facts(stores, ["MSFT"], as_of, scorer, since=as_of - timedelta(days=28))
    served = newest(market.prices.filter(symbol="MSFT"), NAMES, recent)
    exact = [name for name in served.columns if name != "sentiment_divergence_score"]
    expected = whole.filter(symbol="MSFT").tail(1)
    assert served.select(exact).equals(expected.select(exact), null_equal=True)
