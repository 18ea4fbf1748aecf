"""What goes wrong at Alpaca, through alpaca-py: lost pages, throttling, clocks, lost symbols."""

import base64
import logging
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Thread

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.sources import Request
from candlecast.errors import BadCredentials, InvalidSpec, ProviderUnavailable, RateLimited
from candlecast.providers.alpaca import AlpacaProvider
from candlecast.providers.http import Politeness
from fakes.alpaca_server import KEY_ID, SECRET_KEY, AlpacaServer, Fault, wire_bar

pytestmark = pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated")

OPEN = datetime(2024, 1, 3, 14, 30, tzinfo=UTC)
CLOSE = datetime(2024, 1, 3, 21, 0, tzinfo=UTC)
AFTER = FixedClock(datetime(2024, 1, 3, 22, 0, tzinfo=UTC))
MINUTE = timedelta(minutes=1)
M1 = Timeframe(1)
N_TRIES = 3
NAMES = ("AAPL", "MSFT", "NVDA")
SYMBOLS = tuple(Symbol(name) for name in NAMES)
REQUEST = Request(SYMBOLS, OPEN, CLOSE)


@pytest.fixture
def server():
    with AlpacaServer(page_size=4) as running:
        for name in NAMES:
            running.add_bars(name, "1Min", bars_from(OPEN, 6))
        yield running


@pytest.fixture
def provider(server):
    made = AlpacaProvider(**server.access)
    made.politeness = Politeness(
        first_wait_seconds=0.001, max_wait_seconds=2.0, timeout_seconds=5.0, max_tries=N_TRIES
    )
    return made


def bars_from(start, n, price=100.0):
    times = [(start + i * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ") for i in range(n)]
    return [wire_bar(t, price + i) for i, t in enumerate(times)]


def starts(fetched, ticker="AAPL"):
    return fetched.bars.filter(pl.col("symbol") == ticker)["ts"].to_list()


THROTTLED = {"kind": "status", "status": 429, "message": "too many requests."}
PASSING = [
    Fault("reset"),
    Fault("reset", page=1),
    Fault("garbage", page=2),
    Fault("status", page=3, status=500),
    Fault("status", page=1, status=504, message="gateway timeout"),
    Fault(**THROTTLED, page=1, times=2, headers={"Retry-After": "0"}),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f"{f.kind}-{f.status}-page-{f.page}")
def test_a_page_that_fails_is_asked_for_again_and_nothing_is_lost_or_doubled(
    server, provider, fault
):
    whole = provider.fetch_bars(REQUEST, M1, AFTER)
    server.asked.clear()
    server.faults.append(fault)
    n_failures = fault.times
    again = provider.fetch_bars(REQUEST, M1, AFTER)
    assert fault.times == 0
    assert again.bars.equals(whole.bars)
    assert len(again.bars) == 18
    assert again.covered == whole.covered
    # The pages before the one that was lost are not asked for a second time.
    assert len(server.asked) == 5 + n_failures


@settings(max_examples=20)
@given(
    page_size=st.integers(1, 20),
    n_bars=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    faults=st.lists(
        st.tuples(st.sampled_from(["reset", "garbage", "status"]), st.integers(0, 20)), max_size=4
    ),
)
def test_whatever_passes_on_the_way_all_bars_come_once(page_size, n_bars, faults):
    with AlpacaServer(page_size=page_size) as server:
        for name, n in zip(NAMES, n_bars, strict=True):
            server.add_bars(name, "1Min", bars_from(OPEN, n))
            server.latest["trades"].setdefault(name, {"t": "2024-01-03T14:00:00Z", "p": 1, "s": 1})
        # Of one page fewer faults than tries, so that each passes.
        server.faults += [Fault(kind, page=page) for kind, page in faults]
        provider = AlpacaProvider(**server.access)
        provider.politeness = Politeness(first_wait_seconds=1e-4, max_tries=6)
        fetched = provider.fetch_bars(REQUEST, M1, AFTER)
    for name, n in zip(NAMES, n_bars, strict=True):
        assert starts(fetched, name) == [OPEN + i * MINUTE for i in range(n)]
        assert fetched.covered[name] == (OPEN, CLOSE)


@pytest.mark.parametrize("kind", ["reset", "garbage", "status"])
def test_a_page_that_never_comes_is_an_error_after_a_bounded_number_of_tries(
    server, provider, kind
):
    server.faults.append(Fault(kind, page=1, times=float("inf")))
    with pytest.raises(ProviderUnavailable, match="try again later"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == 1 + N_TRIES


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(server, provider):
    provider.politeness = Politeness(
        first_wait_seconds=0.001, timeout_seconds=0.2, max_tries=N_TRIES
    )
    server.faults.append(Fault("mute", times=float("inf")))
    with pytest.raises(ProviderUnavailable, match="Timeout"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == N_TRIES


def test_a_server_that_drips_is_not_waited_for_for_ever(server, provider):
    # Never silent, so that no limit of silence ends it.
    provider.politeness = Politeness(
        first_wait_seconds=0.001, timeout_seconds=2.0, answer_seconds=0.4, max_tries=2
    )
    server.faults.append(Fault("drip", times=float("inf")))
    asking = Thread(target=lambda: refused_by(provider, told), daemon=True)
    told = []
    asking.start()
    asking.join(20.0)
    assert [type(error) for error in told] == [ProviderUnavailable]
    assert "longer than 0.4 s" in str(told[0])
    assert len(server.asked) == 2


def refused_by(provider, told):
    try:
        provider.fetch_bars(REQUEST, M1, AFTER)
    except ProviderUnavailable as error:
        told.append(error)


def test_an_answer_that_is_too_large_is_refused_at_once(server, provider):
    provider.politeness = Politeness(max_answer_bytes=300, max_tries=N_TRIES)
    with pytest.raises(ProviderUnavailable, match="more than 300 bytes"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_unavailable(server, provider):
    lost = AlpacaProvider(**{**server.access, "data_url": "http://127.0.0.1:9"})
    lost.politeness = provider.politeness
    with pytest.raises(ProviderUnavailable, match="ConnectionError"):
        lost.fetch_bars(REQUEST, M1, AFTER)


def test_a_storm_of_refusals_ends_as_rate_limited_with_the_wait_that_was_named(server, provider):
    server.faults.append(Fault(**THROTTLED, times=float("inf"), headers={"Retry-After": "1"}))
    provider.politeness = Politeness(max_wait_seconds=2.0, first_wait_seconds=0.001, max_tries=2)
    with pytest.raises(RateLimited) as refused:
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert refused.value.retry_after_seconds == 1.0
    assert len(server.asked) == 2


def test_a_wait_that_is_too_long_is_left_to_the_caller_at_once(server, provider):
    # By Alpaca's own clock, which is an hour ahead of everyone's.
    server.clock_at = datetime(2024, 1, 3, 23, 0, tzinfo=UTC)
    reset = int(server.clock_at.timestamp()) + 45
    for headers in (
        {"X-RateLimit-Reset": str(reset)},
        {"Retry-After": format_datetime(server.clock_at + timedelta(seconds=45), usegmt=True)},
    ):
        server.faults.append(Fault(**THROTTLED, headers=headers))
        server.asked.clear()
        with pytest.raises(RateLimited) as refused:
            provider.fetch_bars(REQUEST, M1, AFTER)
        assert refused.value.retry_after_seconds == 45.0
        assert len(server.asked) == 1


def test_pages_that_lead_in_a_circle_do_not_go_on_for_ever(server, provider, monkeypatch):
    monkeypatch.setattr("fakes.alpaca_server._token", lambda end, n_rows: "MQ==")
    with pytest.raises(ProviderUnavailable, match="makes no sense"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == 1 + N_TRIES


@pytest.mark.parametrize("n_tokens", [2, 3])
def test_pages_in_a_circle_of_several_do_not_go_on_for_ever(server, provider, n_tokens):
    tokens = [base64.b64encode(str(i).encode()).decode() for i in range(1, n_tokens + 1)]

    def circling(wanted, params, start, size):
        if len(server.asked) > 50:
            return {"bars": {}, "next_page_token": None}
        return {"bars": {}, "next_page_token": tokens[start % n_tokens]}

    server._bars = circling
    with pytest.raises(ProviderUnavailable, match="makes no sense"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == n_tokens + N_TRIES


def test_pages_without_end_are_given_up(server, provider, monkeypatch):
    monkeypatch.setattr("candlecast.providers.alpaca_patience.MAX_PAGES", 5)
    server.add_bars("AAPL", "1Min", bars_from(OPEN + 6 * MINUTE, 50))
    with pytest.raises(ProviderUnavailable, match="more than 5 pages"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == 5


def test_missing_keys_are_named_before_anything_is_asked(server):
    for keys in ({}, {"key_id": KEY_ID}, {"secret_key": SECRET_KEY}):
        provider = AlpacaProvider(**keys, data_url=server.data_url)
        for ask in (
            lambda p: p.fetch_bars(REQUEST, M1, AFTER),
            lambda p: p.fetch_quotes(REQUEST, AFTER),
            lambda p: p.open_feed(AFTER),
        ):
            with pytest.raises(BadCredentials, match="CANDLECAST_ALPACA_SECRET_KEY") as refused:
                ask(provider)
            assert SECRET_KEY not in str(refused.value)
    assert server.asked == []


def test_a_missing_library_is_named_with_its_remedy(server, provider, monkeypatch):
    for module in ("alpaca.data.requests", "alpaca.data.live"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidSpec, match=r"pip install 'candlecast\[alpaca\]'"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    with pytest.raises(InvalidSpec, match=r"pip install 'candlecast\[alpaca\]'"):
        provider.open_feed(AFTER).connect(SYMBOLS, print)


def test_wrong_keys_are_told_and_appear_nowhere(server, caplog):
    caplog.set_level(logging.DEBUG)
    provider = AlpacaProvider(**{**server.access, "secret_key": "wr0ng-wr0ng"})
    with pytest.raises(BadCredentials, match="CANDLECAST_ALPACA_KEY_ID") as refused:
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == 1
    shown = f"{refused.value!r} {provider!r} {provider._keys!r} {caplog.text}"
    assert "wr0ng" not in shown
    assert KEY_ID not in shown


def test_an_answer_that_repeats_our_key_is_not_quoted_with_it(server, provider):
    server.faults.append(
        Fault("status", status=403, message=f"{KEY_ID} and {SECRET_KEY} are forbidden")
    )
    with pytest.raises(BadCredentials, match="… and … are forbidden"):
        provider.fetch_bars(REQUEST, M1, AFTER)


def test_a_feed_that_the_plan_does_not_include_is_a_matter_of_credentials(server, provider):
    said = "subscription does not permit querying recent SIP data"
    server.faults.append(Fault("status", status=403, message=said))
    with pytest.raises(BadCredentials, match=f"{said}.*iex"):
        provider.fetch_bars(REQUEST, M1, AFTER)


def test_a_question_that_alpaca_does_not_accept_is_not_asked_again(server, provider):
    server.faults.append(Fault("status", status=422, message="end should not be before start"))
    with pytest.raises(InvalidSpec, match="end should not be before start"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    assert len(server.asked) == 1


def test_a_clock_of_alpaca_that_is_ahead_lets_no_unfinished_bar_in(server, provider):
    now = OPEN + 3 * MINUTE + timedelta(seconds=30)
    server.clock_at = now + 5 * MINUTE
    fetched = provider.fetch_bars(Request(SYMBOLS, OPEN), M1, FixedClock(now))
    assert starts(fetched) == [OPEN + i * MINUTE for i in range(3)]
    assert fetched.covered["AAPL"] == (OPEN, OPEN + 3 * MINUTE)


def test_a_clock_of_ours_that_is_ahead_lets_no_unfinished_bar_in(server, provider):
    # Alpaca's newest bar, at its own time, is the one of 14:33; ours says that it has long ended.
    server.clock_at = OPEN + 3 * MINUTE + timedelta(seconds=30)
    for name in NAMES:
        server.bars[name, "1Min"] = bars_from(OPEN, 4)
    fetched = provider.fetch_bars(Request(SYMBOLS, OPEN), M1, FixedClock(OPEN + 9 * MINUTE))
    assert starts(fetched) == [OPEN + i * MINUTE for i in range(3)]
    assert fetched.covered["AAPL"] == (OPEN, OPEN + 3 * MINUTE)


def test_a_corrected_bar_is_returned_when_it_is_read_again(server, provider):
    first = provider.fetch_bars(REQUEST, M1, AFTER)
    server.bars["AAPL", "1Min"][2] |= {"c": 102.4, "v": 170.0, "n": 4}
    second = provider.fetch_bars(REQUEST, M1, AFTER)
    assert second.bars.height == first.bars.height
    changed = second.bars.join(first.bars, on=second.bars.columns, how="anti", nulls_equal=True)
    assert changed.select("symbol", "ts", "close", "volume", "trade_count").rows() == [
        ("AAPL", OPEN + 2 * MINUTE, 102.4, 170.0, 4)
    ]


def test_bars_out_of_order_and_twice_come_once_in_order_as_they_came_last(server, provider):
    straight = provider.fetch_bars(REQUEST, M1, AFTER)
    bars = bars_from(OPEN, 6)
    stale = bars[1] | {"c": 100.9, "v": 1.0}
    server.bars["AAPL", "1Min"] = [bars[5], stale, bars[0], bars[3], *bars[1:3], bars[4], bars[3]]
    crooked = provider.fetch_bars(REQUEST, M1, AFTER)
    assert crooked.bars.equals(straight.bars)
    assert crooked.refusals == ()


@pytest.mark.parametrize("message", ["invalid symbol: MSFT", "unknown symbols: [MSFT]"])
def test_a_symbol_that_alpaca_refuses_fails_alone(server, provider, message):
    server.unknown.add("MSFT")
    server.faults.append(Fault("status", status=400, message=message))
    fetched = provider.fetch_bars(REQUEST, M1, AFTER)
    assert set(fetched.failures) == {"MSFT"}
    assert "MSFT" in fetched.failures["MSFT"]
    assert set(fetched.bars["symbol"]) == set(fetched.covered) == {"AAPL", "NVDA"}
    assert len(fetched.bars) == 12


def test_a_symbol_that_is_refused_without_being_named_is_found(server, provider):
    refusal = Fault("status", status=404, message="not found")
    answer_to = server.fault

    def fault(path, page):
        names = server.asked[-1].params["symbols"].split(",")
        return refusal if "MSFT" in names else answer_to(path, page)

    server.fault = fault
    fetched = provider.fetch_bars(REQUEST, M1, AFTER)
    assert set(fetched.failures) == {"MSFT"}
    assert set(fetched.covered) == {"AAPL", "NVDA"}


def test_a_symbol_that_is_refused_half_way_leaves_no_half_of_its_bars(server, provider):
    half_way = Fault("call", page=2, before=lambda: server.unknown.add("MSFT"))
    server.faults.append(half_way)
    fetched = provider.fetch_bars(REQUEST, M1, AFTER)
    assert half_way.times == 0
    assert set(fetched.failures) == {"MSFT"}
    assert set(fetched.bars["symbol"]) == {"AAPL", "NVDA"}
    assert len(fetched.bars) == 12


def test_a_symbol_without_bars_and_without_a_last_trade_is_unknown(server, provider):
    server.forget("MSFT")
    fetched = provider.fetch_bars(REQUEST, M1, AFTER)
    assert set(fetched.failures) == {"MSFT"}
    assert "check the ticker" in fetched.failures["MSFT"]
    assert set(fetched.covered) == {"AAPL", "NVDA"}


def test_a_symbol_without_bars_but_with_a_last_trade_was_not_traded(server, provider):
    server.bars["MSFT", "1Min"] = []
    fetched = provider.fetch_bars(REQUEST, M1, AFTER)
    assert fetched.failures == {}
    assert fetched.covered["MSFT"] == (OPEN, CLOSE)


def test_a_symbol_that_has_vanished_keeps_its_bars_and_is_covered_no_further(server, provider):
    server.latest["trades"].pop("MSFT")
    clock = FixedClock(OPEN + timedelta(days=30))
    for name in ("AAPL", "NVDA"):
        server.add_bars(name, "1Min", bars_from(OPEN + timedelta(days=29), 2))
    fetched = provider.fetch_bars(Request(SYMBOLS, OPEN), M1, clock)
    assert set(fetched.failures) == {"MSFT"}
    assert "delisted" in fetched.failures["MSFT"]
    assert len(starts(fetched, "MSFT")) == 6
    assert fetched.covered["MSFT"] == (OPEN, OPEN + 6 * MINUTE)
    assert fetched.covered["AAPL"][1] > OPEN + timedelta(days=28)


def test_an_answer_of_another_form_is_an_error_and_not_an_empty_one(server, provider):
    server.answer = lambda path, params, start: (200, {"prices": {}, "next_page_token": None})
    with pytest.raises(ProviderUnavailable, match="makes no sense"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    server.answer = lambda path, params, start: (200, {"bars": {"AAPL": [17]}})
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        provider.fetch_bars(REQUEST, M1, AFTER)
    server.answer = lambda path, params, start: (200, {"bars": None, "trades": {}})
    with pytest.raises(ProviderUnavailable, match="makes no sense"):
        provider.fetch_bars(REQUEST, M1, AFTER)
