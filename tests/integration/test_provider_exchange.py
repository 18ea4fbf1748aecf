"""Crypto exchanges through ccxt, against a local server that speaks as Binance and Coinbase do."""

from datetime import timedelta

import numpy as np
import pytest

from candlecast.domain.frames import QUOTES
from candlecast.domain.market import FixedClock, Symbol, SystemClock, Timeframe
from candlecast.domain.sources import BarSource, QuoteSource, Request
from candlecast.domain.tickers import VENUE_DOLLARS
from candlecast.errors import InvalidSpec
from candlecast.providers.exchange import BinanceProvider, CoinbaseProvider
from fakes.exchange_server import ExchangeServer, Market
from integration.exchange_rows import (
    BTC,
    ETH,
    HURRIED,
    NOW,
    PROVIDERS,
    ask,
    at,
    minutes_of,
    rows_of,
)


@pytest.fixture
def server():
    with ExchangeServer(NOW) as server:
        market = Market(minutes_of(at("2024-12-01T00:00"), 2500))
        server.markets |= {"BTC-USDT": market, "BTC-USD": market}
        yield server


@pytest.fixture(params=["binance", "coinbase"])
def venue(request):
    return request.param


@pytest.fixture
def provider(server, venue):
    return PROVIDERS[venue](base_url=server.url, politeness=HURRIED)


def test_it_offers_bars_and_quotes(provider):
    assert isinstance(provider, BarSource)
    assert isinstance(provider, QuoteSource)
    assert provider.usual_calendar == BTC.calendar


@pytest.mark.parametrize("timeframe", ["1m", "5m", "10m", "15m", "30m", "1h", "4h", "1d"])
def test_each_timeframe_is_what_its_closed_minutes_make(server, provider, venue, timeframe):
    """Also those that the venue lacks; volume is in coins; the unfinished bar is left out."""
    fetched = ask(provider, timeframe=timeframe, start="2024-12-01")
    seconds = Timeframe.parse(timeframe).minutes * 60
    closed = NOW.timestamp() - provider.delay_seconds
    wanted = [
        row
        for row in server.candles(server.markets["BTC-USD"], seconds)
        if row[0] + seconds <= closed
    ]
    np.testing.assert_allclose(rows_of(fetched.bars), [row[:6] for row in wanted], rtol=1e-12)
    assert fetched.bars["source"].unique().to_list() == [venue]
    assert not fetched.failures
    newest = fetched.bars["ts"].max()
    assert fetched.covered == {"BTC-USD": (at("2024-12-01"), newest + timedelta(seconds=seconds))}


def test_binance_tells_how_many_trades_and_at_what_average_price(server):
    binance = BinanceProvider(base_url=server.url, politeness=HURRIED)
    bars = ask(binance, timeframe="5m", start="2024-12-01").bars
    wanted = server.candles(server.markets["BTC-USDT"], 300)[: len(bars)]
    assert bars["trade_count"].to_list() == [row[7] for row in wanted]
    np.testing.assert_allclose(bars["vwap"], [row[6] / row[5] for row in wanted], rtol=1e-9)
    bars = ask(CoinbaseProvider(base_url=server.url, politeness=HURRIED), timeframe="5m").bars
    assert bars["vwap"].null_count() == bars["trade_count"].null_count() == len(bars)


def test_without_a_start_all_there_is_is_told(server, provider):
    fetched = ask(provider, start=None, timeframe="1h")
    assert fetched.bars["ts"].min() == at("2024-12-01")
    assert fetched.covered["BTC-USD"][0] == at("2024-12-01")
    assert len(fetched.bars) == 39


def test_the_last_quote_comes_with_its_time(server, provider, venue):
    told = provider.fetch_quotes(Request((BTC, ETH)), FixedClock(NOW))
    QUOTES.check(told.rows)
    last = server.markets["BTC-USD"].minutes[-1][4]
    row = told.rows.row(0, named=True)
    assert (row["symbol"], row["source"], row["price"]) == ("BTC-USD", venue, last)
    assert (row["bid"], row["ask"]) == (pytest.approx(last - 1), pytest.approx(last + 1))
    is_of_trade = venue == "coinbase"
    assert row["known_at"] == NOW
    assert (row["quote_at"], row["trade_at"]) == ((None, NOW) if is_of_trade else (NOW, None))
    assert set(told.failures) == {"ETH-USD"}


def test_symbols_must_be_named(provider):
    with pytest.raises(InvalidSpec, match="name the symbols"):
        provider.fetch_bars(Request(), Timeframe.parse("1d"), FixedClock(NOW))


def test_an_alias_is_asked_for_as_it_was_given(monkeypatch, server):
    """On a venue whose dollars are not known: only tickers become pairs with a slash."""
    monkeypatch.delitem(VENUE_DOLLARS, "binance")
    server.markets["ETH-USDT"] = server.markets["BTC-USDT"]
    provider = BinanceProvider(base_url=server.url, politeness=HURRIED)
    pair = Symbol("ETH-USDT", "crypto", "24/7")
    named = Symbol("BTC-USD", "crypto", "24/7", aliases=(("binance", "BTC-USDT"),))
    fetched = ask(provider, pair, named)
    assert set(fetched.covered) == {"ETH-USDT"}
    assert "'BTC-USDT'" in fetched.failures["BTC-USD"]
    clash = Symbol("BTC-USD", "crypto", "24/7", aliases=(("binance", "ETH/USDT"),))
    assert set(ask(provider, pair, clash).failures) == {"ETH-USDT", "BTC-USD"}


@pytest.mark.live
@pytest.mark.parametrize("timeframe", ["1m", "10m", "4h", "1d"])
def test_live_hours_of_both_venues_agree(timeframe):
    clock = SystemClock()
    request = Request((BTC,), clock.now() - timedelta(days=3))
    ours = {
        name: plugin().fetch_bars(request, Timeframe.parse(timeframe), clock).bars
        for name, plugin in PROVIDERS.items()
    }
    joined = ours["binance"].join(ours["coinbase"], on="ts")
    assert len(joined) >= 2
    assert (joined["close"] / joined["close_right"] - 1).abs().max() < 0.02
