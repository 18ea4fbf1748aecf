"""Answers that drip, swell or come in pieces: a bounded session reads them whole or not at all."""

import socketserver
import threading
from contextlib import suppress

import pytest
import requests

from candlecast.errors import ProviderUnavailable
from candlecast.providers.bounded import BoundedSession
from candlecast.providers.exchange import BinanceProvider, CoinbaseProvider
from candlecast.providers.http import Politeness
from fakes.http_faults import CUT, CUT_CHUNKS, MUTE, RESET, LocalServer, Reply
from integration.exchange_rows import ask

N_DRIPS, PAUSE_SECONDS = 400, 0.02
HEADERS = b"HTTP/1.1 200 OK\r\nDate: Mon, 02 Dec 2024 15:47:23 GMT\r\n"
DRIPS = {
    "body": (HEADERS + b"Content-Length: %d\r\n\r\n" % N_DRIPS, b" "),
    "chunks": (HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers": (HEADERS + b"X-Slow: ", b"a"),
}


class DrippingServer(socketserver.ThreadingTCPServer):
    """Says `head` at once and then `drip` again and again, never silent for long."""

    daemon_threads = True

    def __init__(self, head, drip):
        super().__init__(("127.0.0.1", 0), Dripping)
        self.head, self.drip, self.is_closing = head, drip, threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_closing.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class Dripping(socketserver.BaseRequestHandler):
    def handle(self):
        with suppress(OSError):
            self.request.recv(2**16)
            self.request.sendall(self.server.head)
            for _ in range(N_DRIPS):
                if self.server.is_closing.wait(PAUSE_SECONDS):
                    return
                self.request.sendall(self.server.drip)


@pytest.fixture
def session():
    session = BoundedSession(answer_seconds=20.0, max_answer_bytes=100_000)
    yield session
    session.close()


@pytest.mark.parametrize("part", DRIPS)
def test_a_server_that_drips_is_given_up_at_the_deadline(part):
    with DrippingServer(*DRIPS[part]) as server:
        session = BoundedSession(answer_seconds=0.3, max_answer_bytes=100_000)
        with pytest.raises(ProviderUnavailable, match=r"/slow took longer than 0\.3 s"):
            session.request("GET", f"{server.url}/slow?key=secret", timeout=5)
        session.close()


@pytest.mark.parametrize("part", DRIPS)
@pytest.mark.parametrize("provider", [BinanceProvider, CoinbaseProvider])
def test_an_exchange_that_drips_ends_as_unavailable(provider, part):
    hasty = Politeness(timeout_seconds=5, answer_seconds=0.3, max_tries=1)
    with (
        DrippingServer(*DRIPS[part]) as server,
        pytest.raises(ProviderUnavailable, match=r"took longer than 0\.3 s"),
    ):
        ask(provider(base_url=server.url, politeness=hasty))


@pytest.mark.parametrize("is_packed", [False, True])
def test_too_large_an_answer_is_refused_and_not_asked_for_again(is_packed):
    reply = Reply(200, b"[" + b" " * 200_000 + b"]", {"Content-Type": "application/json"})
    reply = reply.packed() if is_packed else reply
    tight = Politeness(max_answer_bytes=100_000, max_tries=3, first_wait_seconds=0.001)
    with LocalServer(lambda asked: reply) as server:
        with pytest.raises(ProviderUnavailable, match="answered with more than 100000 bytes"):
            ask(BinanceProvider(base_url=server.url, politeness=tight))
        assert len(server.asked) == 1


def test_a_whole_answer_is_what_requests_would_have_read(session):
    body = bytes(range(256)) * 100
    with LocalServer(lambda asked: Reply(200, body, {"X-Name": asked.path}).packed()) as server:
        for name in ("/a", "/b"):  # the second one over the connection kept from the first
            told = session.request("GET", server.url + name, timeout=5)
            theirs = requests.get(server.url + name, timeout=5)
            assert told.content == theirs.content == body
            assert told.headers["X-Name"] == theirs.headers["X-Name"] == name
            assert told.status_code == 200


@pytest.mark.parametrize("fault", [RESET, CUT, CUT_CHUNKS, MUTE])
def test_other_faults_are_those_of_requests_and_the_session_goes_on(session, fault):
    with LocalServer(lambda asked: Reply(200, b"0123456789")) as server:
        server.faults.append(fault)
        with pytest.raises(requests.RequestException):
            session.request("GET", server.url, timeout=0.3)
        assert session.request("GET", server.url, timeout=5).content == b"0123456789"


def test_a_question_after_one_that_was_cut_off_is_answered(session):
    hasty = BoundedSession(answer_seconds=0.3, max_answer_bytes=100_000)
    with LocalServer(lambda asked: Reply(200, b"0123456789")) as server:
        server.faults.append(MUTE)
        with pytest.raises(ProviderUnavailable):
            hasty.request("GET", server.url, timeout=20)
        assert hasty.request("GET", server.url, timeout=5).content == b"0123456789"
    hasty.close()
