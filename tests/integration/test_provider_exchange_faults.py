"""Faults of exchanges: throttled, reset, mute, cut off, out of order, corrected, vanished."""

from collections import deque
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.market import Symbol, SystemClock
from candlecast.errors import (
    BadCredentials,
    NotFound,
    ProviderUnavailable,
    RateLimited,
)
from candlecast.providers.exchange import BinanceProvider, CoinbaseProvider, ExchangeProvider
from candlecast.providers.http import Politeness
from fakes.exchange_server import ExchangeServer, Market
from fakes.http_faults import CUT, MUTE, RESET, Reply
from integration.exchange_rows import (
    BTC,
    ETH,
    HURRIED,
    NOW,
    PAIRS,
    PROVIDERS,
    ask,
    at,
    minutes_of,
    rows_of,
)


@pytest.fixture
def server():
    with ExchangeServer(NOW) as server:
        market = Market(minutes_of(at("2024-12-01T00:00"), 2500))
        server.markets |= {"BTC-USDT": market, "BTC-USD": market}
        yield server


@pytest.fixture(params=["binance", "coinbase"])
def venue(request):
    return request.param


@pytest.fixture
def provider(server, venue):
    return PROVIDERS[venue](base_url=server.url, politeness=HURRIED)


@given(quiet=st.lists(st.tuples(st.integers(0, 2300), st.integers(1, 900)), max_size=3))
@settings(max_examples=4)
@pytest.mark.parametrize("name", ["binance", "coinbase"])
def test_pages_leave_no_hole_and_quiet_spans_end(name, quiet):
    silent = {i for start, length in quiet for i in range(start, start + length)} - {2400}
    with ExchangeServer(NOW) as server:
        rows = minutes_of(at("2024-12-01T00:00"), 2500, quiet=silent)
        server.markets[PAIRS[name]] = Market(rows)
        provider = PROVIDERS[name](base_url=server.url, politeness=HURRIED)
        fetched = ask(provider, start="2024-12-01")
        closed = [row for row in rows if row[0] + 60 <= NOW.timestamp() - 2]
        assert rows_of(fetched.bars) == [row[:6] for row in closed]
        assert len(server.pages) < 20
        first = min([i for i in range(2500) if i not in silent])
        is_proven = first == 0
        assert bool(fetched.failures) is not is_proven
        begin = at("2024-12-01T00:00") + timedelta(minutes=first)
        assert fetched.covered["BTC-USD"] == (begin, NOW.replace(second=0))


def test_a_bar_is_closed_only_when_the_venues_clock_says_so_too(server, provider):
    """Our clock runs ten minutes ahead; the server dates its answers by the true time."""
    true = SystemClock().now()
    start = true.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    minutes = minutes_of(start, 2 * 1440 + 60)
    server.now = int(true.timestamp())
    for market in server.markets.values():
        market.minutes = minutes
    ahead = true + timedelta(minutes=10)
    fetched = ask(provider, now=ahead, start=f"{start:%Y-%m-%d}")
    newest = fetched.bars["ts"].max()
    assert true - timedelta(minutes=3) < newest <= SystemClock().now() - timedelta(minutes=1)
    assert fetched.covered["BTC-USD"][1] == newest + timedelta(minutes=1)
    assert rows_of(fetched.bars) == [row[:6] for row in minutes[: len(fetched.bars)]]


@given(seed=st.integers(0, 1000))
@settings(max_examples=3)
def test_order_and_repetition_of_candles_do_not_matter(seed):
    with ExchangeServer(NOW) as server:
        server.markets["BTC-USD"] = Market(minutes_of(at("2024-12-02T12:00"), 240))
        provider = CoinbaseProvider(base_url=server.url, politeness=HURRIED)
        plain = ask(provider, start="2024-12-02T12:00").bars

        def shuffled(rows, asked):
            places = np.random.default_rng(seed).permutation(len(rows) + len(rows) // 4)
            return [rows[i % len(rows)] for i in places]

        server.page_edit = shuffled
        assert ask(provider, start="2024-12-02T12:00").bars.equals(plain)


def test_a_corrected_candle_is_seen_by_the_next_question(server, provider):
    before = ask(provider).bars
    row = server.markets["BTC-USD"].minutes[1807]
    server.markets["BTC-USD"].minutes[1807] = (*row[:5], row[5] + 1, *row[6:])
    after = ask(provider).bars
    changed = (after["volume"] - before["volume"]).to_list()
    assert changed == [*[0.0] * 7, 1.0, *[0.0] * (len(after) - 8)]


@pytest.mark.parametrize(
    "fault",
    [RESET, CUT, MUTE, Reply(503), Reply.json([[1, 2]]), Reply(200, b'{"candles": [{"st'),
     Reply(429, headers={"Retry-After": "0"}), Reply(200, b'[[17330')],
    ids=["reset", "cut", "mute", "503", "short", "half", "429", "half list"],
)  # fmt: skip
def test_a_passing_fault_costs_a_try_and_no_bar(server, provider, fault):
    plain = ask(provider).bars
    n_pages = len(server.pages)
    server.faults += [fault]
    assert ask(provider).bars.equals(plain)
    assert len(server.pages) == 2 * n_pages + 1


def test_a_candle_without_prices_is_no_trade(server):
    provider = BinanceProvider(base_url=server.url, politeness=HURRIED)
    plain = ask(provider).bars
    at_ms = int(plain["ts"][0].timestamp() * 1000)
    server.faults += [Reply.json([[at_ms, *[None] * 5, at_ms + 59_999, "0", 0, "0", "0", "0"]])]
    assert ask(provider).bars.equals(plain[1:])


def test_a_page_lost_half_way_leaves_no_hole(server, provider):
    plain = ask(provider, start="2024-12-01").bars
    lost = []

    def losing(rows, asked):
        if not lost:  # the question after this one
            lost.append(asked)
            server.faults.append(CUT)
        return rows

    server.page_edit = losing
    assert ask(provider, start="2024-12-01").bars.equals(plain)
    assert not len(server.faults)


@pytest.mark.parametrize("fault", [RESET, CUT, MUTE, Reply(500), Reply(200, b"<html>")])
def test_a_lasting_fault_ends_as_unavailable_after_bounded_tries(server, provider, fault):
    server.faults += [fault] * 99
    with pytest.raises(ProviderUnavailable, match="try again later"):
        ask(provider, BTC, ETH)
    assert len(server.pages) == HURRIED.max_tries


def test_a_server_mute_to_everything_is_given_up_in_bounded_time(server, venue):
    server.faults = deque([MUTE] * 99)
    hasty = Politeness(timeout_seconds=0.2, max_tries=2, first_wait_seconds=0.001)
    with pytest.raises(ProviderUnavailable, match="RequestTimeout"):
        ask(PROVIDERS[venue](base_url=server.url, politeness=hasty))
    assert len(server.asked) == hasty.max_tries


def test_a_storm_of_429_tells_how_long_to_wait(server, provider):
    server.faults += [Reply(429, b"{}", {"Retry-After": "77"})] * 99
    with pytest.raises(RateLimited) as raised:
        ask(provider)
    assert raised.value.retry_after_seconds == 77
    assert len(server.pages) == 1


def test_a_ban_of_binance_counts_as_throttled(server):
    server.faults += [Reply.json({"code": -1003, "msg": "Way too many requests"}, 418)] * 99
    with pytest.raises(RateLimited) as raised:
        ask(BinanceProvider(base_url=server.url, politeness=HURRIED))
    assert raised.value.retry_after_seconds == 60


def test_a_forbidden_country_and_a_missing_key_are_told_at_once(server, provider):
    server.faults += [Reply(451, b"restricted location")] * 9
    with pytest.raises(ProviderUnavailable, match="not offered to this country"):
        ask(provider)
    assert len(server.pages) == 1
    server.faults.clear()
    server.faults += [Reply(401, b"Unauthorized")] * 9
    with pytest.raises(BadCredentials, match="asks for a key"):
        ask(provider)
    assert len(server.pages) == 2


def test_a_question_that_is_refused_fails_alone(server):
    provider = BinanceProvider(base_url=server.url, politeness=HURRIED)
    server.markets["ETH-USDT"] = server.markets["BTC-USDT"]
    server.faults += [Reply.json({"code": -1100, "msg": "Illegal characters."}, 400)]
    fetched = ask(provider, BTC, ETH)
    assert "the question was refused" in fetched.failures["BTC-USD"]
    assert set(fetched.covered) == {"ETH-USD"}


def test_an_unknown_symbol_fails_alone_and_names_the_close_ones(server, provider, venue):
    fetched = ask(provider, ETH, BTC, Symbol("AAPL"))
    assert fetched.bars["symbol"].unique().to_list() == ["BTC-USD"]
    assert set(fetched.covered) == {"BTC-USD"}
    assert f"unknown market of {venue}" in fetched.failures["ETH-USD"]
    assert "BTC/USD" in fetched.failures["ETH-USD"]
    assert f"{venue} has no name" in fetched.failures["AAPL"]


def test_a_symbol_that_vanishes_between_two_questions_fails_alone(server, provider, venue):
    ask(provider)
    minutes = minutes_of(at("2024-12-02T06:00"), 100)
    server.markets = {key.replace("BTC", "ETH"): Market(minutes) for key in server.markets}
    other = PROVIDERS[venue](base_url=server.url, politeness=HURRIED)
    assert set(ask(other, BTC, ETH).failures) == {"BTC-USD"}
    fetched = ask(provider)
    assert "not traded there" in fetched.failures["BTC-USD"]
    assert not fetched.covered


def test_a_market_no_longer_traded_is_told_to_its_last_bar(server, provider):
    for market in server.markets.values():
        market.is_traded, market.minutes = False, market.minutes[:500]
    fetched = ask(provider, start="2024-12-01")
    assert len(fetched.bars) == 500
    assert "any more (its bars until 2024-12-01 are kept)" in fetched.failures["BTC-USD"]
    assert fetched.covered["BTC-USD"] == (at("2024-12-01"), at("2024-12-01T08:20"))


def test_an_impossible_candle_is_put_aside_with_the_reason(server, provider):
    plain = ask(provider).bars
    row = server.markets["BTC-USD"].minutes[1807]
    server.markets["BTC-USD"].minutes[1807] = (*row[:2], row[3] / 2, *row[3:])
    fetched = ask(provider)
    assert len(fetched.bars) == len(plain) - 1
    assert fetched.quarantined["ts"].to_list() == [plain["ts"][7]]
    assert "is below low" in fetched.refusals[0].reason


def test_a_calendar_with_an_end_is_refused(provider):
    wrong = Symbol("BTC-USD", asset_class="crypto", calendar="XNYS")
    assert "correct the symbol's calendar" in ask(provider, wrong).failures["BTC-USD"]


def test_an_unknown_venue_names_the_close_ones():
    with pytest.raises(NotFound, match="did you mean binance"):
        ask(ExchangeProvider(venue="binanse"))
