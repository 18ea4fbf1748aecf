"""Gaps of a live stream: which spans still have to be asked for, and asking for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

from candlecast.domain.bar_builder import minute_of
from candlecast.domain.market import Clock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import BarSource, Fetched, Request, Span
from candlecast.errors import RateLimited, RetryableError
from candlecast.pipelines.missing import spans_by_symbol, was_open, without
from candlecast.pipelines.watchdog import FLIGHT
from candlecast.store.bars import read_ends
from candlecast.store.coverage import read_coverage
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

LONGEST: Final = timedelta(days=7)
"""Older gaps are left to an ingest run."""
MOST_SYMBOLS: Final = 50
RETRY_SECONDS: Final = 5.0
MOST_RETRY_SECONDS: Final = 300.0
SETTLE: Final = timedelta(seconds=10)
"""How long after its end, and the source's delay, a bar is asked for: the feed comes first."""
TIMEFRAME: Final = Timeframe(1)


class Gaps:
    """For each ticker one span, start <= ts < end, of which bars may be missing.

    Spans of one ticker are joined with what lies between: asking twice for a bar does no harm.
    """

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}

    def add(self, tickers: Sequence[str], start: datetime, end: datetime) -> None:
        """Bars of these tickers may be missing here."""
        if end <= start:
            return
        for ticker in tickers:
            old = self.spans.get(ticker, (start, end))
            self.spans[ticker] = (min(start, old[0]), max(end, old[1]))

    def settle(self, covered: Mapping[str, Span]) -> None:
        """These spans have been answered to the end."""
        for ticker, (start, end) in covered.items():
            if ticker in self.spans:
                first, last = self.spans[ticker]
                if start <= first and end >= last:
                    del self.spans[ticker]
                elif start <= first < end:
                    self.spans[ticker] = (end, last)

    def questions(self, published: datetime) -> list[tuple[list[str], Span]]:
        """Tickers and a span that can be asked for now: what began before `published`."""
        grouped: dict[Span, list[str]] = {}
        for ticker, (start, end) in sorted(self.spans.items()):
            if start < published:
                grouped.setdefault((start, min(end, published)), []).append(ticker)
        return [
            (tickers[first : first + MOST_SYMBOLS], span)
            for span, tickers in sorted(grouped.items())
            for first in range(0, len(tickers), MOST_SYMBOLS)
        ]


@dataclass
class Healer:
    """Asks `source` for what is missing and hands the answers to `write`, with the reason to.

    Without a source the gaps cannot be healed, which is told once. An error postpones the next
    try, longer each time; nothing is forgotten. `failures` holds what the source says of symbols
    that it cannot answer for. `write` returns how many bars were new.
    """

    source: BarSource | None
    symbols: Mapping[str, Symbol]
    clock: Clock
    write: Callable[[Fetched], int]
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self.gaps = Gaps()
        self.failures: dict[str, str] = {}
        self._not_before = monotonic()
        self._n_errors = 0

    def heal(self, most_questions: int | None = None) -> int:
        """Ask for what is due, at most so many questions; how many bars were new."""
        if self.source is None:
            self._give_up()
            return 0
        if not self.gaps.spans or monotonic() < self._not_before:
            return 0
        delay = timedelta(seconds=self.source.delay_seconds)
        published = minute_of(self.clock.now() - delay - SETTLE)
        due = self.gaps.questions(published)[:most_questions]
        n_new = 0
        for tickers, span in due:
            try:
                n_new += self._ask(self.source, tickers, span)
            except RetryableError as error:
                self._postpone(error)
                break
        return n_new

    def _ask(self, source: BarSource, tickers: list[str], span: Span) -> int:
        symbols = tuple(self.symbols[ticker] for ticker in tickers)
        fetched = source.fetch_bars(Request(symbols, *span), TIMEFRAME, self.clock)
        n_new = self.write(fetched)
        self.gaps.settle(fetched.covered)
        unanswered = [ticker for ticker in tickers if ticker not in fetched.covered]
        for ticker in unanswered:
            reason = fetched.failures.get(ticker, "the answer is incomplete")
            if self.failures.get(ticker) != reason:
                self.failures[ticker] = reason
                self.tell(f"{ticker}: {reason}")
        if unanswered:
            self._wait(min(RETRY_SECONDS * 2**self._n_errors, MOST_RETRY_SECONDS))
        else:
            self._n_errors = 0
        for ticker in fetched.covered:
            self.failures.pop(ticker, None)
        return n_new

    def _postpone(self, error: RetryableError) -> None:
        self.tell(f"the gap stays open for now: {error}")
        seconds = min(RETRY_SECONDS * 2**self._n_errors, MOST_RETRY_SECONDS)
        if isinstance(error, RateLimited):
            seconds = max(error.retry_after_seconds, RETRY_SECONDS)
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._n_errors += 1
        self._not_before = monotonic() + seconds

    def _give_up(self) -> None:
        if self.gaps.spans:
            starts = min(start for start, _ in self.gaps.spans.values())
            self.tell(
                f"bars since {starts:%Y-%m-%d %H:%M} may be missing, and this feed has no "
                "archive to heal from; ingest them from another provider"
            )
            self.gaps.spans.clear()


def gaps_at_start(stores: Stores, symbols: Sequence[Symbol], now: datetime) -> dict[str, datetime]:
    """From when on bars of each symbol may be missing.

    That is the first hole of the last days in which a session was open and for which no source
    has answered; without any answer, what follows the newest stored bar; without any bar, the
    present minute. Bars that were under way when the last stream ended are asked for again.
    """
    known = {symbol.ticker for symbol in read_symbols(stores.database)}
    tickers = [symbol.ticker for symbol in symbols if symbol.ticker in known]
    ends = read_ends(stores.database, TIMEFRAME, tickers)
    newest = dict(ends.select("symbol", "last").iter_rows())
    spans = spans_by_symbol(read_coverage(stores.database, TIMEFRAME, tickers))
    oldest = minute_of(now - LONGEST)
    starts = dict.fromkeys((symbol.ticker for symbol in symbols), minute_of(now))
    for symbol in symbols:
        answered = spans.get(symbol.ticker, [])
        if answered:
            calendar = trading_calendar(symbol.calendar)
            holes = without((max(oldest, answered[0][0]), now), answered)
            hole = next((h for h in holes if was_open(calendar, h, TIMEFRAME)), None)
            if hole is not None:
                starts[symbol.ticker] = hole[0] - FLIGHT
        elif symbol.ticker in newest:
            starts[symbol.ticker] = max(newest[symbol.ticker] - FLIGHT, oldest)
    return starts
