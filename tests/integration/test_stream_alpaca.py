"""A stream from Alpaca's WebSocket and archive, both local, through the vendor's own client."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from candlecast.domain.market import Symbol
from candlecast.errors import CandlecastError
from candlecast.pipelines.stream import stream
from candlecast.pipelines.stream_options import StreamOptions
from candlecast.providers.alpaca import AlpacaProvider
from candlecast.store.bars import read_bars
from fakes.alpaca_server import AlpacaServer, wire_bar
from fakes.alpaca_stream import bar_message
from stream_feeds import ONE, ManualClock, opened, quick_backoff

pytestmark = pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated")

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
START = datetime(2024, 3, 5, 12, 0, tzinfo=UTC)
NAMES = {"BTC/USD": "BTC-USD", "ETH/USD": "ETH-USD"}
SYMBOLS = [Symbol(ticker, "crypto", "24/7") for ticker in NAMES.values()]


class Running:
    """A stream in a thread, its vendor, and its time."""

    def __init__(self, server, home):
        self.server, self.home = server, home
        self.clock, self.stop, self.told = ManualClock(START + 2 * SECOND), threading.Event(), []
        provider = AlpacaProvider(**server.access)
        options = StreamOptions(
            source="alpaca", backoff=quick_backoff(), tell=self.told.append, is_deriving=False
        )
        self.stores = opened(home, self.clock)
        self.error = None

        def run():
            try:
                stream(self.stores, provider, SYMBOLS, options, stop=self.stop)
            except CandlecastError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def close(self):
        self.stop.set()
        self.thread.join()
        self.stores.close()
        if self.error is not None:
            raise self.error

    def pass_minute(self, number, *, is_told):
        """A minute is over: the archive has its bars, and the socket tells them or not."""
        at, price = START + number * MINUTE, 100.0 + number
        for name in NAMES:
            self.server.add_bars(name, "1Min", [wire_bar(f"{at:%Y-%m-%dT%H:%M:%SZ}", price)])
        self.clock.move(at + MINUTE + 15 * SECOND)
        if is_told:
            self.server.stream.send(*(bar_message(name, at, price) for name in NAMES))

    def until(self, condition):
        """Wait until `condition` of the stored bars holds."""
        deadline = time.monotonic() + 30
        while not condition(bars := read_bars(self.stores.database, ONE)):
            assert time.monotonic() < deadline, (bars, self.told)
            assert self.error is None, self.error
            time.sleep(0.02)
        return bars


@pytest.fixture
def running(tmp_path):
    with AlpacaServer() as server:
        started = Running(server, tmp_path)
        server.stream.wait_for_subscribers()
        yield started
        started.close()


def test_a_mute_socket_a_broken_one_and_a_correction_end_in_the_archives_bars(running):
    server = running.server
    for number in range(3):
        running.pass_minute(number, is_told=True)
        running.until(lambda bars, n=number: len(bars) == 2 * (n + 1))
    for number in range(3, 6):  # it answers pings, and tells nothing
        running.pass_minute(number, is_told=False)
        assert server.stream.ping()
    healed = running.until(lambda bars: len(bars) == 12)
    server.stream.wait_for_subscribers()
    assert server.stream.n_connected == 2
    assert any("silent" in line for line in running.told)
    late = healed.filter(ts=START + 3 * MINUTE)
    assert (late["known_at"] > late["ts"] + 3 * MINUTE).all()

    server.stream.drop()
    running.pass_minute(6, is_told=False)
    running.until(lambda bars: len(bars) == 14)
    server.stream.wait_for_subscribers()
    running.pass_minute(7, is_told=True)
    running.until(lambda bars: len(bars) == 16)

    corrected = bar_message("BTC/USD", START + MINUTE, 250.0, is_update=True)
    server.stream.send(corrected)
    bars = running.until(lambda bars: 250.0 in bars["open"])
    assert len(bars) == 16
    assert bars.filter(symbol="ETH-USD")["open"].to_list() == [100.0 + n for n in range(8)]
    before = read_bars(running.stores.database, ONE, as_of=START + 3 * MINUTE)
    assert before.filter(symbol="BTC-USD", ts=START + MINUTE)["open"].item() == 101.0
