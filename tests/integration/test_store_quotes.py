"""The last quote and the last trade: each as new as it is told, whatever comes late."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import polars as pl
import pytest

from candlecast.domain.frames import QUOTES
from candlecast.domain.market import Symbol
from candlecast.store.quotes import read_quotes, write_quotes
from candlecast.store.symbols import write_symbols


def hour(count):
    return datetime(2024, 5, 6, tzinfo=UTC) + timedelta(hours=count)


def row(known, symbol="A", **values):
    told = {"symbol": symbol, "source": f"known {known}", "known_at": hour(known), **values}
    return QUOTES.conform(pl.DataFrame([told]))


@pytest.fixture
def quoted(database):
    write_symbols(database, [Symbol("A"), Symbol("B")])
    return database


def test_an_older_trade_that_is_known_later_replaces_nothing(quoted):
    write_quotes(quoted, row(2, price=10.0, size=1.0, trade_at=hour(2)))
    before = read_quotes(quoted)
    assert write_quotes(quoted, row(3, price=9.0, size=2.0, trade_at=hour(1))) == 0
    assert read_quotes(quoted).equals(before)


def test_of_a_row_with_an_older_trade_and_a_newer_quote_the_quote_counts(quoted):
    write_quotes(quoted, row(2, price=10.0, size=1.0, trade_at=hour(2)))
    both = {"bid": 8.0, "ask": 9.0, "quote_at": hour(3), "price": 7.0, "trade_at": hour(1)}
    assert write_quotes(quoted, row(3, **both)) == 1
    (found,) = read_quotes(quoted).to_dicts()
    assert (found["bid"], found["ask"], found["quote_at"]) == (8.0, 9.0, hour(3))
    assert (found["price"], found["size"], found["trade_at"]) == (10.0, 1.0, hour(2))
    assert (found["source"], found["known_at"]) == ("known 3", hour(3))


def test_a_quote_is_never_put_together_of_two(quoted):
    write_quotes(quoted, row(1, bid=8.0, ask=9.0, quote_at=hour(1)))
    write_quotes(quoted, row(2, ask=7.0, quote_at=hour(2)))
    (found,) = read_quotes(quoted).to_dicts()
    assert (found["bid"], found["ask"]) == (None, 7.0)


def test_a_correction_of_one_trade_counts_if_it_is_known_later(quoted):
    write_quotes(quoted, row(2, price=10.0, trade_at=hour(1)))
    assert write_quotes(quoted, row(1, price=9.0, trade_at=hour(1))) == 0
    assert write_quotes(quoted, row(3, price=11.0, trade_at=hour(1))) == 1
    assert read_quotes(quoted)["price"].to_list() == [11.0]


def test_what_is_told_without_a_time_is_as_old_as_it_is_known(quoted):
    write_quotes(quoted, row(2, price=10.0))
    assert write_quotes(quoted, row(3, price=9.0, trade_at=hour(1))) == 0
    assert write_quotes(quoted, row(4, price=12.0)) == 1
    assert read_quotes(quoted)["price"].to_list() == [12.0]


def test_the_order_of_arrival_does_not_matter(quoted):
    rows = [
        row(1, bid=1.0, ask=2.0, quote_at=hour(1)),
        row(2, price=3.0, trade_at=hour(2), bid=4.0, ask=5.0, quote_at=hour(0)),
        row(3, price=6.0, trade_at=hour(1)),
    ]
    for number, order in enumerate(permutations(rows)):
        ticker = f"S{number}"
        write_symbols(quoted, [Symbol(ticker)])
        for each in order:
            write_quotes(quoted, each.with_columns(symbol=pl.lit(ticker)))
        (found,) = read_quotes(quoted, [ticker]).to_dicts()
        assert (found["bid"], found["ask"], found["price"]) == (1.0, 2.0, 3.0)


def test_other_symbols_keep_theirs(quoted):
    write_quotes(quoted, row(1, "B", price=1.0, trade_at=hour(1)))
    write_quotes(quoted, row(2, "A", price=2.0, trade_at=hour(2)))
    assert read_quotes(quoted)["price"].to_list() == [2.0, 1.0]
