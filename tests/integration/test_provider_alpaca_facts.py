"""Alpaca's corporate actions, news and last quotes through alpaca-py, against a local server."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain import frames
from candlecast.domain.market import FixedClock, Symbol
from candlecast.domain.sources import Request
from candlecast.errors import BadCredentials, InvalidSpec, ProviderUnavailable
from candlecast.providers.alpaca import AlpacaProvider
from candlecast.providers.http import Politeness
from fakes.alpaca_server import AlpacaServer, Fault

pytestmark = pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated")

NOW = datetime(2024, 8, 1, 15, 0, tzinfo=UTC)
CLOCK = FixedClock(NOW)
AAPL, MSFT, BITCOIN = Symbol("AAPL"), Symbol("MSFT"), Symbol("BTC-USD", "crypto", "24/7")


@pytest.fixture
def server():
    with AlpacaServer() as running:
        yield running


@pytest.fixture
def provider(server):
    made = AlpacaProvider(**server.access)
    made.politeness = Politeness(first_wait_seconds=0.001, timeout_seconds=5.0, max_tries=2)
    return made


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def split(symbol, ex_date, new, old, **more):
    return {
        "id": f"{symbol}-{ex_date}-{new}-{old}",
        "symbol": symbol,
        "cusip": "037833100",
        "new_rate": new,
        "old_rate": old,
        "process_date": ex_date,
        "ex_date": ex_date,
    } | more


def dividend(symbol, ex_date, rate, **more):
    return {
        "id": f"{symbol}-{ex_date}-{rate}",
        "symbol": symbol,
        "cusip": "037833100",
        "rate": rate,
        "special": False,
        "foreign": False,
        "process_date": more.pop("paid", ex_date),
        "ex_date": ex_date,
    } | more


def article(id_, created, *symbols, updated=None, **more):
    return {
        "id": id_,
        "headline": f"headline {id_}",
        "author": "A. Writer",
        "created_at": created,
        "updated_at": updated or created,
        "summary": "",
        "content": "",
        "url": f"https://example.com/{id_}",
        "images": [],
        "symbols": list(symbols),
        "source": "benzinga",
    } | more


def test_every_kind_of_action_becomes_a_split_a_dividend_or_a_delisting(server, provider):
    merger = {
        "acquirer_symbol": "MSFT",
        "acquiree_symbol": "ATVI",
        "acquiree_cusip": "00507V109",
        "rate": 95.0,
        "process_date": "2023-10-13",
        "effective_date": "2023-10-13",
    }
    server.actions = {
        "forward_splits": [split("AAPL", "2020-08-31", 4, 1)],
        "reverse_splits": [split("GE", "2021-08-02", 1, 8)],
        "stock_dividends": [dividend("TR", "2024-03-04", 0.03)],
        "cash_dividends": [dividend("AAPL", "2024-05-10", 0.25, paid="2024-05-16")],
        "cash_mergers": [{"id": "m1", **merger}],
        "stock_mergers": [{"id": "m2", **merger, "acquiree_symbol": "XLNX"}],
        "stock_and_cash_mergers": [{"id": "m3", **merger, "acquiree_symbol": "SAVE"}],
        "worthless_removals": [
            {"id": "w", "symbol": "BBBYQ", "cusip": "0", "process_date": "2023-10-02"}
        ],
    }
    names = ("AAPL", "GE", "TR", "ATVI", "XLNX", "SAVE", "BBBYQ")
    fetched = provider.fetch_actions(Request(tuple(map(Symbol, names))), CLOCK)
    rows = frames.ACTIONS.check(fetched.rows)
    assert fetched.failures == {}
    assert sorted(rows.select("symbol", "ex_date", "kind", "value").rows()) == sorted(
        [
            ("AAPL", day("2020-08-31"), "split", 4.0),
            ("AAPL", day("2024-05-10"), "dividend", 0.25),
            ("GE", day("2021-08-02"), "split", 0.125),
            ("TR", day("2024-03-04"), "split", 1.03),
            *((n, day("2023-10-13"), "delisting", 0.0) for n in ("ATVI", "XLNX", "SAVE")),
            ("BBBYQ", day("2023-10-02"), "delisting", 0.0),
        ]
    )
    assert rows["known_at"].to_list() == rows["ex_date"].to_list()
    assert rows["source"].unique().to_list() == ["alpaca"]


def test_several_dividends_of_one_day_are_added_and_several_splits_multiplied(server, provider):
    twice = dividend("AAPL", "2024-05-10", 1.5, special=True)
    server.actions = {
        "forward_splits": [split("AAPL", "2024-05-10", 3, 2)],
        "stock_dividends": [dividend("AAPL", "2024-05-10", 0.1)],
        "cash_dividends": [dividend("AAPL", "2024-05-10", 0.25), twice, twice],
    }
    rows = provider.fetch_actions(Request((AAPL,)), CLOCK).rows
    values = dict(rows.select("kind", "value").rows())
    assert values == {"dividend": 1.75, "split": pytest.approx(1.65)}


def test_all_pages_of_actions_come_beyond_the_thousand_that_the_client_stops_at(server, provider):
    first = datetime(2016, 1, 4, tzinfo=UTC)
    dates = [(first + timedelta(days=i)).strftime("%Y-%m-%d") for i in range(2500)]
    server.actions = {"cash_dividends": [dividend("AAPL", date, 0.1) for date in dates]}
    server.faults.append(Fault("reset", page=2))
    rows = provider.fetch_actions(Request((AAPL,)), CLOCK).rows
    assert rows["ex_date"].to_list() == [day(date) for date in dates]


def test_actions_count_by_their_ex_date_though_they_are_filed_by_their_payment(server, provider):
    server.actions = {
        "cash_dividends": [
            dividend("AAPL", "2024-04-30", 0.1, paid="2024-06-14"),
            dividend("AAPL", "2024-05-01", 0.2, paid="2024-04-30"),  # special, with due bills
            dividend("AAPL", "2024-05-31", 0.3, paid="2024-07-15"),
            dividend("AAPL", "2024-06-01", 0.4, paid="2024-07-16"),
        ]
    }
    request = Request((AAPL,), day("2024-05-01"), day("2024-06-01"))
    assert provider.fetch_actions(request, CLOCK).rows["value"].to_list() == [0.2, 0.3]


def test_an_action_that_is_announced_is_known_now(server, provider):
    server.actions = {"forward_splits": [split("AAPL", "2024-08-12", 10, 1)]}
    rows = provider.fetch_actions(Request((AAPL,)), CLOCK).rows
    assert rows.select("ex_date", "known_at").row(0) == (day("2024-08-12"), NOW)


def test_an_action_that_cannot_be_read_fails_its_symbol_and_the_others_go_on(server, provider):
    server.actions = {
        "forward_splits": [split("AAPL", "2024-06-10", 2, 0), split("MSFT", "2024-06-10", 2, 1)]
    }
    fetched = provider.fetch_actions(Request((AAPL, MSFT)), CLOCK)
    assert set(fetched.failures) == {"AAPL"}
    assert fetched.rows["symbol"].to_list() == ["MSFT"]


def test_crypto_has_no_corporate_actions_and_nothing_is_asked(server, provider):
    fetched = provider.fetch_actions(Request((BITCOIN,)), CLOCK)
    assert (fetched.rows.height, fetched.failures, server.asked) == (0, {}, [])


def test_actions_without_names_are_those_of_all_stocks(server, provider):
    server.actions = {
        "forward_splits": [split("AAPL", "2020-08-31", 4, 1), split("TSLA", "2022-08-25", 3, 1)]
    }
    rows = provider.fetch_actions(Request(None), CLOCK).rows
    assert rows["symbol"].to_list() == ["AAPL", "TSLA"]


@pytest.mark.parametrize("page_size", [1, 50])
def test_all_pages_of_news_come_with_their_times_and_tickers(server, provider, page_size):
    server.page_size = page_size
    late = "2024-07-30T12:10:00Z"
    server.news = [
        article(1, "2024-07-30T12:00:00Z", "AAPL", "BTCUSD", summary="why"),
        article(2, "2024-07-30T12:05:00Z", "MSFT", updated=late, url=""),
        article(3, "2024-07-30T12:20:00Z", "TSLA"),
        article(4, "2024-07-30T12:30:00Z", "AAPL", "TSLA"),
    ]
    request = Request((AAPL, MSFT, BITCOIN), day("2024-07-30"))
    fetched = provider.fetch_news(request, CLOCK)
    rows = frames.NEWS.check(fetched.rows)
    assert fetched.failures == {}
    assert rows["id"].to_list() == ["alpaca:1", "alpaca:2", "alpaca:4"]
    assert rows["symbols"].to_list() == [["AAPL", "BTC-USD"], ["MSFT"], ["AAPL", "TSLA"]]
    assert rows["summary"].to_list() == ["why", None, None]
    assert rows["url"].to_list() == ["https://example.com/1", None, "https://example.com/4"]
    assert rows["source"].unique().to_list() == ["benzinga"]
    times = rows.select("published_at", "known_at").rows()
    first, second = (datetime(2024, 7, 30, 12, m, tzinfo=UTC) for m in (0, 5))
    assert times[0] == (first, first)
    assert times[1] == (second, datetime.fromisoformat(late))


def test_an_update_of_an_article_is_known_from_its_own_time_on(server, provider):
    server.news = [article(1, "2024-07-30T12:00:00Z", "AAPL")]
    before = provider.fetch_news(Request((AAPL,), day("2024-07-30")), CLOCK).rows
    server.news = [
        article(1, "2024-07-30T12:00:00Z", "AAPL", updated="2024-07-31T09:00:00Z", headline="new")
    ]
    after = provider.fetch_news(Request((AAPL,), day("2024-07-31")), CLOCK).rows
    assert before["known_at"].item() == datetime(2024, 7, 30, 12, tzinfo=UTC)
    assert after["known_at"].item() == datetime(2024, 7, 31, 9, tzinfo=UTC)
    assert after["published_at"].item() == before["published_at"].item()
    assert (before["headline"].item(), after["headline"].item()) == ("headline 1", "new")


def test_news_from_a_clock_that_is_ahead_waits(server, provider):
    server.news = [article(1, "2024-08-01T15:00:30Z", "AAPL")]
    assert provider.fetch_news(Request((AAPL,), day("2024-07-30")), CLOCK).rows.is_empty()


def test_an_article_that_cannot_be_read_is_named_and_the_others_come(server, provider):
    server.news = [
        article(1, "2024-07-30T12:00:00Z", "AAPL") | {"created_at": None},
        article(2, "2024-07-30T12:00:00Z", "AAPL"),
    ]
    fetched = provider.fetch_news(Request(None, day("2024-07-30")), CLOCK)
    assert set(fetched.failures) == {"alpaca:1"}
    assert fetched.rows["id"].to_list() == ["alpaca:2"]


def test_the_last_quote_and_trade_of_stocks_and_crypto_are_told(server, provider):
    server.latest["quotes"] = {
        "AAPL": {"t": "2024-08-01T14:59:59.123456789Z", "bp": 220.1, "bs": 2, "ap": 0, "as": 0},
        "BTC/USD": {"t": "2024-08-01T15:00:02Z", "bp": 64_000, "bs": 0.5, "ap": 64_010, "as": 1},
    }
    server.latest["trades"] = {
        "AAPL": {"t": "2024-08-01T14:59:58Z", "p": 220.2, "s": 100, "x": "V", "i": 5},
        "MSFT": {"t": "2024-08-01T14:00:00Z", "p": 410.0, "s": 1, "x": "V", "i": 6},
    }
    fetched = provider.fetch_quotes(Request((AAPL, MSFT, BITCOIN, Symbol("ZZZZ"))), CLOCK)
    rows = {row["symbol"]: row for row in frames.QUOTES.check(fetched.rows).to_dicts()}
    assert set(fetched.failures) == {"ZZZZ"}
    apple, microsoft, bitcoin = rows["AAPL"], rows["MSFT"], rows["BTC-USD"]
    assert (apple["bid"], apple["bid_size"], apple["ask"], apple["ask_size"]) == (
        220.1,
        2.0,
        None,
        None,
    )
    assert apple["quote_at"] == datetime(2024, 8, 1, 14, 59, 59, 123456, tzinfo=UTC)
    assert (apple["price"], apple["size"]) == (220.2, 100.0)
    assert apple["known_at"] == apple["quote_at"]
    assert (microsoft["bid"], microsoft["quote_at"]) == (None, None)
    assert microsoft["known_at"] == microsoft["trade_at"]
    # Alpaca's clock is two seconds ahead of ours.
    assert (bitcoin["ask"], bitcoin["known_at"]) == (64_010.0, NOW)
    assert bitcoin["price"] is None


def test_quotes_need_names_and_refused_ones_fail_alone(server, provider):
    server.latest["trades"]["AAPL"] = {"t": "2024-08-01T14:00:00Z", "p": 1.0, "s": 1}
    with pytest.raises(InvalidSpec, match="name those that you want"):
        provider.fetch_quotes(Request(None), CLOCK)
    fetched = provider.fetch_quotes(Request((AAPL, Symbol("BAD$"))), CLOCK)
    assert set(fetched.failures) == {"BAD$"}
    assert fetched.rows["symbol"].to_list() == ["AAPL"]


@pytest.mark.parametrize("method", ["fetch_actions", "fetch_news", "fetch_quotes"])
def test_errors_are_translated_wherever_they_happen(server, provider, method):
    ask = getattr(provider, method)
    server.faults.append(Fault("reset", times=float("inf")))
    with pytest.raises(ProviderUnavailable):
        ask(Request((AAPL,)), CLOCK)
    assert len(server.asked) == 2
    server.faults[:] = [Fault("status", status=403, message="forbidden.")]
    with pytest.raises(BadCredentials):
        ask(Request((AAPL,)), CLOCK)


def test_rows_are_frames_of_their_kind_where_there_are_none(server, provider):
    for method, spec in (("fetch_actions", frames.ACTIONS), ("fetch_news", frames.NEWS)):
        rows = getattr(provider, method)(Request((AAPL,)), CLOCK).rows
        assert spec.check(rows).equals(spec.empty())
    quotes = provider.fetch_quotes(Request((AAPL,)), CLOCK)
    assert isinstance(quotes.rows, pl.DataFrame)
    assert quotes.rows.equals(frames.QUOTES.empty())
