"""Alpaca's WebSocket, locally: msgpack frames, who subscribed to what, and faults on demand."""

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

CHANNELS = {"t": "trades", "q": "quotes", "b": "bars", "u": "updatedBars", "d": "dailyBars"}
PATHS = ("/v2/iex", "/v2/sip", "/v1beta3/crypto/us")


def bar_message(symbol, t, price, *, volume=100, is_update=False, spread=0.5):
    """A bar as the stream writes it; `is_update` for one corrected by a late trade."""
    prices = {"o": price, "h": price + spread, "l": price - spread, "c": price + spread / 2}
    rest = {"v": volume, "n": 3, "vw": price + spread / 4, "t": t}
    return {"T": "u" if is_update else "b", "S": symbol} | prices | rest


def trade_message(symbol, t, price, *, size=10, id_=1):
    """A trade as the stream writes it."""
    return {
        "T": "t",
        "S": symbol,
        "i": id_,
        "x": "V",
        "p": price,
        "s": size,
        "c": ["@"],
        "z": "C",
    } | {"t": t}


def quote_message(symbol, t, bid, ask, *, bid_size=1, ask_size=2):
    """A quote as the stream writes it."""
    sides = {"bx": "V", "bp": bid, "bs": bid_size, "ax": "V", "ap": ask, "as": ask_size}
    return {"T": "q", "S": symbol, "c": ["R"], "z": "C", "t": t} | sides


@dataclass(eq=False)
class _Client:
    connection: object
    path: str
    subscribed: dict[str, set[str]] = field(default_factory=dict)


class AlpacaStream:
    """The WebSocket side of an AlpacaServer.

    `refusals` maps an action (``auth``, ``subscribe``) to the code and message of the error it
    meets; `silent` actions (also ``connect``) are never answered; `n_connected` counts all
    connections there ever were.
    """

    def __init__(self, key_id, secret_key):
        self._keys = key_id, secret_key
        self.refusals: dict[str, tuple[int, str]] = {}
        self.silent: set[str] = set()
        self.n_connected = 0
        self._clients: list[_Client] = []
        self._changed = threading.Condition()

    def start(self):
        self._server = serve(self._converse, "127.0.0.1", 0, close_timeout=1)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def stop(self):
        self._server.shutdown()
        self._thread.join()

    @property
    def subscribed(self):
        """What each open connection subscribed to: channel to names."""
        with self._changed:
            return [client.subscribed for client in self._clients if client.subscribed]

    def wait_for_subscribers(self, n=1, timeout=10.0):
        """Return when exactly `n` connections are open and have subscribed."""
        self._wait(lambda: sum(bool(c.subscribed) for c in self._clients) == n, timeout)

    def wait_for_connections(self, n, timeout=10.0):
        """Return when exactly `n` connections are open."""
        self._wait(lambda: len(self._clients) == n, timeout)

    def send(self, *messages):
        """Send `messages` in one frame to each connection, as far as it subscribed to them."""
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            wanted = [m for m in messages if self._is_wanted(client, m)]
            if wanted:
                with suppress(ConnectionClosed):
                    client.connection.send(msgpack.packb(wanted, default=_timestamp))

    def send_raw(self, frame):
        """Send any bytes to everyone."""
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            client.connection.send(frame)

    def ping(self, timeout=10.0):
        """Whether all connections answer a ping in time."""
        with self._changed:
            clients = list(self._clients)
        return all(client.connection.ping().wait(timeout) for client in clients)

    def drop(self):
        """Break all connections without a word."""
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            with suppress(OSError):
                client.connection.socket.shutdown(socket.SHUT_RDWR)

    def hang_up(self, code=1001, reason="going away"):
        """Close all connections as a server does that restarts."""
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            client.connection.close(code, reason)

    @staticmethod
    def _is_wanted(client, message):
        if message["T"] not in CHANNELS:
            return True
        names = client.subscribed.get(CHANNELS[message["T"]], ())
        return message["S"] in names or "*" in names

    def _converse(self, connection):
        client = _Client(connection, connection.request.path)
        with self._changed:
            self.n_connected += 1
            self._clients.append(client)
            self._changed.notify_all()
        try:
            if client.path in PATHS:
                self._say(client, "connect", {"T": "success", "msg": "connected"})
                for frame in connection:
                    self._hear(client, msgpack.unpackb(frame))
        except ConnectionClosed:
            pass
        finally:
            with self._changed:
                self._clients.remove(client)
                self._changed.notify_all()

    def _hear(self, client, message):
        action = message["action"]
        if action in self.refusals:
            code, said = self.refusals[action]
            self._say(client, action, {"T": "error", "code": code, "msg": said})
        elif action == "auth":
            if (message["key"], message["secret"]) == self._keys:
                self._say(client, action, {"T": "success", "msg": "authenticated"})
            else:
                self._say(client, action, {"T": "error", "code": 402, "msg": "auth failed"})
        elif action not in self.silent:
            change = set.__or__ if action == "subscribe" else set.__sub__
            with self._changed:
                for channel, names in message.items():
                    if channel != "action":
                        had = client.subscribed.get(channel, set())
                        client.subscribed[channel] = change(had, set(names))
                told = {channel: sorted(names) for channel, names in client.subscribed.items()}
                self._changed.notify_all()
            self._say(client, action, {"T": "subscription", **told})

    def _say(self, client, action, message):
        if action not in self.silent:
            client.connection.send(msgpack.packb([message]))

    def _wait(self, condition, timeout):
        until = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if not self._changed.wait(max(until - time.monotonic(), 0.0)):
                    raise TimeoutError(f"connections: {len(self._clients)}")


def _timestamp(value):
    if isinstance(value, datetime):
        return msgpack.Timestamp.from_datetime(value)
    raise TypeError(value)
