"""One polite HTTP client: rate limit, bounded retries, limits of time and size, errors translated.

1. Requests of one client start at least `min_interval_seconds` apart.
2. What may pass (throttled, out of order, silent, cut off, nonsense) is tried again after a wait
   that doubles and jitters, or after the one that `Retry-After` names. Who asks for more patience
   than `max_wait_seconds` is not asked again: the error carries the wait.
3. Errors name the vendor and the path. Queries and headers, where keys stand, never appear.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self, TypeVar

import httpx
import numpy as np
import orjson

from candlecast.errors import (
    BadCredentials,
    CandlecastError,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
    RateLimited,
)
from candlecast.providers.addresses import moved, origin, parsed

T = TypeVar("T")
UNTOLD_WAIT_SECONDS: Final = 60.0
"""What a throttled caller is told to wait where the vendor does not say: the usual window."""
LONGEST_WAIT_SECONDS: Final = 86_400.0
THROTTLED: Final = frozenset({418, 429})  # Binance bans with 418 who goes on after 429


@dataclass(frozen=True)
class Politeness:
    """How patient and how modest a client is."""

    timeout_seconds: float = 20.0
    """Longest silence while connecting or reading."""
    answer_seconds: float = 120.0
    """Longest time for one whole answer."""
    max_tries: int = 4
    min_interval_seconds: float = 0.0
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 60.0
    max_answer_bytes: int = 64 * 2**20
    """Largest answer, unpacked."""

    def __post_init__(self) -> None:
        if self.max_tries < 1:
            raise InvalidSpec("max_tries is at least 1; a request is made once or more often")


@dataclass(frozen=True)
class Answer:
    """The body of an answer, its address, and the next page's in the ``Link`` header, if any."""

    body: bytes
    url: str = field(repr=False)
    next_link: str | None


class HttpClient:
    """Asks one vendor over HTTP; to be used in a ``with`` statement.

    Parameters
    ----------
    vendor : what messages call it
    base_url : where paths begin; pages behind links must lie on the same host
    politeness : limits of rate, tries, time and size
    headers : sent with each request; keys belong here
    generator, sleep : jitter and waiting, injected by tests

    Notes
    -----
    The first client raises the levels of the loggers ``httpx`` and ``httpcore`` to WARNING, for the
    whole process: at INFO they write whole URLs, and so the keys in them, into the log. Redirects
    are not followed: a key must not go where nobody sent it.

    Raises
    ------
    RateLimited, ProviderUnavailable : all tries failed.
    BadCredentials, NotFound, InvalidSpec : trying again cannot help.
    """

    def __init__(
        self,
        vendor: str,
        base_url: str,
        *,
        politeness: Politeness | None = None,
        headers: Mapping[str, str] | None = None,
        generator: np.random.Generator | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.vendor = vendor
        self.politeness = politeness or Politeness()
        self._base = parsed(base_url, vendor)
        # Unseeded by intent: processes that were throttled together must not return together.
        self._generator = generator or np.random.default_rng()
        self._sleep = sleep
        self._next_at = time.monotonic()
        self._client = httpx.Client(
            headers={"User-Agent": "candlecast", **(headers or {})},
            timeout=self.politeness.timeout_seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str = "", params: Mapping[str, str | int] | None = None) -> Answer:
        """The answer at `path` (or at a link to the same host)."""
        return self.get_parsed(path, params, lambda answer, _: answer)

    def get_json(self, path: str = "", params: Mapping[str, str | int] | None = None) -> Any:
        """The JSON document at `path`; one that cannot be parsed is asked for again."""
        return self.get_parsed(
            path, params, lambda answer, what: parse_json(answer.body, what=what)
        )

    def get_parsed(
        self,
        path: str,
        params: Mapping[str, str | int] | None,
        parse: Callable[[Answer, str], T],
    ) -> T:
        """What `parse` makes of the answer at `path`; its ProviderUnavailable means a new try."""
        url = self._url(path)
        what = f"{self.vendor} {url.path}"
        url = url.copy_merge_params(dict(params)) if params else url
        for n_tried in range(1, self.politeness.max_tries + 1):
            self._keep_interval()
            told: float | None = None
            try:
                response, body = self._ask(url, what)
                if response.is_success:
                    link = response.links.get("next", {}).get("url")
                    return parse(Answer(body, str(response.url), link), what)
                if response.has_redirect_location:
                    raise _Moved(moved(response, what))
                after, date = (response.headers.get(name) for name in ("retry-after", "date"))
                told = wait_named(after, date)
                error = translated(response.status_code, what=what, retry_after=after, date=date)
            except ProviderUnavailable as failed:
                error = failed
            wait = self._wait_seconds(n_tried, told)
            if not error.is_retryable or wait > self.politeness.max_wait_seconds:
                break
            if n_tried < self.politeness.max_tries:
                self._sleep(wait)
        raise error

    def _ask(self, url: httpx.URL, what: str) -> tuple[httpx.Response, bytes]:
        try:
            with self._client.stream("GET", url) as response:
                return response, self._read(response, what)
        except httpx.TimeoutException as error:
            silence = f"{self.politeness.timeout_seconds:g} s"
            raise ProviderUnavailable(
                f"{what} said nothing for {silence}; try again later"
            ) from error
        except httpx.DecodingError as error:
            raise nonsense(what) from error
        except httpx.HTTPError as error:
            raise ProviderUnavailable(
                f"{what} cannot be reached ({type(error).__name__}); check the connection, or try "
                "again later"
            ) from error

    def _read(self, response: httpx.Response, what: str) -> bytes:
        # A vendor that drips one byte at a time is never silent, so the whole is timed as well.
        until = time.monotonic() + self.politeness.answer_seconds
        chunks, n_bytes = [], 0
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > self.politeness.max_answer_bytes:
                raise _TooLarge(
                    f"{what} answered with more than {self.politeness.max_answer_bytes} bytes; "
                    "ask for a shorter span or for fewer symbols"
                )
            if time.monotonic() > until:
                raise ProviderUnavailable(
                    f"{what} took longer than {self.politeness.answer_seconds:g} s; try again "
                    "later, or ask for a shorter span"
                )
        return b"".join(chunks)

    def _url(self, path: str) -> httpx.URL:
        if "://" not in path:
            text = str(self._base)
            return parsed(f"{text.rstrip('/')}/{path.lstrip('/')}" if path else text, self.vendor)
        url = parsed(path, self.vendor)
        if origin(url) != origin(self._base):
            raise ProviderUnavailable(
                f"{self.vendor} links to another host, {url.host}, which may not see our key; "
                "name that host as the base URL"
            )
        return url

    def _keep_interval(self) -> None:
        wait = self._next_at - time.monotonic()
        if wait > 0:
            self._sleep(wait)
        self._next_at = time.monotonic() + self.politeness.min_interval_seconds

    def _wait_seconds(self, n_tried: int, told: float | None) -> float:
        step = self.politeness.first_wait_seconds * float(self._generator.uniform(0.5, 1.0))
        if told is not None:
            return told + step
        return float(min(step * 2 ** (n_tried - 1), self.politeness.max_wait_seconds))


class _Moved(ProviderUnavailable):
    # Asking there again leads to the same place.
    is_retryable = False


class _TooLarge(ProviderUnavailable):
    # Trying again gives the same answer.
    is_retryable = False


def translated(
    status: int, *, what: str, retry_after: str | None = None, date: str | None = None
) -> CandlecastError:
    """The error for an HTTP `status` that is no success; `what` names vendor and subject.

    `retry_after` and `date` are the answer's headers of these names.
    """
    told = wait_named(retry_after, date)
    if status in THROTTLED or (status == 503 and told is not None):
        wait = UNTOLD_WAIT_SECONDS if told is None else told
        return RateLimited(
            f"{what}: asked too often (HTTP {status}); wait {wait:.0f} s, or ask less often", wait
        )
    if status in {401, 402, 403, 407}:
        return BadCredentials(
            f"{what}: not allowed (HTTP {status}); check the key, and what it is good for"
        )
    if status in {404, 410}:
        return NotFound(f"{what}: not known there (HTTP {status}); check the name")
    if status == 451:
        return ProviderUnavailable(f"{what}: not offered to this country; use another provider")
    if status in {408, 425} or not 400 <= status < 500:
        return ProviderUnavailable(f"{what}: out of order (HTTP {status}); try again later")
    return InvalidSpec(
        f"{what}: the question was refused (HTTP {status}); check symbols, span and options"
    )


def wait_named(retry_after: str | None, date: str | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header names, at most a day; None where it names none.

    A point in time is measured from the answer's own ``Date``: our clock may differ.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return min(float(text), LONGEST_WAIT_SECONDS)
    try:
        end, start = parsedate_to_datetime(text), parsedate_to_datetime(date or "")
        seconds = (end - start).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def parse_json(body: bytes, *, what: str) -> Any:
    """The JSON document in `body`; ProviderUnavailable where there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise nonsense(what) from error


def linked(url: str, link: Any, what: str) -> str | None:
    """The address that a `link` on the page at `url` leads to; None where there is no link."""
    try:
        return str(httpx.URL(url).join(link)) if link else None
    except (httpx.InvalidURL, TypeError) as error:
        raise nonsense(what) from error


def nonsense(what: str) -> ProviderUnavailable:
    """The error for an answer that is not what the vendor usually says."""
    return ProviderUnavailable(f"{what} answered nonsense; try again later")
