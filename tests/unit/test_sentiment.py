"""Sentiment features look ahead nowhere and forget nothing that they need."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.domain.frames import FEATURES as FRAME
from candlecast.domain.frames import PRICES as PRICES_SPEC
from candlecast.domain.frames import TEXTS
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.features.compute import compute, newest
from candlecast.validation.causality import audit_features
from fact_frames import seeded_facts
from price_frames import daily_prices, prices_of, stamped

ENTRIES = [e for e in map(FEATURES.get, FEATURES.names()) if e.table == "sentiment"]
NAMES = [entry.name for entry in ENTRIES]
PRICES = daily_prices(seed=7, n_symbols=3, n_sessions=200)
FIRST, SECOND, THIRD = PRICES["symbol"].unique().sort()
WHOLE = seeded_facts(PRICES, 1)
VALUES = compute(PRICES, NAMES, WHOLE)
STAMPS = PRICES["known_at"].unique().sort()


def trades_of(facts, symbol):
    """The facts without the large trades of other symbols."""
    return replace(facts, large_trades=facts.large_trades.filter(symbol=symbol))


def minute_prices(n_sessions=4):
    """PRICES of one-minute bars, a few hours of each of some sessions."""
    rng = np.random.default_rng(8)
    opens = [
        stamp.replace(hour=15, minute=0) + timedelta(minutes=m)
        for stamp in STAMPS[:n_sessions]
        for m in range(120)
    ]
    walk = 50 * np.exp(np.cumsum(rng.normal(0, 1e-3, (2, len(opens))), axis=1))
    frames = [
        pl.DataFrame(
            {
                "symbol": symbol,
                "ts": pl.Series(opens, dtype=STAMPS.dtype),
                "open": line * np.exp(rng.normal(0, 1e-3, len(line))),
                "high": line * 1.01,
                "low": line * 0.99,
                "close": line,
                "volume": 1e4,
            }
        )
        for symbol, line in zip((FIRST, SECOND), walk, strict=True)
    ]
    timeframe = Timeframe.parse("1m")
    bars = stamped(pl.concat(frames), timeframe, trading_calendar("XNYS"))
    return prices_of(bars, timeframe)


def nonsense(facts, instant):
    """The same facts, those known later than `instant` unlike the true ones, and new ones."""
    is_later = pl.col("known_at") > instant
    texts = facts.texts.with_columns(
        score=pl.when(is_later).then(-pl.col("score")).otherwise("score"),
        weight=pl.when(is_later).then(pl.col("weight") * 7).otherwise("weight"),
        symbols=pl.when(is_later).then(pl.lit([FIRST, SECOND])).otherwise("symbols"),
    )
    added = facts.texts.filter(is_later).with_columns(id="new" + pl.col("id"))
    values = pl.when(is_later).then(pl.col("value") / 3).otherwise("value").alias("value")
    large = pl.when(is_later).then(pl.col("volume")).otherwise("large_volume")
    return Facts.of(
        texts=TEXTS.conform(pl.concat([texts, added])),
        indices=facts.indices.with_columns(values),
        capitalisations=facts.capitalisations.with_columns(values),
        large_trades=facts.large_trades.with_columns(large.alias("large_volume")),
    )


def test_the_fixture_gives_every_feature_something_to_say():
    for name in NAMES:
        assert VALUES[name].null_count() < 0.9 * len(VALUES), name
        assert VALUES[name].n_unique() > (1 if name.startswith("has_") else 5), name


@settings(max_examples=15)
@given(place=st.integers(5, len(STAMPS) - 2), offset=st.integers(-40, 40))
def test_cutting_the_future_changes_no_bit_of_the_past(place, offset):
    instant = STAMPS[place] + timedelta(hours=offset)
    past = VALUES.filter(pl.col("as_of") <= instant)
    cut = compute(PRICES.filter(pl.col("known_at") <= instant), NAMES, WHOLE.known_by(instant))
    assert cut.equals(past, null_equal=True)
    perturbed = compute(PRICES, NAMES, nonsense(WHOLE, instant))
    assert perturbed.filter(pl.col("as_of") <= instant).equals(past, null_equal=True)
    assert not perturbed.equals(VALUES, null_equal=True)


def test_the_audit_of_prices_finds_no_look_ahead_and_no_leak_between_symbols():
    cuts = [STAMPS[90], STAMPS[150]]
    assert audit_features(compute, PRICES, NAMES, cuts, facts=WHOLE) == []


@settings(max_examples=10)
@given(place=st.integers(30, len(STAMPS) - 2))
def test_older_facts_than_the_windows_change_no_bit(place):
    # Features of texts look back 28 days; the large trades of 20 bars stay, as the bars do.
    since = STAMPS[place] - timedelta(days=28)
    frames = (WHOLE.texts, WHOLE.indices, WHOLE.capitalisations)
    recent = Facts(*(f.filter(pl.col("known_at") > since) for f in frames), WHOLE.large_trades)
    rows = pl.col("as_of") >= STAMPS[place]
    assert compute(PRICES, NAMES, recent).filter(rows).equals(VALUES.filter(rows), null_equal=True)


@pytest.mark.parametrize("prices", [PRICES, minute_prices()], ids=["daily", "minutes"])
def test_the_newest_row_is_the_last_one_of_all_history(prices):
    facts = seeded_facts(prices, 2)
    values = compute(prices, NAMES, facts)
    last = values.group_by("symbol", maintain_order=True).last()
    for row in (newest(prices, NAMES, facts), newest(prices, NAMES, trades_of(facts, FIRST))):
        exact = [name for name in NAMES if name != "sentiment_divergence_score"]
        got, expected = (f.filter(symbol=FIRST) for f in (row, last))
        assert got.select(exact).equals(expected.select(exact), null_equal=True)
        divergence = [f["sentiment_divergence_score"].to_numpy() for f in (got, expected)]
        np.testing.assert_allclose(*divergence, rtol=1e-6)


def test_facts_are_seen_by_bars_of_a_minute_as_soon_as_they_are_known():
    prices = minute_prices()
    own = prices.filter(symbol=FIRST)
    at = own["known_at"][60]
    one = pl.DataFrame({"id": "1", "kind": "news", "symbols": [[FIRST]], "weight": 1.0})
    text = TEXTS.conform(one.with_columns(score=0.5, known_at=pl.lit(at).cast(STAMPS.dtype)))
    seen = compute(prices, ["news_sentiment_score"], Facts.of(texts=text))
    is_recent = pl.col("known_at").is_between(at, at + timedelta(days=3), closed="left")
    expected = pl.when(is_recent).then(0.5)
    assert seen.filter(symbol=FIRST)["news_sentiment_score"].equals(
        own.select(expected.alias("news_sentiment_score")).to_series(), null_equal=True
    )
    assert seen.filter(symbol=SECOND)["news_sentiment_score"].null_count() == len(own)


def test_the_order_of_what_was_known_does_not_hang_on_its_ids():
    rng = np.random.default_rng(3)
    shuffled = WHOLE.texts.with_columns(id=pl.Series(rng.permutation(WHOLE.texts["id"])))
    again = replace(WHOLE, texts=TEXTS.conform(shuffled))
    assert compute(PRICES, NAMES, again).equals(VALUES, null_equal=True)


def test_an_item_that_names_a_symbol_twice_counts_once():
    doubled = WHOLE.texts.with_columns(pl.col("symbols").list.concat("symbols"))
    again = compute(PRICES, NAMES, replace(WHOLE, texts=doubled))
    assert again.equals(VALUES, null_equal=True)


def test_the_three_shares_make_one_and_every_value_is_in_its_range():
    shares = [name for name in NAMES if name.endswith("_ratio")]
    total = VALUES.select(pl.sum_horizontal(shares).alias("total")).filter(
        VALUES["bullish_sentiment_ratio"].is_not_null()
    )
    np.testing.assert_allclose(total["total"], 1.0, rtol=1e-15)
    assert VALUES.select(pl.col(shares).is_between(0, 1)).to_series().all()


def test_whatever_the_prices_every_value_is_finite_and_in_the_range_it_states(nasty):
    for prices in (PRICES, nasty):
        values = compute(prices, NAMES, seeded_facts(prices, 9))
        for entry in ENTRIES:
            text = inspect.getdoc(entry.expression)
            low, high = map(float, re.search(r"in \[(-?[\d.]+), (-?[\d.]+)\]", text).groups())
            told = values[entry.name].drop_nulls()
            assert len(told), entry.name
            assert told.is_between(low, high).all(), entry.name


def test_a_score_of_a_twentieth_takes_no_side_and_a_little_more_does():
    known_at = pl.Series([STAMPS[10]] * 4, dtype=STAMPS.dtype)
    rows = {"id": ["a", "b", "c", "d"], "kind": "news", "symbols": [[FIRST]] * 4, "weight": 1.0}
    scores = {"score": [0.05, -0.05, 0.0501, -0.0501], "known_at": known_at}
    facts = Facts.of(texts=TEXTS.conform(pl.DataFrame({**rows, **scores})))
    shares = [f"{side}_sentiment_ratio" for side in ("bullish", "bearish", "neutral")]
    row = compute(PRICES, shares, facts).filter(symbol=FIRST).drop_nulls().select(shares).row(0)
    assert row == (0.25, 0.25, 0.5)


def test_one_loud_voice_is_not_heard_more_than_a_thousand_times():
    rows = {"kind": "post", "symbols": [[FIRST]] * 3, "score": [1.0, -1.0, -1.0]}
    known_at = pl.Series([STAMPS[10]] * 3, dtype=STAMPS.dtype)
    for loud, quiet in ((1000.0, 1.0), (1e300, 1.0), (1000.0, 1.0)):
        weights = {"id": ["a", "b", "c"], "weight": [loud, quiet, quiet], "known_at": known_at}
        facts = Facts.of(texts=TEXTS.conform(pl.DataFrame({**rows, **weights})))
        score = compute(PRICES, ["social_sentiment_score"], facts)["social_sentiment_score"]
        assert score.drop_nulls()[0] == pytest.approx(998 / 1002, abs=1e-12)


def test_no_prices_give_no_rows_but_every_column():
    values = FRAME.check(compute(PRICES_SPEC.empty(), NAMES, WHOLE))
    assert values.shape == (0, 3 + len(NAMES))


def test_the_facts_of_its_symbols_are_all_that_a_row_needs():
    alone = PRICES.filter(symbol=SECOND)
    values = compute(alone, NAMES, trades_of(WHOLE, SECOND))
    assert values.equals(VALUES.filter(symbol=SECOND), null_equal=True)


def test_nothing_given_is_changed():
    before = (PRICES.clone(), WHOLE.texts.clone(), WHOLE.large_trades.clone())
    compute(PRICES, NAMES, WHOLE)
    assert PRICES.equals(before[0])
    assert WHOLE.texts.equals(before[1])
    assert WHOLE.large_trades.equals(before[2])
