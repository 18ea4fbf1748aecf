"""What is missing of some symbols' bars, span by span, from the first provider that has it.

1. Oldest first, in windows: each window's bars and the note that it was answered are written in
   one transaction, so whoever is stopped goes on where he was. The newest days are asked for
   again, because that is where vendors correct.
2. Each symbol has its order of providers. The next one is asked for what the one before could not
   answer. Where a provider may answer soon, the symbol waits for the next run, so that no later
   bar overtakes what is missing.
3. A provider that invents its bars may come last, and only where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import polars as pl

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.sources import ActionSource, BarSource, Fetched, Refusal, Request, Span
from candlecast.errors import CandlecastError, InvalidSpec, LeakageError, NotFound
from candlecast.pipelines.facts import ingest_facts
from candlecast.pipelines.ingest import IngestRun
from candlecast.pipelines.missing import find_missing, windows, without
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.stamping import Stored, store_fetched
from candlecast.store.bars import BarsWritten
from candlecast.store.stores import Stores

WINDOW_BARS: Final = 10_000
"""A window is as long as so many bars of a market that never closes."""
SYMBOLS_AT_ONCE: Final = 50
RECHECKED: Final = timedelta(days=4)
"""Over a long weekend: corrections of the last session come within the next."""


@dataclass(frozen=True)
class Wanted:
    """Bars of `symbols` with start <= ts < end; None: from the usual depth, until now.

    `is_order_given` says that the order of the providers counts for symbols with their own too.
    """

    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    start: datetime | None = None
    end: datetime | None = None
    recheck: timedelta = RECHECKED
    is_simulation_allowed: bool = False
    is_order_given: bool = False

    def order_of(self, symbol: Symbol, providers: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the providers that a symbol asks, in order."""
        named = tuple(providers)
        return named if self.is_order_given else symbol.providers or named


@dataclass
class _Tally:
    # What all windows came to.
    written: BarsWritten = field(default_factory=BarsWritten)
    symbols: set[str] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)

    def add(
        self, written: BarsWritten, symbols: Sequence[str], refusals: Sequence[Refusal]
    ) -> None:
        """Count what one answer came to."""
        self.written += written
        self.symbols.update(symbols)
        self.refusals.extend(refusals)


def backfill(
    stores: Stores,
    providers: Mapping[str, BarSource],
    wanted: Wanted,
    progress: Progress = silent,
) -> IngestRun:
    """Fetch what is missing; `providers` in the order in which symbols without one ask them.

    Raises
    ------
    InvalidSpec : a provider that invents its bars is not allowed, or does not come last.
    NotFound : a symbol names a provider that is not among `providers`.
    """
    tally = _Tally()
    batches = list(_batches(stores, providers, wanted))
    length = timedelta(minutes=wanted.timeframe.minutes * WINDOW_BARS)
    for number, (span, order, batch) in enumerate(batches):
        progress("spans", number, len(batches))
        chain = {name: providers[name] for name in order}
        for window in windows(span, length):
            pending = tuple(symbol for symbol in batch if symbol.ticker not in tally.waiting)
            if pending:
                _fetch(stores, chain, replace(wanted, symbols=pending), window, tally)
    progress("spans", len(batches), len(batches))
    return IngestRun(
        tally.written, tuple(sorted(tally.symbols)), tuple(tally.refusals), tally.failures, {}
    )


def backfill_actions(
    stores: Stores, providers: Mapping[str, Any], wanted: Wanted
) -> dict[str, str]:
    """Fetch the splits and dividends that raw prices need, and say what failed.

    Each symbol's come from the first of its providers that offers them and answers.
    """
    by_order: dict[tuple[str, ...], list[Symbol]] = {}
    for symbol in wanted.symbols:
        order = wanted.order_of(symbol, providers)
        offering = tuple(name for name in order if isinstance(providers[name], ActionSource))
        by_order.setdefault(offering, []).append(symbol)
    failures: dict[str, str] = {}
    for order, symbols in by_order.items():
        request = Request(tuple(symbols), wanted.start)
        reasons: list[str] = []
        for name in order:
            try:
                found = ingest_facts(stores, "actions", name, providers[name], request).failures
            except CandlecastError as error:
                reasons.append(f"{name}: {error}")
                continue
            failures |= {f"actions of {t}": f"{name}: {why}" for t, why in found.items()}
            break
        else:
            told = dict.fromkeys((symbol.ticker for symbol in symbols), "; ".join(reasons))
            failures |= {f"actions of {t}": why for t, why in told.items() if why}
    return failures


def _batches(
    stores: Stores, providers: Mapping[str, BarSource], wanted: Wanted
) -> Iterator[tuple[Span, tuple[str, ...], list[Symbol]]]:
    # Symbols that lack the same span and ask the same providers, some at a time; oldest first.
    orders = {symbol.ticker: _order(symbol, providers, wanted) for symbol in wanted.symbols}
    now = stores.clock.now()
    until = min(wanted.end or now, now)
    missing = find_missing(
        stores, wanted.symbols, wanted.timeframe, (wanted.start, until), wanted.recheck
    )
    symbols = {symbol.ticker: symbol for symbol in wanted.symbols}
    todo = sorted((span, orders[t], t) for t, spans in missing.items() for span in spans)
    for (span, order), items in groupby(todo, key=lambda item: item[:2]):
        batch = [symbols[ticker] for *_, ticker in items]
        for start in range(0, len(batch), SYMBOLS_AT_ONCE):
            yield span, order, batch[start : start + SYMBOLS_AT_ONCE]


def _order(symbol: Symbol, providers: Mapping[str, BarSource], wanted: Wanted) -> tuple[str, ...]:
    order = wanted.order_of(symbol, providers)
    for place, name in enumerate(order):
        if name not in providers:
            raise NotFound.among(f"provider of {symbol.ticker}", name, providers)
        if not _invents(providers[name]):
            continue
        if not wanted.is_simulation_allowed:
            raise InvalidSpec(f"{name} invents its bars; allow it with --allow-simulated")
        if place < len(order) - 1:
            raise InvalidSpec(f"{name} invents its bars; name it last, after the real providers")
    return order


def _fetch(
    stores: Stores, chain: Mapping[str, BarSource], wanted: Wanted, window: Span, tally: _Tally
) -> None:
    # One window, from one provider after the other: each is asked for what is still open.
    symbols = {symbol.ticker: symbol for symbol in wanted.symbols}
    open_spans: dict[str, list[Span]] = {ticker: [window] for ticker in symbols}
    reasons: dict[str, list[str]] = {ticker: [] for ticker in symbols}
    waiting: set[str] = set()
    two_bars = 2 * timedelta(minutes=wanted.timeframe.minutes)
    for name, provider in chain.items():
        delay = timedelta(seconds=provider.delay_seconds)
        published_at = stores.clock.now() - delay - two_bars
        unanswered: dict[str, list[Span]] = {}
        for span, tickers in _by_span(open_spans):
            request = Request(tuple(symbols[ticker] for ticker in tickers), *span)
            fetched, is_transient = _asked(
                provider, request, wanted.timeframe, stores, is_alone=len(chain) == 1
            )
            fetched = _clamped(fetched, request, stores.clock.now())
            stored = store_fetched(
                stores,
                fetched,
                make_symbol=symbols.__getitem__,
                timeframe=wanted.timeframe,
                delay_seconds=provider.delay_seconds,
                source=name,
            )
            tally.add(stored.written, stored.symbols, fetched.refusals)
            waiting |= {*tickers} if is_transient else set()
            for ticker in tickers:
                left = (
                    []
                    if _invents(provider)
                    else _unanswered(span, fetched, stored, ticker, published_at)
                )
                if left:
                    unanswered.setdefault(ticker, []).extend(left)
                    reason = stored.failures.get(ticker, "it has no bars of this span")
                    reasons[ticker].append(f"{name}: {reason}")
                elif _invents(provider) and reasons[ticker]:
                    tally.failures[ticker] = "; ".join([*reasons[ticker], "bars were invented"])
        open_spans = {ticker: spans for ticker, spans in unanswered.items() if spans}
    tally.failures |= {t: "; ".join(dict.fromkeys(reasons[t])) for t in open_spans}
    tally.waiting |= waiting & {*open_spans}


def _clamped(fetched: Fetched, request: Request, now: datetime) -> Fetched:
    # Nothing that was not asked for, and nothing of the future, whatever a provider says.
    assert request.start is not None
    assert request.end is not None
    tickers, until = set(request.tickers or ()), min(request.end, now)
    is_asked = pl.col("symbol").is_in(tickers) & pl.col("ts").is_between(
        request.start, until, closed="left"
    )
    spans = {
        ticker: (max(start, request.start), min(end, until))
        for ticker, (start, end) in fetched.covered.items()
        if ticker in tickers
    }
    covered = {ticker: span for ticker, span in spans.items() if span[0] < span[1]}
    return replace(fetched, bars=fetched.bars.filter(is_asked), covered=covered)


def _unanswered(
    span: Span, fetched: Fetched, stored: Stored, ticker: str, published_at: datetime
) -> list[Span]:
    # What the next provider is asked for: of an answer that is no failure only what lies before
    # it, for what lies behind was not published yet. Who names no span answers with its bars.
    if ticker in fetched.covered:
        told = [fetched.covered[ticker]]
    else:
        own = fetched.bars.filter(pl.col("symbol") == ticker)["ts"]
        told = [(own[0], own[-1])] if len(own) else []
    if not told:
        return [span] if ticker in stored.failures or span[0] < published_at else []
    left = without(span, told) if ticker in stored.failures else [(span[0], told[0][0])]
    # What begins later than `published_at` could not be answered yet.
    return [(start, min(end, span[1])) for start, end in left if start < min(end, published_at)]


def _by_span(spans: Mapping[str, Sequence[Span]]) -> list[tuple[Span, list[str]]]:
    # The same spans together: most symbols lack the whole window.
    pairs = sorted((span, ticker) for ticker, own in spans.items() for span in own)
    return [(span, [t for _, t in group]) for span, group in groupby(pairs, key=itemgetter(0))]


def _asked(
    provider: BarSource,
    request: Request,
    timeframe: Timeframe,
    stores: Stores,
    *,
    is_alone: bool,
) -> tuple[Fetched, bool]:
    # The answer, and whether it may be another one soon. Others go on without one that fails.
    try:
        fetched = provider.fetch_bars(request, timeframe, stores.clock)
    except CandlecastError as error:
        if isinstance(error, LeakageError) or (is_alone and isinstance(error, InvalidSpec)):
            raise
        failures = dict.fromkeys(request.tickers or (), str(error))
        return Fetched(UNSTAMPED.empty(), failures=failures), error.is_retryable
    # What was invented hides no bar that was traded.
    return (replace(fetched, covered={}) if _invents(provider) else fetched), False


def _invents(provider: BarSource) -> bool:
    return getattr(provider, "is_simulated", False)
