"""Crypto exchanges through ccxt: candles, trade counts where told, last quotes; without a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import INSTANT, QUOTES, UNSTAMPED
from candlecast.domain.market import MINUTES, Clock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, FetchedRows, Request, Span
from candlecast.domain.tickers import VENUE_DOLLARS, vendor_names
from candlecast.errors import InvalidSpec, NotFound
from candlecast.providers.exchange_client import ExchangeClient
from candlecast.providers.exchange_pages import fetch_candles, find_first
from candlecast.providers.http import Politeness
from candlecast.providers.patience import PATIENT
from candlecast.providers.rows import PRICES, closed_bars
from candlecast.providers.sifting import Sifted, fetched_of, sift
from candlecast.providers.spans import Question, built_from, places, published_until

FIRST_DAY: Final = datetime(2009, 1, 3, tzinfo=UTC)  # of Bitcoin
CANDLES: Final = {
    "at": pl.Int64,
    **dict.fromkeys((*PRICES, "volume", "money"), pl.Float64),
    "trade_count": pl.Int64,
}
TIMED_BY_TRADE: Final = ("coinbase",)
"""Venues whose ticker bears the time of the last trade; that of others, the ticker's own."""


@PROVIDERS.register("exchange")
class ExchangeProvider:
    """Bars and last quotes of a crypto exchange that ccxt knows; public data, without a key.

    The `source` of the bars is the venue. Volume is in units of the coin. vwap and trade_count
    are told by Binance; others leave them null. Timeframes that the venue lacks are built from
    the next finer one. A bar counts as closed when both our clock and the venue's say so. Venues
    that only tell their newest candles (Kraken: 720) are believed from the first one on: `covered`
    says from when, and the symbol fails, so that another provider can be asked for the rest. A
    market that is no longer traded is told to its last bar, and fails.

    Parameters
    ----------
    venue : the exchange's name in ccxt, such as ``binance`` or ``coinbase``
    base_url : where to ask instead of the venue's own hosts
    politeness : limits of tries and time; the pace is ccxt's own for the venue

    Raises
    ------
    NotFound : there is no such venue.
    RateLimited, ProviderUnavailable : as told by the venue or the network; nothing is returned.
    BadCredentials : the venue asks for a key.
    InvalidSpec : no symbols are named, the venue tells no candles, or ccxt is not installed.
    """

    usual_calendar = "24/7"
    delay_seconds = 2.0  # a candle is final at once; the venue's clock is told in whole seconds

    def __init__(
        self,
        *,
        venue: str = "binance",
        base_url: str | None = None,
        politeness: Politeness | None = None,
    ) -> None:
        self._client = ExchangeClient(venue, base_url, politeness or PATIENT)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars that open within the request's span; symbols fail one by one."""
        names, failures = self._named(request)
        covered: dict[str, Span] = {}
        parts = []
        for name, symbol in names.items():
            now = clock.now()
            end = min(request.end or now, now)
            asked = Question(symbol, name, timeframe, request.start, end, now)
            try:
                is_traded = self._client.market(name).get("active") is not False
                part, span, is_cut = self._answer(asked)
            except (NotFound, InvalidSpec) as error:
                failures[symbol.ticker] = str(error)
                continue
            if is_cut:
                failures[symbol.ticker] = self._cut(asked, span)
            if not is_traded:
                failures[symbol.ticker] = self._vanished(name, part.bars)
                span = _until_last(span, part.bars, timeframe)
            parts.append(part)
            if span is not None:
                covered[symbol.ticker] = span
        return fetched_of(parts, request, failures, covered)

    def fetch_quotes(self, request: Request, clock: Clock) -> FetchedRows:
        """QUOTES: best bid and offer and the last price.

        Venues tell one time only: of the quote (then `trade_at` is null), or of the last trade.
        """
        names, failures = self._named(request)
        rows = []
        for name, symbol in names.items():
            try:
                self._client.market(name)
                told = self._client.ticker(name)
            except (NotFound, InvalidSpec) as error:
                failures[symbol.ticker] = str(error)
                continue
            at = told.get("timestamp")
            instant = None if at is None else _instant(at)
            is_of_trade = self._client.venue in TIMED_BY_TRADE
            times = (None, instant) if is_of_trade else (instant, None)
            values = (told.get(key) for key in ("bid", "ask", "bidVolume", "askVolume", "last"))
            rows.append((symbol.ticker, *values, *times))
        numbers = ("bid", "ask", "bid_size", "ask_size", "price")
        schema = {"symbol": pl.String, **dict.fromkeys(numbers, pl.Float64)}
        frame = pl.DataFrame(
            rows, schema={**schema, "quote_at": INSTANT, "trade_at": INSTANT}, orient="row"
        )
        now = pl.lit(clock.now()).cast(INSTANT)
        stamped = frame.with_columns(source=pl.lit(self._client.venue), known_at=now)
        return FetchedRows(QUOTES.conform(stamped), failures)

    def _named(self, request: Request) -> tuple[dict[str, Symbol], dict[str, str]]:
        if request.symbols is None:
            raise InvalidSpec("an exchange has too many markets to ask for all; name the symbols")
        venue = self._client.venue
        self._client.open()
        symbols = [
            symbol if venue in VENUE_DOLLARS else _with_slash(symbol, venue)
            for symbol in request.symbols
        ]
        tickers, failures = vendor_names(venue, symbols)
        by_ticker = {symbol.ticker: symbol for symbol in request.symbols}
        return {name: by_ticker[ticker] for name, ticker in tickers.items()}, failures

    def _answer(self, asked: Question) -> tuple[Sifted, Span | None, bool]:
        finer = self._finer(asked.timeframe)
        reach = asked.end if finer == asked.timeframe else asked.end + _length(asked.timeframe)
        end = _milliseconds(min(reach, asked.now))
        start = _milliseconds(asked.start or FIRST_DAY)
        if asked.start is None:
            first = find_first(self._client, asked.name, start, end)
            if first is None:
                raise NotFound(f"{self._client.venue} has no candles of {asked.name} yet")
            start = first
        told = fetch_candles(self._client, asked.name, finer.name, start, end)
        told_at = min(asked.now, self._client.answered_at or asked.now)
        until = told_at - timedelta(seconds=self.delay_seconds)
        calendar = trading_calendar(asked.symbol.calendar)
        part = sift(self._as_bars(told.rows, asked, finer))
        bars = closed_bars(part.bars, finer, calendar, until)
        if finer != asked.timeframe:
            bars = built_from(bars, finer, asked.timeframe, asked.symbol, until)
        since = _instant(told.since)
        bars = bars.filter(pl.col("ts") >= since)
        until = until if told.until is None else min(until, _instant(told.until))
        known = min(asked.end, published_until(until, asked.timeframe, calendar))
        span = (since, known) if since < known else None
        is_cut = told.is_cut and asked.start is not None and asked.start < known
        return Sifted(bars, part.refusals, part.quarantined), span, is_cut

    def _finer(self, timeframe: Timeframe) -> Timeframe:
        # The timeframe itself where the venue has it, else the coarsest that it consists of.
        has = self._client.timeframes
        for name, minutes in sorted(MINUTES.items(), key=lambda item: -item[1]):
            if name in has and timeframe.minutes % minutes == 0:
                return Timeframe(minutes)
        raise InvalidSpec(
            f"{self._client.venue} has no candles that {timeframe} bars could be built from; "
            "ask for a coarser timeframe, or another exchange"
        )

    def _as_bars(
        self, candles: dict[int, list[Any]], asked: Question, finer: Timeframe
    ) -> pl.DataFrame:
        n_told = len(next(iter(candles.values()), CANDLES))
        schema = dict(list(CANDLES.items())[:n_told])
        rows = pl.DataFrame(list(candles.values()), schema=schema, orient="row", strict=False)
        rows = rows.with_columns(
            pl.lit(None).alias(name) for name in CANDLES if name not in rows.columns
        )
        # A candle without a price is one without trade.
        rows = rows.drop_nulls(PRICES).with_columns(pl.col("volume").fill_null(0.0))
        at = pl.from_epoch("at", "ms").dt.replace_time_zone("UTC").cast(INSTANT)
        bars = rows.with_columns(
            ts=at,
            symbol=pl.lit(asked.symbol.ticker),
            source=pl.lit(self._client.venue),
            vwap=pl.when(pl.col("volume") > 0).then(pl.col("money") / pl.col("volume")),
        )
        calendar = trading_calendar(asked.symbol.calendar)
        is_begin = (
            bars["ts"].dt.truncate("1d") == bars["ts"]
            if finer.is_daily
            else pl.Series(places(bars["ts"], finer, calendar)[1])
        )
        if not is_begin.all():
            raise NotFound(
                f"{self._client.venue}'s {finer} bars of {asked.name} do not begin where those of "
                f"{asked.symbol.calendar} do; correct the symbol's calendar, or ask for 1h"
            )
        return bars.select(*(name for name in UNSTAMPED.columns if name in bars.columns))

    def _cut(self, asked: Question, span: Span | None) -> str:
        told = f"from {span[0]:%Y-%m-%d %H:%M} on" if span else "after that span, if at all"
        return (
            f"{self._client.venue} tells {asked.timeframe} bars of {asked.name} only {told}; name "
            "another provider behind it for the older ones"
        )

    def _vanished(self, name: str, bars: pl.DataFrame) -> str:
        days = bars["ts"].dt.strftime("%Y-%m-%d")
        told = f"its bars until {days[-1]} are kept" if len(days) else "it has no bars"
        return f"{self._client.venue} does not trade {name} any more ({told}); use another exchange"


@PROVIDERS.register("binance")
class BinanceProvider(ExchangeProvider):
    """Bars with trade counts and last quotes of Binance: `ExchangeProvider` for this venue."""

    def __init__(
        self, *, base_url: str | None = None, politeness: Politeness | None = None
    ) -> None:
        super().__init__(venue="binance", base_url=base_url, politeness=politeness)


@PROVIDERS.register("coinbase")
class CoinbaseProvider(ExchangeProvider):
    """Bars and last quotes of Coinbase: `ExchangeProvider` for this venue."""

    def __init__(
        self, *, base_url: str | None = None, politeness: Politeness | None = None
    ) -> None:
        super().__init__(venue="coinbase", base_url=base_url, politeness=politeness)


def _until_last(span: Span | None, bars: pl.DataFrame, timeframe: Timeframe) -> Span | None:
    newest = bars["ts"].max()
    if span is None or not isinstance(newest, datetime):
        return None
    return span[0], min(span[1], newest + _length(timeframe))


def _length(timeframe: Timeframe) -> timedelta:
    return timedelta(minutes=timeframe.minutes)


def _with_slash(symbol: Symbol, venue: str) -> Symbol:
    # As ccxt writes all pairs; an alias counts as it stands.
    if any(named == venue for named, _ in symbol.aliases):
        return symbol
    name = symbol.ticker.replace("-", "/")
    return replace(symbol, aliases=(*symbol.aliases, (venue, name)))


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
