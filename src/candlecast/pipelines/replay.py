"""Bars played as if they came live, at any speed, in a time of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import inf, isinf
from time import monotonic
from typing import Final

import polars as pl

from candlecast.domain.bar_builder import MINUTE, minute_of, next_minute
from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, Symbol, Timeframe
from candlecast.domain.sources import Feed, Fetched, Request, Tick
from candlecast.errors import CandlecastError, InvalidSpec
from candlecast.pipelines.inlet import Inlet, sourced_bars

AT_ONCE: Final = inf
"""The speed at which a replay goes on as soon as each minute has been dealt with."""


class ReplayClock:
    """Simulated time: begins at `start` and runs `speed` times as fast as the machine's.

    Nothing moves before `run`. At the speed ``AT_ONCE`` the time stands wherever the replay has
    come to.
    """

    def __init__(self, start: datetime, speed: float = AT_ONCE) -> None:
        if not speed > 0:
            raise InvalidSpec(f"a speed of {speed} goes nowhere; use a positive number")
        self.speed = speed
        self._start = start
        self._began: float | None = None

    def now(self) -> datetime:
        """The simulated instant."""
        if self._began is None or isinf(self.speed):
            return self._start
        return self._start + timedelta(seconds=(monotonic() - self._began) * self.speed)

    def run(self) -> None:
        """Let the time run; once it does, this changes nothing."""
        if self._began is None:
            self._began = monotonic()

    def reach(self, instant: datetime, stop: threading.Event) -> bool:
        """Wait until it is `instant`, or move there; False if `stop` was set before."""
        if isinf(self.speed):
            self._start = max(self._start, instant)
            return not stop.is_set()
        while (ahead := (instant - self.now()).total_seconds()) > 0:
            if stop.wait(min(ahead / self.speed, 1.0)):
                return False
        return not stop.is_set()


class ReplaySource:
    """A feed and a source of bars that both tell what was known by the replay's time.

    Parameters
    ----------
    bars : UNSTAMPED (or BARS) of one minute; each is told when it ends.
    clock : the replay's, which is the clock of the stores as well.
    until : the replay ends here, by default with the last bar.
    """

    delay_seconds = 0.0

    def __init__(
        self, bars: pl.DataFrame, clock: ReplayClock, until: datetime | None = None
    ) -> None:
        self._bars = UNSTAMPED.conform(bars.select(*UNSTAMPED.columns))
        self._clock = clock
        last = self._bars["ts"].max()
        end = last + MINUTE if isinstance(last, datetime) else clock.now()
        self._until = end if until is None else until

    def open_feed(self, clock: Clock) -> Feed:
        """A feed of what ends after the replay's present."""
        return ReplayFeed(self._bars, self._clock, self._until)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """The bars that have ended by the replay's present."""
        if timeframe.minutes != 1:
            raise InvalidSpec(f"a replay has bars of 1m only, not of {timeframe}")
        known = self._bars.filter(pl.col("ts") <= self._clock.now() - MINUTE)
        tickers = request.tickers or tuple(known["symbol"].unique().sort())
        known = known.filter(pl.col("symbol").is_in(list(tickers)))
        if request.start is not None:
            known = known.filter(pl.col("ts") >= request.start)
        if request.end is not None:
            known = known.filter(pl.col("ts") < request.end)
        start = request.start or known["ts"].min()
        now = minute_of(self._clock.now())
        end = min(request.end or now, now)
        if not isinstance(start, datetime) or end <= start:
            return Fetched(known)
        return Fetched(known, covered=dict.fromkeys(tickers, (start, end)))


class ReplayFeed:
    """Hands over bars when they end in the time of `clock`, and says every minute that it lives."""

    def __init__(self, bars: pl.DataFrame, clock: ReplayClock, until: datetime) -> None:
        self._bars, self._clock, self._until = bars, clock, until
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._sink: Callable[[Tick], None] | None = None

    @property
    def failure(self) -> CandlecastError | None:
        """A replay never fails."""
        return None

    def connect(self, symbols: Sequence[Symbol], sink: Callable[[Tick], None]) -> None:
        """Begin with the first bar that ends after the present."""
        self._clock.run()
        tickers = [symbol.ticker for symbol in symbols]
        begin = self._clock.now()
        is_wanted = pl.col("symbol").is_in(tickers) & (pl.col("ts") + MINUTE > begin)
        minutes = {
            key[0]: part
            for key, part in self._bars.filter(is_wanted)
            .sort("ts", "symbol")
            .partition_by("ts", as_dict=True, maintain_order=True)
            .items()
        }
        self._sink = sink
        self._thread = threading.Thread(
            target=self._play, args=(minutes, begin), name="replay", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop playing."""
        self._stop.set()
        if isinstance(self._sink, Inlet):
            self._sink.close()
        if self._thread is not None:
            self._thread.join()

    def _play(self, minutes: dict[object, pl.DataFrame], begin: datetime) -> None:
        sink = self._sink
        assert sink is not None
        end = next_minute(begin + timedelta(microseconds=1))
        while end <= self._until:
            if not self._clock.reach(end, self._stop):
                return
            rows = minutes.pop(end - MINUTE, None)
            for bar in [] if rows is None else sourced_bars(rows):
                sink(bar)
            if isinstance(sink, Inlet):
                sink.vouch(end, is_last=end + MINUTE > self._until)
                if isinf(self._clock.speed):
                    sink.wait_until_done()
            end += MINUTE
        if begin + MINUTE > self._until and isinstance(sink, Inlet):
            sink.vouch(begin, is_last=True)
