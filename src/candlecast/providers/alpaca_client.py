"""Alpaca's own REST clients, made patient: time limits, bounded retries, our errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

from candlecast.errors import (
    BadCredentials,
    CandlecastError,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
)
from candlecast.providers.http import Politeness, translated
from candlecast.providers.patience import tried

Answer: TypeAlias = dict[str, Any]
VARIABLES: Final = "CANDLECAST_ALPACA_KEY_ID and CANDLECAST_ALPACA_SECRET_KEY"
MAX_NAMES: Final = 200
"""How many symbols one request names; more would make its address too long."""
SUCCESS: Final = 200
SHOWN: Final = 200
"""How many characters of Alpaca's own words an error quotes."""
NAMED: Final = re.compile(r"(?:invalid|unknown) symbols?\W+(.*)", re.IGNORECASE)
ACTION_TYPES: Final = (
    "forward_split",
    "reverse_split",
    "stock_dividend",
    "cash_dividend",
    "cash_merger",
    "stock_merger",
    "stock_and_cash_merger",
    "worthless_removal",
)


@dataclass(frozen=True)
class Keys:
    """What Alpaca knows us by; never shown."""

    key_id: str = field(repr=False)
    secret_key: str = field(repr=False)

    def check(self) -> None:
        """BadCredentials names the variables that hold the keys, where one is missing."""
        if not self.key_id or not self.secret_key:
            raise BadCredentials(f"Alpaca asks for a key; set {VARIABLES}")

    def hidden(self, text: object) -> str:
        """The first characters of `text`, without our keys should it repeat them."""
        shown = str(text)
        for key in (self.key_id, self.secret_key):
            shown = shown.replace(key, "…") if key else shown
        return shown[:SHOWN]


class PatientClient:
    """Mixed into a REST client of alpaca-py, for each of its requests, hence for each page."""

    politeness: Politeness
    keys: Keys
    answered_at: datetime | None = None
    """Alpaca's clock, in whole seconds, when it began to answer; None before."""
    _session: Any

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _one_request(self, method: str, url: str, opts: Answer, retry: int) -> Answer:
        return tried(lambda: self._ask(method, url, opts), self.politeness)

    def _ask(self, method: str, url: str, opts: Answer) -> Answer:
        from requests import RequestException

        timeout = self.politeness.timeout_seconds
        try:
            response = self._session.request(method, url, timeout=timeout, **opts)
            body = response.json() if response.status_code == SUCCESS else None
        except RequestException as error:
            raise ProviderUnavailable(
                f"Alpaca gave no whole answer ({type(error).__name__}); try again later"
            ) from error
        if response.status_code != SUCCESS:
            raise self._refusal(response, urlsplit(url).path)
        self._note(response.headers.get("Date"))
        token = opts.get("params", {}).get("page_token")
        if not isinstance(body, dict) or (token and body.get("next_page_token") == token):
            raise ProviderUnavailable("Alpaca's answer makes no sense; try again later")
        page = {name: {} if value is None else value for name, value in body.items()}
        page["next_page_token"] = body.get("next_page_token") or None
        return page

    def _refusal(self, response: Any, path: str) -> CandlecastError:
        status, headers = response.status_code, response.headers
        said = self.keys.hidden(_message(response))
        if NAMED.search(said):
            return NotFound(f"Alpaca does not know what was asked for: {said}")
        what, date = f"Alpaca {path} ({said})", headers.get("Date")
        error = translated(status, what=what, retry_after=_wait_asked(headers), date=date)
        if isinstance(error, BadCredentials):
            return BadCredentials(f"{error}; the keys are {VARIABLES}, the free feed is iex")
        return error

    def _note(self, written: str | None) -> None:
        try:
            answered_at = parsedate_to_datetime(written or "").astimezone(UTC)
        except ValueError:
            return
        self.answered_at = min(self.answered_at or answered_at, answered_at)


class AlpacaRest:
    """All of Alpaca's REST endpoints that we use; a context manager that closes its clients.

    Answers are as Alpaca writes them, all pages together. What goes wrong is raised in our
    words; unknown symbols are returned beside the answer, each with the reason.
    """

    def __init__(self, keys: Keys, url: str | None, feed: str, politeness: Politeness) -> None:
        keys.check()
        import_alpaca("data.requests")
        self._keys, self._url, self._politeness = keys, url, politeness
        self._feed = feed
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    @property
    def answered_at(self) -> datetime | None:
        """The earliest time that Alpaca's clock showed in an answer."""
        shown = [client.answered_at for client in self._clients.values()]
        return min((at for at in shown if at is not None), default=None)

    def bars(
        self, names: Sequence[str], minutes: int, start: datetime, end: datetime, *, is_crypto: bool
    ) -> tuple[Answer, dict[str, str]]:
        """Bars with start <= t <= end by symbol; `minutes` up to 59, or 1440 for whole days."""
        from alpaca.data.requests import CryptoBarsRequest, StockBarsRequest
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        unit = TimeFrameUnit.Day if minutes == 1440 else TimeFrameUnit.Minute
        span = {
            "timeframe": TimeFrame(1 if minutes == 1440 else minutes, unit),
            "start": start,
            "end": end,
        }

        def ask(some: list[str]) -> Answer:
            if is_crypto:
                wanted = CryptoBarsRequest(symbol_or_symbols=some, **span)
                return self._ask(self._client("crypto").get_crypto_bars, wanted)
            stock = StockBarsRequest(
                symbol_or_symbols=some, adjustment="raw", feed=self._feed, **span
            )
            return self._ask(self._client("stock").get_stock_bars, stock)

        return _of_known(names, ask)

    def latest(
        self, what: str, names: Sequence[str], *, is_crypto: bool
    ) -> tuple[Answer, dict[str, str]]:
        """The newest ``trade`` or ``quote`` of each symbol that has one."""
        from alpaca.data import requests

        kind = "crypto" if is_crypto else "stock"
        wanted = getattr(requests, f"{kind.title()}Latest{what.title()}Request")
        extra = {} if is_crypto else {"feed": self._feed}

        def ask(some: list[str]) -> Answer:
            method = getattr(self._client(kind), f"get_{kind}_latest_{what}")
            return self._ask(method, wanted(symbol_or_symbols=some, **extra))

        return _of_known(names, ask)

    def news(
        self, names: Sequence[str] | None, start: datetime, end: datetime
    ) -> tuple[list[Answer], dict[str, str]]:
        """Articles published or updated within the span; None: about anything."""
        from alpaca.data.requests import NewsRequest

        def ask(some: list[str]) -> Answer:
            wanted = NewsRequest(symbols=",".join(some) or None, start=start, end=end, sort="asc")
            return self._ask(self._client("news").get_news, wanted)

        answer, failures = (ask([]), {}) if names is None else _of_known(names, ask)
        return list(answer.get("news", [])), failures

    def actions(
        self, names: Sequence[str] | None, start: date, end: date
    ) -> tuple[Answer, dict[str, str]]:
        """Corporate actions processed within the span, by kind; None: of all stocks."""
        from alpaca.data.requests import CorporateActionsRequest

        def ask(some: list[str]) -> Answer:
            # The client takes its default `limit` for the most that it returns of all pages.
            wanted = CorporateActionsRequest(
                symbols=some or None, types=list(ACTION_TYPES), start=start, end=end, limit=None
            )
            return self._ask(self._client("action").get_corporate_actions, wanted)

        return (ask([]), {}) if names is None else _of_known(names, ask)

    def _client(self, kind: str) -> Any:
        if kind not in self._clients:
            self._clients[kind] = _make_client(kind, self._keys, self._url, self._politeness)
        return self._clients[kind]

    @staticmethod
    def _ask(method: Callable[[Any], Any], wanted: Any) -> Answer:
        try:
            return dict(method(wanted))
        except ValueError as error:
            raise ProviderUnavailable(f"Alpaca's answer makes no sense: {error}") from error


def import_alpaca(module: str) -> Any:
    """A module of alpaca-py; InvalidSpec says how to install it."""
    from importlib import import_module

    try:
        return import_module(f"alpaca.{module}")
    except ImportError as error:
        raise InvalidSpec(
            "alpaca-py is not installed; run: pip install 'candlecast[alpaca]'"
        ) from error


def _make_client(kind: str, keys: Keys, url: str | None, politeness: Politeness) -> Any:
    module, name = {
        "stock": ("data.historical.stock", "StockHistoricalDataClient"),
        "crypto": ("data.historical.crypto", "CryptoHistoricalDataClient"),
        "news": ("data.historical.news", "NewsClient"),
        "action": ("data.historical.corporate_actions", "CorporateActionsClient"),
    }[kind]
    made = type(f"Patient{name}", (PatientClient, getattr(import_alpaca(module), name)), {})
    client: Any = made(keys.key_id, keys.secret_key, raw_data=True, url_override=url)
    client.politeness, client.keys = politeness, keys
    return client


def _of_known(
    names: Sequence[str], ask: Callable[[list[str]], Answer]
) -> tuple[Answer, dict[str, str]]:
    # One unknown name makes Alpaca refuse all of a request, so the others are asked for again.
    answer: Answer = {}
    failures: dict[str, str] = {}
    waiting = [list(names[i : i + MAX_NAMES]) for i in range(0, len(names), MAX_NAMES)]
    while waiting:
        some = waiting.pop()
        try:
            _merge(answer, ask(some))
        except NotFound as error:
            said = NAMED.search(str(error))
            words = set(re.split(r"[,;\s'\"]+", said[1])) if said else set()
            refused = [name for name in some if name in words] or some[: len(some) == 1]
            failures |= dict.fromkeys(refused, str(error))
            rest = [name for name in some if name not in failures]
            middle = len(rest) if refused else len(rest) // 2
            waiting += [part for part in (rest[:middle], rest[middle:]) if part]
    return answer, failures


def _merge(answer: Answer, more: Answer) -> None:
    for key, value in more.items():
        if isinstance(value, list):
            answer.setdefault(key, []).extend(value)
        else:
            answer[key] = value


def _message(response: Any) -> str:
    try:
        body = response.json()
    except ValueError:
        return str(response.reason)
    return str(body.get("message", body)) if isinstance(body, dict) else str(body)


def _wait_asked(headers: Mapping[str, str]) -> str | None:
    # Alpaca tells the second at which its count starts anew.
    named = headers.get("Retry-After")
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
        return named or str(max(round(float(headers["X-RateLimit-Reset"]) - now), 0))
    except (KeyError, ValueError):
        return named
