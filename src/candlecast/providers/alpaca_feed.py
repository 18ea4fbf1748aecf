"""Alpaca's live stream through alpaca-py: one connection a market, and no repairs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from candlecast.domain.market import Symbol
from candlecast.domain.sources import FeedBar, Quote, Tick, Trade
from candlecast.domain.tickers import vendor_names
from candlecast.errors import (
    BadCredentials,
    CandlecastError,
    Conflict,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
)
from candlecast.providers.alpaca_client import import_alpaca
from candlecast.providers.alpaca_patience import VARIABLES, Keys
from candlecast.providers.http import translated

CHANNELS: Final = ("bars", "updatedBars", "trades", "quotes")
METHODS: Final = {
    "bars": "subscribe_bars",
    "updatedBars": "subscribe_updated_bars",
    "trades": "subscribe_trades",
    "quotes": "subscribe_quotes",
}
HOST: Final = "wss://stream.data.alpaca.markets"
PING_SECONDS: Final = 10
CLOSE_SECONDS: Final = 1
"""How long the other side may take to say goodbye."""
JOIN_SECONDS: Final = 10
REFUSED: Final = frozenset({"auth failed", "insufficient subscription", "symbol limit exceeded"})
"""What Alpaca says when the key, or its plan, is the trouble."""

_logger = logging.getLogger(__name__)
_logger.setLevel(logging.INFO)  # at DEBUG the connection writes the keys that it sends


class OneConnection:
    """Mixed into a stream of alpaca-py, whose own loop would connect again for ever.

    It lives as long as its connection, and what Alpaca refuses is an error, not a line in a log.
    """

    is_accepted: asyncio.Event
    _start_ws: Callable[[], Awaitable[None]]
    _send_subscribe_msg: Callable[[], Awaitable[None]]
    _consume: Callable[[], Awaitable[bool]]
    close: Callable[[], Awaitable[None]]

    async def hold(self) -> None:
        """Connect, subscribe, and hand on what arrives until the connection ends."""
        try:
            await self._enter()
            await self._send_subscribe_msg()
            await self._consume()
        finally:
            await self.close()

    async def _enter(self) -> None:
        try:
            await self._start_ws()
        except (LookupError, TypeError, ValueError) as error:
            raise _refusal(str(error)) from error

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        if msg.get("T") == "error":
            raise _refusal(str(msg.get("msg")))
        if msg.get("T") == "subscription":
            self.is_accepted.set()
        await super()._dispatch(msg)  # type: ignore[misc]


class AlpacaFeed:
    """Bars, corrected bars, trades and quotes as they happen; a Feed.

    Parameters
    ----------
    keys : never shown
    url : where to connect instead of Alpaca's own host
    stock_feed : ``iex`` or ``sip``
    channels : some of `CHANNELS`
    timeout_seconds : how long Alpaca may take until it has accepted the subscription

    Notes
    -----
    `sink` is called in the feed's thread: while it works nothing is read. Trades that the exchange
    cancels or corrects later are not told; the corrected bar is.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        url: str | None,
        stock_feed: str,
        channels: Sequence[str],
        timeout_seconds: float,
    ) -> None:
        keys.check()
        self._keys, self._url = keys, (url or HOST).rstrip("/")
        self._stock_feed, self._channels = stock_feed, tuple(channels)
        self._timeout_seconds = timeout_seconds
        self._failure: CandlecastError | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def failure(self) -> CandlecastError | None:
        """Why the feed ended by itself; None while it runs."""
        return self._failure

    def connect(self, symbols: Sequence[Symbol], sink: Callable[[Tick], None]) -> None:
        """Begin to hand ticks to `sink`; returns when Alpaca has accepted the subscription.

        Raises
        ------
        BadCredentials : the keys or the plan. ProviderUnavailable : no connection, no answer.
        NotFound : symbols that Alpaca has no name for. Conflict : connected before.
        """
        if self._thread is not None:
            raise Conflict("a feed is connected once; open a new one")
        streams = self._streams(symbols, sink)
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(streams, ready), name="alpaca-feed", daemon=True
        )
        self._thread.start()
        try:
            ready.result()
        except CandlecastError:
            self.close()
            raise

    def close(self) -> None:
        """End the connection and its thread; may be called twice."""
        is_first, self._is_closing = not self._is_closing, True
        if is_first and self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _streams(self, symbols: Sequence[Symbol], sink: Callable[[Tick], None]) -> list[Any]:
        tickers, failures = vendor_names("alpaca", symbols)
        if failures:
            raise NotFound("; ".join(failures.values()))
        if not tickers or not self._channels:
            raise InvalidSpec("a feed needs symbols and channels; name some")
        crypto = {s.ticker for s in symbols if s.asset_class == "crypto"}
        streams = []
        for is_crypto in (False, True):
            named = {name: t for name, t in tickers.items() if (t in crypto) == is_crypto}
            if named:
                stream = self._make_stream(is_crypto=is_crypto)
                for channel in self._channels:
                    getattr(stream, METHODS[channel])(_handler(named, sink), *named)
                streams.append(stream)
        return streams

    def _make_stream(self, *, is_crypto: bool) -> Any:
        live = import_alpaca("data.live")
        kind = live.CryptoDataStream if is_crypto else live.StockDataStream
        path = "/v1beta3/crypto/us" if is_crypto else f"/v2/{self._stock_feed}"
        stream = type("OneConnectionStream", (OneConnection, kind), {})(
            self._keys.key_id,
            self._keys.secret_key,
            raw_data=True,
            url_override=self._url + path,
            websocket_params={
                "ping_interval": PING_SECONDS,
                "ping_timeout": 2 * PING_SECONDS,
                "open_timeout": self._timeout_seconds,
                "close_timeout": CLOSE_SECONDS,
                "logger": _logger,
            },
        )
        stream.is_accepted = asyncio.Event()
        return stream

    def _run(self, streams: list[Any], ready: Future[None]) -> None:
        from websockets.exceptions import WebSocketException

        error: CandlecastError | None = ProviderUnavailable("the feed was closed; open a new one")
        try:
            asyncio.run(self._hold(streams, ready))
        except asyncio.CancelledError:
            pass
        except CandlecastError as refused:
            error = refused
        except (OSError, ValueError, WebSocketException) as broken:
            error = self._broken(broken)
        except BaseException:
            # A fault of ours, most likely in `sink`: the owner must not wait for ever.
            error = ProviderUnavailable("reading the feed failed, see the log; open a new one")
            raise
        finally:
            if not ready.done():
                ready.set_exception(error)
            self._failure = None if self._is_closing else error

    async def _hold(self, streams: list[Any], ready: Future[None]) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._is_closing:
            return
        tasks = [asyncio.create_task(stream.hold()) for stream in streams]
        accepted = [asyncio.create_task(stream.is_accepted.wait()) for stream in streams]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for one in accepted:
                    await asyncio.wait((one, *tasks), return_when=asyncio.FIRST_COMPLETED)
                    _raise_failed(tasks)
            ready.set_result(None)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            _raise_failed(tasks)
        finally:
            for task in (*tasks, *accepted):
                task.cancel()
            await asyncio.gather(*tasks, *accepted, return_exceptions=True)

    def _broken(self, error: Exception) -> CandlecastError:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return translated(status, what="Alpaca's stream")
        if isinstance(error, TimeoutError):
            return ProviderUnavailable(
                f"Alpaca's stream said nothing for {self._timeout_seconds:g} s; try again later"
            )
        reason = self._keys.hidden(error) or type(error).__name__
        return ProviderUnavailable(f"Alpaca's stream broke off ({reason}); connect again")


def _raise_failed(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
            raise ProviderUnavailable("Alpaca's stream ended; connect again")


def _refusal(said: str) -> CandlecastError:
    if said in REFUSED:
        return BadCredentials(
            f"Alpaca's stream refuses: {said}; check {VARIABLES}, and what the plan allows (the "
            "free one: the feed iex, and 30 symbols of trades and quotes)"
        )
    return ProviderUnavailable(
        f"Alpaca's stream refuses: {said}; try again later, and use a key in one place only"
    )


def _handler(
    tickers: Mapping[str, str], sink: Callable[[Tick], None]
) -> Callable[[dict[str, Any]], Awaitable[None]]:
    async def hand_on(message: dict[str, Any]) -> None:
        try:
            tick = _as_tick(message, tickers[message["S"]])
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ProviderUnavailable(
                f"a message of Alpaca's stream cannot be read ({error!r}); connect again"
            ) from error
        sink(tick)

    return hand_on


def _as_tick(message: Mapping[str, Any], ticker: str) -> Tick:
    at = message["t"].to_datetime()
    if message["T"] == "t":
        size = float(message["s"])
        return Trade(ticker, at, float(message["p"]), size, str(message.get("i", "")))
    if message["T"] == "q":
        bid, ask, bid_size, ask_size = (float(message[key]) for key in ("bp", "ap", "bs", "as"))
        return Quote(ticker, at, bid, ask, bid_size, ask_size)
    opened, high, low, close, volume = (float(message[key]) for key in ("o", "h", "l", "c", "v"))
    count, vwap = message.get("n"), message.get("vw")
    return FeedBar(
        ticker,
        at,
        opened,
        high,
        low,
        close,
        volume,
        vwap=float(vwap) if vwap else None,
        trade_count=None if count is None else int(count),
    )
