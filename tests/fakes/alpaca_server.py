"""A local Alpaca: market data by HTTP and WebSocket in its own wire format, faults on demand.

with AlpacaServer() as server:
    server.add_bars("AAPL", "1Min", [wire_bar("2024-01-02T14:30:00Z", 100.0)])
    server.faults.append(Fault("reset", page=1))
    provider = AlpacaProvider(**server.access)
    server.stream.wait_for_subscribers()
    server.stream.send(bar_message("AAPL", minute, 100.0))
"""

import base64
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from fakes.alpaca_stream import AlpacaStream

KEY_ID, SECRET_KEY = "PKFAKEFAKEFAKE", "s3cret-s3cret-s3cret"
LATEST = re.compile(r"/(?:v2/stocks/(\w+)/latest|v1beta3/crypto/us/latest/(\w+))")
STOCK, COIN = re.compile(r"[A-Z][A-Z0-9.]{0,9}"), re.compile(r"[A-Z0-9]+/[A-Z0-9]+")


def wire_bar(t, price, *, volume=100.0, n=3, spread=0.5):
    """A bar as Alpaca writes it, around `price`."""
    return {
        "t": t,
        "o": price,
        "h": price + spread,
        "l": price - spread,
        "c": price + spread / 2,
        "v": volume,
        "n": n,
        "vw": price + spread / 4,
    }


@dataclass
class Fault:
    """What befalls the next `times` requests whose path contains `path`, at `page` (None: any).

    ``status``: answer `status` with `message` and `headers`; ``reset``: half the answer, then a
    TCP reset; ``mute``: no answer until the server stops; ``garbage``: half the answer as if it
    were whole; ``drip``: a byte at a time, without end; ``call``: call `before`, then answer.
    """

    kind: str
    path: str = "/"
    page: int | None = None
    times: float = 1
    status: int = 500
    message: str = "internal server error"
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    path: str
    params: dict[str, str]
    page: int


class AlpacaServer:
    """Serves what was added to it from threads of its own, on ports of 127.0.0.1.

    `page_size` bounds every page; `clock_at` is what its Date header says (None: the real time);
    `unknown` names are refused as Alpaca refuses malformed ones.
    """

    def __init__(self, *, page_size=10_000):
        self.page_size = page_size
        self.clock_at: datetime | None = None
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.unknown: set[str] = set()
        self.bars: dict[tuple[str, str], list[dict]] = {}
        self.latest: dict[str, dict[str, dict]] = {"trades": {}, "quotes": {}}
        self.news: list[dict] = []
        self.actions: dict[str, list[dict]] = {}
        self.stream = AlpacaStream(KEY_ID, SECRET_KEY)
        self.released = threading.Event()

    def __enter__(self):
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.alpaca = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.stream.start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self.stream.stop()

    @property
    def data_url(self):
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def access(self):
        """The arguments with which a provider finds this server."""
        return {
            "key_id": KEY_ID,
            "secret_key": SECRET_KEY,
            "data_url": self.data_url,
            "stream_url": self.stream.url,
        }

    def add_bars(self, symbol, timeframe, bars):
        """Add bars in the order in which they are to come; the symbol has a last trade as well."""
        self.bars.setdefault((symbol, timeframe), []).extend(bars)
        if bars:
            last = {"t": bars[-1]["t"], "p": bars[-1]["c"], "s": 10, "x": "V", "i": 7}
            self.latest["trades"][symbol] = last

    def forget(self, symbol):
        """As if `symbol` had never been."""
        self.bars = {key: bars for key, bars in self.bars.items() if key[0] != symbol}
        for told in self.latest.values():
            told.pop(symbol, None)

    def answer(self, path, params, start):
        """Status and body of the answer to a request whose page begins at `start`."""
        wanted = [name for name in params.get("symbols", "").split(",") if name]
        form = COIN if "/crypto/" in path else STOCK
        for name in wanted:
            if name in self.unknown or (path != "/v1beta1/news" and not form.fullmatch(name)):
                return 400, {"message": f"invalid symbol: {name}"}
        size = min(int(params.get("limit") or self.page_size), self.page_size)
        if path in {"/v2/stocks/bars", "/v1beta3/crypto/us/bars"}:
            return 200, self._bars(wanted, params, start, size)
        if found := LATEST.fullmatch(path):
            return 200, self._latest(found[1] or found[2], wanted)
        if path == "/v1beta1/news":
            return 200, self._news(wanted, params, start, size)
        if path == "/v1/corporate-actions":
            return 200, self._actions(wanted, params, start, size)
        return 404, {"message": "endpoint not found."}

    def _bars(self, wanted, params, start, size):
        # Sorted by symbol; within one in the order in which they were added. Both ends count.
        rows = [
            (name, bar)
            for name in sorted(wanted)
            for bar in self.bars.get((name, params["timeframe"]), [])
            if _at(params["start"]) <= _at(bar["t"]) <= _at(params["end"])
        ]
        page = {}
        for name, bar in rows[start : start + size]:
            page.setdefault(name, []).append(bar)
        return {"bars": page, "next_page_token": _token(start + size, len(rows))}

    def _latest(self, what, wanted):
        return {what: {n: told for n in wanted if (told := self.latest[what].get(n))}}

    def _news(self, wanted, params, start, size):
        rows = [
            article
            for article in self.news
            if _at(params["start"]) <= _at(article["updated_at"]) <= _at(params["end"])
            and (not wanted or set(wanted) & set(article["symbols"]))
        ]
        return {
            "news": rows[start : start + size],
            "next_page_token": _token(start + size, len(rows)),
        }

    def _actions(self, wanted, params, start, size):
        types = params["types"].split(",")
        rows = [
            (group, action)
            for group, actions in self.actions.items()
            for action in actions
            if group.removesuffix("s") in types
            and params["start"] <= action["process_date"] <= params["end"]
            and (not wanted or {action.get("symbol"), action.get("acquiree_symbol")} & {*wanted})
        ]
        page = {}
        for group, action in rows[start : start + size]:
            page.setdefault(group, []).append(action)
        return {"corporate_actions": page, "next_page_token": _token(start + size, len(rows))}

    def fault(self, path, page):
        """The fault that is due, if any."""
        for fault in self.faults:
            if fault.times > 0 and fault.path in path and fault.page in {None, page}:
                fault.times -= 1
                return fault
        return None


def _at(written):
    at = datetime.fromisoformat(written)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _token(end, n_rows):
    return base64.b64encode(f"{end}".encode()).decode() if end < n_rows else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        pass  # whoever asked is gone


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for its headers to be acknowledged

    def do_GET(self):
        alpaca = self.server.alpaca
        split = urlsplit(self.path)
        params = dict(parse_qsl(split.query))
        token = params.get("page_token")
        start = int(base64.b64decode(token)) if token else 0
        size = min(int(params.get("limit") or alpaca.page_size), alpaca.page_size)
        page = start // size
        alpaca.asked.append(Asked(split.path, params, page))
        given = self.headers.get("APCA-API-KEY-ID"), self.headers.get("APCA-API-SECRET-KEY")
        if given != (KEY_ID, SECRET_KEY):
            return self._send(401, {"message": "unauthorized."})
        fault = alpaca.fault(split.path, page)
        if fault and fault.kind == "status":
            return self._send(fault.status, {"message": fault.message}, fault.headers)
        if fault and fault.kind == "mute":
            self.close_connection = True
            alpaca.released.wait(60)
            return None
        if fault and fault.kind == "drip":
            return self._drip()
        if fault and fault.kind == "call":
            fault.before()
        status, body = alpaca.answer(split.path, params, start)
        return self._send(status, body, broken=fault.kind if fault else "")

    def _send(self, status, body, headers=None, broken=""):
        payload = json.dumps(body).encode()
        half = payload[: len(payload) // 2]
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(half if broken == "garbage" else payload)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if broken not in {"reset", "garbage"}:
            self.wfile.write(payload)
            return
        self.wfile.write(half)
        if broken == "reset":
            self.close_connection = True
            with suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()

    def _drip(self):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", str(2**30))
        self.end_headers()
        with suppress(OSError):
            while not self.server.alpaca.released.wait(0.05):
                self.wfile.write(b" ")

    def date_time_string(self, timestamp=None):
        at = self.server.alpaca.clock_at or datetime.now(UTC)  # noqa: TID251 - a server's own clock
        return format_datetime(at, usegmt=True)

    def log_message(self, *_):
        pass
