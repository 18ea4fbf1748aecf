"""Facts besides bars are stored once, stamped late when they come late, and told once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from candlecast.domain.frames import ACTIONS, BARS, CAPITALISATIONS, INDICES, NEWS, QUOTES
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines.facts import ingest_facts
from candlecast.store.bars import write_bars, write_symbols
from candlecast.store.facts import read_facts
from candlecast.store.pins import pin
from candlecast.store.quotes import read_quotes
from pipeline_rows import at, opened

NOW = datetime(2024, 5, 8, 12, tzinfo=UTC)


def ago(hours):
    return NOW - timedelta(hours=hours)


@dataclass
class Wire:
    """Tells what it holds, and notes what it was asked."""

    rows: list[dict] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    delay_seconds = 0.0

    def fetch_news(self, request, clock):
        return self._told(NEWS, request)

    def fetch_index(self, request, clock):
        return self._told(INDICES, request)

    def fetch_actions(self, request, clock):
        return self._told(ACTIONS, request)

    def fetch_capitalisations(self, request, clock):
        return self._told(CAPITALISATIONS, request)

    def fetch_quotes(self, request, clock):
        return self._told(QUOTES, request)

    def _told(self, spec, request):
        self.requests.append(request)
        return FetchedRows(spec.conform(pl.DataFrame(self.rows)) if self.rows else spec.empty())


def story(name, headline, hours, source="wire"):
    return {
        "id": f"{source}:{name}",
        "published_at": ago(hours),
        "source": source,
        "headline": headline,
        "symbols": ["A"],
        "known_at": ago(hours),
    }


@pytest.fixture
def stores(database_url, tmp_path):
    with opened(database_url, tmp_path, NOW) as opened_stores:
        write_symbols(opened_stores.database, [Symbol("A")])
        yield opened_stores


def test_news_are_kept_once_whoever_tells_them(stores):
    told = [
        story("1", "Alpha rises, says the board", 40),
        story("2", "ALPHA RISES - says the board!", 30),
        story("3", "Beta falls", 20),
    ]
    assert ingest_facts(stores, "news", "wire", Wire(told), Request()).n_new == 2
    other = [story("9", "Alpha rises: says the board", 10, "other"), story("8", "New", 9, "other")]
    assert ingest_facts(stores, "news", "other", Wire(other), Request()).n_new == 1
    assert set(read_facts(stores.database, NEWS)["id"]) == {"wire:1", "wire:3", "other:8"}


def test_the_same_words_days_later_are_news_again(stores):
    told = [story("1", "Alpha pays a dividend", 24 * 90), story("2", "Alpha pays a dividend", 2)]
    assert ingest_facts(stores, "news", "wire", Wire(told), Request()).n_new == 2


def test_a_story_that_changes_its_words_keeps_both_versions(stores):
    wire = Wire([story("1", "Alpha rises", 5)])
    ingest_facts(stores, "news", "wire", wire, Request())
    wire.rows = [story("1", "Alpha falls", 5)]
    later = at(stores, NOW + timedelta(hours=1))
    assert ingest_facts(later, "news", "wire", wire, Request()).n_new == 1
    assert read_facts(stores.database, NEWS, as_of=NOW)["headline"].to_list() == ["Alpha rises"]
    newest = read_facts(stores.database, NEWS)
    assert newest["headline"].to_list() == ["Alpha falls"]
    assert newest["known_at"].to_list() == [NOW + timedelta(hours=1)]


def test_what_turns_up_late_is_known_from_then_on_and_what_is_new_from_its_own_time(stores):
    wire = Wire([story("1", "Alpha rises", 5)])
    ingest_facts(stores, "news", "wire", wire, Request())
    wire.rows += [story("late", "It was missed", 3), story("new", "It just came", -1)]
    later = NOW + timedelta(hours=2)
    assert ingest_facts(at(stores, later), "news", "wire", wire, Request()).n_new == 2
    stamps = dict(read_facts(stores.database, NEWS).select("id", "known_at").iter_rows())
    assert stamps == {"wire:1": ago(5), "wire:late": later, "wire:new": ago(-1)}


def test_the_next_run_asks_from_shortly_before_the_last_and_changes_nothing(stores):
    wire = Wire([story("1", "Alpha rises", 5)])
    ingest_facts(stores, "news", "wire", wire, Request())
    assert ingest_facts(stores, "news", "wire", wire, Request()).n_new == 0
    assert [request.start for request in wire.requests] == [None, NOW - timedelta(days=3)]


def test_a_corrected_index_value_is_known_from_when_it_was_seen(stores):
    row = {"name": "fear_greed", "ts": ago(36), "value": 40.0, "label": "Fear", "source": "x"}
    wire = Wire([{**row, "known_at": ago(36)}])
    ingest_facts(stores, "index", "x", wire, Request())
    wire.rows = [{**row, "value": 44.0, "known_at": ago(36)}]
    ingest_facts(at(stores, NOW + timedelta(hours=5)), "index", "x", wire, Request())
    assert read_facts(stores.database, INDICES, as_of=NOW)["value"].to_list() == [40.0]
    newest = read_facts(stores.database, INDICES)
    assert newest.select("value", "known_at").row(0) == (44.0, NOW + timedelta(hours=5))


def test_capitalisations_bring_the_dominance_of_bitcoin_along(stores):
    row = {"ts": ago(36), "source": "x", "known_at": ago(35)}
    parts = [{**row, "asset": "BTC-USD", "value": 6e11}, {**row, "asset": "TOTAL", "value": 1e12}]
    assert ingest_facts(stores, "capitalisations", "x", Wire(parts), Request()).n_new == 2
    (index,) = read_facts(stores.database, INDICES).to_dicts()
    assert (index["name"], index["value"]) == ("btc_dominance", pytest.approx(0.6))
    assert index["known_at"] == ago(35)


def test_actions_of_a_symbol_without_bars_are_named_and_the_others_kept(stores):
    def split(symbol):
        row = {"symbol": symbol, "ex_date": ago(60), "kind": "split", "value": 2.0}
        return {**row, "source": "x", "known_at": ago(80)}

    wire = Wire([split("A"), split("Z")])
    request = Request((Symbol("A"), Symbol("Z")))
    run = ingest_facts(stores, "actions", "x", wire, request)
    assert (run.n_fetched, run.n_new) == (2, 1)
    assert set(run.failures) == {"Z"}
    assert read_facts(stores.database, ACTIONS)["symbol"].to_list() == ["A"]


def test_an_action_that_comes_after_its_prices_were_used_is_known_from_then_on(stores):
    row = {"symbol": "A", "ex_date": ago(60), "kind": "split", "value": 2.0, "source": "x"}
    wire = Wire([{**row, "known_at": ago(80)}])
    pin(stores.database, Timeframe.parse("1d"), ["A"], ago(50))
    ingest_facts(stores, "actions", "x", wire, Request((Symbol("A"),)))
    assert read_facts(stores.database, ACTIONS, as_of=ago(1)).is_empty()
    assert read_facts(stores.database, ACTIONS)["known_at"].to_list() == [NOW]


def dividend(value, source, symbol="A"):
    row = {"symbol": symbol, "ex_date": ago(60), "kind": "dividend", "known_at": ago(80)}
    return Wire([{**row, "value": value, "source": source}])


def test_two_sources_that_disagree_on_a_dividend_do_not_overwrite_each_other(stores):
    request = Request((Symbol("A"),), ago(900))
    for hour in range(4):
        here = at(stores, NOW + timedelta(hours=hour))
        ingest_facts(here, "actions", "one", dividend(0.205714, "one"), request)
        ingest_facts(here, "actions", "two", dividend(0.25, "two"), request)
    (kept,) = read_facts(stores.database, ACTIONS).to_dicts()
    assert (kept["value"], kept["source"], kept["known_at"]) == (0.205714, "one", ago(80))
    later = at(stores, NOW + timedelta(hours=9))
    assert ingest_facts(later, "actions", "one", dividend(0.2057, "one"), request).n_new == 0
    assert ingest_facts(later, "actions", "one", dividend(0.25, "one"), request).n_new == 1
    own = dividend(0.3, "action_files")
    last = at(stores, NOW + timedelta(hours=10))
    assert ingest_facts(last, "actions", "action_files", own, request).n_new == 0  # known before
    assert read_facts(stores.database, ACTIONS)["value"].to_list() == [0.25]


def test_a_symbol_that_nothing_was_made_of_has_its_actions_from_their_own_time(stores):
    write_symbols(stores.database, [Symbol("B")])
    pin(stores.database, Timeframe.parse("1d"), ["A"], ago(50))
    for ticker, known_at in (("A", NOW), ("B", ago(80))):
        request = Request((Symbol(ticker),))
        ingest_facts(stores, "actions", "x", dividend(1.0, "x", ticker), request)
        (row,) = read_facts(stores.database, ACTIONS, symbols=[ticker]).to_dicts()
        assert row["known_at"] == known_at


def value(hours, number):
    said = {"name": "fear_greed", "label": "Fear", "source": "x", "known_at": ago(hours)}
    return {**said, "ts": ago(hours), "value": number}


def test_history_added_later_is_known_from_its_own_time(stores):
    wire = Wire([value(24, 1.0)])
    ingest_facts(stores, "index", "x", wire, Request(start=ago(48)))
    wire.rows = [value(24 * 9, 2.0), value(24, 1.0)]
    ingest_facts(at(stores, NOW + timedelta(hours=1)), "index", "x", wire, Request(start=ago(240)))
    known = dict(read_facts(stores.database, INDICES).select("ts", "known_at").iter_rows())
    assert known == {ago(24): ago(24), ago(24 * 9): ago(24 * 9)}


def test_what_lies_behind_an_end_is_asked_for_next(stores):
    wire = Wire([value(240, 1.0)])
    ingest_facts(stores, "index", "x", wire, Request(end=ago(200)))
    ingest_facts(stores, "index", "x", wire, Request())
    assert wire.requests[1].start == ago(200) - timedelta(days=3)
    ingest_facts(stores, "index", "x", wire, Request(end=ago(500)))
    ingest_facts(stores, "index", "x", wire, Request())
    assert wire.requests[3].start == NOW - timedelta(days=3)


def test_actions_are_asked_for_as_far_back_as_there_are_bars(stores):
    day = ago(24 * 700).replace(hour=0)
    row = {"symbol": "A", "ts": day, "source": "x", "known_at": NOW, "volume": 1.0}
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    bars = BARS.conform(pl.DataFrame([{**row, **prices}]))
    write_bars(stores.database, Timeframe.parse("1d"), bars)
    wire, request = Wire([]), Request((Symbol("A"),))
    ingest_facts(stores, "actions", "x", wire, Request((Symbol("A"),), ago(24 * 90)))
    ingest_facts(stores, "actions", "x", wire, request)
    ingest_facts(stores, "actions", "x", wire, request)
    assert [asked.start for asked in wire.requests[1:]] == [day, NOW - timedelta(days=3)]


def test_a_column_of_one_name_is_kept_every_third_day_however_it_comes(stores):
    told = [story(f"{day}", "Morning Bid", 24 * day) for day in range(20)]
    ingest_facts(stores, "news", "wire", Wire(told), Request())
    at_once = set(read_facts(stores.database, NEWS)["id"])
    singly = [story(f"{day}", "Evening Bid", 24 * day) for day in range(20)]
    for item in reversed(singly):
        ingest_facts(stores, "news", "wire", Wire([item]), Request(start=ago(900)))
    headlines = read_facts(stores.database, NEWS).filter(headline="Evening Bid")
    assert len(at_once) == len(headlines) == 7


def test_the_last_quote_is_stored(stores):
    wire = Wire([{"symbol": "A", "price": 9.0, "trade_at": NOW, "source": "x", "known_at": NOW}])
    ingest_facts(stores, "quotes", "x", wire, Request((Symbol("A"),)))
    assert read_quotes(stores.database)["price"].to_list() == [9.0]


def test_what_a_provider_does_not_offer_is_told(stores):
    silent = SimpleNamespace(delay_seconds=0.0, fetch_news=lambda *_: None)
    with pytest.raises(InvalidSpec, match="x offers no index; it offers news"):
        ingest_facts(stores, "index", "x", silent, Request())
    with pytest.raises(NotFound, match="did you mean news"):
        ingest_facts(stores, "newss", "x", silent, Request())
