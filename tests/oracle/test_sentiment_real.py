"""Sentiment features of real posts, real prices and a real index."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, SCORERS
from candlecast.domain.facts import Facts
from candlecast.domain.frames import INDICES, INSTANT, TEXTS
from candlecast.domain.market import trading_calendar
from candlecast.features.compute import compute
from price_frames import DAILY, prices_of, stamped

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "news"
NAMES = [name for name in FEATURES.names() if FEATURES.get(name).table == "sentiment"]
SYMBOLS = ("AAPL", "AMZN", "BA", "GOOG", "JPM", "KO", "PTR", "WMT")
SHARES = ("bullish_sentiment_ratio", "bearish_sentiment_ratio", "neutral_sentiment_ratio")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"real data are not at {FOLDER}")


@pytest.fixture(scope="module")
def tweets():
    frame = pl.read_parquet(FOLDER / "stocknet_tweets.parquet")
    own = frame.filter(pl.col("symbol").is_in(SYMBOLS)).sort("ts", "symbol", "text")
    scores = SCORERS.get("lexicon")().score(own["text"].to_list())
    return TEXTS.conform(
        own.select(
            id=pl.format("{}", pl.int_range(pl.len())).str.zfill(6),
            kind=pl.lit("post"),
            symbols=pl.concat_list("symbol"),
            weight=pl.lit(1.0),
            score=pl.Series(scores),
            known_at="ts",
        )
    )


@pytest.fixture(scope="module")
def index():
    frame = pl.read_parquet(FOLDER / "crypto_fear_greed.parquet")
    ts = pl.col("ts").cast(INSTANT)
    return INDICES.conform(
        frame.with_columns(
            name=pl.lit("fear_greed"),
            ts=ts,
            known_at=ts + timedelta(hours=6),
            source=pl.lit("fear_greed"),
        )
    )


@pytest.fixture(scope="module")
def prices():
    frame = pl.read_parquet(FOLDER / "stocknet_prices.parquet")
    bars = frame.filter(pl.col("symbol").is_in(SYMBOLS), pl.col("ts").dt.year() >= 2013)
    return prices_of(stamped(bars, DAILY, trading_calendar("XNYS")))


@pytest.fixture(scope="module")
def values(prices, tweets):
    return compute(prices, NAMES, Facts.of(texts=tweets))


def test_before_the_first_post_all_is_null_and_while_there_are_posts_most_symbols_have_scores(
    values, tweets
):
    first, last = tweets["known_at"].min(), tweets["known_at"].max()
    before = values.filter(pl.col("as_of") < first)
    during = values.filter(pl.col("as_of").is_between(first, last))
    assert before["has_posts"].unique().to_list() == [0.0]
    assert before["sentiment_text_count"].null_count() == len(before) > 1000
    stamps = pl.Series([*tweets["known_at"].sort()])
    hole = stamps.filter(stamps.diff().fill_null(timedelta(0)) > timedelta(days=7))
    assert len(hole) == 1  # the posts of two weeks of November 2014 are missing
    ended_at = hole[0]
    began_at = stamps.filter(stamps < ended_at)[-1] + timedelta(days=7)
    is_hole = pl.col("as_of").is_between(began_at, ended_at, closed="left")
    assert during.filter(is_hole)["has_posts"].unique().to_list() == [0.0]
    assert during.filter(is_hole)["sentiment_text_count"].null_count() > 0
    during = during.filter(~is_hole)
    assert during["has_posts"].unique().to_list() == [1.0]
    assert during["sentiment_text_count"].null_count() == 0
    told = dict(
        during.group_by("symbol")
        .agg(pl.col("social_sentiment_score").count() / pl.len())
        .iter_rows()
    )
    assert told["AAPL"] > 0.99
    assert sum(told.values()) / len(told) > 0.7
    assert during["news_sentiment_score"].null_count() == len(during)
    assert during["has_news"].unique().to_list() == [0.0]


def test_the_three_shares_of_real_posts_make_one(values):
    known = values.select(SHARES).drop_nulls()
    assert len(known) > 2000
    np.testing.assert_allclose(known.sum_horizontal(), 1.0, rtol=1e-15)


def test_every_value_of_real_posts_is_what_a_loop_over_them_finds(values, tweets):
    rows = tweets.to_dicts()
    seen = 0
    for row in values.filter(pl.col("as_of") > tweets["known_at"].min())[::97].to_dicts():
        since = row["as_of"] - timedelta(days=3)
        scores = [
            round(text["score"], 4)
            for text in rows
            if row["symbol"] in text["symbols"] and since < text["known_at"] <= row["as_of"]
        ]
        assert row["sentiment_text_count"] == pytest.approx(np.log1p(len(scores)))
        if scores:
            assert row["social_sentiment_score"] == pytest.approx(np.mean(scores), abs=1e-9)
            assert row["bullish_sentiment_ratio"] == np.mean(np.array(scores) > 0.05)
        seen += bool(scores)
    assert seen > 15


def test_more_is_written_on_days_of_large_moves(values, prices):
    moved = compute(prices, ["absolute_return_1"])["absolute_return_1"]
    beside = values.with_columns(moved.alias("moved")).drop_nulls(["moved", "sentiment_attention"])
    during = beside.filter(pl.col("has_posts") == 1)
    wild = during.filter(pl.col("moved") > 2)["sentiment_attention"].mean()
    calm = during.filter(pl.col("moved") < 0.5)["sentiment_attention"].mean()
    assert wild > calm + 0.1


def test_the_real_index_is_known_within_three_days_of_its_day_and_not_after(prices, index):
    days = index["ts"].sort()
    moved = prices.filter(symbol="AAPL").head(400)
    step = (days[10] - moved["ts"][0]).days
    shifted = moved.with_columns(pl.col("ts", "close_at", "known_at") + timedelta(days=step))
    values = compute(shifted, ["fear_greed_index", "has_fear_greed"], Facts.of(indices=index))
    assert values["has_fear_greed"].mean() > 0.95
    for row in values[::29].to_dicts():
        known = index.filter(pl.col("known_at") <= row["as_of"]).sort("ts")
        is_fresh = row["as_of"] - known["ts"][-1] <= timedelta(days=3)
        assert row["fear_greed_index"] == (known["value"][-1] if is_fresh else None)
