"""The polite client against a server that throttles, resets, stays mute and breaks off."""

import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.errors import (
    BadCredentials,
    CandlecastError,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
    RateLimited,
)
from candlecast.providers.http import (
    LONGEST_WAIT_SECONDS,
    UNTOLD_WAIT_SECONDS,
    HttpClient,
    Politeness,
    linked,
    translated,
    wait_named,
)
from fakes.http_faults import CUT, CUT_CHUNKS, MUTE, RESET, LocalServer, Reply

SECRET = "s3cr3t"
DOCUMENT = {"rows": list(range(100))}
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def server():
    with LocalServer(lambda _: Reply.json(DOCUMENT)) as server:
        yield server


@pytest.fixture
def slept():
    return []


@pytest.fixture
def client(server, slept):
    with asking(server, slept) as client:
        yield client


def asking(server, slept, **politeness):
    return HttpClient(
        "vendor",
        f"{server.url}/v1",
        politeness=Politeness(**{"timeout_seconds": 5.0, **politeness}),
        headers={"X-Key": SECRET},
        generator=np.random.default_rng(1),
        sleep=slept.append,
    )


def test_an_answer_comes_with_path_query_and_headers(server, client, slept):
    assert client.get_json("/rows", {"limit": 0}) == DOCUMENT
    (asked,) = server.asked
    assert (asked.path, asked.query, asked.headers["x-key"]) == ("/v1/rows", {"limit": "0"}, SECRET)
    assert slept == []


def test_a_packed_answer_is_unpacked(server, client):
    server.faults.append(Reply.json(DOCUMENT).packed())
    assert client.get_json("/rows") == DOCUMENT
    assert "gzip" in server.asked[0].headers["accept-encoding"]


@pytest.mark.parametrize(
    "fault",
    [RESET, CUT, CUT_CHUNKS, Reply(500), Reply(503), Reply(429), Reply(200, b'{"rows": [1,')],
    ids=["reset", "cut", "cut chunks", "500", "503", "429", "nonsense"],
)
def test_what_passes_is_tried_again(server, client, slept, fault):
    server.faults += [fault, fault]
    assert client.get_json("/rows") == DOCUMENT
    assert len(server.asked) == 3
    assert len(slept) == 2


def test_a_packed_answer_that_breaks_off_is_tried_again(server, client):
    whole = Reply.json(DOCUMENT).packed()
    server.faults.append(Reply(200, whole.body[:20], whole.headers))
    server.faults.append(Reply(200, b"no gzip", whole.headers))
    assert client.get_json("/rows") == DOCUMENT


def test_waits_double_and_jitter_and_end(server, slept):
    server.faults += [RESET] * 9
    client = asking(server, slept, max_tries=9, first_wait_seconds=1.0, max_wait_seconds=20.0)
    with client, pytest.raises(ProviderUnavailable, match="vendor /v1/rows cannot be reached"):
        client.get("/rows")
    assert len(server.asked) == 9
    limits = [min(2.0**n, 20.0) for n in range(8)]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(slept, limits, strict=True))
    assert len({wait / limit for wait, limit in zip(slept, limits, strict=True)}) > 2


def test_a_storm_of_429_is_sat_out_as_long_as_it_says(server, client, slept):
    server.faults += [Reply(429, headers={"Retry-After": "7"})] * 3
    assert client.get_json("/rows") == DOCUMENT
    assert all(7.0 < wait < 8.0 for wait in slept)
    assert len(slept) == 3


def test_a_storm_that_does_not_end_is_reported_with_its_wait(server, client, slept):
    server.faults += [Reply(418, headers={"Retry-After": "9"})] * 20
    with pytest.raises(RateLimited, match="HTTP 418") as caught:
        client.get("/rows")
    assert caught.value.retry_after_seconds == 9.0
    assert len(server.asked) == 4
    assert len(slept) == 3


def test_who_asks_for_too_much_patience_is_not_asked_again(server, client, slept):
    server.faults.append(Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(RateLimited) as caught:
        client.get("/rows")
    assert caught.value.retry_after_seconds == 3600.0
    assert (len(server.asked), slept) == (1, [])


def test_a_date_to_wait_for_is_measured_by_the_servers_clock(server, client, slept):
    there = datetime(2031, 5, 5, tzinfo=UTC)
    assert wait_named(_http_date(there + timedelta(seconds=30)), _http_date(there)) == 30.0
    assert wait_named(_http_date(there), _http_date(there + timedelta(seconds=30))) == 0.0
    assert wait_named(_http_date(there)) is None
    server.faults.append(Reply(503, headers={"Retry-After": "2"}))
    assert client.get_json("/rows") == DOCUMENT
    assert 2.0 < slept[0] < 3.0


def _http_date(instant):
    return format_datetime(instant, usegmt=True)


@settings(max_examples=50)
@given(st.one_of(st.none(), st.text(), st.integers(-5, 10**9).map(str)), st.text())
def test_any_retry_after_is_a_wait_within_a_day_or_none(after, date):
    wait = wait_named(after, date)
    assert wait is None or 0.0 <= wait <= LONGEST_WAIT_SECONDS


def test_a_mute_server_is_given_up(server, slept):
    server.faults += [MUTE] * 2
    with asking(server, slept, timeout_seconds=0.2, max_tries=2) as client:
        with pytest.raises(ProviderUnavailable, match=r"said nothing for 0.2 s"):
            client.get("/rows")
        assert client.get_json("/rows") == DOCUMENT
    assert len(server.asked) == 3


def test_an_answer_that_never_ends_is_given_up(server, slept):
    with (
        asking(server, slept, answer_seconds=0.0, max_tries=1) as client,
        pytest.raises(ProviderUnavailable, match="took longer than 0 s"),
    ):
        client.get("/rows")


def test_an_answer_too_large_is_not_asked_for_twice(server, slept):
    server.answer = lambda _: Reply(200, b"0" * 5000).packed()
    with (
        asking(server, slept, max_answer_bytes=1000) as client,
        pytest.raises(ProviderUnavailable, match="more than 1000 bytes; ask for a shorter span"),
    ):
        client.get("/rows")
    assert len(server.asked) == 1


def test_a_host_that_is_not_there_is_unavailable(slept):
    with LocalServer(lambda _: Reply()) as gone:
        address = gone.url
    with (
        HttpClient("vendor", address, sleep=slept.append) as client,
        pytest.raises(ProviderUnavailable, match="ConnectError"),
    ):
        client.get("/rows")
    assert len(slept) == 3


TRANSLATIONS = [
    (401, BadCredentials),
    (403, BadCredentials),
    (404, NotFound),
    (410, NotFound),
    (400, InvalidSpec),
    (422, InvalidSpec),
    (451, ProviderUnavailable),
    (408, ProviderUnavailable),
    (500, ProviderUnavailable),
    (502, ProviderUnavailable),
    (302, ProviderUnavailable),
    (418, RateLimited),
    (429, RateLimited),
]


@pytest.mark.parametrize(("status", "kind"), TRANSLATIONS)
def test_each_status_is_translated(server, client, status, kind):
    server.answer = lambda _: Reply(status, f"your key is {SECRET}".encode())
    with pytest.raises(CandlecastError) as caught:
        client.get("/rows", {"token": SECRET})
    assert type(caught.value) is kind
    assert str(status) in str(caught.value) or status == 451
    assert SECRET not in str(caught.value)
    assert len(server.asked) == (4 if kind in {ProviderUnavailable, RateLimited} else 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_vendor_that_moved_is_asked_once_and_its_new_address_told(server, client, status):
    place = f"https://key:{SECRET}@new.example/v2/rows?token={SECRET}"
    server.answer = lambda _: Reply(status, headers={"Location": place})
    with pytest.raises(ProviderUnavailable, match=r"https://new\.example/v2/rows") as caught:
        client.get("/rows", {"token": SECRET})
    assert str(status) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(server.asked) == 1


def test_a_throttled_caller_is_told_a_usual_wait_where_the_vendor_names_none():
    error = translated(429, what="vendor bars of AAPL")
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == UNTOLD_WAIT_SECONDS
    assert "vendor bars of AAPL" in str(error)


def test_no_secret_reaches_messages_logs_or_reprs(server, client, caplog):
    caplog.set_level(logging.DEBUG)
    server.faults.append(RESET)
    client.get_json("/rows", {"token": SECRET})
    assert SECRET in server.asked[0].query.values()
    assert SECRET not in caplog.text
    assert SECRET not in repr(client)


def test_requests_start_an_interval_apart(server, slept):
    with asking(server, slept, min_interval_seconds=50.0) as client:
        for _ in range(3):
            client.get("/rows")
    assert len(slept) == 2
    assert all(40.0 < wait <= 50.0 for wait in slept)


def test_the_next_page_is_found_and_followed(server, client):
    server.faults.append(Reply.json([1], Link='</v1/rows?page=2>; rel="next"'))
    first = client.get("/rows")
    second = client.get(linked(first.url, first.next_link, "vendor"))
    assert json.loads(first.body) == [1]
    assert second.next_link is None
    assert (server.asked[1].path, server.asked[1].query) == ("/v1/rows", {"page": "2"})


def test_a_page_on_another_host_does_not_see_the_key(server, client):
    with LocalServer(lambda _: Reply()) as other:
        with pytest.raises(ProviderUnavailable, match="links to another host"):
            client.get(f"{other.url}/rows")
        assert other.asked == []


@pytest.mark.parametrize("url", ["", "vendor.example/v1", "ftp://vendor.example", "http://[::1"])
def test_a_base_url_that_is_none_is_refused(url):
    with pytest.raises(InvalidSpec, match="write it as https://host/path"):
        HttpClient("vendor", url)


def test_a_client_tries_at_least_once():
    with pytest.raises(InvalidSpec, match="at least 1"):
        Politeness(max_tries=0)
