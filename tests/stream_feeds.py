"""A vendor that plays a script: ticks, silences, resets, refusals, and an archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.sources import FeedBar, Fetched, Quote, Trade
from candlecast.errors import CandlecastError, ProviderUnavailable
from candlecast.pipelines.stream import stream
from candlecast.pipelines.stream_options import StreamOptions, ignore
from candlecast.pipelines.watchdog import Backoff
from candlecast.store.bars import read_bars
from candlecast.store.stores import open_stores

MINUTE = timedelta(minutes=1)
ONE = Timeframe(1)
OPEN = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)
CLOSE = datetime(2024, 3, 5, 21, 0, tzinfo=UTC)


class ManualClock:
    """A clock that the script moves."""

    def __init__(self, instant):
        self.instant = instant

    def now(self):
        return self.instant

    def move(self, instant):
        self.instant = max(self.instant, instant)


def bar(symbol, ts, close=10.0, volume=100.0):
    """A bar of one minute; the higher `close`, the wider."""
    return FeedBar(symbol, ts, 10.0, max(10.0, close), min(10.0, close), close, volume, None, 1)


def seeded_bars(tickers, start, n_minutes, seed=0):
    """One bar for each symbol and minute."""
    draw = np.random.default_rng(seed)
    return [
        bar(ticker, start + number * MINUTE, round(10 + float(draw.normal()), 2), number + 1.0)
        for number in range(n_minutes)
        for ticker in tickers
    ]


@dataclass(frozen=True)
class Tell:
    """The socket brings `tick` at `at`, if it is connected then."""

    at: datetime
    tick: FeedBar | Trade | Quote


@dataclass(frozen=True)
class Mute:
    """From `at` on the connection brings nothing, until it is closed or it is `until`."""

    at: datetime
    until: datetime


@dataclass(frozen=True)
class Reset:
    """The connection breaks at `at`; connecting again takes `away`, and is refused before."""

    at: datetime
    error: CandlecastError = field(default_factory=lambda: ProviderUnavailable("reset"))
    refusals: tuple[CandlecastError, ...] = ()


@dataclass
class Vendor:
    """A feed and an archive. `archive` holds (known from, bar); later versions come later."""

    clock: ManualClock
    script: list
    archive: list = field(default_factory=list)
    end: datetime = CLOSE + 3 * MINUTE
    delay_seconds: float = 0.0
    unknown: frozenset = frozenset()
    refusals: list = field(default_factory=list)
    archive_errors: list = field(default_factory=list)
    n_connects: int = 0
    n_questions: int = 0

    def open_feed(self, clock):
        return ScriptedFeed(self)

    def fetch_bars(self, request, timeframe, clock):
        self.n_questions += 1
        if self.archive_errors:
            raise self.archive_errors.pop(0)
        now = self.clock.now()
        known = {}
        for known_from, item in self.archive:
            is_wanted = request.start <= item.ts < request.end and item.symbol in request.tickers
            if is_wanted and known_from <= now and item.symbol not in self.unknown:
                known[item.symbol, item.ts] = item
        end = min(request.end, now.replace(second=0, microsecond=0))
        answered = [t for t in request.tickers if t not in self.unknown]
        return Fetched(
            unstamped(known.values()),
            failures={t: "unknown symbol" for t in request.tickers if t in self.unknown},
            covered=dict.fromkeys(answered, (request.start, end)) if end > request.start else {},
        )


def unstamped(bars: Iterable[FeedBar]) -> pl.DataFrame:
    """FeedBars as a provider returns them."""
    names = ("symbol", "ts", "open", "high", "low", "close", "volume", "vwap", "trade_count")
    rows = [{name: getattr(item, name) for name in names} | {"source": "vendor"} for item in bars]
    return UNSTAMPED.conform(pl.DataFrame(rows)) if rows else UNSTAMPED.empty()


class ScriptedFeed:
    """Plays the script of its vendor, from where the last connection left it."""

    def __init__(self, vendor):
        self.vendor, self.failure = vendor, None
        self._closed = threading.Event()
        self._thread = None

    def connect(self, symbols, sink):
        self.vendor.n_connects += 1
        if self.vendor.refusals:
            raise self.vendor.refusals.pop(0)
        self._thread = threading.Thread(target=self._play, args=(sink,), daemon=True)
        self._thread.start()

    def close(self):
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _play(self, sink):
        vendor, clock = self.vendor, self.vendor.clock
        began = clock.now()
        while vendor.script and not self._closed.is_set():
            step = vendor.script.pop(0)
            if isinstance(step, Tell) and step.at < began:
                continue
            self._reach(step.at, sink)
            if self._closed.is_set():
                vendor.script.insert(0, step)
                return
            if isinstance(step, Tell):
                sink(step.tick)
                if not vendor.script or vendor.script[0].at > step.at:
                    sink.wait_until_done()
            elif isinstance(step, Reset):
                vendor.refusals = list(step.refusals)
                self.failure = step.error
                return
            else:
                self._reach(step.until, sink)
                began = clock.now()  # what a mute connection did not bring is lost
        self._reach(vendor.end, sink)

    def _reach(self, instant, sink):
        clock = self.vendor.clock
        while clock.now() < instant and not self._closed.is_set():
            clock.move(min(clock.now() + MINUTE / 2, instant))
            sink.wait_until_done()


def quick_backoff():
    """Waits of at most a millisecond."""
    moment = timedelta(milliseconds=1)
    return Backoff(np.random.default_rng(0), first=moment, cap=moment)


def played(
    vendor, home, tickers, *, calendar="XNYS", feed=None, on_closed=None, stop=None, **options
):
    """Run a stream over the vendor's whole script; what came of it, and all stored versions."""
    told = []
    symbols = [Symbol(ticker, calendar=calendar) for ticker in tickers]
    chosen = StreamOptions(
        **{
            "source": "vendor",
            "is_deriving": False,
            "backoff": quick_backoff(),
            "tell": told.append,
            "until": vendor.end,
        }
        | options
    )
    stores = opened(home, vendor.clock)
    try:
        run = stream(
            stores, feed or vendor, symbols, chosen, on_closed=on_closed or ignore, stop=stop
        )
        return run, read_bars(stores.database, ONE), told
    finally:
        stores.close()


def opened(home, clock):
    """Stores on a SQLite file."""
    return open_stores(
        database_url=f"sqlite:///{home}/candlecast.db", home=home, artifacts_url=None, clock=clock
    )


def values(bars) -> set:
    """Bars, as a frame or as ticks, by what makes a version."""
    if not isinstance(bars, pl.DataFrame):
        bars = unstamped(bars)
    return set(bars.select("symbol", "ts", "open", "high", "low", "close", "volume").rows())


def told_live(bars, lag=timedelta(seconds=1)) -> list:
    """Each bar told shortly after its end."""
    return [Tell(item.ts + MINUTE + lag, item) for item in bars]


def archived(bars) -> list:
    """Each bar in the archive from its end on."""
    return [(item.ts + MINUTE, item) for item in bars]


Step = Tell | Mute | Reset
Listener = Callable[[pl.DataFrame], None]
