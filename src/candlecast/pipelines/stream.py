"""A live feed into the store: bars closed, stored at once, healed where the feed was away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

import polars as pl

from candlecast.domain.bar_builder import MINUTE, BarBuilder, minute_of, next_minute
from candlecast.domain.market import Symbol
from candlecast.domain.sources import BarSource, Feed, FeedBar, FeedSource, Fetched, Span, Trade
from candlecast.errors import CandlecastError, DatabaseBusy, InvalidSpec, RetryableError
from candlecast.pipelines.derived import Deriver, LargeTrades
from candlecast.pipelines.healing import Healer, gaps_at_start
from candlecast.pipelines.inlet import Alive, Event, Inlet
from candlecast.pipelines.recorder import Recorder
from candlecast.pipelines.stream_options import StreamOptions, StreamRun, ignore
from candlecast.pipelines.watchdog import FLIGHT, Reconciler, Watchdog
from candlecast.store.stores import Stores

TURN_SECONDS: Final = 0.05
LINGER_SECONDS: Final = 0.02
"""Bars of one minute come in a burst; so long a pause between two of them ends it."""
MOST_LINGER_SECONDS: Final = 0.5
HOUSEKEEPING: Final = timedelta(seconds=1)


def stream(
    stores: Stores,
    source: FeedSource,
    symbols: Sequence[Symbol],
    options: StreamOptions | None = None,
    *,
    on_closed: Callable[[pl.DataFrame], None] = ignore,
    stop: threading.Event | None = None,
) -> StreamRun:
    """Consume the feed until `stop` is set, `options.until` has come or a replay has ended.

    Each closed bar is stored before `on_closed` gets it, as BARS; healed bars are handed on as
    well. Every error that trying again can help is survived; others, such as BadCredentials, end
    the stream when what was received has been stored.
    """
    if not symbols:
        raise InvalidSpec("a stream needs symbols; name them, e.g. --symbols AAPL,MSFT")
    streamer = Streamer(stores, source, symbols, options or StreamOptions(), on_closed)
    return streamer.run(stop or threading.Event())


class Streamer:
    """One run of `stream`: a single loop that owns the builder, the store and the connection."""

    def __init__(
        self,
        stores: Stores,
        source: FeedSource,
        symbols: Sequence[Symbol],
        options: StreamOptions,
        on_closed: Callable[[pl.DataFrame], None],
    ) -> None:
        self._stores, self._source, self._options = stores, source, options
        self._clock, self._on_closed = stores.clock, on_closed
        self._symbols = {symbol.ticker: symbol for symbol in symbols}
        self._deriver = Deriver(stores, options.tell) if options.is_deriving else None
        self._large = LargeTrades(stores, options.source)
        self._recorder = Recorder(stores, symbols, options.source, is_covering=options.is_covering)
        self._builder = BarBuilder(options.delays)
        archive = source if isinstance(source, BarSource) else None
        self._healer = Healer(archive, self._symbols, self._clock, self._heal_in, options.tell)
        now = self._clock.now()
        self._started_at = now
        self._connected_at = self._lost_at = self._housekept_at = now
        self._watchdog = Watchdog({symbol.calendar for symbol in symbols}, options.silence, now)
        self._feed: Feed | None = None
        self._inlet = Inlet()
        self._is_over = self._is_starting = self._was_silent = False
        self._covered_to = self._vouched_to = now
        self._reconciler = Reconciler(symbols, options.reconcile, now)
        self._trades: dict[str, Trade] = {}
        self._unwritten: list[FeedBar] = []
        self.result = StreamRun(failures=self._healer.failures)

    def run(self, stop: threading.Event) -> StreamRun:
        """The loop."""
        self._stop = stop
        self._builder.interrupt(self._started_at - FLIGHT)
        symbols = list(self._symbols.values())
        for ticker, since in gaps_at_start(self._stores, symbols, self._started_at).items():
            self._healer.gaps.add([ticker], since, self._started_at)
        self._is_starting = True
        try:
            while self._is_going():
                if self._feed is None:
                    self._connect()
                else:
                    self._turn()
        finally:
            self._end()
        return self.result

    def _is_going(self) -> bool:
        until = self._options.until
        is_late = until is not None and self._clock.now() >= until
        return not (self._stop.is_set() or self._is_over or is_late)

    def _connect(self) -> None:
        # Opens a feed; what was missed is healed before the first of its bars is looked at.
        inlet, feed = Inlet(), self._source.open_feed(self._clock)
        try:
            feed.connect(list(self._symbols.values()), inlet)
        except RetryableError as error:
            feed.close()
            self._heal_until(self._clock.now())
            self._pause(timedelta(0), error)
            return
        except BaseException:
            feed.close()
            raise
        self._feed, self._inlet = feed, inlet
        self._connected_at = now = self._clock.now()
        self.result.n_connections += 1
        self._builder.resume(now)
        self._large.resume(now)
        self._covered_to = self._vouched_to = next_minute(now + self._options.delays.grace)
        n_new = self._heal_until(self._covered_to)
        if self._is_starting and self._deriver is not None:
            self._deriver.catch_up()
        self._is_starting = False
        if self._was_silent and not n_new and not self._healer.failures:
            self._watchdog.found_true()
        self._was_silent = False

    def _disconnect(self, reason: str, error: CandlecastError | None) -> None:
        assert self._feed is not None
        self._options.tell(f"{reason}; connecting again")
        newest_at = max(self._builder.newest_at, self._started_at - FLIGHT)
        self._lost_at = min(self._watchdog.heard_at, newest_at, self._clock.now())
        self._let_go()
        lasted = self._clock.now() - self._connected_at
        self._builder.interrupt(self._lost_at)
        if error is not None and not error.is_retryable:
            raise error
        self._pause(lasted, error)

    def _let_go(self) -> None:
        # Ends the connection; what it had handed over still counts.
        feed, self._feed = self._feed, None
        if feed is None:
            return
        self._inlet.close()
        feed.close()
        self._take(self._inlet.take(0.0))
        self._close_bars()

    def _turn(self) -> None:
        feed, inlet = self._feed, self._inlet
        assert feed is not None
        events = inlet.take(TURN_SECONDS)
        self._take(events)
        deadline = monotonic() + MOST_LINGER_SECONDS
        while any(isinstance(event, FeedBar) for event in events) and not inlet.is_awaited:
            events = inlet.take(LINGER_SECONDS) if monotonic() < deadline else []
            self._take(events)
        self._close_bars()
        self._keep_house()
        failure = feed.failure
        if failure is not None:
            self._disconnect(f"the feed ended: {failure}", failure)
        elif self._watchdog.is_dead(self._clock.now(), self._connected_at):
            self._was_silent = True
            self._disconnect("the feed is silent although a market is open", None)

    def _take(self, events: Sequence[Event]) -> None:
        now = self._clock.now()
        if events:
            self._watchdog.hear(now)
        for event in events:
            if isinstance(event, Alive):
                self._vouched_to = max(self._vouched_to, event.at)
                self._builder.see(event.at, now)
                self._is_over |= event.is_last
            elif event.symbol in self._symbols:
                self._reconciler.hear(event.symbol, now)
                self._builder.add(event, now)
                if isinstance(event, Trade):
                    self._trades[event.symbol] = event
                    self._large.take(event)

    def _close_bars(self) -> None:
        # Stores all that has closed in one transaction; what a busy database refuses waits.
        now = self._clock.now()
        self._unwritten += self._builder.closed(now)
        covered = self._newly_covered(now)
        if not self._unwritten and not covered:
            return
        newest = {(bar.symbol, bar.ts): bar for bar in self._unwritten}
        try:
            frame, written = self._recorder.write_closed(list(newest.values()))
        except DatabaseBusy as error:
            self._options.tell(f"{len(newest)} bars wait: {error}")
            return
        self._unwritten.clear()
        self.result.n_bars += written.inserted
        self.result.n_revised += written.revised
        if len(frame):
            self._hand_on(frame)
        if covered:  # after the bars, which it speaks of
            self._recorder.write_covered(covered)
            self._covered_to = next(iter(covered.values()))[1]

    def _hand_on(self, frame: pl.DataFrame) -> None:
        if self._deriver is not None:
            self._deriver.note(frame)
        self._on_closed(frame)

    def _newly_covered(self, now: datetime) -> dict[str, Span]:
        # What the feed has answered for since the last write: whole minutes that are surely over.
        if not self._options.is_covering or self._feed is None:
            return {}
        sure = min(self._builder.newest_at, now) - self._options.delays.patience
        end = max(minute_of(sure), self._vouched_to)
        is_worth_it = end - self._covered_to >= MINUTE
        return dict.fromkeys(self._symbols, (self._covered_to, end)) if is_worth_it else {}

    def _keep_house(self) -> None:
        now = self._clock.now()
        if now - self._housekept_at < HOUSEKEEPING:
            return
        self._housekept_at = now
        self._note(now)
        for tickers, start, end in self._reconciler.due(now):
            self._healer.gaps.add(tickers, start, end)
        self._healer.heal(most_questions=1)
        if self._deriver is not None:
            self._deriver.make_due(now)

    def _note(self, now: datetime) -> None:
        # The newest quotes and trades, and what was refused; a busy database gets the next ones.
        quotes = {t: q for t, q in self._inlet.take_quotes().items() if t in self._symbols}
        for ticker, quote in quotes.items():
            self._watchdog.hear(now)
            self._reconciler.hear(ticker, now)
            self._builder.see(quote.at, now)
        trades, self._trades = self._trades, {}
        refused, self._builder.refused = self._builder.refused, []
        self.result.n_refused += len(refused)
        for (ticker, reason), n in Counter((r.tick.symbol, r.reason) for r in refused).items():
            self._options.tell(f"{ticker}: {n} refused: {reason}")
        try:
            self._large.write_due(now)
            self._recorder.write_quotes(quotes, trades)
            self._recorder.write_refused(refused)
        except DatabaseBusy as error:
            self._options.tell(f"quotes are not kept this time: {error}")

    def _heal_until(self, end: datetime) -> int:
        # Asks for what no feed has told since the last one was lost; how many bars were new.
        since = minute_of(self._lost_at) - (timedelta(0) if self._is_starting else FLIGHT)
        self._healer.gaps.add(list(self._symbols), since, end)
        n_new = self._healer.heal()
        if n_new:
            self._options.tell(f"{n_new} bars healed")
        return n_new

    def _heal_in(self, fetched: Fetched) -> int:
        if self._is_starting and isinstance(self._source, BarSource):
            delay_seconds = self._source.delay_seconds
            frame, written = self._recorder.write_backfilled(fetched, delay_seconds)
        else:
            frame, written = self._recorder.write_healed(fetched)
        n_news = written.inserted + written.revised
        self.result.n_healed += written.inserted
        self.result.n_revised += written.revised
        if n_news:
            self._hand_on(frame)
        return n_news

    def _pause(self, lasted: timedelta, error: Exception | None) -> None:
        # Waits before the next try, while bars that are complete still close.
        deadline = monotonic() + self._options.backoff.wait_seconds(lasted, error)
        if error is not None:
            self._options.tell(f"no connection: {error}")
        while self._is_going() and (left := deadline - monotonic()) > 0:
            self._stop.wait(min(left, 1.0))
            self._close_bars()

    def _end(self) -> None:
        self._let_go()
        self._close_bars()
        self._note(self._clock.now())
        if self._deriver is not None:
            self._deriver.make_all()
