"""Facts that a stored result was made without are no part of it, however old they say they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain.frames import CAPITALISATIONS, INDICES, NEWS
from candlecast.domain.sources import FetchedRows, Request
from candlecast.domain.specs import FeatureSpec
from candlecast.pipelines.facts import ingest_facts
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.skew import measure_skew
from candlecast.pipelines.train import train
from candlecast.pipelines.training_sets import note_training_set, rebuild_training_set
from candlecast.pipelines.universe import read_market, with_facts
from candlecast.store.fact_tables import FACTS
from candlecast.store.facts import read_facts, write_facts
from candlecast.store.pins import pin_facts, read_fact_pin
from pipeline_rows import DAILY, at, closing, opened, put
from told_news import Paper
from training_rows import BARS, DAYS, SPEC

EVENING = closing(DAYS[-1]) + timedelta(hours=1)
NIGHT = EVENING + timedelta(hours=5)
OF_NEWS = replace(SPEC, features=FeatureSpec(("har_1", "har_5", "news_sentiment_score")))
GOOD = Paper("Profit surges strongly at IBM", *DAYS[-120:])
BAD = Paper("IBM warns of a loss and crashes", *DAYS[-120:])


def hours(n):
    return datetime(2026, 1, 5, tzinfo=UTC) + timedelta(hours=n)


def fear(value, known_at, ts):
    row = {"name": "fear_greed", "ts": ts, "value": value, "source": "x", "known_at": known_at}
    return INDICES.conform(pl.DataFrame([row]))


def test_news_brought_in_later_change_neither_a_training_set_nor_a_forecast_that_was_made(
    database_url, tmp_path
):
    with opened(database_url, tmp_path, EVENING) as stores:
        put(stores, BARS)
        ingest_facts(stores, "news", "good", GOOD, Request())
        assert {*read_facts(stores.database, NEWS)["known_at"]} == {*GOOD.rows["known_at"]}
        manifest, made = note_training_set(stores, OF_NEWS)
        train(stores, OF_NEWS)
        assert forecast(stores).origin == "live"
        later = at(stores, NIGHT)
        assert ingest_facts(later, "news", "bad", BAD, Request()).n_new == len(BAD.rows)
        known = read_facts(stores.database, NEWS).join(BAD.rows, on="id", how="semi")
        assert {*known["known_at"]} == {NIGHT}
        report = measure_skew(later)
        assert (report.n_vectors, report.differences, report.unchecked) == (3, [], {})
        again = rebuild_training_set(later, manifest.set_id)
        assert again.examples.X.tobytes() == made.examples.X.tobytes()


def test_what_was_told_before_any_use_keeps_its_own_time_and_prices_alone_pin_no_facts(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path, EVENING) as stores:
        put(stores, BARS)
        note_training_set(stores, SPEC)
        with_facts(stores, read_market(stores, DAILY, (), None), OF_NEWS.features.names)
        assert read_fact_pin(stores.database, "NEWS") is None
        ingest_facts(stores, "news", "bad", BAD, Request())
        assert read_facts(stores.database, NEWS)["known_at"].max() == BAD.rows["known_at"].max()
        note_training_set(stores, OF_NEWS)
        assert read_fact_pin(stores.database, "NEWS") == closing(DAYS[-1])


def test_a_set_made_where_a_source_was_absent_stays_without_it(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path, EVENING) as stores:
        put(stores, BARS)
        manifest, made = note_training_set(stores, OF_NEWS)
        ingest_facts(at(stores, NIGHT), "news", "bad", BAD, Request())
        again = rebuild_training_set(at(stores, NIGHT), manifest.set_id)
        assert again.examples.X.tobytes() == made.examples.X.tobytes()


def test_pins_of_facts_only_move_forward_and_leave_actions_out(database):
    for hour in (3, 1, 5, 4):
        pin_facts(database, hours(hour))
    pins = {kind: read_fact_pin(database, kind) for kind in FACTS}
    assert pins == {**dict.fromkeys(FACTS, hours(5)), "ACTIONS": None}


def test_only_what_is_new_and_as_old_as_a_result_is_known_from_now_on(database):
    write_facts(database, INDICES, fear(10.0, hours(1), hours(1)), hours(1))
    pin_facts(database, hours(5))
    write_facts(database, INDICES, fear(20.0, hours(2), hours(2)), hours(9))
    write_facts(database, INDICES, fear(30.0, hours(6), hours(3)), hours(9))
    write_facts(database, INDICES, fear(11.0, hours(4), hours(1)), hours(9))
    # A clock that stands where the result was made: known just after it all the same.
    write_facts(database, INDICES, fear(40.0, hours(4), hours(4)), hours(5))
    found = read_facts(database, INDICES).select("value", "known_at").rows()
    just_after = hours(5) + timedelta(microseconds=1)
    assert found == [(11.0, hours(4)), (20.0, hours(9)), (30.0, hours(6)), (40.0, just_after)]


class Sizes:
    """A provider of the sizes of a coin and of its market, known when they were so."""

    def __init__(self, *instants):
        rows = [
            {"asset": asset, "ts": ts, "value": value, "source": "x", "known_at": ts}
            for asset, value in (("BTC-USD", 1.0), ("TOTAL", 2.0))
            for ts in instants
        ]
        self.rows = CAPITALISATIONS.conform(pl.DataFrame(rows))

    def fetch_capitalisations(self, request, clock):
        return FetchedRows(self.rows)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_a_share_of_the_market_is_known_when_its_parts_are(database_url, tmp_path, is_pinned):
    with opened(database_url, tmp_path, hours(20)) as stores:
        if is_pinned:
            pin_facts(stores.database, hours(5))
        ingest_facts(stores, "capitalisations", "sizes", Sizes(hours(2), hours(8)), Request())
        told = [hours(20) if is_pinned else hours(2), hours(8)]
        for spec, n_kinds in ((CAPITALISATIONS, 2), (INDICES, 1)):
            found = read_facts(stores.database, spec)["known_at"].to_list()
            assert found == told * n_kinds
