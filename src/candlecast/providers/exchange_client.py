"""ccxt's client of one crypto exchange: bounded waits, our errors, no page out of place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import orjson

from candlecast.errors import (
    BadCredentials,
    CandlecastError,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
    RateLimited,
)
from candlecast.providers.bounded import BoundedSession
from candlecast.providers.http import UNTOLD_WAIT_SECONDS, Politeness, wait_named
from candlecast.providers.patience import tried

T = TypeVar("T")
UNTOLD_PAGE_BARS: Final = 500
"""How many bars are asked for where ccxt does not know how many a venue gives."""
WITH_TRADES: Final = ("binance", "binanceus")
"""Venues whose candles also hold the money and the number of trades, which ccxt leaves out."""
N_COLUMNS: Final = 6
NOT_YET: Final = 2
"""So many of the newest candles may be missing because the venue has not begun them yet."""
FIRST_ERROR: Final = 400
UNKNOWN: Final = '"NOT_FOUND"'
"""What Coinbase says of a product that it does not know."""
FORBIDDEN_PLACE: Final = " 451 "
SHOWN: Final = 200
"""How many characters of ccxt's own words an error quotes."""
NONSENSE: Final = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Page:
    """The candles of one answer that do not begin before what was asked for, ascending.

    `oldest` is the time of the first candle in the answer, be it before what was asked for; None
    where there is none. `is_behind`: the answer ends a little before what was asked for, which is
    the present.
    """

    rows: list[list[Any]]
    oldest: int | None
    is_behind: bool


class ExchangeClient:
    """Asks one venue through ccxt, without a key.

    Parameters
    ----------
    venue : its name in ccxt
    base_url : where to ask instead of the venue's own hosts; paths stay as they are
    politeness : limits of tries and time; the pace is ccxt's own for the venue

    Raises
    ------
    NotFound : ccxt knows no such venue; the venue knows no such market.
    RateLimited, ProviderUnavailable : all tries failed.
    BadCredentials : the venue asks for a key.
    InvalidSpec : ccxt is not installed, or the venue has no candles.
    """

    def __init__(self, venue: str, base_url: str | None, politeness: Politeness) -> None:
        self.venue = venue
        self._base_url = base_url.rstrip("/") if base_url else None
        self._politeness = politeness
        self._exchange: Any = None
        self._told: list[Any] = []  # the times in the last answer, before ccxt drops any of them

    def open(self) -> None:
        """Make ccxt's client, without asking the venue; NotFound where ccxt has none of it."""
        self._opened()

    @property
    def timeframes(self) -> frozenset[str]:
        """The names of the timeframes that the venue has."""
        return frozenset(self._opened().timeframes or {})

    @property
    def answered_at(self) -> datetime | None:
        """The venue's clock, in whole seconds, when it last answered; None where it is not told."""
        headers = self._opened().last_response_headers or {}
        try:
            return parsedate_to_datetime(headers.get("Date", "")).astimezone(UTC)
        except ValueError:
            return None

    def market(self, name: str) -> Mapping[str, Any]:
        """What the venue says of the market `name`; NotFound names the close ones."""
        markets = self._asked("markets", lambda exchange: exchange.load_markets())
        if name not in markets:
            raise NotFound.among(f"market of {self.venue}", name, markets)
        found: Mapping[str, Any] = markets[name]
        return found

    def ticker(self, name: str) -> dict[str, Any]:
        """Ccxt's ticker of a market."""
        told: dict[str, Any] = self._asked(name, lambda exchange: exchange.fetch_ticker(name))
        return told

    @property
    def page_bars(self) -> int:
        """How many candles one page has at most."""
        spot = (self._opened().features or {}).get("spot") or {}
        return int((spot.get("fetchOHLCV") or {}).get("limit") or UNTOLD_PAGE_BARS)

    def milliseconds(self, timeframe: str) -> int:
        """How long a candle lasts."""
        return int(self._opened().parse_timeframe(timeframe)) * 1000

    def page(self, name: str, timeframe: str, since: int, end: int) -> Page:
        """The first candles that begin at `since` or later, in milliseconds.

        An answer with nothing but older candles, such as the last one told again, is nonsense;
        unless `since` is so near to `end` that there may be no newer ones yet.
        """
        step, n_bars = self.milliseconds(timeframe), self.page_bars

        def ask(exchange: Any) -> Page:
            self._told.clear()
            rows = exchange.fetch_ohlcv(name, timeframe, since, n_bars)
            is_told = all(isinstance(row[0], int) and len(row) >= N_COLUMNS for row in rows)
            if not is_told or not (rows or _tells_rows(exchange.last_json_response)):
                raise ValueError("no candles")  # ccxt takes nonsense for an empty page
            times = [at for at in self._told if isinstance(at, int)]
            is_old = bool(times) and max(times) + step <= since
            if is_old and since < end - NOT_YET * step:
                raise ValueError("only older candles")
            return Page([row for row in rows if row[0] >= since], min(times, default=None), is_old)

        return self._asked(name, ask)

    def _asked(self, subject: str, ask: Callable[[Any], T]) -> T:
        exchange, what = self._opened(), f"{self.venue} {subject}"
        from ccxt.base.errors import BaseError

        def once() -> T:
            try:
                return ask(exchange)
            except BaseError as error:
                raise _translated(error, what, exchange.last_response_headers or {}) from error
            except NONSENSE as error:
                raise ProviderUnavailable(
                    f"{what}: answered nonsense ({type(error).__name__}); try again later"
                ) from error

        return tried(once, self._politeness)

    def _opened(self) -> Any:
        if self._exchange is None:
            self._exchange = self._open()
        return self._exchange

    def _open(self) -> Any:
        try:
            import ccxt
        except ImportError as error:
            raise InvalidSpec(
                "crypto exchanges are asked through ccxt; pip install 'candlecast[exchange]'"
            ) from error
        if self.venue not in ccxt.exchanges:
            raise NotFound.among("crypto exchange", self.venue, ccxt.exchanges)
        limits = self._politeness
        session = BoundedSession(
            answer_seconds=limits.answer_seconds, max_answer_bytes=limits.max_answer_bytes
        )
        session.trust_env = False  # as ccxt's own
        exchange = getattr(ccxt, self.venue)(
            {
                "enableRateLimit": True,
                "timeout": int(limits.timeout_seconds * 1000),
                "session": session,
            }
        )
        if not exchange.has["fetchOHLCV"]:
            raise InvalidSpec(f"{self.venue} tells no candles; use another exchange")
        exchange.enableLastJsonResponse = True
        exchange.on_rest_response = _whole(exchange.on_rest_response, ccxt.BadResponse)
        # What we do not need is not asked for: currencies and, where that can be said, futures.
        exchange.has["fetchCurrencies"] = False
        asked = exchange.options.get("fetchMarkets")
        if isinstance(asked, dict) and "spot" in (asked.get("types") or ()):
            exchange.options["fetchMarkets"] = {**asked, "types": ["spot"]}
        if self._base_url is not None:
            exchange.urls["api"] = _moved(exchange.urls["api"], self._base_url)
        parse = exchange.parse_ohlcv
        parse = _with_trades(parse) if self.venue in WITH_TRADES else parse
        exchange.parse_ohlcv = _noting(parse, self._told)
        return exchange


def _tells_rows(answer: Any) -> bool:
    # Whether there is a list of rows in it, be it empty.
    if isinstance(answer, dict):
        return any(_tells_rows(value) for value in answer.values())
    if not isinstance(answer, list):
        return False
    return not answer or (isinstance(answer[0], dict | list) and len(answer[0]) >= N_COLUMNS - 1)


def _whole(read: Callable[..., str], error: type[Exception]) -> Callable[..., str]:
    # ccxt hands on text that is no JSON, such as half an answer, as though it were one.
    def checked(status: int, *rest: Any) -> str:
        body = read(status, *rest)
        if status < FIRST_ERROR:
            try:
                orjson.loads(body)
            except orjson.JSONDecodeError as problem:
                raise error("no JSON") from problem
        return body

    return checked


def _with_trades(parse: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def parsed(candle: list[Any], market: Any = None) -> list[Any]:
        return [*parse(candle, market), float(candle[7]), int(candle[8])]

    return parsed


def _noting(parse: Callable[..., list[Any]], times: list[Any]) -> Callable[..., list[Any]]:
    def parsed(candle: Any, market: Any = None) -> list[Any]:
        row = parse(candle, market)
        times.append(row[0])
        return row

    return parsed


def _moved(urls: Any, base_url: str) -> Any:
    if isinstance(urls, dict):
        return {name: _moved(url, base_url) for name, url in urls.items()}
    return base_url + urlsplit(str(urls)).path


def _translated(error: Exception, what: str, headers: Mapping[str, str]) -> CandlecastError:
    import ccxt

    said = " ".join(str(error).split())[:SHOWN]
    if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
        told = wait_named(headers.get("Retry-After"), headers.get("Date"))
        wait = UNTOLD_WAIT_SECONDS if told is None else told
        return RateLimited(f"{what}: asked too often; wait {wait:.0f} s, or ask less often", wait)
    if isinstance(error, ccxt.BadSymbol) or UNKNOWN in said:
        return NotFound(f"{what}: not traded there ({said}); check the ticker, or use another")
    if isinstance(error, ccxt.AuthenticationError):
        return BadCredentials(f"{what}: asks for a key ({said}); use another exchange")
    if isinstance(error, ccxt.ExchangeNotAvailable) and FORBIDDEN_PLACE in str(error):
        return _Forbidden(f"{what}: not offered to this country; use another, such as coinbase")
    if isinstance(error, ccxt.BadRequest | ccxt.NotSupported):
        return InvalidSpec(f"{what}: the question was refused ({said}); check symbols and span")
    kind = type(error).__name__
    return ProviderUnavailable(f"{what}: no whole answer ({kind}); try again later")


class _Forbidden(ProviderUnavailable):
    # Trying again gives the same answer.
    is_retryable = False
