"""What an absent source gives, and a silent one: nulls and flags, never an invented value."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.domain.frames import FEATURES as FRAME
from candlecast.domain.frames import TEXTS
from candlecast.features.compute import compute, standard_set
from fact_frames import seeded_facts
from price_frames import daily_prices

ENTRIES = [e for e in map(FEATURES.get, FEATURES.names()) if e.table == "sentiment"]
NAMES = [entry.name for entry in ENTRIES]
FLAGS = {
    "has_news": ["news_sentiment_score"],
    "has_posts": ["social_sentiment_score"],
    "has_fear_greed": ["fear_greed_index"],
    "has_large_trades": ["whale_sentiment_proxy"],
    "has_capitalisations": ["weighted_coin_sentiment"],
}
OF_TEXTS = [
    *("market_sentiment_score", "multi_timeframe_sentiment", "sentiment_divergence_score"),
    *("sentiment_momentum", "sentiment_volatility", "sentiment_trend_strength"),
    *("bullish_sentiment_ratio", "bearish_sentiment_ratio", "neutral_sentiment_ratio"),
    *("sentiment_text_count", "sentiment_attention"),
]
PRICES = daily_prices(seed=7, n_symbols=3, n_sessions=200)
FIRST, SECOND, THIRD = PRICES["symbol"].unique().sort()
WHOLE = seeded_facts(PRICES, 1)
VALUES = compute(PRICES, NAMES, WHOLE)
STAMPS = PRICES["known_at"].unique().sort()


def test_thirteen_features_and_more_are_there_and_none_is_standard():
    assert {*FLAGS, *OF_TEXTS} | {name for names in FLAGS.values() for name in names} == {*NAMES}
    assert not {*NAMES} & {*standard_set()}
    assert all(entry.is_input for entry in ENTRIES)


def test_without_any_source_all_is_null_and_every_flag_is_zero():
    for facts in (None, Facts.none()):
        values = FRAME.check(compute(PRICES, NAMES, facts))
        for name in NAMES:
            if name in FLAGS:
                assert values[name].unique().to_list() == [0.0]
            else:
                assert values[name].null_count() == len(PRICES), name
            assert values[name].dtype == pl.Float64


ABSENT = {
    "has_news": lambda f: replace(f, texts=f.texts.filter(kind="post")),
    "has_posts": lambda f: replace(f, texts=f.texts.filter(kind="news")),
    "has_fear_greed": lambda f: replace(f, indices=f.indices.clear()),
    "has_large_trades": lambda f: replace(f, large_trades=f.large_trades.clear()),
    "has_capitalisations": lambda f: replace(f, capitalisations=f.capitalisations.clear()),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_source_that_is_absent_gives_nulls_and_a_flag_and_touches_no_other(flag):
    values = compute(PRICES, NAMES, ABSENT[flag](WHOLE))
    assert values[flag].unique().to_list() == [0.0]
    for name in FLAGS[flag]:
        assert values[name].null_count() == len(PRICES)
    for other in {*FLAGS} - {flag}:
        assert values[other].equals(VALUES[other])
        if not (flag in ("has_news", "has_posts") and other == "has_capitalisations"):
            for name in FLAGS[other]:
                assert values[name].equals(VALUES[name], null_equal=True)


def test_without_texts_everything_made_of_them_is_null():
    values = compute(PRICES, NAMES, replace(WHOLE, texts=TEXTS.empty()))
    for name in (*OF_TEXTS, "weighted_coin_sentiment"):
        assert values[name].null_count() == len(PRICES), name


def test_a_symbol_of_which_nothing_is_said_has_no_score_but_a_count_of_zero():
    others = WHOLE.texts.filter(~pl.col("symbols").list.contains(SECOND))
    silent = compute(PRICES, NAMES, replace(WHOLE, texts=others)).filter(symbol=SECOND)
    alive = silent.filter((pl.col("has_news") + pl.col("has_posts")) > 0)
    assert len(alive) > 100
    assert alive["sentiment_text_count"].unique().to_list() == [0.0]
    assert alive["sentiment_attention"].unique().to_list() == [0.0]
    for name in ("social_sentiment_score", "news_sentiment_score", "bullish_sentiment_ratio"):
        assert silent[name].null_count() == len(silent)
    for flag in ("has_fear_greed", "has_large_trades", "has_capitalisations"):
        assert silent[flag].equals(VALUES.filter(symbol=SECOND)[flag])


def test_a_source_that_falls_silent_is_absent_a_week_later():
    last = STAMPS[100]
    until = replace(WHOLE, texts=WHOLE.known_by(last).texts)
    values = compute(PRICES, ["has_news", "sentiment_text_count"], until)
    newest_at = until.texts.filter(kind="news")["known_at"].max()
    gone = pl.col("as_of") >= newest_at + timedelta(days=7)
    after, before = (values.filter(rows, pl.col("as_of") > last) for rows in (gone, ~gone))
    assert after["has_news"].unique().to_list() == [0.0]
    assert before["has_news"].unique().to_list() == [1.0]
    assert values.filter(gone)["sentiment_text_count"][-1] is None


def test_what_names_nobody_counts_for_the_market_and_for_no_symbol():
    is_market = pl.col("symbols").list.len() == 0
    own = compute(PRICES, NAMES, replace(WHOLE, texts=WHOLE.texts.filter(~is_market)))
    market = compute(PRICES, NAMES, replace(WHOLE, texts=WHOLE.texts.filter(is_market)))
    assert own["market_sentiment_score"].null_count() == len(PRICES)
    assert market["market_sentiment_score"].equals(VALUES["market_sentiment_score"])
    for name in ("social_sentiment_score", "news_sentiment_score", "sentiment_momentum"):
        assert own[name].equals(VALUES[name], null_equal=True)
        assert market[name].null_count() == len(PRICES)
