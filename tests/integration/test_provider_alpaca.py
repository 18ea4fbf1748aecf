"""Alpaca's bars through alpaca-py against a local server that speaks its wire format."""

import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain import frames
from candlecast.domain.market import FixedClock, Symbol, SystemClock, Timeframe
from candlecast.domain.sources import Request
from candlecast.errors import InvalidSpec
from candlecast.providers import alpaca_bars
from candlecast.providers.alpaca import AlpacaProvider
from candlecast.providers.http import Politeness
from fakes.alpaca_server import AlpacaServer, wire_bar

pytestmark = pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated")

OPEN = datetime(2024, 1, 3, 14, 30, tzinfo=UTC)
CLOSE = datetime(2024, 1, 3, 21, 0, tzinfo=UTC)
AFTER = FixedClock(datetime(2024, 1, 3, 22, 0, tzinfo=UTC))
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT", calendar="XNAS")
BITCOIN = Symbol("BTC-USD", "crypto", "24/7")
M1, M30, H1, H4, D1 = (Timeframe.parse(name) for name in ("1m", "30m", "1h", "4h", "1d"))


@pytest.fixture
def server():
    with AlpacaServer(page_size=7) as running:
        yield running


@pytest.fixture
def provider(server):
    made = AlpacaProvider(**server.access)
    made.politeness = Politeness(first_wait_seconds=0.001, timeout_seconds=5.0)
    return made


def written(at):
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def bars_from(start, n, step=MINUTE, price=100.0):
    return [wire_bar(written(start + i * step), price + i) for i in range(n)]


def starts(fetched, ticker="AAPL"):
    return fetched.bars.filter(pl.col("symbol") == ticker)["ts"].to_list()


@pytest.mark.parametrize("page_size", [1, 3, 10, 1000])
def test_all_pages_of_all_symbols_come_back_as_they_were_written(server, provider, page_size):
    server.page_size = page_size
    own = {"AAPL": bars_from(OPEN, 10), "MSFT": bars_from(OPEN, 4, price=300.0)}
    own["BTC/USD"] = bars_from(OPEN, 3, price=40_000.0)
    for name, bars in own.items():
        server.add_bars(name, "1Min", bars)
    request = Request((AAPL, MSFT, BITCOIN), OPEN, CLOSE)
    fetched = provider.fetch_bars(request, M1, AFTER)
    expected = pl.DataFrame(
        [
            {
                "symbol": name.replace("/", "-"),
                "ts": datetime.fromisoformat(bar["t"]),
                **dict(
                    zip(("open", "high", "low", "close"), (bar[k] for k in "ohlc"), strict=True)
                ),
                "volume": bar["v"],
                "vwap": bar["vw"],
                "trade_count": bar["n"],
                "source": "alpaca",
            }
            for name, bars in own.items()
            for bar in bars
        ]
    )
    assert fetched.bars.equals(frames.UNSTAMPED.conform(expected))
    assert fetched.failures == {}
    assert fetched.refusals == ()
    # One request a page, and one that asks after the symbols that are silent: there are none.
    n_pages = -(-10 // page_size) + -(-4 // page_size) + -(-3 // page_size)
    assert len(server.asked) <= n_pages


def test_prices_are_asked_for_as_traded_and_from_the_feed_named(server, provider):
    server.add_bars("AAPL", "1Min", bars_from(OPEN, 1))
    provider.fetch_bars(Request((AAPL,), OPEN, CLOSE), M1, AFTER)
    params = server.asked[0].params
    assert (params["adjustment"], params["feed"]) == ("raw", "iex")


def test_a_span_asked_in_pieces_is_the_span_asked_at_once(server, provider, monkeypatch):
    for day in range(5):
        server.add_bars("AAPL", "1Min", bars_from(OPEN + day * DAY - DAY, 9, price=100.0 + day))
    server.page_size = 1000
    request, clock = Request((AAPL,), OPEN - DAY, OPEN + 4 * DAY), FixedClock(OPEN + 5 * DAY)
    at_once = provider.fetch_bars(request, M1, clock)
    n_requests = len(server.asked)
    monkeypatch.setattr(alpaca_bars, "MAX_ROWS", 1)
    in_pieces = provider.fetch_bars(request, M1, clock)
    assert len(server.asked) - n_requests >= 5
    # 2024-01-06 is a Saturday, whose bars lie outside all sessions.
    assert len(at_once.bars) == 9 * 4
    assert in_pieces.bars.equals(at_once.bars)
    assert in_pieces.covered == at_once.covered


def test_the_end_of_a_span_is_not_part_of_it_and_bars_outside_sessions_are_left_out(
    server, provider
):
    server.add_bars("AAPL", "1Min", bars_from(OPEN - 5 * MINUTE, 10))
    server.add_bars("AAPL", "1Min", bars_from(CLOSE - MINUTE, 3, price=150.0))
    until = provider.fetch_bars(Request((AAPL,), OPEN - DAY, OPEN + 3 * MINUTE), M1, AFTER)
    assert starts(until) == [OPEN + i * MINUTE for i in range(3)]
    whole = provider.fetch_bars(Request((AAPL,), OPEN - DAY), M1, AFTER)
    assert starts(whole) == [*(OPEN + i * MINUTE for i in range(5)), CLOSE - MINUTE]


def test_only_closed_bars_come_and_coverage_ends_before_the_open_one(server, provider):
    server.add_bars("AAPL", "30Min", bars_from(OPEN, 4, step=30 * MINUTE))
    now = OPEN + timedelta(minutes=61)
    fetched = provider.fetch_bars(Request((AAPL,), OPEN), M30, FixedClock(now))
    assert starts(fetched) == [OPEN, OPEN + 30 * MINUTE]
    assert fetched.covered == {"AAPL": (OPEN, OPEN + 60 * MINUTE)}
    # A bar that ended less than the delay ago may still be on its way.
    at_end = provider.fetch_bars(Request((AAPL,), OPEN), M30, FixedClock(OPEN + 60 * MINUTE))
    assert at_end.covered == {"AAPL": (OPEN, OPEN + 30 * MINUTE)}


def test_a_minute_without_trade_is_covered(server, provider):
    bars = bars_from(OPEN, 5)
    server.add_bars("AAPL", "1Min", [*bars[:2], *bars[3:]])
    fetched = provider.fetch_bars(Request((AAPL,), OPEN, OPEN + 5 * MINUTE), M1, AFTER)
    assert len(fetched.bars) == 4
    assert fetched.covered == {"AAPL": (OPEN, OPEN + 5 * MINUTE)}


def test_daily_bars_are_stamped_midnight_utc_of_their_date_in_winter_and_summer(server, provider):
    winter, summer = "2024-01-03T05:00:00Z", "2024-07-03T04:00:00Z"
    server.add_bars("AAPL", "1Day", [wire_bar(winter, 100.0), wire_bar(summer, 120.0)])
    clock = FixedClock(datetime(2024, 7, 8, tzinfo=UTC))
    first, last = (datetime(2024, month, 3, tzinfo=UTC) for month in (1, 7))
    fetched = provider.fetch_bars(Request((AAPL,), first, last + timedelta(hours=1)), D1, clock)
    assert starts(fetched) == [first, last]


def test_a_daily_bar_comes_when_its_session_has_closed(server, provider):
    server.add_bars("AAPL", "1Day", [wire_bar("2024-07-03T04:00:00Z", 100.0)])
    day = datetime(2024, 7, 3, tzinfo=UTC)  # trading ends at 13:00 in New York, 17:00 UTC
    during = provider.fetch_bars(Request((AAPL,), day), D1, FixedClock(day.replace(hour=16)))
    assert during.bars.is_empty()
    assert during.covered == {}
    after = provider.fetch_bars(Request((AAPL,), day), D1, FixedClock(day.replace(hour=18)))
    assert starts(after) == [day]
    start, end = after.covered["AAPL"]
    assert start == day < end


@pytest.mark.parametrize(("timeframe", "n_ended"), [(M1, 60), (M30, 2), (H1, 1)])
def test_a_bar_comes_when_the_delay_after_its_end_is_over(server, provider, timeframe, n_ended):
    # Alpaca corrects a bar until some seconds after its end.
    server.page_size = 1000
    server.add_bars("AAPL", "1Min", bars_from(OPEN, 61))
    server.add_bars("AAPL", "30Min", bars_from(OPEN, 3, step=30 * MINUTE))
    step, at = timedelta(minutes=timeframe.minutes), OPEN + 60 * MINUTE
    request, delay = Request((AAPL,), OPEN), timedelta(seconds=provider.delay_seconds)
    for now, n in ((at, n_ended - 1), (at + delay - timedelta(seconds=1), n_ended - 1),
                   (at + delay, n_ended)):  # fmt: skip
        fetched = provider.fetch_bars(request, timeframe, FixedClock(now))
        assert starts(fetched) == [OPEN + i * step for i in range(n)]
        assert fetched.covered == ({"AAPL": (OPEN, OPEN + n * step)} if n else {})


@pytest.mark.parametrize("count", [1e30, 2.5, -1.0, float("inf")])
def test_a_number_of_trades_that_is_none_costs_its_bar_and_no_other(server, provider, count):
    bars = bars_from(OPEN, 3)
    bars[1] |= {"n": count}
    server.add_bars("AAPL", "1Min", bars)
    server.add_bars("MSFT", "1Min", bars_from(OPEN, 3))
    fetched = provider.fetch_bars(Request((AAPL, MSFT), OPEN, CLOSE), M1, AFTER)
    assert starts(fetched) == [OPEN, OPEN + 2 * MINUTE]
    assert len(starts(fetched, "MSFT")) == 3
    assert fetched.bars["trade_count"].to_list() == [3] * 5
    assert [refusal.reason for refusal in fetched.refusals] == [f"trade_count {count} is no count"]
    assert fetched.quarantined["ts"].to_list() == [OPEN + MINUTE]


def test_a_bar_whose_time_cannot_be_read_is_put_aside(server, provider):
    bars = bars_from(OPEN, 2)
    server.add_bars("AAPL", "1Min", bars)
    server._bars = lambda *_: {"bars": {"AAPL": [*bars, bars[0] | {"t": "soon"}]}}
    fetched = provider.fetch_bars(Request((AAPL,), OPEN, CLOSE), M1, AFTER)
    assert starts(fetched) == [OPEN, OPEN + MINUTE]
    assert "time" in fetched.refusals[0].reason
    assert fetched.quarantined["ts"].to_list() == [None]


@pytest.mark.parametrize(("timeframe", "n_bars"), [(H1, [7, 4]), (H4, [2, 1])])
def test_hours_are_counted_from_the_open_and_cut_at_the_close(server, provider, timeframe, n_bars):
    # A whole session, and one that ends at 18:00 UTC; bars before and after do not count.
    days = [datetime(2024, 11, 27, 14, 30, tzinfo=UTC), datetime(2024, 11, 29, 14, 30, tzinfo=UTC)]
    for day, n_half_hours in zip(days, (13, 7), strict=True):
        around = bars_from(day - 60 * MINUTE, n_half_hours + 4, step=30 * MINUTE)
        server.add_bars("AAPL", "30Min", around)
    clock = FixedClock(datetime(2024, 11, 30, tzinfo=UTC))
    fetched = provider.fetch_bars(Request((AAPL,), days[0] - DAY), timeframe, clock)
    step = timedelta(minutes=timeframe.minutes)
    expected = [d + i * step for d, n in zip(days, n_bars, strict=True) for i in range(n)]
    assert starts(fetched) == expected
    first = fetched.bars.row(0, named=True)
    n_parts = timeframe.minutes // 30
    parts = bars_from(days[0] - 60 * MINUTE, 17, step=30 * MINUTE)[2 : 2 + n_parts]
    assert first["open"] == parts[0]["o"]
    assert first["close"] == parts[-1]["c"]
    assert first["high"] == max(bar["h"] for bar in parts)
    assert first["volume"] == 100.0 * n_parts
    assert first["trade_count"] == 3 * n_parts
    assert first["vwap"] == pytest.approx(sum(bar["vw"] for bar in parts) / n_parts)


def test_a_day_of_crypto_begins_at_midnight_utc(server, provider):
    midnight = datetime(2024, 6, 1, tzinfo=UTC)
    server.add_bars("BTC/USD", "30Min", bars_from(midnight - 60 * MINUTE, 100, step=30 * MINUTE))
    server.page_size = 1000
    clock = FixedClock(midnight + 2 * DAY)
    fetched = provider.fetch_bars(Request((BITCOIN,), midnight - DAY, midnight + DAY), D1, clock)
    days = fetched.bars.filter(pl.col("ts") == midnight)
    assert days["open"].item() == 102.0
    assert days["volume"].item() == 4800.0
    assert fetched.covered["BTC-USD"] == (midnight - DAY, midnight + DAY)


def test_a_bar_without_trades_has_no_average_price(server, provider):
    quiet = wire_bar(written(OPEN), 100.0, volume=0, n=0) | {"vw": 0}
    server.add_bars("BTC/USD", "1Min", [quiet])
    fetched = provider.fetch_bars(Request((BITCOIN,), OPEN, CLOSE), M1, AFTER)
    row = fetched.bars.row(0, named=True)
    assert (row["volume"], row["vwap"], row["trade_count"]) == (0.0, None, 0)


def test_bars_that_cannot_be_true_are_refused_and_put_aside(server, provider):
    bars = bars_from(OPEN, 5)
    bars[1] |= {"h": 90.0}
    bars[2] |= {"c": None}
    bars[3] |= {"o": "n/a"}
    server.add_bars("AAPL", "1Min", bars)
    fetched = provider.fetch_bars(Request((AAPL,), OPEN, CLOSE), M1, AFTER)
    assert starts(fetched) == [OPEN, OPEN + 4 * MINUTE]
    assert [refusal.symbol for refusal in fetched.refusals] == ["AAPL"] * 3
    assert "high 90.0 is below low" in fetched.refusals[0].reason
    aside = frames.QUARANTINE.check(fetched.quarantined)
    assert aside["ts"].to_list() == [OPEN + i * MINUTE for i in (1, 2, 3)]
    assert aside["high"].to_list()[0] == 90.0


def test_bars_need_names(provider):
    with pytest.raises(InvalidSpec, match="name those that you want"):
        provider.fetch_bars(Request(None, OPEN, CLOSE), M1, AFTER)


def test_a_symbol_that_is_not_traded_at_alpaca_fails_and_the_others_go_on(server, provider):
    server.add_bars("AAPL", "1Min", bars_from(OPEN, 1))
    petrobras = Symbol("PETR4", calendar="BVMF", currency="BRL")
    fetched = provider.fetch_bars(Request((petrobras, AAPL), OPEN, CLOSE), M1, AFTER)
    assert set(fetched.failures) == {"PETR4"}
    assert starts(fetched) == [OPEN]


@pytest.mark.live
@pytest.mark.skipif(
    not os.environ.get("CANDLECAST_ALPACA_KEY_ID"), reason="CANDLECAST_ALPACA_KEY_ID is not set"
)
def test_alpaca_itself_answers_as_the_local_one_does():
    provider = AlpacaProvider(
        key_id=os.environ["CANDLECAST_ALPACA_KEY_ID"],
        secret_key=os.environ["CANDLECAST_ALPACA_SECRET_KEY"],
    )
    start = datetime(2024, 7, 1, tzinfo=UTC)
    request = Request((AAPL, BITCOIN, Symbol("ZZZZZZ")), start, start + 7 * DAY)
    for timeframe in (M30, H1, D1):
        fetched = provider.fetch_bars(request, timeframe, SystemClock())
        assert set(fetched.bars["symbol"]) == {"AAPL", "BTC-USD"}
        assert set(fetched.failures) == {"ZZZZZZ"}
    days = fetched.bars.filter(pl.col("symbol") == "AAPL")
    assert len(days) == 4  # four sessions in the week of July 4
    splits = provider.fetch_actions(
        Request((AAPL,), datetime(2020, 8, 1, tzinfo=UTC)), SystemClock()
    )
    assert 4.0 in splits.rows.filter(pl.col("kind") == "split")["value"].to_list()
