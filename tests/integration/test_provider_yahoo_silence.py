"""Yahoo's silence and its clock: what counts as not traded, and what as not answered."""

from datetime import timedelta

import pytest

from candlecast.domain.market import Symbol
from candlecast.providers.yahoo import YahooProvider
from candlecast.providers.yahoo_settled import SILENT_SESSIONS
from fakes.yahoo_server import YahooServer
from integration.yahoo_rows import AAPL, HURRIED, MSFT, NOW, ask, at, listing


@pytest.fixture
def server():
    with YahooServer(NOW) as server:
        server.listings["AAPL"] = listing()
        yield server


@pytest.fixture
def provider(server):
    return YahooProvider(base_url=server.url, politeness=HURRIED)


def listed_until(day, **options):
    """A listing whose rows of all kinds end before `day`."""
    made, end = listing(**options), at(day).timestamp()
    made.daily = [row for row in made.daily if row[0] < end]
    made.minutely = [row for row in made.minutely if row[0] < end]
    return made


@pytest.mark.parametrize(
    ("timeframe", "ahead", "newest", "following"),
    [
        ("1d", timedelta(hours=7), "2024-11-29", "2024-12-02"),
        ("1d", timedelta(days=3), "2024-11-29", "2024-12-02"),
        ("1m", timedelta(minutes=40), "2024-12-02T15:31", "2024-12-02T15:32"),
        ("5m", timedelta(minutes=40), "2024-12-02T15:25", "2024-12-02T15:30"),
        ("10m", timedelta(minutes=40), "2024-12-02T15:20", "2024-12-02T15:30"),
        ("1h", timedelta(minutes=70), "2024-12-02T14:30", "2024-12-02T15:30"),
        ("4h", timedelta(hours=5), "2024-11-29T14:30", "2024-12-02T14:30"),
    ],
)
def test_a_clock_of_ours_that_is_ahead_lets_no_unfinished_bar_in(
    server, provider, timeframe, ahead, newest, following
):
    server.listings["AAPL"] = listing(start="2024-11-27", minutes_from="2024-11-27")
    right = ask(provider, AAPL, timeframe=timeframe, start="2024-11-27")
    wrong = ask(provider, AAPL, timeframe=timeframe, start="2024-11-27", now=NOW + ahead)
    assert wrong.bars["ts"].max() == at(newest)
    assert wrong.covered["AAPL"] == (at("2024-11-27"), at(following))
    assert wrong.bars.equals(right.bars)
    assert wrong.covered == right.covered


def test_a_symbol_that_has_fallen_silent_is_covered_to_its_last_row_and_fails(server, provider):
    server.listings["AAPL"] = listed_until("2024-06-01")
    server.listings["MSFT"] = listing()
    fetched = ask(provider, AAPL, MSFT, start="2024-01-02")
    assert set(fetched.failures) == {"AAPL"}
    assert "no bars of AAPL since 2024-05-31; delisted or renamed?" in fetched.failures["AAPL"]
    assert fetched.covered == {
        "AAPL": (at("2024-01-02"), at("2024-06-01")),
        "MSFT": (at("2024-01-02"), at("2024-12-02")),
    }
    # A span that ended before it fell silent is answered as ever.
    assert not ask(provider, AAPL, start="2024-01-02", end="2024-05-01").failures


@pytest.mark.parametrize("timeframe", ["1d", "1h", "10m"])
def test_silence_is_found_out_in_however_short_spans_it_is_asked_for(server, provider, timeframe):
    server.listings["AAPL"] = listed_until("2024-11-16", minutes_from="2024-11-11")
    for start in ("2024-11-18", "2024-11-25", "2024-11-29"):
        fetched = ask(provider, AAPL, timeframe=timeframe, start=start)
        assert "since 2024-11-15" in fetched.failures["AAPL"]
        assert fetched.covered == {}
        assert fetched.bars.is_empty()


def test_minutes_of_a_symbol_that_has_fallen_silent_are_covered_to_its_last_close(server, provider):
    server.listings["AAPL"] = listed_until("2024-11-16", minutes_from="2024-11-11")
    fetched = ask(provider, AAPL, timeframe="5m", start="2024-11-11")
    assert fetched.covered["AAPL"] == (at("2024-11-11"), at("2024-11-15T21:00"))
    assert len(fetched.bars) == 5 * 78
    assert "delisted or renamed?" in fetched.failures["AAPL"]


@pytest.mark.parametrize("n_silent", [SILENT_SESSIONS, SILENT_SESSIONS + 1])
def test_a_few_sessions_without_trade_are_believed(server, provider, n_silent):
    # Of the last sessions that have ended, one more than is believed makes it a failure.
    listed = server.listings["AAPL"]
    listed.daily = listed.daily[: -1 - n_silent]
    fetched = ask(provider, AAPL)
    is_believed = n_silent == SILENT_SESSIONS
    assert ("AAPL" in fetched.failures) != is_believed
    assert (fetched.covered["AAPL"][1] == at("2024-12-02")) == is_believed


def test_a_long_halt_that_has_ended_is_believed(server, provider):
    listed = server.listings["AAPL"]
    del listed.daily[100:130]
    fetched = ask(provider, AAPL, start="2024-01-02")
    assert fetched.failures == {}
    assert fetched.covered["AAPL"] == (at("2024-01-02"), at("2024-12-02"))


def test_a_week_without_minutes_is_not_answered_while_its_days_have_volume(server, provider):
    server.listings["AAPL"] = listing(minutes_from="2024-11-04")
    lost = [at(day).timestamp() for day in ("2024-11-11", "2024-11-16")]

    def without_a_week(rows):
        is_daily = len(rows) < 60
        return rows if is_daily else [row for row in rows if not lost[0] < row[0] < lost[1]]

    server.edit = without_a_week
    span = {"start": "2024-11-04", "end": "2024-11-30"}
    fetched = ask(provider, AAPL, timeframe="1m", **span)
    assert fetched.covered["AAPL"] == (at("2024-11-04"), at("2024-11-11T14:30"))
    assert "no 1m bars of AAPL on 2024-11-11" in fetched.failures["AAPL"]
    assert len(fetched.bars) == 13 * 390 + 210
    coarse = ask(provider, AAPL, timeframe="10m", **span)
    assert coarse.covered == fetched.covered
    server.edit = lambda rows: rows
    assert ask(provider, AAPL, timeframe="1m", **span).failures == {}


@pytest.mark.parametrize("volume", [0, 1000])
def test_a_session_without_minutes_is_one_without_trade_where_its_day_says_so(
    server, provider, volume
):
    listed = server.listings["AAPL"] = listing(minutes_from="2024-11-18")
    quiet = at("2024-11-20").timestamp()
    listed.daily = [
        (*row[:5], volume) if quiet < row[0] < quiet + 86_400 else row for row in listed.daily
    ]
    listed.minutely = [row for row in listed.minutely if not quiet < row[0] < quiet + 86_400]
    fetched = ask(provider, AAPL, timeframe="5m", start="2024-11-18", end="2024-11-23")
    end = at("2024-11-23") if volume == 0 else at("2024-11-20T14:30")
    assert fetched.covered["AAPL"] == (at("2024-11-18"), end)
    assert set(fetched.failures) == (set() if volume == 0 else {"AAPL"})


def test_the_day_of_a_session_is_that_of_its_exchange(server, provider):
    # Sydney opens at 23:00 UTC of the day before: all its minutes belong to their own days.
    server.listings["BHP.AX"] = listing(
        "XASX", zone="Australia/Sydney", start="2024-11-01", minutes_from="2024-11-18"
    )
    symbol = Symbol("BHP", calendar="XASX")
    fetched = ask(provider, symbol, timeframe="5m", start="2024-11-17", end="2024-11-23")
    assert fetched.failures == {}
    assert fetched.covered["BHP"] == (at("2024-11-17"), at("2024-11-23"))
