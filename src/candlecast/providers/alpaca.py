"""Alpaca through alpaca-py: raw bars, corporate actions, news, last quotes, and a live feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import ACTIONS, NEWS, QUOTES
from candlecast.domain.market import Clock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Feed, Fetched, FetchedRows, Request
from candlecast.domain.tickers import vendor_names
from candlecast.errors import InvalidSpec, NotFound
from candlecast.providers.alpaca_bars import UNKNOWN, Collected, Question, collect
from candlecast.providers.alpaca_client import AlpacaRest
from candlecast.providers.alpaca_feed import CHANNELS, AlpacaFeed
from candlecast.providers.alpaca_patience import Keys
from candlecast.providers.alpaca_rows import SOURCE, as_actions, as_news, as_quotes
from candlecast.providers.http import Politeness
from candlecast.providers.patience import PATIENT

FEEDS: Final = ("iex", "sip")
CRYPTO: Final = "crypto"
FIRST: Final = datetime(2016, 1, 1, tzinfo=UTC)
"""Alpaca has nothing older."""
EARLY, LATE = timedelta(days=30), timedelta(days=120)
"""How long before and after its ex-date an action may be processed: Alpaca files it by that."""


@PROVIDERS.register(SOURCE)
class AlpacaProvider:
    """US stocks and crypto of Alpaca: bars, corporate actions, news, last quotes, live ticks.

    Prices are those of their day, with `vwap` and `trade_count`; `adj_close` is null, for
    `fetch_actions` tells what adjusted prices are derived from. Bars before and after the session
    are left out. 1h and 4h bars, and 1d of crypto, are made of Alpaca's 30m, counted from the
    open. Asked again, Alpaca answers with corrected bars.

    The key's plan decides what is there: the feed ``iex`` is free and has the trades of one
    exchange only, ``sip`` has all. A bar has ended when both our clock and Alpaca's say so: no
    wrong clock lets an unfinished bar in. A symbol without bars and without a last trade is
    unknown; one that has lost its last trade has vanished, and its bars are kept.

    Parameters
    ----------
    key_id, secret_key : never shown
    data_url, stream_url : where to ask instead of Alpaca's own hosts
    feed : ``iex`` or ``sip``, of stocks
    channels : of the live feed; the free plan has at most 30 symbols of trades and quotes

    Raises
    ------
    BadCredentials : the keys are missing or wrong, or the plan does not include the feed.
    RateLimited, ProviderUnavailable : after bounded retries of a page; nothing is returned then.
    InvalidSpec : no symbols are named for bars or quotes, or alpaca-py is not installed.

    References
    ----------
    https://docs.alpaca.markets/docs/about-market-data-api
    """

    delay_seconds = 5.0
    politeness: Politeness = PATIENT

    def __init__(
        self,
        *,
        key_id: str = "",
        secret_key: str = "",
        data_url: str | None = None,
        stream_url: str | None = None,
        feed: str = FEEDS[0],
        channels: Sequence[str] = CHANNELS,
    ) -> None:
        for kind, name, known in [
            ("feed", feed, FEEDS),
            *(("channel", c, CHANNELS) for c in channels),
        ]:
            if name not in known:
                raise NotFound.among(f"{kind} of Alpaca", name, known)
        self._keys = Keys(key_id, secret_key)
        self._data_url, self._stream_url = data_url, stream_url
        self._feed, self._channels = feed, tuple(channels)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars that open within the request's span; symbols fail one by one."""
        now, delay = clock.now(), timedelta(seconds=self.delay_seconds)
        start, end = request.start or FIRST, min(request.end or now, now)
        tickers, failures = vendor_names(SOURCE, _wanted(request))
        collected = Collected(failures)
        with self._asking() as rest:
            for (is_crypto, calendar), named in _markets(tickers, _wanted(request)).items():
                opens = trading_calendar(calendar)
                question = Question(named, is_crypto, opens, timeframe, start, end, now, delay)
                collect(question, rest, collected)
        return collected.fetched(request)

    def fetch_actions(self, request: Request, clock: Clock) -> FetchedRows:
        """ACTIONS with an ex-date within the request's span; no symbols: of all stocks.

        A stock dividend is a split; a merger ends the stock that is taken over. Spin-offs are
        not told, for Alpaca does not say what they were worth.
        """
        now = clock.now()
        start, end = request.start or FIRST, request.end or now + LATE
        tickers, failures = _named(request, is_crypto=False)
        if tickers is not None and not tickers:
            return FetchedRows(ACTIONS.empty(), failures)
        with self._asking() as rest:
            names = None if tickers is None else list(tickers)
            answer, unknown = rest.actions(names, (start - EARLY).date(), (end + LATE).date())
        rows, unread = as_actions(answer, tickers, now)
        failures |= _by_ticker(unknown, tickers) | unread
        within = pl.col("ex_date").is_between(start, end, closed="left")
        return FetchedRows(rows.filter(within), failures)

    def fetch_news(self, request: Request, clock: Clock) -> FetchedRows:
        """NEWS published or updated within the request's span; no symbols: about anything."""
        now = clock.now()
        start, end = request.start or FIRST, min(request.end or now, now)
        tickers, failures = _named(request)
        if start >= end or (tickers is not None and not tickers):
            return FetchedRows(NEWS.empty(), failures)
        # Articles write BTCUSD where all else at Alpaca writes BTC/USD.
        told = {name.replace("/", ""): ticker for name, ticker in (tickers or {}).items()}
        with self._asking() as rest:
            articles, unknown = rest.news(None if tickers is None else list(told), start, end)
        rows, unread = as_news(articles, told)
        failures |= _by_ticker(unknown, told) | unread
        return FetchedRows(rows.filter(pl.col("known_at") < end), failures)

    def fetch_quotes(self, request: Request, clock: Clock) -> FetchedRows:
        """QUOTES: the last quote and trade of each symbol that has one."""
        now, parts = clock.now(), [QUOTES.empty()]
        tickers, failures = vendor_names(SOURCE, _wanted(request))
        with self._asking() as rest:
            for (is_crypto, _), named in _markets(tickers, _wanted(request)).items():
                quotes, unknown = rest.latest("quote", list(named), is_crypto=is_crypto)
                known = [name for name in named if name not in unknown]
                trades, _ = rest.latest("trade", known, is_crypto=is_crypto)
                rows, unread = as_quotes(quotes, trades, named, now)
                absent = dict.fromkeys(set(known) - set(quotes) - set(trades), UNKNOWN)
                failures |= _by_ticker(unknown | absent, named) | unread
                parts.append(rows)
        return FetchedRows(QUOTES.conform(pl.concat(parts)), failures)

    def open_feed(self, clock: Clock) -> Feed:
        """A live feed of stocks and crypto that is not connected yet."""
        return AlpacaFeed(
            self._keys,
            url=self._stream_url,
            stock_feed=self._feed,
            channels=self._channels,
            timeout_seconds=self.politeness.timeout_seconds,
        )

    def _asking(self) -> AlpacaRest:
        return AlpacaRest(self._keys, self._data_url, self._feed, self.politeness)


def _wanted(request: Request) -> tuple[Symbol, ...]:
    if request.symbols is None:
        raise InvalidSpec("Alpaca has thousands of symbols; name those that you want")
    return request.symbols


def _named(
    request: Request, *, is_crypto: bool = True
) -> tuple[dict[str, str] | None, dict[str, str]]:
    # Tickers by what Alpaca calls them (None: all there are), and why others cannot be asked for.
    if request.symbols is None:
        return None, {}
    symbols = (s for s in request.symbols if is_crypto or s.asset_class != CRYPTO)
    return vendor_names(SOURCE, symbols)


def _markets(
    tickers: Mapping[str, str], symbols: Sequence[Symbol]
) -> dict[tuple[bool, str], dict[str, str]]:
    # The named tickers by whether they are crypto, and by calendar.
    market = {s.ticker: (s.asset_class == CRYPTO, s.calendar) for s in symbols}
    markets: dict[tuple[bool, str], dict[str, str]] = {}
    for name, ticker in tickers.items():
        markets.setdefault(market[ticker], {})[name] = ticker
    return markets


def _by_ticker(reasons: Mapping[str, str], tickers: Mapping[str, str] | None) -> dict[str, str]:
    return {(tickers or {}).get(name, name): reason for name, reason in reasons.items()}
