"""Alpaca's own REST clients, all endpoints that are used: answers whole, unknown symbols apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final, Self

from candlecast.errors import InvalidSpec, NotFound, ProviderUnavailable
from candlecast.providers.alpaca_patience import NAMED, Answer, Keys, PatientClient
from candlecast.providers.bounded import BoundedSession
from candlecast.providers.http import Politeness

MAX_NAMES: Final = 200
"""How many symbols one request names; more would make its address too long."""
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
    client.close()
    client._session = BoundedSession(  # noqa: SLF001 - alpaca-py takes none from outside
        answer_seconds=politeness.answer_seconds, max_answer_bytes=politeness.max_answer_bytes
    )
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
