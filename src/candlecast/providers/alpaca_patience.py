"""A REST client of alpaca-py made patient: bounded in time, tries, size and pages; our errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from candlecast.errors import BadCredentials, CandlecastError, NotFound, ProviderUnavailable
from candlecast.providers.http import Politeness, translated
from candlecast.providers.patience import tried

Answer: TypeAlias = dict[str, Any]
VARIABLES: Final = "CANDLECAST_ALPACA_KEY_ID and CANDLECAST_ALPACA_SECRET_KEY"
MAX_PAGES: Final = 10_000
"""How many pages answer one question; a year's news about anything has half as many."""
SUCCESS: Final = 200
SHOWN: Final = 200
"""How many characters of Alpaca's own words an error quotes."""
NAMED: Final = re.compile(r"(?:invalid|unknown) symbols?\W+(.*)", re.IGNORECASE)


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
    told_tokens: set[str] | None = None
    """Which further pages the question that is being answered has led to."""
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
        if not isinstance(body, dict):
            raise _nonsense()
        page = {name: {} if value is None else value for name, value in body.items()}
        is_first = not opts.get("params", {}).get("page_token")
        page["next_page_token"] = self._following(body.get("next_page_token"), is_first=is_first)
        return page

    def _following(self, token: Any, *, is_first: bool) -> str | None:
        # Tokens that go round in a circle, or that never end, are not followed.
        if is_first or self.told_tokens is None:
            self.told_tokens = set()
        if not token:
            return None
        if not isinstance(token, str) or token in self.told_tokens:
            raise _nonsense()
        self.told_tokens.add(token)
        if len(self.told_tokens) >= MAX_PAGES:
            raise _Endless(
                f"Alpaca's answer has more than {MAX_PAGES} pages; ask for a shorter span or for "
                "fewer symbols"
            )
        return token

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


class _Endless(ProviderUnavailable):
    # Trying again leads to as many pages.
    is_retryable = False


def _nonsense() -> ProviderUnavailable:
    return ProviderUnavailable("Alpaca's answer makes no sense; try again later")


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
