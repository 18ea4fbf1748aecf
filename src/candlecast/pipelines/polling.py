"""A feed for vendors without a socket: their bars are asked for shortly after each minute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from candlecast.domain.bar_builder import MINUTE, minute_of
from candlecast.domain.market import Clock, Symbol, Timeframe
from candlecast.domain.sources import BarSource, Feed, Fetched, Request, Tick
from candlecast.errors import CandlecastError, NotFound
from candlecast.pipelines.inlet import Inlet, sourced_bars

OVERLAP: Final = 5 * MINUTE
"""How far back each question reaches, so that late bars and corrections are seen."""
LONGEST_WAIT_SECONDS: Final = 1.0


class PollingSource:
    """Makes a feed of a source of bars; both of what it tells comes from that source.

    Parameters
    ----------
    bars : the source that is asked.
    settle_seconds : how long after a minute's end, and the source's own delay, it is asked.
    """

    def __init__(self, bars: BarSource, settle_seconds: float = 2.0) -> None:
        self._source = bars
        self._settle = timedelta(seconds=settle_seconds + bars.delay_seconds)
        self.delay_seconds = bars.delay_seconds

    def open_feed(self, clock: Clock) -> Feed:
        """A feed that asks once a minute."""
        return PollingFeed(self._source, clock, self._settle)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """What the source answers."""
        return self._source.fetch_bars(request, timeframe, clock)


class PollingFeed:
    """Asks `source` for the bars of each minute, `settle` after its end.

    An answer without bars is a sign of life: nothing was traded. An error ends the feed, and
    `failure` holds it.
    """

    def __init__(self, source: BarSource, clock: Clock, settle: timedelta) -> None:
        self._source, self._clock, self._settle = source, clock, settle
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._sink: Callable[[Tick], None] | None = None
        self._failure: CandlecastError | None = None

    @property
    def failure(self) -> CandlecastError | None:
        """Why the source could not be asked any more."""
        return self._failure

    def connect(self, symbols: Sequence[Symbol], sink: Callable[[Tick], None]) -> None:
        """Ask once, so that an error shows at once, and then every minute."""
        self._sink = sink
        asked = minute_of(self._clock.now() - self._settle)
        fetched = self._ask(tuple(symbols), asked, asked)
        failed = [symbol.ticker for symbol in symbols if symbol.ticker in fetched.failures]
        if len(failed) == len(symbols):
            raise NotFound("; ".join(f"{t}: {fetched.failures[t]}" for t in failed))
        self._thread = threading.Thread(
            target=self._poll, args=(tuple(symbols), asked), name="polling", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Ask no more; an answer that is under way is waited for."""
        self._stop.set()
        if isinstance(self._sink, Inlet):
            self._sink.close()
        if self._thread is not None:
            self._thread.join()

    def _poll(self, symbols: tuple[Symbol, ...], asked: datetime) -> None:
        while True:
            ahead = (asked + MINUTE + self._settle - self._clock.now()).total_seconds()
            if ahead > 0:
                if self._stop.wait(min(ahead, LONGEST_WAIT_SECONDS)):
                    return
                continue
            if self._stop.is_set():
                return
            since, asked = asked, minute_of(self._clock.now() - self._settle)
            try:
                self._ask(symbols, since, asked)
            except CandlecastError as error:
                self._failure = error
                return

    def _ask(self, symbols: tuple[Symbol, ...], since: datetime, until: datetime) -> Fetched:
        assert self._sink is not None
        request = Request(symbols, since - OVERLAP, until)
        fetched = self._source.fetch_bars(request, Timeframe(1), self._clock)
        for bar in sourced_bars(fetched.bars):
            self._sink(bar)
        ends = [fetched.covered[s.ticker][1] for s in symbols if s.ticker in fetched.covered]
        if ends and isinstance(self._sink, Inlet):
            self._sink.vouch(min(ends))
        return fetched
