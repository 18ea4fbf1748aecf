"""Alpaca's bars: asked for in pieces, judged closed by the slower clock, silence looked into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from candlecast.domain.frames import BARS, QUARANTINE, UNSTAMPED
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.domain.resample import resample
from candlecast.domain.sources import Fetched, Refusal, Request
from candlecast.providers.alpaca_client import AlpacaRest
from candlecast.providers.alpaca_rows import wire_bars
from candlecast.providers.rows import closed_bars, requested
from candlecast.providers.sifting import sift
from candlecast.providers.spans import places, published_until

DAY: Final = timedelta(days=1)
HALF_HOUR: Final = Timeframe(30)
"""Whence bars of 1h and 4h are made: Alpaca's own begin at full hours, not at the open."""
MAX_ROWS: Final = 250_000
"""How many bars are held as Alpaca writes them, before they become a frame."""
SILENCE: Final = timedelta(days=7)
"""A symbol without bars for longer at the end of a span is asked after."""
UNKNOWN: Final = (
    "Alpaca has neither bars nor a last trade of it; check the ticker, or use another provider"
)
VANISHED: Final = (
    "Alpaca has no last trade of it any more; its bars until {:%Y-%m-%d} are kept: it may have "
    "been delisted or renamed"
)


@dataclass(frozen=True)
class Question:
    """Bars of symbols of one calendar that open in start <= ts < end, as told at `now`.

    `tickers` are keyed by what Alpaca calls them; `delay` is how long after its end a bar is
    published.
    """

    tickers: dict[str, str]
    is_crypto: bool
    calendar: TradingCalendar
    timeframe: Timeframe
    start: datetime
    end: datetime
    now: datetime
    delay: timedelta

    @property
    def asked(self) -> Timeframe:
        """What Alpaca is asked for: its days of crypto do not begin at midnight UTC."""
        is_native = self.timeframe <= HALF_HOUR or (self.timeframe.is_daily and not self.is_crypto)
        return self.timeframe if is_native else HALF_HOUR

    def windows(self) -> Iterator[tuple[datetime, datetime]]:
        """The span in pieces that fit into memory; the last bar may end a day behind it."""
        is_whole = self.asked == self.timeframe and not self.timeframe.is_daily
        reach = min(self.end if is_whole else self.end + DAY, self.now)
        a_day = len(self.tickers) * (1 if self.asked.is_daily else 1440 / self.asked.minutes)
        step, start = max(DAY * (MAX_ROWS / a_day), DAY), self.start
        while start < reach:
            yield start, min(start + step, reach)
            start += step

    def closed(self, bars: pl.DataFrame, until: datetime) -> pl.DataFrame:
        """Those of the UNSTAMPED `bars` that lie within sessions and have ended by `until`."""
        if not self.asked.is_daily:
            bars = bars.filter(pl.Series(places(bars["ts"], self.asked, self.calendar)[1]))
        if self.asked == self.timeframe:
            return closed_bars(bars, self.timeframe, self.calendar, until)
        calendars = dict.fromkeys(self.tickers.values(), self.calendar)
        known = BARS.conform(bars.with_columns(known_at="ts"))
        made = resample(known, self.asked, self.timeframe, calendars, as_of=until)
        return UNSTAMPED.conform(made)


@dataclass(eq=False)
class Collected:
    """What the answers to several questions amount to."""

    failures: dict[str, str]
    bars: list[pl.DataFrame] = field(default_factory=lambda: [UNSTAMPED.empty()])
    refusals: tuple[Refusal, ...] = ()
    covered: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    quarantined: list[pl.DataFrame] = field(default_factory=lambda: [QUARANTINE.empty()])

    def fetched(self, request: Request) -> Fetched:
        """All of it, less the bars that were not asked for."""
        bars = UNSTAMPED.conform(requested(pl.concat(self.bars), request))
        aside = pl.concat(self.quarantined).unique(QUARANTINE.key, keep="last")
        return Fetched(bars, self.refusals, self.failures, self.covered, QUARANTINE.conform(aside))


def collect(question: Question, rest: AlpacaRest, collected: Collected) -> None:
    """Ask the `question`, and add what comes of it to `collected`."""
    tickers, bars = _ask(question, rest, collected)
    ended = min(question.now, rest.answered_at or question.now) - question.delay
    until = min(question.end, published_until(ended, question.timeframe, question.calendar))
    newest: dict[str, datetime] = dict(bars.group_by("symbol").agg(pl.col("ts").max()).iter_rows())
    silent = [
        name
        for name, ticker in tickers.items()
        if ticker not in newest or newest[ticker] < until - SILENCE
    ]
    gone = _gone(rest, silent, is_crypto=question.is_crypto)
    for name, ticker in tickers.items():
        end = until
        if name in gone and ticker not in newest:
            collected.failures[ticker] = UNKNOWN
            continue
        if name in gone:
            collected.failures[ticker] = VANISHED.format(newest[ticker])
            end = min(until, newest[ticker] + timedelta(minutes=question.asked.minutes))
        if question.start < end:
            collected.covered[ticker] = question.start, end
    collected.bars.append(question.closed(bars, ended))


def _ask(
    question: Question, rest: AlpacaRest, collected: Collected
) -> tuple[dict[str, str], pl.DataFrame]:
    # The symbols that Alpaca answered to the end, and all their bars.
    asked, is_crypto = question.asked, question.is_crypto
    tickers, parts = dict(question.tickers), [UNSTAMPED.empty()]
    for start, end in question.windows():
        answer, unknown = rest.bars(list(tickers), asked.minutes, start, end, is_crypto=is_crypto)
        for name, reason in unknown.items():
            collected.failures[tickers.pop(name)] = reason
        sifted = sift(wire_bars(answer, tickers, is_daily=asked.is_daily))
        parts.append(sifted.bars)
        collected.refusals += sifted.refusals
        collected.quarantined.append(sifted.quarantined)
    bars = pl.concat(parts).filter(pl.col("symbol").is_in(list(tickers.values())))
    # Pieces share the bar at which they meet.
    once = bars.unique(UNSTAMPED.key, keep="last", maintain_order=True)
    return tickers, once.sort(UNSTAMPED.key)


def _gone(rest: AlpacaRest, names: list[str], *, is_crypto: bool) -> set[str]:
    if not names:
        return set()
    trades, _ = rest.latest("trade", names, is_crypto=is_crypto)
    return set(names) - {name for name, trade in trades.items() if trade}
