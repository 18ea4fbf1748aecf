"""What a provider may offer: bars, corporate actions, news, indices, posts, capitalisations, ticks.

A provider is one class that has one or more of the methods below; what it lacks it does not
offer. All of them translate what goes wrong into the errors of `candlecast.errors`: RateLimited,
ProviderUnavailable, BadCredentials, NotFound for a symbol that the provider does not know. What
goes wrong for one symbol only stands in `failures`, so that the others go on.

A class may say more of itself: `is_bulk` (it gives all it has at once and is not asked for spans),
`is_simulated` (its bars were never traded), `usual_calendar` (where its symbols trade).

Bars come without `known_at`; the pipeline stamps them. Other frames come with the natural
`known_at`, the moment the provider made the row public; the pipeline moves it to the present
where the row turns up later than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeAlias, runtime_checkable

import polars as pl

from candlecast.domain.market import Clock, Symbol, Timeframe
from candlecast.errors import CandlecastError

Span: TypeAlias = tuple[datetime, datetime]
"""start <= time < end."""
SIMULATED: Final = ("synthetic", "simulated")
"""The sources whose bars were never traded."""


def is_simulated(source: pl.Expr) -> pl.Expr:
    """Whether the `source` of a bar says that it, or what it is made of, was never traded."""
    is_derived = pl.any_horizontal(source.str.starts_with(f"{name}@") for name in SIMULATED)
    return source.is_in(SIMULATED) | is_derived


@dataclass(frozen=True)
class Request:
    """What is wanted: `symbols` (None: all that the provider has), start <= event time < end.

    None for `start` or `end` means as far as the provider goes.
    """

    symbols: tuple[Symbol, ...] | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def tickers(self) -> tuple[str, ...] | None:
        """The tickers of `symbols`."""
        return None if self.symbols is None else tuple(symbol.ticker for symbol in self.symbols)


@dataclass(frozen=True)
class Refusal:
    """One row that a provider refused, and why: `source` and `line` say where it stands."""

    symbol: str
    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.symbol}: {self.reason}"


@dataclass(frozen=True)
class Fetched:
    """What a provider returned: bars without `known_at` (UNSTAMPED), and the rows it refused.

    `covered` holds, for each ticker that was answered to the end, the span start <= ts < end
    within which an absent bar means that nothing was traded.
    """

    bars: pl.DataFrame
    refusals: tuple[Refusal, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    """Symbols (or files) that failed as a whole, with the reason."""
    covered: dict[str, Span] = field(default_factory=dict)
    quarantined: pl.DataFrame | None = None
    """The values of the rows refused (QUARANTINE), where they could be read."""


@dataclass(frozen=True)
class FetchedRows:
    """What a provider returned besides bars: a frame of the kind asked for, and what failed."""

    rows: pl.DataFrame
    failures: dict[str, str] = field(default_factory=dict)


@runtime_checkable
class BarSource(Protocol):
    """Offers bars."""

    delay_seconds: float

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars that open within the request's span."""
        ...


@runtime_checkable
class ActionSource(Protocol):
    """Offers splits, dividends and delistings."""

    def fetch_actions(self, request: Request, clock: Clock) -> FetchedRows:
        """ACTIONS with an ex-date within the request's span."""
        ...


@runtime_checkable
class NewsSource(Protocol):
    """Offers headlines."""

    def fetch_news(self, request: Request, clock: Clock) -> FetchedRows:
        """NEWS published within the request's span."""
        ...


@runtime_checkable
class PostSource(Protocol):
    """Offers posts of social networks."""

    def fetch_posts(self, request: Request, clock: Clock) -> FetchedRows:
        """POSTS posted within the request's span."""
        ...


@runtime_checkable
class IndexSource(Protocol):
    """Offers indices of sentiment such as Fear & Greed."""

    def fetch_index(self, request: Request, clock: Clock) -> FetchedRows:
        """INDICES with `ts` within the request's span."""
        ...


@runtime_checkable
class CapitalisationSource(Protocol):
    """Offers market capitalisations."""

    def fetch_capitalisations(self, request: Request, clock: Clock) -> FetchedRows:
        """CAPITALISATIONS with `ts` within the request's span."""
        ...


@runtime_checkable
class QuoteSource(Protocol):
    """Offers the last quote and trade."""

    def fetch_quotes(self, request: Request, clock: Clock) -> FetchedRows:
        """QUOTES, one row a symbol; the request's span does not matter."""
        ...


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade; `id` is unique within its symbol where the vendor has one."""

    symbol: str
    at: datetime
    price: float
    size: float
    id: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and offer."""

    symbol: str
    at: datetime
    bid: float
    ask: float
    bid_size: float
    ask_size: float


@dataclass(frozen=True, slots=True)
class FeedBar:
    """A closed bar of one minute as the vendor built it; a later one of one `ts` corrects it."""

    symbol: str
    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None
    trade_count: int | None = None


Tick: TypeAlias = Trade | Quote | FeedBar


class Feed(Protocol):
    """A live connection. It reports what arrives; whether silence is trouble others judge."""

    @property
    def failure(self) -> CandlecastError | None:
        """Why the feed ended by itself; None while it runs."""
        ...

    def connect(self, symbols: Sequence[Symbol], sink: Callable[[Tick], None]) -> None:
        """Begin to hand ticks to `sink` from a thread of the feed's own.

        Returns when the vendor has accepted the subscription. A connection that breaks later
        is not repaired: `failure` is set, and the owner opens a new feed.
        """
        ...

    def close(self) -> None:
        """End the connection and its thread; may be called twice."""
        ...


@runtime_checkable
class FeedSource(Protocol):
    """Offers a live feed."""

    def open_feed(self, clock: Clock) -> Feed:
        """A feed that is not connected yet."""
        ...
