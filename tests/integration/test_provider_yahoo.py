"""Yahoo through yfinance's own client, against a local server that speaks Yahoo's chart."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import ACTIONS, QUOTES
from candlecast.domain.market import FixedClock, Symbol, SystemClock, Timeframe, trading_calendar
from candlecast.domain.sources import ActionSource, BarSource, QuoteSource, Request
from candlecast.errors import InvalidSpec
from candlecast.providers.yahoo import YahooProvider
from fakes.yahoo_server import CRUMB, Listing, YahooServer
from integration.yahoo_rows import (
    AAPL,
    HURRIED,
    MSFT,
    NOW,
    PRICES,
    ask,
    at,
    listing,
    rows_of,
    walked,
)


@pytest.fixture
def server():
    with YahooServer(NOW) as server:
        server.listings["AAPL"] = listing()
        yield server


@pytest.fixture
def provider(server):
    return YahooProvider(base_url=server.url, politeness=HURRIED)


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
    server.listings["AAPL"] = listing(start="2024-11-27", minutes_from="2024-11-27")
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


def test_an_alias_is_asked_for_in_place_of_the_ticker(server, provider):
    server.listings["AAPL.MX"] = listing()
    assert len(ask(provider, Symbol("APPLE", aliases=(("yahoo", "AAPL.MX"),))).bars) > 100


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


def test_symbols_must_be_named(provider):
    with pytest.raises(InvalidSpec, match="name the symbols"):
        provider.fetch_bars(Request(), Timeframe.parse("1d"), FixedClock(NOW))


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
