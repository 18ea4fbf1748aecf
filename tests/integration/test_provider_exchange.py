"""Crypto exchanges through ccxt, against a local server that speaks as Binance and Coinbase do."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import QUOTES, UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol, SystemClock, Timeframe
from candlecast.domain.sources import BarSource, QuoteSource, Request
from candlecast.errors import (
    BadCredentials,
    InvalidSpec,
    NotFound,
    ProviderUnavailable,
    RateLimited,
)
from candlecast.providers.exchange import BinanceProvider, CoinbaseProvider, ExchangeProvider
from candlecast.providers.http import Politeness
from fakes.exchange_server import ExchangeServer, Market
from fakes.http_faults import CUT, MUTE, RESET, Reply

NOW = datetime(2024, 12, 2, 15, 47, 23, tzinfo=UTC)
BTC = Symbol("BTC-USD", asset_class="crypto", calendar="24/7")
ETH = Symbol("ETH-USD", asset_class="crypto", calendar="24/7")
HURRIED = Politeness(timeout_seconds=1.5, max_tries=3, first_wait_seconds=0.001)
PAIRS = {"binance": "BTC-USDT", "coinbase": "BTC-USD"}
PROVIDERS = {"binance": BinanceProvider, "coinbase": CoinbaseProvider}
COLUMNS = ["open", "high", "low", "close", "volume"]


def minutes_of(start, n_minutes, *, seed=0, quiet=()):
    """Minutes of a random walk, to eight places, less the quiet ones."""
    generator = np.random.default_rng(seed)
    first = int(start.timestamp())
    closes = 40_000 * np.exp(np.cumsum(generator.normal(0, 0.001, n_minutes)))
    rows = []
    for i, close in enumerate(closes.tolist()):
        opened = close * (1 + generator.normal(0, 0.0005))
        top, bottom = max(opened, close) * 1.0005, min(opened, close) * 0.9995
        volume = generator.integers(1, 64) / 8
        numbers = (round(price, 2) for price in (opened, top, bottom, close))
        rows.append((first + 60 * i, *numbers, volume, round(volume * close, 4), int(8 * volume)))
    return [row for i, row in enumerate(rows) if i not in quiet]


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


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ask(provider, *symbols, timeframe="1m", now=NOW, start="2024-12-01", end=None):
    request = Request(symbols or (BTC,), start and at(start), end and at(end))
    fetched = provider.fetch_bars(request, Timeframe.parse(timeframe), FixedClock(now))
    UNSTAMPED.check(fetched.bars)
    return fetched


def rows_of(bars):
    return [(int(ts.timestamp()), *v) for ts, *v in bars.select("ts", *COLUMNS).iter_rows()]


def test_it_offers_bars_and_quotes(provider):
    assert isinstance(provider, BarSource)
    assert isinstance(provider, QuoteSource)


@pytest.mark.parametrize("timeframe", ["1m", "5m", "10m", "15m", "30m", "1h", "4h", "1d"])
def test_each_timeframe_is_what_its_closed_minutes_make(server, provider, venue, timeframe):
    """Also those that the venue lacks; volume is in coins; the unfinished bar is left out."""
    fetched = ask(provider, timeframe=timeframe)
    seconds = Timeframe.parse(timeframe).minutes * 60
    closed = NOW.timestamp() - provider.delay_seconds
    wanted = [
        row
        for row in server.candles(server.markets["BTC-USD"], seconds)
        if row[0] + seconds <= closed
    ]
    np.testing.assert_allclose(rows_of(fetched.bars), [row[:6] for row in wanted], rtol=1e-12)
    assert fetched.bars["source"].unique().to_list() == [venue]
    assert not fetched.failures
    newest = fetched.bars["ts"].max()
    assert fetched.covered == {"BTC-USD": (at("2024-12-01"), newest + timedelta(seconds=seconds))}


def test_binance_tells_how_many_trades_and_at_what_average_price(server):
    bars = ask(BinanceProvider(base_url=server.url, politeness=HURRIED), timeframe="5m").bars
    wanted = server.candles(server.markets["BTC-USDT"], 300)[: len(bars)]
    assert bars["trade_count"].to_list() == [row[7] for row in wanted]
    np.testing.assert_allclose(bars["vwap"], [row[6] / row[5] for row in wanted], rtol=1e-9)
    bars = ask(CoinbaseProvider(base_url=server.url, politeness=HURRIED), timeframe="5m").bars
    assert bars["vwap"].null_count() == bars["trade_count"].null_count() == len(bars)


@given(quiet=st.lists(st.tuples(st.integers(0, 2300), st.integers(1, 900)), max_size=3))
@settings(max_examples=4)
@pytest.mark.parametrize("name", ["binance", "coinbase"])
def test_pages_leave_no_hole_and_quiet_spans_end(name, quiet):
    silent = {i for start, length in quiet for i in range(start, start + length)} - {2400}
    with ExchangeServer(NOW) as server:
        rows = minutes_of(at("2024-12-01T00:00"), 2500, quiet=silent)
        server.markets[PAIRS[name]] = Market(rows)
        fetched = ask(PROVIDERS[name](base_url=server.url, politeness=HURRIED))
        closed = [row for row in rows if row[0] + 60 <= NOW.timestamp() - 2]
        assert rows_of(fetched.bars) == [row[:6] for row in closed]
        assert len(server.pages) < 20
        assert not fetched.failures


def test_a_venue_that_repeats_its_page_or_says_nothing_is_not_asked_for_ever(server, provider):
    first = []
    server.page_edit = lambda rows, asked: first or first.extend(rows) or rows
    fetched = ask(provider)
    assert 0 < len(fetched.bars) < 2390
    server.page_edit = lambda rows, asked: []
    assert ask(provider).bars.is_empty()
    assert len(server.pages) < 40


def test_a_venue_that_tells_only_its_newest_candles_covers_only_those(server):
    provider = BinanceProvider(base_url=server.url, politeness=HURRIED)
    server.edit = lambda rows, asked: rows[-1000:]
    fetched = ask(provider)
    first = fetched.bars["ts"].min()
    assert first == NOW.replace(second=0) - timedelta(minutes=999)
    assert fetched.covered["BTC-USD"] == (first, NOW.replace(second=0))


def test_without_a_start_all_there_is_is_told(server, provider):
    fetched = ask(provider, start=None, timeframe="1h")
    assert fetched.bars["ts"].min() == at("2024-12-01")
    assert fetched.covered["BTC-USD"][0] == at("2024-12-01")
    assert len(fetched.bars) == 39


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
    row = server.markets["BTC-USD"].minutes[7]
    server.markets["BTC-USD"].minutes[7] = (*row[:5], row[5] + 1, *row[6:])
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


def test_a_page_lost_half_way_leaves_no_hole(server, provider):
    plain = ask(provider).bars
    lost = []

    def losing(rows, asked):
        if not lost:  # the question after this one
            lost.append(asked)
            server.faults.append(CUT)
        return rows

    server.page_edit = losing
    assert ask(provider).bars.equals(plain)
    assert not len(server.faults)


@pytest.mark.parametrize("fault", [RESET, CUT, MUTE, Reply(500), Reply(200, b"<html>")])
def test_a_lasting_fault_ends_as_unavailable_after_bounded_tries(server, provider, fault):
    server.faults += [fault] * 99
    with pytest.raises(ProviderUnavailable, match="try again later"):
        ask(provider, BTC, ETH)
    assert len(server.pages) == HURRIED.max_tries


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


def test_an_unknown_symbol_fails_alone_and_names_the_close_ones(server, provider, venue):
    fetched = ask(provider, ETH, BTC, Symbol("AAPL"))
    assert fetched.bars["symbol"].unique().to_list() == ["BTC-USD"]
    assert set(fetched.covered) == {"BTC-USD"}
    assert f"unknown market of {venue}" in fetched.failures["ETH-USD"]
    assert "BTC/USD" in fetched.failures["ETH-USD"]
    assert f"{venue} has no name" in fetched.failures["AAPL"]


def test_a_symbol_that_vanishes_between_two_questions_fails_alone(server, provider, venue):
    ask(provider)
    minutes = minutes_of(at("2024-12-01T00:00"), 100)
    server.markets = {key.replace("BTC", "ETH"): Market(minutes) for key in server.markets}
    other = PROVIDERS[venue](base_url=server.url, politeness=HURRIED)
    assert set(ask(other, BTC, ETH).failures) == {"BTC-USD"}
    fetched = ask(provider)
    assert "not traded there" in fetched.failures["BTC-USD"]
    assert not fetched.covered


def test_a_market_no_longer_traded_is_told_to_its_last_bar(server, provider):
    for market in server.markets.values():
        market.is_traded, market.minutes = False, market.minutes[:500]
    fetched = ask(provider)
    assert len(fetched.bars) == 500
    assert "any more (its bars until 2024-12-01 are kept)" in fetched.failures["BTC-USD"]
    assert fetched.covered["BTC-USD"] == (at("2024-12-01"), at("2024-12-01T08:20"))


def test_an_impossible_candle_is_put_aside_with_the_reason(server, provider):
    plain = ask(provider).bars
    row = server.markets["BTC-USD"].minutes[7]
    server.markets["BTC-USD"].minutes[7] = (*row[:2], row[3] / 2, *row[3:])
    fetched = ask(provider)
    assert len(fetched.bars) == len(plain) - 1
    assert fetched.quarantined["ts"].to_list() == [plain["ts"][7]]
    assert "is below low" in fetched.refusals[0].reason


def test_a_calendar_with_an_end_is_refused(provider):
    wrong = Symbol("BTC-USD", asset_class="crypto", calendar="XNYS")
    assert "correct the symbol's calendar" in ask(provider, wrong).failures["BTC-USD"]


def test_the_last_quote_comes_with_its_time(server, provider, venue):
    told = provider.fetch_quotes(Request((BTC, ETH)), FixedClock(NOW))
    QUOTES.check(told.rows)
    last = server.markets["BTC-USD"].minutes[-1][4]
    row = told.rows.row(0, named=True)
    assert (row["symbol"], row["source"], row["price"]) == ("BTC-USD", venue, last)
    assert (row["bid"], row["ask"]) == (pytest.approx(last - 1), pytest.approx(last + 1))
    assert row["trade_at"] == row["known_at"] == NOW
    assert set(told.failures) == {"ETH-USD"}


def test_an_unknown_venue_names_the_close_ones():
    with pytest.raises(NotFound, match="did you mean binance"):
        ask(ExchangeProvider(venue="binanse"))


def test_symbols_must_be_named(provider):
    with pytest.raises(InvalidSpec, match="name the symbols"):
        provider.fetch_bars(Request(), Timeframe.parse("1d"), FixedClock(NOW))


@pytest.mark.live
@pytest.mark.parametrize("timeframe", ["1m", "10m", "4h", "1d"])
def test_live_hours_of_both_venues_agree(timeframe):
    clock = SystemClock()
    request = Request((BTC,), clock.now() - timedelta(days=3))
    ours = {
        name: plugin().fetch_bars(request, Timeframe.parse(timeframe), clock).bars
        for name, plugin in PROVIDERS.items()
    }
    joined = ours["binance"].join(ours["coinbase"], on="ts")
    assert len(joined) >= 2
    assert (joined["close"] / joined["close_right"] - 1).abs().max() < 0.02
