"""Facts besides bars, coverage, quarantine and quotes; on both databases."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.frames import ACTIONS, BARS, INDICES, INSTANT, NEWS, QUARANTINE, QUOTES
from candlecast.domain.market import Symbol, Timeframe
from candlecast.errors import NotFound
from candlecast.store.bars import (
    Coverage,
    PinnedMeanwhile,
    read_bars,
    write_bars,
    write_symbols,
)
from candlecast.store.coverage import merged_spans, read_coverage
from candlecast.store.facts import read_facts, read_progress, write_facts, write_progress
from candlecast.store.pins import pin, read_pins
from candlecast.store.quarantine import read_quarantine, write_quarantine
from candlecast.store.quotes import read_quotes, write_quotes
from candlecast.store.symbols import read_symbols

MINUTE, DAILY = Timeframe.parse("1m"), Timeframe.parse("1d")
DAY = datetime(2024, 5, 6, tzinfo=UTC)


def hours(count):
    return DAY + timedelta(hours=count)


@pytest.fixture
def database(database):
    write_symbols(database, [Symbol("A"), Symbol("B")])
    return database


def split(value, known_at, symbol="A", ex_date=DAY):
    row = {
        "symbol": symbol,
        "ex_date": ex_date,
        "kind": "split",
        "value": value,
        "source": "test",
        "known_at": known_at,
    }
    return ACTIONS.conform(pl.DataFrame([row]))


def test_each_version_of_a_fact_is_read_as_it_was_known(database):
    versions = {1: 7.0, 5: 4.0, 9: 7.0}
    for hour, value in versions.items():
        assert write_facts(database, ACTIONS, split(value, hours(hour))) == 1
    for hour in range(12):
        seen = read_facts(database, ACTIONS, as_of=hours(hour))
        known = [value for at, value in versions.items() if at <= hour]
        assert seen["value"].to_list() == known[-1:]
    assert read_facts(database, ACTIONS)["known_at"].to_list() == [hours(9)]


def test_a_fact_that_says_nothing_new_or_comes_from_before_adds_nothing(database):
    assert write_facts(database, ACTIONS, split(7.0, hours(5))) == 1
    assert write_facts(database, ACTIONS, split(7.0, hours(6))) == 0
    assert write_facts(database, ACTIONS, split(2.0, hours(4))) == 0
    assert read_facts(database, ACTIONS).equals(split(7.0, hours(5)))


def test_facts_are_chosen_by_symbol_and_by_the_time_they_are_about(database):
    later = DAY + timedelta(days=3)
    rows = pl.concat([split(2.0, hours(1)), split(3.0, hours(1), "B", later)])
    write_facts(database, ACTIONS, ACTIONS.conform(rows))
    assert read_facts(database, ACTIONS, symbols=["B"])["symbol"].to_list() == ["B"]
    assert read_facts(database, ACTIONS, end=later)["symbol"].to_list() == ["A"]
    assert read_facts(database, ACTIONS, start=later)["symbol"].to_list() == ["B"]
    with pytest.raises(NotFound, match="unknown symbol 'C'"):
        read_facts(database, ACTIONS, symbols=["C"])
    with pytest.raises(NotFound, match="unknown symbol 'C'"):
        write_facts(database, ACTIONS, split(2.0, hours(1), "C"))


def test_news_keep_their_lists_of_tickers(database):
    def item(name, symbols):
        said = {"id": name, "headline": f"{name}, it says", "source": "wire", "symbols": symbols}
        return {**said, "published_at": DAY, "summary": None, "url": None, "known_at": DAY}

    rows = [item("one", ["A", "BRK.B"]), item("two", []), item("three", ["B"])]
    frame = NEWS.conform(pl.DataFrame(rows, schema_overrides={"symbols": pl.List(pl.String)}))
    assert write_facts(database, NEWS, frame) == 3
    assert read_facts(database, NEWS).equals(frame)
    assert read_facts(database, NEWS, symbols=["BRK.B"])["id"].to_list() == ["one"]


def test_an_index_has_no_symbol_and_needs_none(database):
    row = {"name": "fear_greed", "ts": DAY, "value": 40.0, "label": "Fear", "source": "x"}
    frame = INDICES.conform(pl.DataFrame([{**row, "known_at": hours(1)}]))
    assert write_facts(database, INDICES, frame) == 1
    assert read_facts(database, INDICES).equals(frame)
    assert read_facts(database, INDICES, as_of=DAY).is_empty()


def test_progress_is_remembered_for_each_kind_and_provider(database):
    write_progress(database, "NEWS", "wire", {"": (DAY, hours(2))})
    write_progress(database, "NEWS", "wire", {"": (DAY, hours(3)), "A": (DAY, hours(1))})
    assert read_progress(database, "NEWS", "wire") == {
        "": (DAY, hours(3)),
        "A": (DAY, hours(1)),
    }
    assert read_progress(database, "ACTIONS", "wire") == {}


def covered(symbol, start, end, source="x"):
    row = {"symbol": symbol, "start_at": hours(start), "end_at": hours(end), "source": source}
    kinds = {"start_at": INSTANT, "end_at": INSTANT}
    return Coverage(pl.DataFrame([row], schema_overrides=kinds), hours(end))


def test_spans_that_touch_become_one_and_sources_do_not_matter_to_the_reader(database):
    parts = [("A", 0, 2), ("A", 2, 3), ("A", 5, 6), ("B", 1, 2), ("A", 3, 4, "other"), ("A", 5, 7)]
    for part in parts:
        write_bars(database, MINUTE, BARS.empty(), covered(*part))
    assert read_coverage(database, MINUTE).rows() == [
        ("A", hours(0), hours(4)),
        ("A", hours(5), hours(7)),
        ("B", hours(1), hours(2)),
    ]
    assert read_coverage(database, MINUTE, ["B"])["symbol"].to_list() == ["B"]
    assert read_coverage(database, DAILY).is_empty()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=12))
def test_merged_spans_hold_the_same_hours_and_never_touch(spans):
    rows = [("A", hours(start), hours(start + length)) for start, length in spans]
    schema = {"symbol": pl.String, "start_at": INSTANT, "end_at": INSTANT}
    merged = merged_spans(pl.DataFrame(rows, schema=schema, orient="row"), ["symbol"])
    inside = {start + step for start, length in spans for step in range(length)}
    again = {
        hour
        for hour in range(60)
        for _, start, end in merged.iter_rows()
        if start <= hours(hour) < end
    }
    assert again == inside
    ends, starts = merged["end_at"][:-1], merged["start_at"][1:]
    assert all(end < start for end, start in zip(ends, starts, strict=True))


def test_the_pin_only_moves_forward(database):
    assert read_pins(database, DAILY).is_empty()
    for hour in (3, 1, 5, 4):
        pin(database, DAILY, ["A"], hours(hour))
    pin(database, DAILY, ["B"], hours(2))
    assert read_pins(database, DAILY).rows() == [("A", hours(5)), ("B", hours(2))]
    assert read_pins(database, MINUTE).is_empty()


def test_bars_stamped_before_a_result_was_made_of_them_are_not_written(database):
    row = {"symbol": "A", "ts": DAY, "source": "x", "known_at": hours(1), "volume": 1.0}
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    bars = BARS.conform(pl.DataFrame([{**row, **prices}]))
    pins = read_pins(database, MINUTE)
    pin(database, MINUTE, ["A"], hours(1))
    with pytest.raises(PinnedMeanwhile):
        write_bars(database, MINUTE, bars, pins=pins)
    assert read_bars(database, MINUTE).is_empty()
    assert write_bars(database, MINUTE, bars, pins=read_pins(database, MINUTE)).inserted == 1


def test_what_is_quarantined_is_kept_with_its_reason_and_when_it_was_first_seen(database):
    row = {"symbol": "A", "source": "files", "place": "a.csv:3", "ts": DAY, "open": 1.0}
    rows = QUARANTINE.conform(pl.DataFrame([{**row, "high": None, "reason": "no high"}]))
    assert write_quarantine(database, DAILY, rows, hours(1)) == 1
    assert write_quarantine(database, DAILY, rows, hours(2)) == 0
    kept = read_quarantine(database, DAILY)
    assert kept.drop("seen_at").equals(rows)
    assert kept["seen_at"].to_list() == [hours(1)]
    assert read_quarantine(database, DAILY, ["B"]).is_empty()


def test_the_last_quote_and_the_last_trade_stand_side_by_side(database):
    def quote(known_at, **values):
        return QUOTES.conform(
            pl.DataFrame([{"symbol": "A", "source": "x", "known_at": known_at, **values}])
        )

    write_quotes(database, quote(hours(1), bid=9.0, ask=11.0, quote_at=hours(1)))
    write_quotes(database, quote(hours(2), price=10.0, size=5.0, trade_at=hours(2)))
    (row,) = read_quotes(database).to_dicts()
    assert (row["bid"], row["ask"], row["price"]) == (9.0, 11.0, 10.0)
    assert (row["quote_at"], row["trade_at"]) == (hours(1), hours(2))
    assert write_quotes(database, quote(hours(1), price=99.0, trade_at=hours(1))) == 0
    assert read_quotes(database)["price"].to_list() == [10.0]


def test_a_symbol_keeps_its_providers_and_other_names(database):
    symbol = Symbol(
        "PETR4",
        calendar="BVMF",
        currency="BRL",
        providers=("yahoo", "files"),
        aliases=(("yahoo", "PETR4.SA"), ("other", "PETR4=X")),
    )
    write_symbols(database, [symbol])
    assert [s for s in read_symbols(database) if s.ticker == "PETR4"] == [symbol]
