"""A local HTTP server that answers by a function, and by script resets, stays mute or breaks off.

with LocalServer(lambda asked: Reply.json({"path": asked.path})) as server:
    server.faults += [Reply(429, headers={"Retry-After": "1"}), RESET, MUTE, CUT]
    ...  # each fault meets one request, then the function answers
    assert server.asked[0].query == {"limit": "0"}
"""

import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

RESET, MUTE, CUT, CUT_CHUNKS = "reset", "mute", "cut", "cut chunks"
"""The connection is reset; nothing is ever said; half of the answer comes, of announced length or
in chunks."""


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it; header names in lower case."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, document, status=200, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(
            status, json.dumps(document).encode(), {"Content-Type": "application/json"} | named
        )

    def packed(self):
        return Reply(
            self.status, gzip.compress(self.body), {**self.headers, "Content-Encoding": "gzip"}
        )


class LocalServer:
    """Serves `answer` on 127.0.0.1; remembers what was asked; one request spends one fault."""

    def __init__(self, answer: Callable[[Asked], Reply]):
        self.answer = answer
        self.asked: list[Asked] = []
        self.faults: deque[Reply | str] = deque()
        self.is_closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.is_closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for its headers to be acknowledged

    def do_GET(self):
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(parts.path, dict(parse_qsl(parts.query)), headers)
        self.server.owner.asked.append(asked)
        fault = self.server.owner.faults.popleft() if self.server.owner.faults else None
        if fault == RESET:
            self._reset()
        elif fault == MUTE:
            self.server.owner.is_closing.wait()
            self.close_connection = True
        else:
            self._send(
                fault if isinstance(fault, Reply) else self.server.owner.answer(asked), fault
            )

    def _send(self, reply, fault):
        is_cut, is_chunked = isinstance(fault, str), fault == CUT_CHUNKS
        body = reply.body[: len(reply.body) // 2] if is_cut else reply.body
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
        else:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or is_cut

    def _reset(self):
        # With a linger time of zero the close is a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True

    def finish(self):
        # The client has gone, or the connection was reset on purpose.
        with suppress(OSError, ValueError):
            super().finish()

    def handle(self):
        with suppress(OSError, ValueError):
            super().handle()

    def log_message(self, *_):
        pass
