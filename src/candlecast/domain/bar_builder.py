"""Bars of one minute from ticks: late, repeated and corrected ones have their place.

A minute that was built from trades closes when the vendor's own time has passed its end by
`grace`: the newest instant on any tick of the feed says how late it is there, so a vendor whose
clock runs ahead of ours, or behind, does no harm. Where nothing more comes our clock closes it,
`patience` after its end plus the vendor's usual lag. Where the vendor sends bars of a symbol as
well, our own build of a minute waits that long for the vendor's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final

from candlecast.domain.sources import FeedBar, Trade

MINUTE: Final = timedelta(minutes=1)
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_LAG: Final = timedelta(0)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)


def minute_of(at: datetime) -> datetime:
    """The start of the minute that `at` falls in."""
    return at.replace(second=0, microsecond=0)


def next_minute(at: datetime) -> datetime:
    """The first start of a minute that is not before `at`."""
    start = minute_of(at)
    return start if start == at else start + MINUTE


@dataclass(frozen=True)
class Delays:
    """How long each kind of lateness is waited for.

    `grace` is for trades out of order, `patience` for a silent feed or the vendor's bar of a
    minute we have built already; ticks more than `skew` ahead of our clock are refused; trades
    up to `window` late correct their bar, later ones cannot.
    """

    grace: timedelta = timedelta(seconds=2)
    patience: timedelta = timedelta(seconds=15)
    skew: timedelta = timedelta(seconds=60)
    window: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class RefusedTick:
    """A trade or bar that cannot be true or came too late, and why."""

    tick: Trade | FeedBar
    reason: str


@dataclass(slots=True)
class _Minute:
    # What is known of one minute of one symbol.
    symbol: str
    ts: datetime
    first_at: datetime | None = None
    last_at: datetime | None = None
    open: float = 0.0
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: float = 0.0
    money: float = 0.0
    n_trades: int = 0
    ids: set[str] = field(default_factory=set)
    vendors: FeedBar | None = None
    told: FeedBar | None = None

    def take(self, trade: Trade) -> bool:
        """Count a trade; False for one that was counted before."""
        if trade.id:
            if trade.id in self.ids:
                return False
            self.ids.add(trade.id)
        if self.first_at is None or self.last_at is None:
            self.first_at, self.open, self.high, self.low = trade.at, *(trade.price,) * 3
            self.last_at, self.close = trade.at, trade.price
        elif trade.at < self.first_at:
            self.first_at, self.open = trade.at, trade.price
        elif trade.at >= self.last_at:
            self.last_at, self.close = trade.at, trade.price
        self.high, self.low = max(self.high, trade.price), min(self.low, trade.price)
        self.volume += trade.size
        self.money += trade.price * trade.size
        self.n_trades += 1
        return True

    def bar(self) -> FeedBar | None:
        """The vendor's bar, else our own; None without either."""
        if self.vendors is not None or self.first_at is None:
            return self.vendors
        vwap = min(max(self.money / self.volume, self.low), self.high) if self.volume else None
        prices = (self.open, self.high, self.low, self.close)
        return FeedBar(self.symbol, self.ts, *prices, self.volume, vwap, self.n_trades)


class BarBuilder:
    """Builds the bars of any number of symbols; pure: the time is told with each call.

    Within `delays.grace` trades may come in any order; a trade id counts once. A later trade, or
    another bar of the vendor for the same minute, yields the corrected bar. A vendor's bar wins
    over what was built from trades. Minutes without a trade yield no bar, and a minute that began
    before the trades were complete yields none of our own: they are until `interrupt`, and again
    from `resume` on. What is older than
    `delays.window` is forgotten, so memory does not grow; a vendor's correction of an older bar
    is passed on as it is.

    `newest_at` is how far the vendor's time has come, `refused` what was not believed since it
    was last emptied by the owner.
    """

    def __init__(self, delays: Delays | None = None) -> None:
        self.delays = delays or Delays()
        self.newest_at = BEGINNING
        self._lag = NO_LAG
        self.refused: list[RefusedTick] = []
        self._minutes: dict[datetime, dict[str, _Minute]] = {}
        self._building: dict[datetime, dict[str, _Minute]] = {}
        self._changed: dict[tuple[str, datetime], _Minute] = {}
        self._with_bars: set[str] = set()
        self._interruptions: list[tuple[datetime, datetime]] = []

    def add(self, tick: Trade | FeedBar, now: datetime) -> None:
        """Take a tick; one that cannot be true, or is too late, goes to `refused`."""
        is_bar = isinstance(tick, FeedBar)
        reason = _bar_defect(tick) if is_bar else _trade_defect(tick)
        at = tick.ts + MINUTE if isinstance(tick, FeedBar) else tick.at
        if reason is None and at - now > self.delays.skew:
            seconds = (at - now).total_seconds()
            reason = f"it is stamped {seconds:.0f} s ahead of our clock; check the machine's time"
        if reason is not None:
            self.refused.append(RefusedTick(tick, reason))
            return
        self.see(at, now)
        if isinstance(tick, FeedBar):
            self._take_bar(tick, now)
        else:
            self._take_trade(tick, now)

    def see(self, at: datetime, now: datetime) -> None:
        """Learn from the instant on any tick, a quote for example, how late it is there."""
        if self.newest_at < at <= now + self.delays.skew:
            self.newest_at = at
            self._lag = max(now - at, NO_LAG)

    def interrupt(self, since: datetime) -> None:
        """Trades from this instant on may be missing: no own bars of minutes that touch it."""
        self._interruptions.append((since - self.delays.grace, END))
        self._discard(*self._interruptions[-1])

    def resume(self, at: datetime) -> None:
        """Trades are complete again from this instant on."""
        since, _ = self._interruptions.pop()
        self._interruptions.append((since, at + self.delays.grace))

    def closed(self, now: datetime) -> list[FeedBar]:
        """The bars that were closed or corrected since the last call, by ts and symbol."""
        slow = now - self._lag - self.delays.patience
        quick = max(self.newest_at - self.delays.grace, slow)
        for ts in [ts for ts in self._building if ts + MINUTE <= quick]:
            waiting = self._building[ts]
            for symbol in list(waiting):
                if symbol not in self._with_bars or ts + MINUTE <= slow:
                    self._changed[symbol, ts] = waiting.pop(symbol)
            if not waiting:
                del self._building[ts]
        bars = []
        for minute in self._changed.values():
            bar = minute.bar()
            if bar is not None and bar != minute.told:
                minute.told = bar
                bars.append(bar)
        self._changed.clear()
        self._forget(now)
        return sorted(bars, key=lambda bar: (bar.ts, bar.symbol))

    def forming(self, symbol: str, now: datetime) -> FeedBar | None:
        """The newest bar of `symbol` that is not closed yet, for display only."""
        for ts in sorted(self._minutes, reverse=True):
            minute = self._minutes[ts].get(symbol)
            if minute is not None:
                is_open = minute.told is None and ts + MINUTE + self.delays.patience > now
                return minute.bar() if is_open else None
        return None

    @property
    def n_minutes(self) -> int:
        """How many minutes of symbols are held in memory."""
        return sum(len(symbols) for symbols in self._minutes.values())

    def _take_bar(self, bar: FeedBar, now: datetime) -> None:
        self._with_bars.add(bar.symbol)
        if now - self._lag - bar.ts > self.delays.window:
            late = _Minute(bar.symbol, bar.ts)
            late.vendors = bar
            self._changed[bar.symbol, bar.ts] = late
            return
        minute = self._minute(bar.symbol, bar.ts)
        minute.vendors = bar
        self._changed[bar.symbol, bar.ts] = minute
        waiting = self._building.get(bar.ts)
        if waiting is not None:
            waiting.pop(bar.symbol, None)

    def _take_trade(self, trade: Trade, now: datetime) -> None:
        ts = minute_of(trade.at)
        if now - self._lag - ts > self.delays.window:
            seconds = (now - trade.at).total_seconds()
            self.refused.append(RefusedTick(trade, f"it came {seconds:.0f} s late"))
            return
        minute = self._minute(trade.symbol, ts)
        if not minute.take(trade) or minute.vendors is not None:
            return
        if minute.told is not None:
            self._changed[trade.symbol, ts] = minute
        elif not any(_overlaps(ts, *span) for span in self._interruptions):
            self._building.setdefault(ts, {})[trade.symbol] = minute

    def _discard(self, since: datetime, until: datetime) -> None:
        for ts in [ts for ts in self._building if _overlaps(ts, since, until)]:
            del self._building[ts]

    def _minute(self, symbol: str, ts: datetime) -> _Minute:
        of_symbols = self._minutes.setdefault(ts, {})
        minute = of_symbols.get(symbol)
        if minute is None:
            minute = of_symbols[symbol] = _Minute(symbol, ts)
        return minute

    def _forget(self, now: datetime) -> None:
        oldest = now - self._lag - self.delays.window - MINUTE
        for ts in [ts for ts in self._minutes if ts < oldest]:
            del self._minutes[ts]
        if self._interruptions and self._interruptions[0][1] < oldest:
            self._interruptions = [span for span in self._interruptions if span[1] >= oldest]


def _overlaps(ts: datetime, since: datetime, until: datetime) -> bool:
    return ts < until and ts + MINUTE > since


def _trade_defect(trade: Trade | FeedBar) -> str | None:
    assert isinstance(trade, Trade)
    if not (isfinite(trade.price) and trade.price > 0):
        return f"the price {trade.price} is no positive number"
    if not (isfinite(trade.size) and trade.size >= 0):
        return f"the size {trade.size} is negative or no number"
    return None


def _bar_defect(bar: Trade | FeedBar) -> str | None:
    assert isinstance(bar, FeedBar)
    prices = (bar.open, bar.high, bar.low, bar.close)
    if not all(isfinite(price) and price > 0 for price in prices):
        return "a price is no positive number"
    if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        return "its prices lie outside its low and high"
    if not (isfinite(bar.volume) and bar.volume >= 0):
        return f"the volume {bar.volume} is negative or no number"
    if bar.ts != minute_of(bar.ts):
        return f"{bar.ts} is no start of a minute"
    return None
