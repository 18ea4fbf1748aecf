"""Sentiment features against a naive loop over the items that each row knows."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.domain.frames import CAPITALISATIONS, INDICES, TEXTS
from candlecast.features.compute import compute
from fact_frames import seeded_facts
from price_frames import daily_prices

NAMES = [name for name in FEATURES.names() if FEATURES.get(name).table == "sentiment"]
PRICES = daily_prices(seed=3, n_symbols=3, n_sessions=160)
FIRST, SECOND, _ = PRICES["symbol"].unique().sort()
HOURS = {"4h": 4, "1d": 24, "3d": 72, "7d": 168, "28d": 672}


def mean(texts):
    weight = sum(t["weight"] for t in texts)
    return sum(t["weight"] * t["score"] for t in texts) / weight if texts else None


def share(texts, does_count):
    weight = sum(t["weight"] for t in texts)
    return sum(t["weight"] for t in texts if does_count(t["score"])) / weight if texts else None


def spread(texts):
    if len(texts) < 2:
        return None
    scores, weights = ([t[name] for t in texts] for name in ("score", "weight"))
    centre = np.average(scores, weights=weights)
    return math.sqrt(np.average((np.array(scores) - centre) ** 2, weights=weights))


def trend(texts):
    if len(texts) < 3:
        return None
    hours = np.array([t["known_at"].timestamp() // 3600 for t in texts])
    scores, weights = (np.array([t[name] for t in texts]) for name in ("score", "weight"))
    if len({*hours}) == 1 or len({*scores}) == 1:
        return 0.0
    hours, scores = (x - np.average(x, weights=weights) for x in (hours, scores))
    both = np.average(hours * scores, weights=weights)
    squares = [np.average(x**2, weights=weights) for x in (hours, scores)]
    return both / math.sqrt(squares[0] * squares[1])


def of_texts(known, row):
    """What a row says of the texts that it knows."""

    def about(symbol, span, kind=None):
        since = row["known_at"] - timedelta(hours=HOURS[span])
        named = (lambda t: symbol in t["symbols"]) if symbol else (lambda t: not t["symbols"])
        return [
            t for t in known if t["known_at"] > since and named(t) and kind in (None, t["kind"])
        ]

    own = {span: about(row["symbol"], span) for span in HOURS}
    week = row["known_at"] - timedelta(days=7)
    alive = {kind: any(t["known_at"] > week for t in known if t["kind"] == kind) for kind in KINDS}
    scores = [score for score in map(mean, own.values()) if score is not None]
    usual = len(own["28d"]) * 3 / 28
    is_alive = any(alive.values())
    return {
        "has_news": float(alive["news"]),
        "has_posts": float(alive["post"]),
        "social_sentiment_score": mean(about(row["symbol"], "3d", "post")),
        "news_sentiment_score": mean(about(row["symbol"], "3d", "news")),
        "market_sentiment_score": mean(about(None, "3d")),
        "multi_timeframe_sentiment": sum(scores) / len(scores) if scores else None,
        "sentiment_momentum": mean(own["3d"]) - mean(own["28d"]) if own["3d"] else None,
        "sentiment_volatility": spread(own["7d"]),
        "bullish_sentiment_ratio": share(own["3d"], lambda score: score > 0.05),
        "bearish_sentiment_ratio": share(own["3d"], lambda score: score < -0.05),
        "neutral_sentiment_ratio": share(own["3d"], lambda score: abs(score) <= 0.05),
        "sentiment_trend_strength": trend(own["28d"]),
        "sentiment_text_count": math.log(1 + len(own["3d"])) if is_alive else None,
        "sentiment_attention": math.log((1 + len(own["3d"])) / (1 + usual)) if is_alive else None,
    }


KINDS = ("news", "post")


def of_values(facts, texts, row):
    """What a row says of indices and capitalisations."""

    def newest(rows, days):
        known = [r for r in rows if r["known_at"] <= row["known_at"]]
        last = max(known, key=lambda r: r["ts"], default=None)
        is_fresh = last is not None and row["known_at"] - last["ts"] <= timedelta(days=days)
        return last["value"] if is_fresh else None

    index = newest([r for r in facts.indices.to_dicts() if r["name"] == "fear_greed"], 3)
    sizes = defaultdict(list)
    for r in facts.capitalisations.to_dicts():
        if r["asset"].endswith("-USD") and r["value"] > 0:
            sizes[r["asset"]].append(r)
    since = row["known_at"] - timedelta(days=3)
    total = scored = 0.0
    has_any = 0.0
    for asset, rows in sizes.items():
        size = newest(rows, 8)
        own = [t for t in texts if t["known_at"] > since and asset in t["symbols"]]
        has_any = max(has_any, float(size is not None))
        if size is not None and own:
            total, scored = total + size, scored + size * mean(own)
    return {
        "fear_greed_index": index,
        "has_fear_greed": float(index is not None),
        "weighted_coin_sentiment": scored / total if total else None,
        "has_capitalisations": has_any,
    }


def of_large_trades(minutes, rows, place):
    """What a row of a segment says of large trades."""
    row = rows[place]
    since = row["known_at"] - timedelta(days=3)
    large = volume = 0.0
    for at in range(max(place - 20, 0), place + 1):
        bar = rows[at]
        for minute in minutes[bar["ts"]]:
            told_in = [
                number
                for number, later in enumerate(rows[at : at + 2], at)
                if later["known_at"] >= minute["known_at"]
            ]
            if told_in and place - 20 < told_in[0] <= place:
                sign = np.sign(bar["close"] - bar["open"])
                large += sign * minute["large_volume"] / bar["factor"]
                volume += minute["volume"] / bar["factor"]
    known = (m["known_at"] for own in minutes.values() for m in own)
    is_alive = any(since < at <= row["known_at"] for at in known)
    return {
        "whale_sentiment_proxy": large / volume if place >= 20 and volume else None,
        "has_large_trades": float(is_alive),
    }


def check(got, expected, where):
    for name, value in expected.items():
        if value is None or got[name] is None:
            assert got[name] is value is None, (where, name, got[name], value)
        else:
            assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-9), (where, name)


def test_what_texts_and_values_say_is_what_a_loop_over_the_known_ones_finds():
    facts = seeded_facts(PRICES, 4)
    got = compute(PRICES, NAMES, facts).to_dicts()
    texts = facts.texts.to_dicts()
    for place in range(0, len(got), 5):
        row = PRICES.row(place, named=True)
        known = [t for t in texts if t["known_at"] <= row["known_at"]]
        check(got[place], of_texts(known, row), (row["symbol"], row["ts"]))
        check(got[place], of_values(facts, known, row), (row["symbol"], row["ts"]))


def test_what_large_trades_say_is_what_a_loop_over_minutes_finds():
    is_split = pl.col("ts") >= PRICES["ts"][70]
    prices = PRICES.with_columns(factor=pl.when(is_split).then(1.0).otherwise(0.25))
    facts = seeded_facts(prices, 5)
    names = ("whale_sentiment_proxy", "has_large_trades")
    got = compute(prices, names, facts).select(names).to_dicts()
    n_seen = 0
    for (_,), segment in prices.with_row_index("row").group_by("segment", maintain_order=True):
        rows = segment.to_dicts()
        minutes = defaultdict(list)
        for minute in facts.large_trades.filter(symbol=rows[0]["symbol"]).to_dicts():
            bar = next((b for b in rows if b["ts"] <= minute["ts"] < b["close_at"]), {"ts": None})
            minutes[bar["ts"]].append(minute)
        for place in range(0, len(rows), 3):
            expected = of_large_trades(minutes, rows, place)
            check(got[rows[place]["row"]], expected, rows[place]["ts"])
            n_seen += expected["whale_sentiment_proxy"] is not None
    assert n_seen > 20


def test_divergence_is_the_score_of_three_days_less_the_squeezed_move():
    facts = seeded_facts(PRICES, 6)
    got = compute(PRICES, ["sentiment_divergence_score", "return_5"], facts)
    texts = facts.texts.to_dicts()
    n_seen = 0
    for place in range(0, len(got), 2):
        row, values = PRICES.row(place, named=True), got.row(place, named=True)
        known = [t for t in texts if t["known_at"] <= row["known_at"]]
        since = row["known_at"] - timedelta(days=3)
        score = mean([t for t in known if t["known_at"] > since and row["symbol"] in t["symbols"]])
        move = values["return_5"]
        expected = None if score is None or move is None else score - math.tanh(move)
        check(values, {"sentiment_divergence_score": expected}, row["ts"])
        n_seen += expected is not None
    assert n_seen > 20


START = datetime(2020, 1, 6, tzinfo=UTC)
SYMBOLS = [FIRST, SECOND, "BTC-USD", "ETH-USD", "ELSE"]
instants = st.integers(-240, 24 * 12).map(lambda hours: START + timedelta(hours=hours))
text = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "symbols": st.lists(st.sampled_from(SYMBOLS), max_size=3),
        "weight": st.sampled_from([0.001, 0.5, 1.0, 1.0, 7.25, 1000.0]),
        "score": st.integers(-20, 20).map(lambda n: n / 20),
        "known_at": instants,
    }
)
index = st.tuples(st.integers(-8, 10), st.integers(0, 100), st.integers(0, 60))
size = st.tuples(st.sampled_from(["BTC-USD", "ETH-USD", "TOTAL", "AAPL"]), index)


def daily(ts, value, hours):
    at = START + timedelta(days=ts)
    return {"ts": at, "value": float(value), "source": "x", "known_at": at + timedelta(hours=hours)}


@st.composite
def some_facts(draw):
    texts = [{"id": f"{i:03d}", **row} for i, row in enumerate(draw(st.lists(text, max_size=25)))]
    indices = draw(st.lists(index, max_size=8, unique_by=lambda row: row[0]))
    sizes = draw(st.lists(size, max_size=8, unique_by=lambda row: (row[0], row[1][0])))
    return Facts.of(
        texts=TEXTS.conform(pl.DataFrame(texts, schema=TEXTS.columns)),
        indices=INDICES.conform(
            pl.DataFrame(
                [{"name": "fear_greed", "label": "", **daily(*row)} for row in indices],
                schema=INDICES.columns,
            )
        ),
        capitalisations=CAPITALISATIONS.conform(
            pl.DataFrame(
                [{"asset": asset, **daily(*row)} for asset, row in sizes],
                schema=CAPITALISATIONS.columns,
            )
        ),
    )


@settings(max_examples=50)
@given(facts=some_facts(), hours=st.lists(st.integers(0, 24 * 10), min_size=1, max_size=6))
def test_every_row_knows_exactly_what_was_known_then(facts, hours):
    stamps = sorted(START + timedelta(hours=h) for h in hours)
    bars = pl.concat([PRICES.filter(symbol=s).head(len(stamps)) for s in (FIRST, SECOND)])
    prices = bars.with_columns(
        known_at=pl.Series([*stamps, *stamps], dtype=bars.schema["known_at"])
    )
    texts = facts.texts.to_dicts()
    for row, got in zip(prices.to_dicts(), compute(prices, NAMES, facts).to_dicts(), strict=True):
        known = [t for t in texts if t["known_at"] <= row["known_at"]]
        check(got, of_texts(known, row), row["known_at"])
        check(got, of_values(facts, known, row), row["known_at"])
        assert got["has_large_trades"] == 0.0
