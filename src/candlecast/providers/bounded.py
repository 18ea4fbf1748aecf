"""A requests session whose answers are bounded in time and size.

The timeout of requests is one of silence: a server that drips one byte at a time, of the headers
or of the body, is never silent. So a timer ends the connection when the whole takes too long.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self
from urllib.parse import urlsplit

from candlecast.errors import InvalidSpec, ProviderUnavailable

CHUNK_BYTES: Final = 2**16


class BoundedSession:
    """What client libraries need of a ``requests.Session``; an answer is read whole or not at all.

    Parameters
    ----------
    answer_seconds : longest time for one whole answer, from connecting to the last byte
    max_answer_bytes : largest answer, unpacked

    Raises
    ------
    ProviderUnavailable : an answer is too slow, or too large (then trying again cannot help).
    InvalidSpec : requests is not installed.
    """

    def __init__(self, *, answer_seconds: float, max_answer_bytes: int) -> None:
        try:
            import requests
        except ImportError as error:
            raise InvalidSpec(
                "requests is not installed; pip install 'candlecast[alpaca,exchange]'"
            ) from error
        self._answer_seconds = answer_seconds
        self._max_answer_bytes = max_answer_bytes
        self._here = threading.local()  # the watch over the question that this thread asks
        self._session = requests.Session()
        for adapter in self._session.adapters.values():
            found: Any = adapter
            found.get_connection_with_tls_context = self._watched(
                found.get_connection_with_tls_context
            )

    @property
    def headers(self) -> Any:
        """The headers sent with each request."""
        return self._session.headers

    @property
    def cookies(self) -> Any:
        """The cookies kept."""
        return self._session.cookies

    @property
    def trust_env(self) -> bool:
        """Whether proxies and keys that the environment names are used."""
        return self._session.trust_env

    @trust_env.setter
    def trust_env(self, is_trusted: bool) -> None:
        self._session.trust_env = is_trusted

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(self, method: str, url: str, **options: Any) -> Any:
        """The ``requests.Response``, read to its end; `options` as ``requests`` takes them."""
        from requests import RequestException

        parts = urlsplit(url)
        what = f"{parts.hostname}{parts.path}"
        overdue = ProviderUnavailable(
            f"{what} took longer than {self._answer_seconds:g} s; try again later, or ask for a "
            "shorter span"
        )
        with _Watch(self._answer_seconds) as watch:
            self._here.watch = watch
            try:
                with self._session.request(method, url, **{**options, "stream": True}) as response:
                    # Where requests itself keeps what it has read.
                    response._content = self._whole(response, what)  # noqa: SLF001
            except RequestException as error:
                if watch.is_over:
                    raise overdue from error
                raise
            if watch.is_over:  # headers that were cut off look like whole ones
                raise overdue
        return response

    def _whole(self, response: Any, what: str) -> bytes:
        chunks, n_bytes = [], 0
        for chunk in response.iter_content(CHUNK_BYTES):
            chunks.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > self._max_answer_bytes:
                raise _TooLarge(
                    f"{what} answered with more than {self._max_answer_bytes} bytes; ask for a "
                    "shorter span or for fewer symbols"
                )
        return b"".join(chunks)

    def _watched(self, find_pool: Callable[..., Any]) -> Callable[..., Any]:
        def follow(connected: Any) -> None:
            self._here.watch.follow(connected)

        def found(*args: Any, **options: Any) -> Any:
            pool = find_pool(*args, **options)
            if not hasattr(pool.ConnectionCls, "is_watched"):
                pool.ConnectionCls = _watched_class(pool.ConnectionCls, follow)
            return pool

        return found


class _TooLarge(ProviderUnavailable):
    # Trying again gives the same answer.
    is_retryable = False


class _Watch:
    # Ends the connections that it follows when the time is over.
    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for followed in self._sockets:
                followed.close()
            self._sockets.clear()

    def follow(self, connected: Any) -> None:
        """Cut this connection, too, when the time is over."""
        # A second handle of the connection: the first one may be wrapped for TLS, or be closed.
        handle = socket.fromfd(connected.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            self._sockets.append(handle)
            is_over = self.is_over
        if is_over:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for followed in self._sockets:
                with suppress(OSError):
                    followed.shutdown(socket.SHUT_RDWR)


def _watched_class(connection: Any, follow: Callable[[Any], None]) -> type:
    # urllib3's class of connections; a kept connection is followed anew by each question.
    class Watched(connection):  # type: ignore[misc]
        is_watched = True

        def _new_conn(self) -> Any:
            connected = super()._new_conn()
            follow(connected)
            return connected

        def getresponse(self) -> Any:
            follow(self.sock)
            return super().getresponse()

    return Watched
