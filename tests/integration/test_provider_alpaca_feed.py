"""Alpaca's live feed through alpaca-py against a local WebSocket that speaks its wire format."""

import logging
import os
import queue
import threading
from datetime import UTC, datetime, timedelta

import msgpack
import pytest

from candlecast.domain.market import FixedClock, Symbol, SystemClock
from candlecast.domain.sources import FeedBar, Quote, Trade
from candlecast.errors import (
    BadCredentials,
    Conflict,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
)
from candlecast.providers.alpaca import AlpacaProvider
from candlecast.providers.http import Politeness
from fakes.alpaca_server import KEY_ID, SECRET_KEY, AlpacaServer
from fakes.alpaca_stream import bar_message, quote_message, trade_message

pytestmark = pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated")

MINUTE = timedelta(minutes=1)
OPEN = datetime(2024, 1, 3, 14, 30, tzinfo=UTC)
CLOCK = FixedClock(OPEN)
AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")
BITCOIN = Symbol("BTC-USD", "crypto", "24/7")
SOON = 10.0


class Inbox:
    """A sink that tests can wait at."""

    def __init__(self):
        self._ticks = queue.Queue()

    def __call__(self, tick):
        self._ticks.put(tick)

    def take(self, n):
        return [self._ticks.get(timeout=SOON) for _ in range(n)]

    def is_empty(self):
        return self._ticks.empty()


@pytest.fixture
def server():
    with AlpacaServer() as running:
        yield running


@pytest.fixture
def inbox():
    return Inbox()


@pytest.fixture
def open_feed(server):
    feeds = []

    def make(**options):
        provider = AlpacaProvider(**(server.access | options))
        provider.politeness = Politeness(timeout_seconds=SOON)
        feeds.append(provider.open_feed(CLOCK))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.close()
    assert not feed_threads()


def feed_threads():
    return [thread for thread in threading.enumerate() if thread.name == "alpaca-feed"]


def wait_for_failure(feed):
    for thread in feed_threads():
        thread.join(SOON)
    assert feed.failure is not None
    return feed.failure


def test_the_subscription_names_all_channels_of_all_symbols_in_their_markets(
    server, open_feed, inbox
):
    feed = open_feed()
    feed.connect([AAPL, MSFT, BITCOIN], inbox)
    channels = ("bars", "updatedBars", "trades", "quotes")
    stocks = {channel: {"AAPL", "MSFT"} for channel in channels}
    coins = {channel: {"BTC/USD"} for channel in channels}
    subscribed = server.stream.subscribed
    assert len(subscribed) == 2
    assert stocks in subscribed
    assert coins in subscribed
    assert feed.failure is None


def test_ticks_arrive_as_they_were_sent_with_our_tickers(server, open_feed, inbox):
    open_feed().connect([AAPL, BITCOIN], inbox)
    at = OPEN + timedelta(microseconds=123_456)
    server.stream.send(
        trade_message("AAPL", at, 184.25, size=7, id_=52_983_525_029_461),
        quote_message("AAPL", at, 184.2, 184.3, bid_size=1, ask_size=3),
        bar_message("AAPL", OPEN, 184.0, volume=1200),
    )
    assert inbox.take(3) == [
        Trade("AAPL", at, 184.25, 7.0, "52983525029461"),
        Quote("AAPL", at, 184.2, 184.3, 1.0, 3.0),
        FeedBar("AAPL", OPEN, 184.0, 184.5, 183.5, 184.25, 1200.0, 184.125, 3),
    ]
    server.stream.send(bar_message("BTC/USD", OPEN, 42_000.0, volume=0) | {"vw": 0, "n": 0})
    (bar,) = inbox.take(1)
    assert (bar.symbol, bar.volume, bar.vwap, bar.trade_count) == ("BTC-USD", 0.0, None, 0)


def test_a_bar_corrected_an_hour_late_is_a_bar_again(server, open_feed, inbox):
    open_feed().connect([AAPL], inbox)
    bars = [bar_message("AAPL", OPEN + i * MINUTE, 100.0 + i) for i in range(60)]
    corrected = bar_message("AAPL", OPEN, 100.5, volume=140, is_update=True)
    server.stream.send(*bars)
    server.stream.send(corrected)
    *straight, late = inbox.take(61)
    assert [bar.ts for bar in straight] == [OPEN + i * MINUTE for i in range(60)]
    assert (late.ts, late.open, late.volume) == (OPEN, 100.5, 140.0)


def test_bars_out_of_order_and_twice_are_handed_on_as_they_come(server, open_feed, inbox):
    open_feed().connect([AAPL], inbox)
    order = [2, 0, 1, 1, 0]
    server.stream.send(*(bar_message("AAPL", OPEN + i * MINUTE, 100.0 + i) for i in order))
    assert [bar.ts for bar in inbox.take(5)] == [OPEN + i * MINUTE for i in order]


def test_a_mute_socket_is_no_failure_and_does_not_connect_again(server, open_feed, inbox):
    feed = open_feed()
    feed.connect([AAPL], inbox)
    # Pings are answered both ways; whether silence is trouble is not for the feed to judge.
    assert server.stream.ping(SOON)
    assert feed.failure is None
    assert inbox.is_empty()
    feed.close()
    assert feed.failure is None
    assert server.stream.n_connected == 1


@pytest.mark.parametrize("end", ["drop", "hang_up"])
def test_a_connection_that_ends_is_a_failure_and_is_not_repaired(server, open_feed, inbox, end):
    feed = open_feed()
    feed.connect([AAPL, BITCOIN], inbox)
    server.stream.send(bar_message("AAPL", OPEN, 100.0))
    inbox.take(1)
    getattr(server.stream, end)()
    failure = wait_for_failure(feed)
    assert isinstance(failure, ProviderUnavailable)
    assert "connect again" in str(failure)
    server.stream.wait_for_connections(0)
    assert server.stream.n_connected == 2
    feed.close()
    assert feed.failure is failure


def test_a_new_feed_takes_over_where_one_has_failed(server, open_feed, inbox):
    first = open_feed()
    first.connect([AAPL], inbox)
    server.stream.drop()
    wait_for_failure(first)
    second = open_feed()
    second.connect([AAPL], inbox)
    server.stream.send(bar_message("AAPL", OPEN, 100.0))
    assert inbox.take(1)[0].ts == OPEN
    assert second.failure is None


def test_closing_ends_the_thread_and_the_connections_and_may_be_done_twice(
    server, open_feed, inbox
):
    feed = open_feed()
    feed.connect([AAPL, BITCOIN], inbox)
    feed.close()
    feed.close()
    assert not feed_threads()
    server.stream.wait_for_connections(0)
    assert feed.failure is None
    with pytest.raises(Conflict, match="open a new one"):
        feed.connect([AAPL], inbox)
    open_feed().close()  # one that was never connected


def test_the_sink_may_close_the_feed(server, open_feed):
    feed = open_feed()
    closed = threading.Event()

    def sink(tick):
        feed.close()
        closed.set()

    feed.connect([AAPL], sink)
    server.stream.send(bar_message("AAPL", OPEN, 100.0))
    assert closed.wait(SOON)
    feed.close()
    server.stream.wait_for_connections(0)
    assert feed.failure is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sink_that_fails_ends_the_feed_and_is_heard(server, open_feed):
    feed = open_feed()

    def sink(tick):
        raise ZeroDivisionError

    feed.connect([AAPL], sink)
    server.stream.send(bar_message("AAPL", OPEN, 100.0))
    assert isinstance(wait_for_failure(feed), ProviderUnavailable)
    server.stream.wait_for_connections(0)


@pytest.mark.parametrize(
    ("action", "said", "error"),
    [
        ("auth", (402, "auth failed"), BadCredentials),
        ("auth", (409, "insufficient subscription"), BadCredentials),
        ("auth", (406, "connection limit exceeded"), ProviderUnavailable),
        ("subscribe", (405, "symbol limit exceeded"), BadCredentials),
        ("subscribe", (409, "insufficient subscription"), BadCredentials),
        ("subscribe", (500, "internal error"), ProviderUnavailable),
    ],
)
def test_what_alpaca_refuses_is_raised_at_once_in_our_words(
    server, open_feed, inbox, action, said, error
):
    server.stream.refusals[action] = said
    feed = open_feed()
    with pytest.raises(error, match=said[1]):
        feed.connect([AAPL], inbox)
    server.stream.wait_for_connections(0)
    assert server.stream.n_connected == 1
    assert not feed_threads()


def test_an_error_in_the_middle_of_the_stream_is_a_failure(server, open_feed, inbox):
    feed = open_feed()
    feed.connect([AAPL], inbox)
    server.stream.send({"T": "error", "code": 407, "msg": "slow client"})
    assert "slow client" in str(wait_for_failure(feed))


@pytest.mark.parametrize("action", ["connect", "auth", "subscribe"])
def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(server, inbox, action):
    server.stream.silent.add(action)
    provider = AlpacaProvider(**server.access)
    provider.politeness = Politeness(timeout_seconds=0.3)
    feed = provider.open_feed(CLOCK)
    with pytest.raises(ProviderUnavailable, match=r"said nothing for 0\.3 s"):
        feed.connect([AAPL], inbox)
    server.stream.wait_for_connections(0)
    assert not feed_threads()


def test_a_server_that_is_not_there_is_unavailable(open_feed, inbox):
    with pytest.raises(ProviderUnavailable, match="broke off"):
        open_feed(stream_url="ws://127.0.0.1:9").connect([AAPL], inbox)


def test_a_server_that_is_no_websocket_is_translated_by_its_status(server, open_feed, inbox):
    web = server.data_url.replace("http", "ws")
    with pytest.raises(BadCredentials, match="stream"):
        open_feed(stream_url=web).connect([AAPL], inbox)


@pytest.mark.parametrize(
    "frame",
    [
        msgpack.packb([{"T": "b", "S": "AAPL", "t": "noon"}]),
        msgpack.packb([{"T": "t", "S": "AAPL", "t": msgpack.Timestamp(0), "p": 1.0}]),
        b"\xc1",
    ],
    ids=["time", "missing", "no msgpack"],
)
def test_a_message_that_cannot_be_read_is_a_failure(server, open_feed, inbox, frame):
    feed = open_feed()
    feed.connect([AAPL], inbox)
    server.stream.send_raw(frame)
    assert isinstance(wait_for_failure(feed), ProviderUnavailable)
    assert inbox.is_empty()


def test_keys_appear_nowhere_not_even_in_the_log(server, inbox, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="websockets.client")
    provider = AlpacaProvider(**server.access)
    feed = provider.open_feed(CLOCK)
    feed.connect([AAPL], inbox)
    server.stream.drop()
    failure = wait_for_failure(feed)
    feed.close()
    client = [r for r in caplog.records if not r.name.startswith("websockets.server")]
    shown = f"{feed!r} {provider!r} {failure!r} {[record.getMessage() for record in client]}"
    for key in (KEY_ID, SECRET_KEY):
        assert key not in shown
        assert key.encode()[-6:].hex(" ") not in shown  # frames are logged with their ends only


def test_channels_and_names_are_checked(server, open_feed, inbox):
    with pytest.raises(NotFound, match="updatedBars"):
        open_feed(channels=("updatedbars",))
    with pytest.raises(NotFound, match="iex"):
        open_feed(feed="iexx")
    with pytest.raises(InvalidSpec, match="symbols and channels"):
        open_feed().connect([], inbox)
    with pytest.raises(NotFound, match="PETR4"):
        open_feed().connect([AAPL, Symbol("PETR4", calendar="BVMF")], inbox)
    open_feed(channels=("bars",)).connect([AAPL], inbox)
    assert server.stream.subscribed == [{"bars": {"AAPL"}}]
    assert server.stream.n_connected == 1


@pytest.mark.live
@pytest.mark.skipif(
    not os.environ.get("CANDLECAST_ALPACA_KEY_ID"), reason="CANDLECAST_ALPACA_KEY_ID is not set"
)
def test_alpaca_itself_accepts_a_subscription_and_sends(inbox):
    provider = AlpacaProvider(
        key_id=os.environ["CANDLECAST_ALPACA_KEY_ID"],
        secret_key=os.environ["CANDLECAST_ALPACA_SECRET_KEY"],
    )
    feed = provider.open_feed(SystemClock())
    feed.connect([BITCOIN, Symbol("ETH-USD", "crypto", "24/7")], inbox)
    assert inbox.take(1)[0].symbol in {"BTC-USD", "ETH-USD"}
    feed.close()
    assert feed.failure is None
