"""What providers call a symbol: known names, the way back, and names that clash."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.market import Symbol
from candlecast.domain.tickers import (
    VENUE_DOLLARS,
    YAHOO_SUFFIXES,
    vendor_name,
    vendor_names,
)
from candlecast.errors import InvalidSpec, NotFound

PROVIDERS = ["alpaca", "binance", "coinbase", "coingecko", "files", "kraken", "yahoo"]


def crypto(ticker, **more):
    return Symbol(ticker, "crypto", "24/7", **more)


KNOWN = [
    ("yahoo", Symbol("AAPL"), "AAPL"),
    ("yahoo", Symbol("BRK.B"), "BRK-B"),
    ("yahoo", Symbol("BAC.PRL"), "BAC-PL"),
    ("yahoo", Symbol("SPY", "etf", "XNAS"), "SPY"),
    ("yahoo", Symbol("PETR4", "equity", "BVMF", "BRL"), "PETR4.SA"),
    ("yahoo", Symbol("PETR4.SA", "equity", "BVMF", "BRL"), "PETR4.SA"),
    ("yahoo", Symbol("VOD", calendar="XLON"), "VOD.L"),
    ("yahoo", Symbol("BT.A", calendar="XLON"), "BT-A.L"),
    ("yahoo", Symbol("SAP", calendar="XETR"), "SAP.DE"),
    ("yahoo", Symbol("7203", calendar="XTKS"), "7203.T"),
    ("yahoo", Symbol("700", calendar="XHKG"), "0700.HK"),
    ("yahoo", Symbol("MC", calendar="XPAR"), "MC.PA"),
    ("yahoo", Symbol("BBD.B", calendar="XTSE"), "BBD-B.TO"),
    ("yahoo", Symbol("BHP", calendar="XASX"), "BHP.AX"),
    ("yahoo", crypto("BTC-USD"), "BTC-USD"),
    ("yahoo", crypto("UNI-USD"), "UNI7083-USD"),
    ("yahoo", Symbol("EUR-USD", "fx", "24/5"), "EURUSD=X"),
    ("yahoo", Symbol("EURUSD", "fx", "24/5"), "EURUSD=X"),
    ("yahoo", Symbol("^GSPC", "index"), "^GSPC"),
    ("yahoo", Symbol("DJI", "index"), "^DJI"),
    ("yahoo", Symbol("IBOV", "index", "BVMF", aliases=(("yahoo", "^BVSP"),)), "^BVSP"),
    ("alpaca", Symbol("BRK.B"), "BRK.B"),
    ("alpaca", crypto("BTC-USD"), "BTC/USD"),
    ("binance", crypto("BTC-USD"), "BTC/USDT"),
    ("binance", crypto("ETH-BTC"), "ETH/BTC"),
    ("coinbase", crypto("BTC-USD"), "BTC/USD"),
    ("kraken", crypto("BTC-EUR"), "BTC/EUR"),
    ("coingecko", crypto("ETH-USD"), "ethereum"),
    ("coingecko", crypto("NEW-USD", aliases=(("coingecko", "new-coin"),)), "new-coin"),
    ("files", Symbol("BRK.B"), "BRK.B"),
]


@pytest.mark.parametrize(("provider", "symbol", "name"), KNOWN)
def test_known_names_are_found_both_ways(provider, symbol, name):
    assert vendor_name(provider, symbol) == name
    assert vendor_names(provider, [symbol]) == ({name: symbol.ticker}, {})


def test_an_alias_counts_for_its_own_provider_only():
    symbol = Symbol("GOOG", aliases=(("yahoo", "GOOG.MX"),))
    assert vendor_name("yahoo", symbol) == "GOOG.MX"
    assert vendor_name("alpaca", symbol) == "GOOG"


@pytest.mark.parametrize(
    ("provider", "symbol"),
    [
        ("alpaca", Symbol("VOD", calendar="XLON")),
        ("alpaca", Symbol("^GSPC", "index")),
        ("binance", Symbol("AAPL")),
        ("coingecko", crypto("BTC-EUR")),
        ("coingecko", crypto("NOBODYKNOWS-USD")),
        ("yahoo", Symbol("X", calendar="XXXX")),
    ],
)
def test_what_a_provider_does_not_trade_has_no_name_there(provider, symbol):
    with pytest.raises(NotFound, match="ask another provider, or give the symbol an alias"):
        vendor_name(provider, symbol)
    names, failures = vendor_names(provider, [symbol])
    assert names == {}
    assert provider in failures[symbol.ticker]


def test_a_crypto_ticker_that_is_no_pair_is_refused():
    with pytest.raises(InvalidSpec, match="write base-quote"):
        vendor_name("binance", crypto("BTCUSD"))


def test_two_symbols_of_one_name_are_never_told_apart_by_luck():
    twins = [crypto("BTC-USD"), crypto("BTC-USDT"), crypto("ETH-USD")]
    names, failures = vendor_names("binance", twins)
    assert names == {"ETH/USDT": "ETH-USD"}
    assert set(failures) == {"BTC-USD", "BTC-USDT"}
    for reason in failures.values():
        assert "BTC-USD and BTC-USDT are all called 'BTC/USDT'" in reason


roots = st.from_regex(r"[A-Z]{1,5}(\.[A-Z])?", fullmatch=True)
stocks = st.builds(Symbol, roots, st.just("equity"), st.sampled_from(sorted(YAHOO_SUFFIXES)))
pairs = st.builds(
    crypto,
    st.builds(
        "{}-{}".format,
        st.from_regex(r"[A-Z0-9]{2,5}", fullmatch=True),
        st.sampled_from(["USD", "USDT", "EUR", "BTC"]),
    ),
)


@settings(max_examples=50)
@given(
    st.sampled_from([*PROVIDERS, *VENUE_DOLLARS]),
    st.lists(st.one_of(stocks, pairs), unique_by=lambda symbol: symbol.ticker, max_size=8),
)
def test_every_symbol_comes_back_or_is_said_to_fail(provider, symbols):
    names, failures = vendor_names(provider, symbols)
    assert set(names.values()) | set(failures) == {symbol.ticker for symbol in symbols}
    assert not set(names.values()) & set(failures)
    by_ticker = {symbol.ticker: symbol for symbol in symbols}
    for name, ticker in names.items():
        assert vendor_name(provider, by_ticker[ticker]) == name


def test_the_venues_with_dollars_are_those_of_ccxt():
    ccxt = pytest.importorskip("ccxt")
    assert not {*VENUE_DOLLARS} - {*ccxt.exchanges}
