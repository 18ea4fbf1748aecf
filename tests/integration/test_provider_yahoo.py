"""Yahoo through yfinance's own client, against a local server that speaks Yahoo's chart."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import ACTIONS, QUOTES, UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol, SystemClock, Timeframe, trading_calendar
from candlecast.domain.sources import ActionSource, BarSource, QuoteSource, Request
from candlecast.errors import InvalidSpec, ProviderUnavailable, RateLimited
from candlecast.providers.http import Politeness
from candlecast.providers.yahoo import YahooProvider
from fakes.http_faults import CUT, MUTE, RESET, Reply
from fakes.yahoo_server import CRUMB, Listing, YahooServer

NOW = datetime(2024, 12, 2, 15, 47, 23, tzinfo=UTC)  # a Monday at 10:47 in New York
AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")
PRICES = ["open", "high", "low", "close", "volume"]
HURRIED = Politeness(timeout_seconds=1.5, max_tries=3, first_wait_seconds=0.001)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sessions(calendar, start, end):
    """Open and close of the sessions between two dates, in epoch seconds."""
    market = trading_calendar(calendar)
    chosen = (market.sessions >= np.datetime64(start)) & (market.sessions < np.datetime64(end))
    edges = (market.opens[chosen], market.closes[chosen])
    return list(
        zip(*(edge.astype("datetime64[s]").astype(int).tolist() for edge in edges), strict=True)
    )


def walked(times, seed=0):
    """Rows of a random walk at these times, to the cent."""
    generator = np.random.default_rng(seed)
    closes = 400 * np.exp(np.cumsum(generator.normal(0, 0.002, len(times))))
    rows = []
    for time, close in zip(times, closes, strict=True):
        opened = close * (1 + generator.normal(0, 0.001))
        top, bottom = max(opened, close) * 1.001, min(opened, close) * 0.999
        prices = (round(float(price), 2) for price in (opened, top, bottom, close))
        rows.append((time, *prices, int(generator.integers(1, 10_000)) * 60))
    return rows


def listing(calendar="XNYS", start="2024-01-02", minutes_from=None, end="2024-12-03", **options):
    spans = sessions(calendar, start, end)
    fine = sessions(calendar, minutes_from, end) if minutes_from else []
    times = [time for opened, closed in fine for time in range(opened, closed, 60)]
    return Listing(
        daily=walked([opened for opened, _ in spans]),
        minutely=walked(times, 1),
        sessions=fine,
        **options,
    )


@pytest.fixture
def server():
    with YahooServer(NOW) as server:
        server.listings["AAPL"] = listing()
        yield server


@pytest.fixture
def provider(server):
    return YahooProvider(base_url=server.url, politeness=HURRIED)


def ask(provider, *symbols, timeframe="1d", now=NOW, start=None, end=None):
    request = Request(symbols, start and at(start), end and at(end))
    fetched = provider.fetch_bars(request, Timeframe.parse(timeframe), FixedClock(now))
    UNSTAMPED.check(fetched.bars)
    return fetched


def rows_of(bars):
    return [
        (int(ts.timestamp()), *numbers) for ts, *numbers in bars.select("ts", *PRICES).iter_rows()
    ]


def test_it_offers_bars_actions_and_quotes(provider):
    assert isinstance(provider, BarSource)
    assert isinstance(provider, ActionSource)
    assert isinstance(provider, QuoteSource)


def test_daily_bars_stand_at_midnight_of_their_date_with_prices_as_traded(server, provider):
    traded = server.listings["AAPL"].daily
    server.listings["AAPL"].splits = [(traded[50][0], 4, 1), (traded[150][0], 1, 10)]
    fetched = ask(provider, AAPL)
    closed = traded[:-1]  # the session of the clock is still open
    assert [row[1:] for row in rows_of(fetched.bars)] == [row[1:] for row in closed]
    dates = [datetime.fromtimestamp(row[0], UTC).replace(hour=0, minute=0) for row in closed]
    assert fetched.bars["ts"].to_list() == dates
    assert fetched.bars["adj_close"].null_count() == len(closed)
    assert fetched.bars["source"].unique().to_list() == ["yahoo"]
    assert fetched.covered == {"AAPL": (dates[0], at("2024-12-02"))}


def test_a_later_split_changes_no_bar_that_was_told_before(server, provider):
    before = ask(provider, AAPL, end="2024-06-01").bars
    server.listings["AAPL"].splits = [(server.listings["AAPL"].daily[120][0], 3, 2)]
    prices = ["ts", "open", "high", "low", "close"]
    assert ask(provider, AAPL, end="2024-06-01").bars.select(prices).equals(before.select(prices))


@pytest.mark.parametrize(
    ("calendar", "zone", "name"),
    [("BVMF", "America/Sao_Paulo", "PETR4.SA"), ("XASX", "Australia/Sydney", "PETR4.AX")],
)
def test_the_date_is_that_of_the_exchange(server, provider, calendar, zone, name):
    server.listings[name] = listing(calendar, zone=zone)
    bars = ask(provider, Symbol("PETR4", calendar=calendar), end="2024-11-01").bars
    dates = trading_calendar(calendar).sessions
    wanted = dates[(dates >= np.datetime64("2024-01-02")) & (dates < np.datetime64("2024-11-01"))]
    assert bars["ts"].dt.date().to_list() == wanted.tolist()


@pytest.mark.parametrize("timeframe", ["1m", "5m", "10m", "15m", "30m", "1h", "4h"])
def test_each_timeframe_is_what_its_minutes_make_on_a_half_day_too(server, provider, timeframe):
    full = server.listings["AAPL"] = listing(start="2024-11-01", minutes_from="2024-11-27")
    split = full.sessions[-1][0]
    full.splits = [(split, 4, 1)]
    fetched = ask(provider, AAPL, timeframe=timeframe, start="2024-11-27", end="2024-12-02")
    minutes = Timeframe.parse(timeframe).minutes
    wanted = {}
    for row in full.minutely:
        if row[0] < split:
            opened = max(start for start, _ in full.sessions if start <= row[0])
            wanted.setdefault(
                opened + (row[0] - opened) // 60 // minutes * minutes * 60, []
            ).append(row)
    assert rows_of(fetched.bars) == [
        (
            start,
            rows[0][1],
            max(row[2] for row in rows),
            min(row[3] for row in rows),
            rows[-1][4],
            sum(row[5] for row in rows),
        )
        for start, rows in wanted.items()
    ]
    assert fetched.covered["AAPL"] == (at("2024-11-27"), at("2024-12-02"))


def test_a_month_of_minutes_is_asked_for_in_weeks_without_a_hole(server, provider):
    server.listings["AAPL"] = listing(minutes_from="2024-11-04")
    fetched = ask(provider, AAPL, timeframe="1m", start="2024-11-04", end="2024-11-30")
    assert rows_of(fetched.bars) == server.listings["AAPL"].minutely[: len(fetched.bars)]
    assert len(fetched.bars) == 18 * 390 + 210
    spans = [
        (int(asked.query["period1"]), int(asked.query["period2"]))
        for asked in server.charts
        if asked.query["interval"] == "1m"
    ]
    assert len(spans) == 4
    assert all(end == start for (_, end), (start, _) in pairwise(spans))


def test_of_a_span_beyond_the_limit_the_rest_is_told_and_covered(server, provider):
    server.listings["AAPL"] = listing(minutes_from="2024-11-27")
    fetched = ask(provider, AAPL, timeframe="1m", start="2020-01-01")
    first, _ = fetched.covered["AAPL"]
    assert NOW - timedelta(days=30) < first < NOW - timedelta(days=29)
    assert len(fetched.bars) == 390 + 210 + 62
    assert "1m bars for 30 days" in fetched.failures["AAPL"]
    assert not ask(provider, AAPL, timeframe="1m").failures


def test_a_span_wholly_beyond_the_limit_fails_with_the_remedy(provider):
    fetched = ask(provider, AAPL, timeframe="1m", start="2020-01-01", end="2020-02-01")
    assert "1m bars for 30 days" in fetched.failures["AAPL"]
    assert "1d bars, or another provider" in fetched.failures["AAPL"]
    assert fetched.bars.is_empty()
    assert not fetched.covered


@pytest.mark.parametrize(
    ("timeframe", "newest"), [("1m", "15:31"), ("5m", "15:25"), ("1h", "14:30")]
)
def test_the_unfinished_bar_is_left_out(server, provider, timeframe, newest):
    """At 15:47:23, of what ended by 15:32:23, however far the server's clock is ahead."""
    server.listings["AAPL"] = listing(minutes_from="2024-12-02")
    server.now = (NOW + timedelta(seconds=37)).timestamp()
    server.live_row = (400.0, 401.0, 399.0, 400.5, 77)
    fetched = ask(provider, AAPL, timeframe=timeframe, start="2024-12-02")
    assert fetched.bars["ts"].max() == at(f"2024-12-02T{newest}")
    assert fetched.covered["AAPL"][1] == at(f"2024-12-02T{_following(timeframe)}")


def _following(timeframe):
    return {"1m": "15:32", "5m": "15:30", "1h": "15:30"}[timeframe]


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


def test_an_alias_is_asked_for_in_place_of_the_ticker(server, provider):
    server.listings["AAPL.MX"] = listing()
    assert len(ask(provider, Symbol("APPLE", aliases=(("yahoo", "AAPL.MX"),))).bars) > 100


def test_a_wrong_calendar_is_found_out(server, provider):
    server.listings["AAPL"] = listing(minutes_from="2024-11-27")
    wrong = Symbol("AAPL", calendar="XLON", aliases=(("yahoo", "AAPL"),))
    fetched = ask(provider, wrong, timeframe="1h", start="2024-11-27")
    assert "correct the symbol's calendar" in fetched.failures["AAPL"]


def test_crypto_volume_is_told_in_units_of_the_coin(server, provider):
    days = [int(at("2024-11-01").timestamp()) + 86_400 * i for i in range(40)]
    server.listings["BTC-USD"] = Listing(daily=walked(days), zone="UTC", kind="CRYPTOCURRENCY")
    coin = Symbol("BTC-USD", asset_class="crypto", calendar="24/7")
    bars = ask(provider, coin).bars
    assert bars["ts"].max() == at("2024-12-01")
    money = [row[5] for row in server.listings["BTC-USD"].daily][: len(bars)]
    np.testing.assert_allclose(bars["volume"] * bars["close"], money, rtol=1e-6)


def test_actions_are_told_in_the_shares_of_their_day(server, provider):
    days = [row[0] for row in server.listings["AAPL"].daily]
    server.listings["AAPL"].splits = [(days[50], 4, 1), (days[150], 1, 10)]
    server.listings["AAPL"].dividends = [(days[20], 0.82), (days[100], 0.24), (days[200], 0.25)]
    told = provider.fetch_actions(Request((AAPL, MSFT)), FixedClock(NOW))
    ACTIONS.check(told.rows)
    assert set(told.failures) == {"MSFT"}
    assert told.rows.select("kind", "value").rows() == [
        ("dividend", 0.82), ("split", 4.0), ("dividend", 0.24), ("split", 0.1), ("dividend", 0.25)
    ]  # fmt: skip
    opens = [datetime.fromtimestamp(days[i], UTC) for i in (20, 50, 100, 150, 200)]
    assert told.rows["known_at"].to_list() == opens
    assert told.rows["ex_date"].to_list() == [o.replace(hour=0, minute=0) for o in opens]
    some = Request((AAPL,), opens[1].replace(hour=0, minute=0), opens[3].replace(hour=0, minute=0))
    assert provider.fetch_actions(some, FixedClock(NOW)).rows.equals(told.rows[1:3])


def test_the_last_price_comes_with_its_time(server, provider):
    server.live_row = (400.0, 401.0, 399.0, 400.5, 77)
    told = provider.fetch_quotes(Request((AAPL, MSFT)), FixedClock(NOW))
    QUOTES.check(told.rows)
    assert told.rows.select("symbol", "price", "trade_at", "bid", "source", "known_at").rows() == [
        ("AAPL", 400.5, NOW, None, "yahoo", NOW)
    ]
    assert set(told.failures) == {"MSFT"}


def test_the_client_brings_cookie_and_crumb(server, provider):
    ask(provider, AAPL)
    assert server.charts[0].query["crumb"] == CRUMB
    assert "A3=d=AQ" in server.charts[0].headers["cookie"]


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


def test_symbols_must_be_named(provider):
    with pytest.raises(InvalidSpec, match="name the symbols"):
        provider.fetch_bars(Request(), Timeframe.parse("1d"), FixedClock(NOW))


def test_nothing_is_written_to_the_home_of_the_user_and_nothing_printed(server, tmp_path):
    code = f"""
from datetime import UTC, datetime
from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.sources import Request
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pandas, of what yfinance does
@pytest.mark.parametrize("interval", ["1d", "5m", "1h"])
def test_the_bars_are_those_of_the_librarys_own_history(
    server, provider, monkeypatch, tmp_path, interval
):
    import yfinance
    from yfinance import cache
    from yfinance.scrapers import history

    server.listings["AAPL"] = listing(start="2024-11-01", minutes_from="2024-11-27")
    for module in (history, yfinance.base):
        monkeypatch.setattr(module, "_BASE_URL_", server.url)
    monkeypatch.setattr(yfinance.data.YfData, "_get_cookie_and_crumb", lambda *_: (None, "basic"))
    monkeypatch.setattr(cache._TzDBManager, "_cache_dir", str(tmp_path))
    told = yfinance.Ticker("AAPL").history(
        start="2024-11-27", end="2024-11-30", interval=interval, auto_adjust=False, actions=False
    )
    bars = ask(provider, AAPL, timeframe=interval, start="2024-11-27", end="2024-11-30").bars
    assert len(bars) == len(told) > 1
    ours = bars.select(PRICES).to_numpy()
    theirs = told[["Open", "High", "Low", "Close", "Volume"]].to_numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-7)
    if interval != "1d":
        assert bars["ts"].to_list() == [ts.to_pydatetime().astimezone(UTC) for ts in told.index]


@pytest.mark.live
def test_live_yahoo_tells_a_split_as_it_was_traded():
    provider = YahooProvider()
    request = Request((AAPL,), at("2020-08-27"), at("2020-09-02"))
    bars = provider.fetch_bars(request, Timeframe.parse("1d"), SystemClock()).bars
    closes = dict(bars.select(pl.col("ts").dt.date().cast(pl.String), "close").iter_rows())
    assert closes["2020-08-28"] == pytest.approx(499.23, abs=0.01)
    assert closes["2020-08-31"] == pytest.approx(129.04, abs=0.01)
    actions = provider.fetch_actions(request, SystemClock()).rows
    assert ("split", 4.0) in actions.select("kind", "value").rows()
