"""Listings of the local Yahoo, and questions to the provider."""

from datetime import UTC, datetime

import numpy as np

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Request
from candlecast.providers.http import Politeness
from fakes.yahoo_server import Listing

NOW = datetime(2024, 12, 2, 15, 47, 23, tzinfo=UTC)  # a Monday at 10:47 in New York


AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")


PRICES = ["open", "high", "low", "close", "volume"]


HURRIED = Politeness(timeout_seconds=1.5, max_tries=3, first_wait_seconds=0.001)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sessions(calendar, start, end):
    """Open and close of the sessions between two dates, in epoch seconds."""
    market = trading_calendar(calendar)
    chosen = (market.sessions >= np.datetime64(start)) & (market.sessions < np.datetime64(end))
    edges = (market.opens[chosen], market.closes[chosen])
    return list(
        zip(*(edge.astype("datetime64[s]").astype(int).tolist() for edge in edges), strict=True)
    )


def walked(times, seed=0):
    """Rows of a random walk at these times, to the cent."""
    generator = np.random.default_rng(seed)
    closes = 400 * np.exp(np.cumsum(generator.normal(0, 0.002, len(times))))
    rows = []
    for time, close in zip(times, closes, strict=True):
        opened = close * (1 + generator.normal(0, 0.001))
        top, bottom = max(opened, close) * 1.001, min(opened, close) * 0.999
        prices = (round(float(price), 2) for price in (opened, top, bottom, close))
        rows.append((time, *prices, int(generator.integers(1, 10_000)) * 60))
    return rows


def listing(calendar="XNYS", start="2024-01-02", minutes_from=None, end="2024-12-03", **options):
    spans = sessions(calendar, start, end)
    fine = sessions(calendar, minutes_from, end) if minutes_from else []
    times = [time for opened, closed in fine for time in range(opened, closed, 60)]
    return Listing(
        daily=walked([opened for opened, _ in spans]),
        minutely=walked(times, 1),
        sessions=fine,
        **options,
    )


def ask(provider, *symbols, timeframe="1d", now=NOW, start=None, end=None):
    request = Request(symbols, start and at(start), end and at(end))
    fetched = provider.fetch_bars(request, Timeframe.parse(timeframe), FixedClock(now))
    UNSTAMPED.check(fetched.bars)
    return fetched


def rows_of(bars):
    return [
        (int(ts.timestamp()), *numbers) for ts, *numbers in bars.select("ts", *PRICES).iter_rows()
    ]
