"""Yahoo's faults: throttled, reset, mute, cut off, out of order, corrected, vanished."""

import os
import subprocess
import sys
from collections import deque
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.market import Symbol
from candlecast.errors import ProviderUnavailable, RateLimited
from candlecast.providers.http import Politeness
from candlecast.providers.yahoo import YahooProvider
from fakes.http_faults import CUT, MUTE, RESET, Reply
from fakes.yahoo_server import YahooServer
from integration.yahoo_rows import (
    AAPL,
    HURRIED,
    MSFT,
    NOW,
    ask,
    at,
    listing,
)


@pytest.fixture
def server():
    with YahooServer(NOW) as server:
        server.listings["AAPL"] = listing()
        yield server


@pytest.fixture
def provider(server):
    return YahooProvider(base_url=server.url, politeness=HURRIED)


@pytest.mark.parametrize(
    ("timeframe", "newest", "following"),
    [("1m", "15:31", "15:32"), ("5m", "15:25", "15:30"), ("1h", "14:30", "15:30")],
)
def test_the_unfinished_bar_is_left_out(server, provider, timeframe, newest, following):
    """At 15:47:23, of what ended by 15:32:23, however far the server's clock is ahead."""
    server.listings["AAPL"] = listing(minutes_from="2024-12-02")
    server.now = (NOW + timedelta(seconds=37)).timestamp()
    server.live_row = (400.0, 401.0, 399.0, 400.5, 77)
    fetched = ask(provider, AAPL, timeframe=timeframe, start="2024-12-02")
    assert fetched.bars["ts"].max() == at(f"2024-12-02T{newest}")
    assert fetched.covered["AAPL"][1] == at(f"2024-12-02T{following}")


def test_a_day_told_apart_from_its_last_trade_is_neither_stored_nor_covered(server, provider):
    late = at("2024-12-02T22:00")
    server.now = late.timestamp()
    server.live_row = (400.0, 401.0, 399.0, 400.5, 77)
    fetched = ask(provider, AAPL, now=late)
    assert fetched.bars["ts"].max() == at("2024-11-29")
    assert fetched.covered["AAPL"][1] == at("2024-12-02")
    server.live_row = None
    fetched = ask(provider, AAPL, now=late)
    assert fetched.bars["ts"].max() == at("2024-12-02")
    assert fetched.covered["AAPL"][1] == late


def test_a_bar_without_price_is_no_trade_unless_it_is_the_newest(server, provider):
    server.listings["AAPL"].daily[100] = (server.listings["AAPL"].daily[100][0], *[None] * 5)
    late = server.listings["AAPL"].daily[-2]
    server.listings["AAPL"].daily[-2] = (late[0], *[None] * 5)
    server.listings["AAPL"].daily[-1] = (server.listings["AAPL"].daily[-1][0], *[None] * 5)
    fetched = ask(provider, AAPL)
    assert len(fetched.bars) == len(server.listings["AAPL"].daily) - 3
    assert fetched.covered["AAPL"][1] == at("2024-11-29")
    server.listings["AAPL"].daily[-2] = late
    healed = ask(provider, AAPL)
    assert healed.bars["ts"].max() == at("2024-11-29")
    assert healed.covered["AAPL"][1] == at("2024-12-02")


@given(data=st.data())
@settings(max_examples=15)
def test_order_and_repetition_of_rows_do_not_matter_and_the_last_one_counts(data):
    with YahooServer(NOW) as server:
        server.listings["AAPL"] = listing(start="2024-11-01")
        provider = YahooProvider(base_url=server.url, politeness=HURRIED)
        plain = ask(provider, AAPL).bars
        n_rows = len(server.listings["AAPL"].daily)
        places = data.draw(st.permutations(range(n_rows)))
        twice = data.draw(st.sets(st.integers(0, n_rows - 2), max_size=5))

        def spoiled(rows):
            first = [(row[0], *(0.5 * price for price in row[1:])) for row in rows]
            return [first[i] for i in twice] + [rows[i] for i in places]

        server.edit = spoiled
        assert ask(provider, AAPL).bars.equals(plain)


def test_a_corrected_bar_is_seen_by_the_next_question(server, provider):
    server.listings["AAPL"] = listing(start="2024-11-01", minutes_from="2024-11-27")
    before = ask(provider, AAPL, timeframe="5m", start="2024-11-27", end="2024-11-28").bars
    row = server.listings["AAPL"].minutely[7]
    server.listings["AAPL"].minutely[7] = (*row[:5], row[5] + 60)
    after = ask(provider, AAPL, timeframe="5m", start="2024-11-27", end="2024-11-28").bars
    changed = (after["volume"] - before["volume"]).to_list()
    assert changed == [0.0, 60.0, *[0.0] * 76]


@pytest.mark.parametrize(
    "fault",
    [RESET, CUT, MUTE, Reply(503), Reply(200, b'{"chart": {"res'), Reply(200, b"[]"),
     Reply.json({"chart": {}}), Reply(429, headers={"Retry-After": "0"})],
    ids=["reset", "cut", "mute", "503", "half", "list", "empty", "429"],
)  # fmt: skip
def test_a_passing_fault_costs_a_try_and_no_bar(server, provider, fault):
    server.faults += [fault] * (2 if getattr(fault, "status", 0) >= 400 else 1)
    assert len(ask(provider, AAPL).bars) == len(server.listings["AAPL"].daily) - 1
    assert not server.faults


@pytest.mark.parametrize("fault", [RESET, CUT, MUTE, Reply(500), Reply(200, b"<html>")])
def test_a_lasting_fault_ends_as_unavailable_after_bounded_tries(server, provider, fault):
    server.faults += [fault] * 99
    with pytest.raises(ProviderUnavailable, match="again later"):
        ask(provider, AAPL, MSFT)
    assert len(server.charts) <= 2 * HURRIED.max_tries


def test_a_server_mute_to_everything_is_given_up_in_bounded_time(server):
    server.faults = deque([MUTE] * 99)
    hasty = Politeness(timeout_seconds=0.2, max_tries=2, first_wait_seconds=0.001)
    with pytest.raises(ProviderUnavailable, match="Timeout"):
        ask(YahooProvider(base_url=server.url, politeness=hasty), AAPL)
    assert len(server.asked) <= 4 * hasty.max_tries


def test_a_page_lost_half_way_leaves_no_hole(server, provider):
    server.listings["AAPL"] = listing(minutes_from="2024-11-04")
    plain = ask(provider, AAPL, timeframe="1m", start="2024-11-04", end="2024-11-30").bars
    lost = []

    def losing(rows):
        if not lost and len(rows) > 1000:  # the question after the first week's
            lost.append(1)
            server.faults.append(CUT)
        return rows

    server.edit = losing
    again = ask(provider, AAPL, timeframe="1m", start="2024-11-04", end="2024-11-30").bars
    assert lost
    assert not len(server.faults)
    assert again.equals(plain)


def test_a_storm_of_429_tells_how_long_to_wait(server, provider):
    server.faults += [Reply(429, b"Too Many Requests", {"Retry-After": "77"})] * 99
    with pytest.raises(RateLimited) as raised:
        ask(provider, AAPL)
    assert raised.value.retry_after_seconds == 77
    server.faults.clear()
    server.faults += [Reply(429, b"Too Many Requests")] * 99
    with pytest.raises(RateLimited) as raised:
        ask(provider, AAPL)
    assert raised.value.retry_after_seconds == 60
    assert len(server.charts) == 4  # the client asks twice, with another cookie


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_told_at_once(server, provider, status):
    server.faults += [Reply(status, b"Forbidden")] * 99
    with pytest.raises(ProviderUnavailable, match=f"HTTP {status}.*another address"):
        ask(provider, AAPL)
    assert len(server.charts) == 2


def test_an_unknown_and_a_vanished_symbol_fail_alone(server, provider):
    server.listings["MSFT"] = listing()
    assert set(ask(provider, AAPL, MSFT).covered) == {"AAPL", "MSFT"}
    del server.listings["MSFT"]
    fetched = ask(provider, MSFT, AAPL, Symbol("BTC", asset_class="crypto"))
    assert fetched.bars["symbol"].unique().to_list() == ["AAPL"]
    assert set(fetched.covered) == {"AAPL"}
    assert "'MSFT'" in fetched.failures["MSFT"]
    assert "delisted" in fetched.failures["MSFT"]
    assert "write base-quote" in fetched.failures["BTC"]


def test_a_wrong_calendar_is_found_out(server, provider):
    server.listings["AAPL"] = listing(minutes_from="2024-11-27")
    wrong = Symbol("AAPL", calendar="XLON", aliases=(("yahoo", "AAPL"),))
    fetched = ask(provider, wrong, timeframe="1h", start="2024-11-27")
    assert "correct the symbol's calendar" in fetched.failures["AAPL"]


def test_an_impossible_bar_is_put_aside_with_the_reason(server, provider):
    def spoiled(rows):
        at, opened, _, low, close, volume = rows[7]
        return [*rows[:7], (at, opened, low / 2, low, close, volume), *rows[8:]]

    plain = ask(provider, AAPL).bars
    server.edit = spoiled
    fetched = ask(provider, AAPL)
    assert fetched.bars.equals(pl.concat([plain[:7], plain[8:]]))
    assert fetched.quarantined.select("symbol", "ts", "source").rows() == [
        ("AAPL", plain["ts"][7], "yahoo")
    ]
    assert "is below low" in fetched.refusals[0].reason


def test_nothing_is_written_to_the_home_of_the_user_and_nothing_printed(server, tmp_path):
    code = f"""
from datetime import UTC, datetime
from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.sources import Request
from candlecast.providers.http import Politeness
from candlecast.providers.yahoo import YahooProvider
clock = FixedClock(datetime.fromtimestamp({NOW.timestamp()}, UTC))
asked = Request((Symbol("AAPL"), Symbol("GONE")))
fetched = YahooProvider(base_url="{server.url}").fetch_bars(asked, Timeframe.parse("1d"), clock)
raise SystemExit(0 if len(fetched.bars) > 100 and set(fetched.failures) == {{"GONE"}} else 3)
"""
    environment = {name: value for name, value in os.environ.items() if "XDG" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []
