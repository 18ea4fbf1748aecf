"""What follows from a live stream's bars and trades: coarser bars, and how much was large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from candlecast.domain.bar_builder import BEGINNING, MINUTE, minute_of, next_minute
from candlecast.domain.frames import INSTANT, LARGE_TRADES
from candlecast.domain.large_trades import (
    THRESHOLDS,
    TRADES,
    compute_large_trades,
    compute_thresholds,
    make_trades,
    trailing,
)
from candlecast.domain.market import MINUTES, Timeframe
from candlecast.domain.sources import Span, Trade
from candlecast.errors import DatabaseBusy
from candlecast.pipelines.resample import derive_bars, derive_changed
from candlecast.store.coverage import SPANS
from candlecast.store.facts import write_facts
from candlecast.store.stores import Stores

FINEST: Final = Timeframe(1)
COARSER: Final = tuple(Timeframe(n) for n in MINUTES.values() if n > FINEST.minutes)
HALF_HOUR: Final = 30
PASSES: Final = (timedelta(seconds=5), timedelta(seconds=80))
"""How long after a boundary coarser bars are made: first of what has come, then of the rest."""
LARGE_AFTER: Final = timedelta(seconds=20)


class Deriver:
    """Makes coarser bars when the clock passes where they can end: sessions open on half hours.

    What was touched by the end of a stream that was killed is made when the next one begins.
    """

    def __init__(self, stores: Stores, tell: Callable[[str], None]) -> None:
        self._stores, self._tell = stores, tell
        self._touched: dict[Timeframe, dict[str, Span]] = {target: {} for target in COARSER}
        now = stores.clock.now()
        self._made_at = {(target, delay): now for target in COARSER for delay in PASSES}

    def catch_up(self) -> None:
        """Make what was written and not followed yet, whoever wrote it."""
        try:
            derive_changed(self._stores, FINEST)
        except DatabaseBusy as error:
            self._tell(f"coarser bars wait: {error}")

    def note(self, bars: pl.DataFrame) -> None:
        """These BARS were written."""
        ends = bars.group_by("symbol").agg(pl.col("ts").min(), pl.col("ts").max().alias("last"))
        for touched in self._touched.values():
            for ticker, first, last in ends.iter_rows():
                start, end = touched.get(ticker, (first, last + MINUTE))
                touched[ticker] = (min(start, first), max(end, last + MINUTE))

    def make_due(self, now: datetime) -> None:
        """Make the coarser bars of what was touched, if their time has come."""
        for target in COARSER:
            period = timedelta(minutes=min(target.minutes, HALF_HOUR))
            for delay in PASSES:
                boundary = BEGINNING + (now - delay - BEGINNING) // period * period
                if boundary + delay > self._made_at[target, delay]:
                    self._made_at[target, delay] = now
                    self._make([target])
                    if delay == PASSES[-1]:
                        self._keep_since(target, boundary)

    def make_all(self) -> None:
        """Make all that can be made of what was touched."""
        self._make(COARSER)

    def _make(self, targets: Sequence[Timeframe]) -> None:
        for target in targets:
            spans = [(ticker, *span) for ticker, span in sorted(self._touched[target].items())]
            if spans:
                frame = pl.DataFrame(spans, schema=SPANS, orient="row")
                self._derive(frame, [target])

    def _derive(self, spans: pl.DataFrame, targets: Sequence[Timeframe]) -> None:
        # A busy database gets them with the next pass, or when the next stream begins.
        try:
            derive_bars(self._stores, FINEST, spans, targets=targets)
        except DatabaseBusy as error:
            self._tell(f"coarser bars wait: {error}")

    def _keep_since(self, target: Timeframe, boundary: datetime) -> None:
        # What lies before the boundary is settled; buckets that still form are touched again.
        touched = self._touched[target]
        self._touched[target] = {
            ticker: (max(start, boundary), end)
            for ticker, (start, end) in touched.items()
            if end > boundary
        }


class LargeTrades:
    """Counts the large trades of each minute, some seconds after its end.

    Minutes in which trades may be missing do not count. Only the trades that the next thresholds
    need are kept.
    """

    def __init__(self, stores: Stores, source: str) -> None:
        self._stores, self._source = stores, source
        self._earlier = make_trades([])
        self._new: list[Trade] = []
        self._thresholds = pl.DataFrame(schema=THRESHOLDS)
        self._judged_hours: set[datetime] = set()
        self._since = self._done_until = next_minute(stores.clock.now())

    def resume(self, at: datetime) -> None:
        """Trades are complete from this instant on."""
        self._since = next_minute(at)

    def take(self, trade: Trade) -> None:
        """A trade has come."""
        self._new.append(trade)

    def write_due(self, now: datetime) -> None:
        """Store the LARGE_TRADES of the minutes that have ended since the last time."""
        until = minute_of(now - LARGE_AFTER)
        if until <= self._done_until or not self._new:
            return
        trades = pl.concat([self._earlier, make_trades(self._new)])
        self._new.clear()
        start, self._done_until = max(self._since, self._done_until), until
        self._learn_thresholds(trades, start, until)
        rows = compute_large_trades(
            trades, closed_at=until, source=self._source, thresholds=self._thresholds
        )
        told_at = self._stores.clock.now()
        fresh = rows.filter(pl.col("ts") >= start).with_columns(
            known_at=pl.lit(told_at).cast(INSTANT)
        )
        write_facts(self._stores.database, LARGE_TRADES, LARGE_TRADES.conform(fresh), told_at)
        is_open = pl.col("at") >= until
        settled = trailing(trades.filter(~is_open)).select(*TRADES)
        self._earlier = pl.concat([settled, trades.filter(is_open).select(*TRADES)])

    def _learn_thresholds(self, trades: pl.DataFrame, start: datetime, until: datetime) -> None:
        # Once an hour: later the trades before it would have been displaced by those within.
        hours = {at.replace(minute=0) for at in (start, until - MINUTE)}
        new = sorted(hours - self._judged_hours)
        if new:
            kept = self._thresholds.filter(pl.col("hour").is_in(sorted(hours)))
            self._thresholds = pl.concat([kept, compute_thresholds(trades, new)])
            self._judged_hours = hours
