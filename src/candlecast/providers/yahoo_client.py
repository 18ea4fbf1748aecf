"""yfinance's client for one provider: a session of its own, bounded waits, nothing kept on disk.

The client brings the cookies, the crumb, the consent form and a browser's way to speak TLS. Its
`Ticker.history` is left aside: it hides errors, answers past spans from a cache, so that a
corrected bar would never be seen, and keeps databases in the user's home.

Nothing global changes: the client is no singleton here, and another address is put in by the
session of this client alone. Only where nobody listens to the library's log, it is kept silent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from candlecast.errors import InvalidSpec, ProviderUnavailable, RateLimited
from candlecast.providers.http import THROTTLED, UNTOLD_WAIT_SECONDS, Politeness, wait_named
from candlecast.providers.patience import tried

T = TypeVar("T")
REFUSED: Final = (401, 403)
BROKEN: Final = 500


class YahooClient:
    """Asks Yahoo for JSON.

    Parameters
    ----------
    base_url : where to ask instead of Yahoo's own hosts, such as ``http://127.0.0.1:8000``
    politeness : `timeout_seconds` is the time of one request; a question takes up to four, for
        the cookie and the crumb come first

    Raises
    ------
    RateLimited, ProviderUnavailable : all tries failed, or Yahoo refuses this address.
    """

    def __init__(self, base_url: str | None, politeness: Politeness) -> None:
        self._base_url = base_url.rstrip("/") if base_url else None
        self._politeness = politeness
        self._wait_seconds = UNTOLD_WAIT_SECONDS
        self._data: Any = None
        self.answered_at: datetime | None = None
        """Yahoo's clock, in whole seconds, when it last answered; None where it is not told."""

    def fetch(
        self, path: str, parameters: dict[str, str | int], read: Callable[[dict[str, Any]], T]
    ) -> T:
        """What `read` makes of the JSON object at `path`; asked again where it cannot be read.

        The object may also say what is wrong with the question.
        """
        return tried(lambda: read(self._ask(path, parameters)), self._politeness)

    def _ask(self, path: str, parameters: dict[str, str | int]) -> dict[str, Any]:
        data = self._opened()
        from yfinance.const import _BASE_URL_
        from yfinance.exceptions import YFRateLimitError

        what = f"Yahoo {path}"
        self._wait_seconds = UNTOLD_WAIT_SECONDS
        try:
            response = data.get(f"{_BASE_URL_}{path}", params=parameters)
        except YFRateLimitError as error:
            wait = self._wait_seconds
            raise RateLimited(
                f"{what}: asked too often; wait {wait:.0f} s, or ask for fewer symbols", wait
            ) from error
        except OSError as error:  # both of yfinance's backends derive their errors from it
            raise ProviderUnavailable(
                f"{what} cannot be reached ({type(error).__name__}); check the connection, or try "
                "again later"
            ) from error
        self.answered_at = _shown(response.headers.get("Date"))
        return _answer(response, what)

    def _opened(self) -> Any:
        if self._data is None:
            self._data = self._open()
        return self._data

    def _open(self) -> Any:
        try:
            from yfinance._http import new_session
            from yfinance.data import YfData
        except ImportError as error:
            raise InvalidSpec(
                "Yahoo is asked through yfinance; pip install 'candlecast[yahoo]'"
            ) from error
        logger = logging.getLogger("yfinance")
        if not logger.hasHandlers():  # else its warnings land on the terminal
            logger.addHandler(logging.NullHandler())

        class OwnData(YfData):  # type: ignore[misc]
            # No cookies on disk: they would stand, pickled, in a database in the user's home.
            def _load_cookie_curlCffi(self) -> bool:  # noqa: N802
                return False

            def _save_cookie_curlCffi(self) -> bool:  # noqa: N802
                return False

        session = new_session()
        session.get = self._bounded(session.get)
        session.post = self._bounded(session.post)
        return type.__call__(OwnData, session=session)  # past the metaclass that keeps one only

    def _bounded(self, send: Callable[..., Any]) -> Callable[..., Any]:
        # Every request of the client, also those for cookies: our address, our patience.
        def sent(url: str, **options: Any) -> Any:
            if self._base_url is not None:
                url = self._base_url + urlsplit(url)._replace(scheme="", netloc="").geturl()
            response = send(url, **{**options, "timeout": self._politeness.timeout_seconds})
            if response.status_code in THROTTLED:
                headers = response.headers
                told = wait_named(headers.get("Retry-After"), headers.get("Date"))
                self._wait_seconds = UNTOLD_WAIT_SECONDS if told is None else told
            return response

        return sent


def _shown(written: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(written or "").astimezone(UTC)
    except ValueError:
        return None


def _answer(response: Any, what: str) -> dict[str, Any]:
    status = int(response.status_code)
    if status in REFUSED:  # there is no key that could be wrong
        raise _Refused(
            f"{what}: refused (HTTP {status}); wait, ask from another address, or use another "
            "provider"
        )
    if status >= BROKEN:
        raise ProviderUnavailable(f"{what}: out of order (HTTP {status}); try again later")
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ProviderUnavailable(f"{what} answered nonsense; try again later")
    return answer


class _Refused(ProviderUnavailable):
    # Trying again at once gives the same answer.
    is_retryable = False
