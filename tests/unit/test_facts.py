"""Facts: checked when made, cut by when they were known, and empty where nothing was said."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import timedelta

import polars as pl
import pytest

from candlecast.domain.facts import Facts
from candlecast.domain.frames import CAPITALISATIONS, INDICES, LARGE_TRADES, TEXTS
from candlecast.errors import BadFrame
from fact_frames import seeded_facts

SPECS = {
    "texts": TEXTS,
    "indices": INDICES,
    "capitalisations": CAPITALISATIONS,
    "large_trades": LARGE_TRADES,
}


@pytest.fixture(scope="module")
def facts(prices):
    return seeded_facts(prices)


def test_no_facts_are_empty_frames_of_their_kinds():
    for none in (Facts.none(), Facts.of()):
        assert none.is_empty
        for name, spec in SPECS.items():
            assert getattr(none, name).equals(spec.empty())


@pytest.mark.parametrize("name", SPECS)
def test_one_source_that_speaks_makes_them_not_empty(facts, name):
    assert not Facts.of(**{name: getattr(facts, name)}).is_empty


@pytest.mark.parametrize("name", SPECS)
def test_a_frame_of_another_kind_is_refused(facts, name):
    with pytest.raises(BadFrame, match=SPECS[name].name):
        Facts.of(**{name: getattr(facts, name).drop("known_at")})


@pytest.mark.parametrize("name", SPECS)
def test_a_frame_out_of_order_or_with_a_fact_twice_is_refused(facts, name):
    frame = getattr(facts, name).head(2)
    for wrong in (frame.reverse(), pl.concat([frame.head(1)] * 2)):
        with pytest.raises(BadFrame, match=f"{SPECS[name].name} (is not sorted|holds)"):
            Facts.of(**{name: wrong})


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("texts", "score", 1.01),
        ("texts", "score", float("nan")),
        ("texts", "weight", 0.0),
        ("texts", "weight", float("inf")),
        ("texts", "kind", "rumour"),
        ("indices", "value", float("nan")),
        ("capitalisations", "value", float("inf")),
        ("large_trades", "large_volume", -1.0),
        ("large_trades", "volume", 0.0),
    ],
)
def test_a_row_that_cannot_be_true_is_refused_with_its_key(facts, name, column, value):
    frame = getattr(facts, name).head(3)
    is_second = pl.int_range(pl.len()) == 1
    wrong = frame.with_columns(
        pl.when(is_second).then(pl.lit(value)).otherwise(column).alias(column)
    )
    key = SPECS[name].key[0]
    with pytest.raises(BadFrame, match=str(frame[key][1])):
        Facts.of(**{name: wrong})


def test_what_was_known_by_an_instant_is_every_fact_stamped_until_then(facts, prices):
    for instant in prices["known_at"].unique().sort()[[3, 200, 400]]:
        known = facts.known_by(instant)
        for name in SPECS:
            before, after = getattr(facts, name), getattr(known, name)
            assert (after["known_at"] <= instant).all()
            assert len(after) == (before["known_at"] <= instant).sum()


def test_the_instant_itself_is_included_and_the_one_before_is_not(facts):
    at = facts.indices["known_at"].sort()[50]
    n_known = (facts.indices["known_at"] <= at).sum()
    assert len(facts.known_by(at).indices) == n_known
    assert len(facts.known_by(at - timedelta(microseconds=1)).indices) < n_known


def test_facts_cannot_be_changed(facts):
    with pytest.raises(FrozenInstanceError):
        facts.texts = TEXTS.empty()
    assert [field.name for field in fields(facts)] == list(SPECS)
