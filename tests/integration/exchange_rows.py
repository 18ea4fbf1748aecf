"""Minutes of the local exchanges, and questions to the provider."""

from datetime import UTC, datetime

import numpy as np

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.sources import Request
from candlecast.providers.exchange import BinanceProvider, CoinbaseProvider
from candlecast.providers.http import Politeness

NOW = datetime(2024, 12, 2, 15, 47, 23, tzinfo=UTC)


BTC = Symbol("BTC-USD", asset_class="crypto", calendar="24/7")


ETH = Symbol("ETH-USD", asset_class="crypto", calendar="24/7")


HURRIED = Politeness(timeout_seconds=1.0, max_tries=3, first_wait_seconds=0.001)


PAIRS = {"binance": "BTC-USDT", "coinbase": "BTC-USD"}


PROVIDERS = {"binance": BinanceProvider, "coinbase": CoinbaseProvider}


COLUMNS = ["open", "high", "low", "close", "volume"]


def minutes_of(start, n_minutes, *, seed=0, quiet=()):
    """Minutes of a random walk, to eight places, less the quiet ones."""
    generator = np.random.default_rng(seed)
    first = int(start.timestamp())
    closes = 40_000 * np.exp(np.cumsum(generator.normal(0, 0.001, n_minutes)))
    rows = []
    for i, close in enumerate(closes.tolist()):
        opened = close * (1 + generator.normal(0, 0.0005))
        top, bottom = max(opened, close) * 1.0005, min(opened, close) * 0.9995
        volume = generator.integers(1, 64) / 8
        numbers = (round(price, 2) for price in (opened, top, bottom, close))
        rows.append((first + 60 * i, *numbers, volume, round(volume * close, 4), int(8 * volume)))
    return [row for i, row in enumerate(rows) if i not in quiet]


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ask(provider, *symbols, timeframe="1m", now=NOW, start="2024-12-02T06:00", end=None):
    request = Request(symbols or (BTC,), start and at(start), end and at(end))
    fetched = provider.fetch_bars(request, Timeframe.parse(timeframe), FixedClock(now))
    UNSTAMPED.check(fetched.bars)
    return fetched


def rows_of(bars):
    return [(int(ts.timestamp()), *v) for ts, *v in bars.select("ts", *COLUMNS).iter_rows()]
