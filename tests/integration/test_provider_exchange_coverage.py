"""What exchanges are believed to have told in full: stale, short, cut-off and quiet answers."""

from datetime import timedelta

import pytest

from candlecast.errors import ProviderUnavailable
from candlecast.providers.exchange import BinanceProvider
from fakes.exchange_server import ExchangeServer, Market
from integration.exchange_rows import (
    HURRIED,
    NOW,
    PROVIDERS,
    ask,
    at,
    minutes_of,
    rows_of,
)

START = at("2024-12-01T00:00")
UNTIL = NOW.replace(second=0)


@pytest.fixture
def server():
    with ExchangeServer(NOW) as server:
        market = Market(minutes_of(START, 2500))
        server.markets |= {"BTC-USDT": market, "BTC-USD": market}
        yield server


@pytest.fixture(params=["binance", "coinbase"])
def provider(request, server):
    return PROVIDERS[request.param](base_url=server.url, politeness=HURRIED)


def is_honest(server, fetched):
    """Whether each closed minute of what is covered was told."""
    start, end = fetched.covered["BTC-USD"]
    wanted = [
        row[:6]
        for row in server.markets["BTC-USD"].minutes
        if start.timestamp() <= row[0] < end.timestamp()
    ]
    return [row for row in rows_of(fetched.bars) if row[0] < end.timestamp()] == wanted


def test_a_page_told_again_is_tried_again_and_then_no_answer(server, provider):
    """Else the minutes that the second page should have told were lost for good."""
    first = []
    server.page_edit = lambda rows, asked: first or first.extend(rows) or rows
    with pytest.raises(ProviderUnavailable, match="answered nonsense"):
        ask(provider, start="2024-12-01")
    last = [asked.query for asked in server.pages[-HURRIED.max_tries :]]
    assert last == [last[0]] * HURRIED.max_tries
    assert len(server.pages) < 2 * HURRIED.max_tries


def test_a_page_told_again_once_costs_a_try_and_no_bar(server, provider):
    pages = []

    def edit(rows, asked):
        pages.append(rows)
        return pages[0] if len(pages) == 2 else rows

    server.page_edit = edit
    fetched = ask(provider, start="2024-12-01")
    assert fetched.covered["BTC-USD"] == (START, UNTIL)
    assert is_honest(server, fetched)
    assert len(fetched.bars) == 2387


def test_a_short_page_leaves_no_hole(server, provider):
    pages = []

    def edit(rows, asked):
        pages.append(rows)
        return rows[:10] if len(pages) == 2 else rows

    server.page_edit = edit
    fetched = ask(provider, start="2024-12-01")
    assert fetched.covered["BTC-USD"] == (START, UNTIL)
    assert is_honest(server, fetched)


def test_a_last_minute_that_is_late_is_not_covered(server):
    """The venue tells its newest candles whatever is asked for, and has not begun the last ones."""
    server.edit = lambda rows, asked: rows[:-2]
    server.page_edit = lambda rows, asked: server.candles(server.markets["BTC-USDT"], 60)[:-2]
    provider = BinanceProvider(base_url=server.url, politeness=HURRIED)
    fetched = ask(provider, start="2024-12-02T15:00")
    assert fetched.covered["BTC-USD"] == (at("2024-12-02T15:00"), UNTIL - timedelta(minutes=1))
    assert is_honest(server, fetched)
    assert not fetched.failures


def test_an_answer_of_nothing_at_all_covers_nothing(server, provider):
    server.page_edit = lambda rows, asked: []
    fetched = ask(provider, start="2024-12-01")
    assert fetched.bars.is_empty()
    assert not fetched.covered
    assert "name another provider behind it" in fetched.failures["BTC-USD"]
    assert len(server.pages) < 40


@pytest.mark.parametrize("n_told", [600, 720, 1000])
@pytest.mark.parametrize("start", ["2024-12-01T00:00", "2024-12-02T00:00"])
def test_a_venue_that_tells_only_its_newest_candles_covers_only_those(
    server, provider, n_told, start
):
    """And fails besides, so that the next provider is asked for the older ones."""
    server.edit = lambda rows, asked: rows[-n_told:]
    fetched = ask(provider, start=start)
    first = max(UNTIL - timedelta(minutes=n_told - 1), at(start))
    assert fetched.covered["BTC-USD"] == (first, UNTIL)
    assert is_honest(server, fetched)
    if first > at(start):
        told = f"only from {first:%Y-%m-%d %H:%M} on; name another provider behind it"
        assert told in fetched.failures["BTC-USD"]
    else:
        assert not fetched.failures


def test_a_span_before_the_newest_candles_is_not_covered_and_fails(server, provider):
    server.edit = lambda rows, asked: rows[-600:]
    fetched = ask(provider, start="2024-12-01T02:00", end="2024-12-01T09:00")
    assert fetched.bars.is_empty()
    assert not fetched.covered
    assert "name another provider behind it" in fetched.failures["BTC-USD"]


def test_a_venue_that_is_never_told_since_when_is_cut_too(server):
    """As Gemini: all its newest candles, whatever is asked for."""
    provider = BinanceProvider(base_url=server.url, politeness=HURRIED)
    server.page_edit = lambda rows, asked: server.candles(server.markets["BTC-USDT"], 60)[-600:]
    fetched = ask(provider, start="2024-12-01")
    assert fetched.covered["BTC-USD"] == (UNTIL - timedelta(minutes=599), UNTIL)
    assert "BTC-USD" in fetched.failures
    fetched = ask(provider, start="2024-12-02T12:00")
    assert fetched.covered["BTC-USD"] == (at("2024-12-02T12:00"), UNTIL)
    assert not fetched.failures


@pytest.mark.parametrize("n_quiet", [1, 40, 107])
def test_a_quiet_start_is_covered_where_older_candles_are_told(server, provider, n_quiet):
    rows = [row for row in server.markets["BTC-USD"].minutes if row[0] <= NOW.timestamp()]
    begin = at("2024-12-02T14:00").timestamp()
    quiet = range(int(begin), int(begin) + 60 * n_quiet, 60)
    for market in server.markets.values():
        market.minutes = [row for row in rows if row[0] not in quiet]
    fetched = ask(provider, start="2024-12-02T14:00")
    assert fetched.covered["BTC-USD"] == (at("2024-12-02T14:00"), UNTIL)
    assert len(fetched.bars) == 107 - n_quiet
    assert not fetched.failures


def test_without_a_start_what_is_told_is_all_there_is(server, provider):
    server.edit = lambda rows, asked: rows[-600:] if len(rows) > 600 else rows
    fetched = ask(provider, start=None)
    assert fetched.covered["BTC-USD"] == (UNTIL - timedelta(minutes=599), UNTIL)
    assert not fetched.failures
