"""What is said of symbols is kept to the letter, or refused before anything is stored."""

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.domain.market import Symbol
from candlecast.domain.tickers import vendor_name
from candlecast.errors import NotFound
from candlecast.store.database import Database
from candlecast.store.symbols import chosen, read_symbols, write_symbols
from command_line import call

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
symbols = st.builds(
    Symbol,
    names,
    providers=st.lists(names, max_size=3).map(tuple),
    aliases=st.lists(st.tuples(names, names), max_size=3).map(tuple),
)


class Counted(str):
    """A ticker that counts how often it is compared."""

    __slots__ = ()
    n_compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.n_compared += 1
        return str.__eq__(self, other)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(given_symbol=symbols)
def test_providers_and_other_names_come_back_whatever_stands_in_them(database, given_symbol):
    write_symbols(database, [given_symbol])
    stored = {symbol.ticker: symbol for symbol in read_symbols(database)}
    assert stored[given_symbol.ticker] == given_symbol


def test_choosing_symbols_takes_no_more_looks_than_there_are_symbols():
    n = 400
    tickers = [f"S{number:04}" for number in range(n)]
    ids = pl.DataFrame({"symbol_id": range(n), "symbol": tickers})
    Counted.n_compared = 0
    found = chosen(ids, [Counted(ticker) for ticker in reversed(tickers)])
    assert found["symbol"].to_list() == tickers
    assert Counted.n_compared < 10 * n
    assert chosen(ids, ["S0003", "S0003"])["symbol_id"].to_list() == [3]
    with pytest.raises(NotFound, match="'S000Z'; did you mean"):
        chosen(ids, ["S0001", "S000Z"])


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path))
    return tmp_path


def stored(home):
    opened = Database.open(f"sqlite:///{home}/candlecast.db")
    opened.upgrade()
    try:
        return read_symbols(opened)
    finally:
        opened.close()


def test_a_name_with_a_comma_is_what_the_provider_is_asked_for(home):
    said = ("--alias", "yahoo=A,B", "--alias", "alpaca=C=D", "--providers", "yahoo,alpaca,yahoo")
    assert call("symbols", "set", "PETR4", *said).code == 0
    (symbol,) = stored(home)
    assert vendor_name("yahoo", symbol) == "A,B"
    assert vendor_name("alpaca", symbol) == "C=D"
    assert symbol.providers == ("yahoo", "alpaca")
    told = call("symbols", "list", "--json").json()[0]
    assert told["aliases"] == [["yahoo", "A,B"], ["alpaca", "C=D"]]


@pytest.mark.parametrize("venue", ["exchange", "kraken", "phemex"])
def test_an_exchange_is_a_provider_by_its_own_name(home, venue):
    answer = call("symbols", "set", "BTC-USD", "--alias", f"{venue}=XBT/USD")
    assert (answer.code, answer.err) == (0, "")
    assert vendor_name(venue, stored(home)[0]) == "XBT/USD"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("",), "no ticker"),
        ((" ",), "no ticker"),
        ((" A",), "no ticker"),
        (("A ",), "no ticker"),
        (("A,B",), "no ticker"),
        (("X", "--asset-class", "banana"), "equity, etf, crypto, index, fx"),
        (("X", "--alias", "yahooo=X.SA"), "did you mean yahoo"),
        (("X", "--alias", "yahoo="), "yahoo=NAME"),
        (("X", "--providers", "yaho"), "did you mean yahoo"),
        (("X", "--providers", "simulated,alpaca"), "name it last"),
        (("X", "--providers", "synthetic,simulated"), "name it last"),
    ],
)
def test_what_cannot_be_meant_of_a_symbol_is_refused_and_not_stored(home, arguments, said):
    answer = call("symbols", "set", *arguments)
    assert answer.code == 2
    (only,) = answer.err.splitlines()
    assert only.startswith("error: ")
    assert said in only
    assert stored(home) == []


@pytest.mark.parametrize("asset_class", ["equity", "etf", "crypto", "index", "fx"])
def test_a_simulated_provider_may_come_last_for_every_class(home, asset_class):
    said = ("--providers", "yahoo,simulated", "--asset-class", asset_class)
    assert call("symbols", "set", "X", *said).code == 0
    (symbol,) = stored(home)
    assert (symbol.asset_class, symbol.providers) == (asset_class, ("yahoo", "simulated"))
