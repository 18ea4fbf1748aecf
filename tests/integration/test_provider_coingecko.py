"""Market capitalisations from a server that speaks as CoinGecko does."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain.dominance import compute_dominance
from candlecast.domain.frames import CAPITALISATIONS
from candlecast.domain.market import FixedClock, Symbol, SystemClock
from candlecast.domain.sources import CapitalisationSource, Request
from candlecast.errors import BadCredentials, ProviderUnavailable, RateLimited
from candlecast.providers.coingecko import CoinGeckoProvider
from candlecast.providers.http import Politeness
from fakes.coingecko_server import DAY, CoinGeckoServer
from fakes.http_faults import CUT, MUTE, RESET, Reply

NOW = datetime(2024, 4, 7, 18, 1, tzinfo=UTC)
CLOCK = FixedClock(NOW)
QUICK = Politeness(timeout_seconds=0.5, first_wait_seconds=0.001, max_wait_seconds=0.5)
BTC, ETH = (Symbol(f"{base}-USD", "crypto", "24/7") for base in ("BTC", "ETH"))
START = datetime(2024, 4, 1, tzinfo=UTC)


def bitcoin(at):
    return 1e12 + 1e9 * ((at - START) / DAY)


@pytest.fixture
def server():
    coins = {"bitcoin": bitcoin, "ethereum": lambda at: bitcoin(at) / 3}
    with CoinGeckoServer(coins, now=NOW) as server:
        yield server


@pytest.fixture
def provider(server):
    return CoinGeckoProvider(base_url=f"{server.url}/api/v3", politeness=QUICK)


def of(rows, asset):
    return rows.filter(pl.col("asset") == asset)


def test_a_coin_has_one_value_a_day_known_35_minutes_later(server, provider):
    fetched = provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK)
    assert isinstance(provider, CapitalisationSource)
    rows = CAPITALISATIONS.check(fetched.rows)
    daily = of(rows, "BTC-USD").filter(pl.col("ts") == pl.col("ts").dt.truncate("1d"))
    assert daily["ts"].to_list() == [START + n * DAY for n in range(7)]
    assert daily["value"].to_list() == [bitcoin(START + n * DAY) for n in range(7)]
    assert (daily["known_at"] - daily["ts"]).unique().to_list() == [timedelta(minutes=35)]
    assert fetched.failures == {}


@pytest.mark.parametrize("n_days", [1, 5, 89, 91, 300])
def test_a_day_has_the_same_value_however_long_the_span(provider, n_days):
    request = Request((BTC,), start=datetime(2024, 4, 7, tzinfo=UTC) - n_days * DAY)
    rows = provider.fetch_capitalisations(request, CLOCK).rows
    daily = of(rows, "BTC-USD").filter(pl.col("ts") <= datetime(2024, 4, 7, tzinfo=UTC))
    assert len(daily) == n_days + 1
    assert daily["value"].to_list() == [bitcoin(ts) for ts in daily["ts"]]


def test_the_day_is_not_known_before_the_vendor_has_it(server, provider):
    server.now = datetime(2024, 4, 7, 0, 20, tzinfo=UTC)
    rows = provider.fetch_capitalisations(Request((BTC,), start=START), FixedClock(server.now)).rows
    assert of(rows, "BTC-USD")["ts"].max() == datetime(2024, 4, 6, tzinfo=UTC)


def test_the_whole_market_and_the_shares_come_as_they_stand(server, provider):
    rows = provider.fetch_capitalisations(Request((BTC, ETH), start=START), CLOCK).rows
    newest = rows.filter(pl.col("ts") == server.updated_at)
    assert dict(newest.select("asset", "value").iter_rows()) == pytest.approx(
        {"TOTAL": server.total, "BTC-USD": server.total * 0.504, "ETH-USD": server.total * 0.149}
    )
    assert newest["known_at"].to_list() == [server.updated_at] * 3
    (share,) = compute_dominance(rows).iter_rows(named=True)
    assert share["name"] == "btc_dominance"
    assert share["value"] == pytest.approx(0.504)
    assert share["known_at"] == server.updated_at


def test_what_the_vendor_dates_into_the_future_is_left_out(server, provider):
    server.updated_at = NOW + timedelta(minutes=1)
    rows = provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK).rows
    assert of(rows, "TOTAL").is_empty()
    server.coins["bitcoin"] = bitcoin
    server.answer = lambda _: Reply.json(
        {
            "market_caps": [
                [int((NOW + n * DAY).timestamp() // 86400) * 86_400_000, 1e12]
                for n in (-1, 0, 1, 2)
            ],
            "data": server._global(),
        }
    )
    rows = provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK).rows
    assert rows["ts"].max() == datetime(2024, 4, 7, tzinfo=UTC)


def test_a_span_that_has_ended_says_nothing_of_the_present(server, provider):
    request = Request((BTC,), start=START, end=START + 2 * DAY)
    rows = provider.fetch_capitalisations(request, CLOCK).rows
    assert rows["ts"].to_list() == [START, START + DAY]
    assert [asked.path for asked in server.asked] == ["/api/v3/coins/bitcoin/market_chart/range"]


def test_without_symbols_and_start_a_year_of_bitcoin_comes(server, provider):
    rows = provider.fetch_capitalisations(Request(), CLOCK).rows
    assert set(rows["asset"]) == {"BTC-USD", "TOTAL"}
    assert len(of(rows, "BTC-USD")) == 365


def test_a_coin_that_has_vanished_fails_alone(server, provider):
    gone = Symbol("GONE-USD", "crypto", "24/7", aliases=(("coingecko", "gone"),))
    wanted = (BTC, gone, Symbol("AAPL"), Symbol("BTC-EUR", "crypto", "24/7"))
    fetched = provider.fetch_capitalisations(Request(wanted, start=START), CLOCK)
    assert set(fetched.failures) == {"GONE-USD", "AAPL", "BTC-EUR"}
    assert "not known there" in fetched.failures["GONE-USD"]
    assert set(fetched.rows["asset"]) == {"BTC-USD", "TOTAL"}


def test_more_than_a_year_needs_a_paid_key(provider):
    with pytest.raises(BadCredentials, match="what it is good for"):
        provider.fetch_capitalisations(Request((BTC,), start=NOW - 800 * DAY), CLOCK)


def test_the_key_travels_in_a_header_and_is_never_shown(server):
    server.key = "s3cr3t"
    provider = CoinGeckoProvider(base_url=f"{server.url}/api/v3", key="s3cr3t", politeness=QUICK)
    assert len(provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK).rows) == 9
    assert "s3cr3t" not in repr(provider)
    wrong = CoinGeckoProvider(base_url=f"{server.url}/api/v3", key="wr0ng", politeness=QUICK)
    with pytest.raises(BadCredentials) as caught:
        wrong.fetch_capitalisations(Request((BTC,), start=START), CLOCK)
    assert "wr0ng" not in str(caught.value)


def test_unknown_values_are_left_out(server, provider):
    odd = {START + DAY: 0.0, START + 2 * DAY: None, START + 3 * DAY: -1.0}
    server.coins["bitcoin"] = lambda at: odd.get(at, bitcoin(at))
    rows = provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK).rows
    assert not set(odd) & set(rows["ts"])
    assert len(of(rows, "BTC-USD")) == 5


def test_a_value_corrected_later_comes_in_its_new_version(server, provider):
    request = Request((BTC,), start=START)
    before = provider.fetch_capitalisations(request, CLOCK).rows
    server.coins["bitcoin"] = lambda at: 5e11 if at == START + DAY else bitcoin(at)
    after = provider.fetch_capitalisations(request, CLOCK).rows
    changed = after.join(before, on=["asset", "ts", "value"], how="anti")
    assert changed.select("ts", "value").rows() == [(START + DAY, 5e11)]


@pytest.mark.parametrize("fault", [CUT, RESET, MUTE, Reply(500), Reply(429), Reply(200, b"<html>")])
def test_a_passing_fault_loses_and_doubles_nothing(server, provider, fault):
    request = Request((BTC, ETH), start=START)
    expected = provider.fetch_capitalisations(request, CLOCK).rows
    server.faults += [fault, fault]
    assert provider.fetch_capitalisations(request, CLOCK).rows.equals(expected)


def test_a_storm_of_429_is_reported_with_its_wait(server, provider):
    server.faults += [Reply(429, headers={"Retry-After": "61"})] * 5
    with pytest.raises(RateLimited) as caught:
        provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK)
    assert caught.value.retry_after_seconds == 61.0


@pytest.mark.parametrize(
    ("total", "share", "told"),
    [
        ("inf", 50.0, set()),
        ("nan", 50.0, set()),
        (-1.0, 50.0, set()),
        (2e12, 500, {"TOTAL"}),
        (2e12, "inf", {"TOTAL"}),
        (2e12, "nan", {"TOTAL"}),
        (2e12, 0, {"TOTAL"}),
        (2e12, 50.0, {"TOTAL", "BTC-USD"}),
    ],
)
def test_present_values_that_cannot_be_true_are_left_out(server, provider, total, share, told):
    server.total, server.shares = total, {"btc": share}
    rows = provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK).rows
    assert set(rows.filter(pl.col("ts") == server.updated_at)["asset"]) == told
    assert rows["value"].is_finite().all()


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"market_caps": [[1]]},
        {"market_caps": [["a", "b"]]},
        {"market_caps": None},
        {"market_caps": [], "data": {"total_market_cap": {}}},
        {"market_caps": [], "data": []},
        {"market_caps": [[1e300, 5.0]]},
        {"market_caps": [[-1e17, 5.0]]},
    ],
)
def test_nonsense_is_an_error_and_not_an_empty_history(server, provider, document):
    server.answer = lambda _: Reply.json(document)
    with pytest.raises(ProviderUnavailable, match="answered nonsense"):
        provider.fetch_capitalisations(Request((BTC,), start=START), CLOCK)


@pytest.mark.live
def test_the_vendor_still_answers_like_that():
    start = SystemClock().now() - 10 * DAY
    fetched = CoinGeckoProvider().fetch_capitalisations(Request((BTC,), start=start), SystemClock())
    assert fetched.failures == {}
    assert len(of(fetched.rows, "BTC-USD")) >= 10
    assert 0.1 < compute_dominance(fetched.rows)["value"][-1] < 0.9
