"""Fear & Greed from a server that speaks as alternative.me does, and from one that fails."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain.frames import INDICES
from candlecast.domain.market import FixedClock, SystemClock
from candlecast.domain.sources import IndexSource, Request
from candlecast.errors import ProviderUnavailable, RateLimited
from candlecast.providers.fear_greed import FearGreedProvider
from candlecast.providers.http import Politeness
from fakes.fear_greed_server import FearGreedServer, entry, history
from fakes.http_faults import CUT, MUTE, RESET, Asked, Reply

LAST = datetime(2024, 1, 10, tzinfo=UTC)
CLOCK = FixedClock(datetime(2024, 1, 10, 15, tzinfo=UTC))
QUICK = Politeness(timeout_seconds=0.5, first_wait_seconds=0.001, max_wait_seconds=0.5)
ALL = Request()


@pytest.fixture
def server():
    with FearGreedServer(history(30)) as server:
        yield server


@pytest.fixture
def provider(server):
    return FearGreedProvider(base_url=server.url, politeness=QUICK)


def test_the_whole_history_comes_in_order(server, provider):
    fetched = provider.fetch_index(ALL, CLOCK)
    assert isinstance(provider, IndexSource)
    assert server.asked[0].query == {"limit": "0", "format": "json"}
    assert fetched.failures == {}
    rows = INDICES.check(fetched.rows)
    assert rows["ts"].to_list() == [LAST - timedelta(days=n) for n in reversed(range(30))]
    newest = rows.row(-1, named=True)
    assert (newest["name"], newest["value"], newest["label"]) == (
        "fear_greed",
        10.0,
        "Extreme Fear",
    )


def test_a_value_is_known_six_hours_after_its_stamp(provider):
    rows = provider.fetch_index(ALL, CLOCK).rows
    assert (rows["known_at"] - rows["ts"]).unique().to_list() == [timedelta(hours=6)]


def test_a_stamp_within_the_day_belongs_to_that_day_and_is_known_later(server, provider):
    server.entries = [entry(datetime(2019, 2, 26, 5, tzinfo=UTC), 40)]
    (row,) = provider.fetch_index(ALL, CLOCK).rows.iter_rows(named=True)
    assert row["ts"] == datetime(2019, 2, 26, tzinfo=UTC)
    assert row["known_at"] == datetime(2019, 2, 26, 11, tzinfo=UTC)


def test_only_the_days_that_are_wanted_are_asked_for_and_returned(server, provider):
    start, end = LAST - timedelta(days=5), LAST - timedelta(days=2)
    rows = provider.fetch_index(Request(start=start, end=end), CLOCK).rows
    assert int(server.asked[0].query["limit"]) < 10
    assert rows["ts"].to_list() == [start, start + timedelta(days=1), start + timedelta(days=2)]


def test_missing_days_stay_missing(server, provider):
    gone = server.entries.pop(3)
    rows = provider.fetch_index(ALL, CLOCK).rows
    assert len(rows) == 29
    assert int(gone["timestamp"]) not in rows["ts"].dt.epoch("s").to_list()


def test_a_day_that_has_not_begun_is_left_out(server, provider):
    server.entries.insert(0, entry(LAST + timedelta(days=1), 55))
    assert provider.fetch_index(ALL, CLOCK).rows["ts"].max() == LAST


def test_duplicates_and_disorder_change_nothing(server, provider):
    expected = provider.fetch_index(ALL, CLOCK).rows
    server.entries = [*reversed(server.entries), *server.entries]
    assert provider.fetch_index(ALL, CLOCK).rows.equals(expected)


def test_of_two_values_of_a_day_the_later_stamp_counts(server, provider):
    server.entries = [entry(LAST, 20), entry(LAST + timedelta(hours=5), 33)]
    assert provider.fetch_index(ALL, CLOCK).rows["value"].to_list() == [33.0]


def test_a_value_corrected_later_comes_in_its_new_version(server, provider):
    before = provider.fetch_index(ALL, CLOCK).rows
    server.entries[4]["value"] = "77"
    after = provider.fetch_index(ALL, CLOCK).rows
    changed = after.join(before, on=["name", "ts", "value"], how="anti")
    assert changed["value"].to_list() == [77.0]
    assert changed["ts"].to_list() == [LAST - timedelta(days=4)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": "101"}, "value '101' is not within 0 and 100"),
        ({"value": "nan"}, "value 'nan' is not within 0 and 100"),
        ({"value": None}, "value '' is not within 0 and 100"),
        ({"timestamp": "soon"}, "timestamp 'soon' is no instant"),
        ({"timestamp": "9" * 18}, "timestamp '999999999999999999' is no instant"),
    ],
)
def test_an_entry_that_cannot_be_true_is_refused_and_the_others_go_on(
    server, provider, change, reason
):
    server.entries[2] |= change
    fetched = provider.fetch_index(ALL, CLOCK)
    assert len(fetched.rows) == 29
    assert fetched.failures == {
        "fear_greed": f"1 of 30 entries are refused, first entry 3: {reason}"
    }


@pytest.mark.parametrize("fault", [CUT, RESET, MUTE, Reply(500), Reply(429), Reply(200, b"<html>")])
def test_a_passing_fault_loses_and_doubles_nothing(server, provider, fault):
    server.faults += [fault, fault]
    assert len(provider.fetch_index(ALL, CLOCK).rows) == 30


def test_a_storm_of_429_is_reported_with_its_wait(server, provider):
    server.faults += [Reply(429, headers={"Retry-After": "600"})] * 5
    with pytest.raises(RateLimited) as caught:
        provider.fetch_index(ALL, CLOCK)
    assert caught.value.retry_after_seconds == 600.0
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "document",
    [[], {}, {"data": None}, {"data": [1]}, {"data": [], "metadata": {"error": "on holiday"}}]
    + [{"data": [], "metadata": "x"}, {"data": [], "metadata": [1]}],
)
def test_nonsense_is_an_error_and_not_an_empty_history(server, provider, document):
    server.answer = lambda _: Reply.json(document)
    with pytest.raises(ProviderUnavailable, match=r"answered nonsense|on holiday"):
        provider.fetch_index(ALL, CLOCK)


def test_an_empty_history_is_no_error(server, provider):
    server.entries = []
    fetched = provider.fetch_index(ALL, CLOCK)
    assert (len(fetched.rows), fetched.failures) == (0, {})


def test_the_fake_writes_what_the_vendor_writes(server):
    # An answer of the vendor as it stood in February 2019.
    real = json.loads(
        '{"name": "Fear and Greed Index", "data": [{"value": "40", "value_classification": "Fear",'
        ' "timestamp": "1551157200", "time_until_update": "68499"}], "metadata": {"error": null}}'
    )
    fake = json.loads(server.answer(Asked("/fng/", {"limit": "1"}, {})).body)
    assert fake.keys() == real.keys()
    assert fake["data"][0].keys() == real["data"][0].keys()
    assert all(isinstance(value, str) for value in fake["data"][0].values())


@pytest.mark.live
def test_the_vendor_still_answers_like_that():
    fetched = FearGreedProvider().fetch_index(ALL, SystemClock())
    assert fetched.failures == {}
    assert len(fetched.rows) > 2000
    assert fetched.rows.filter(pl.col("ts") == datetime(2018, 2, 1, tzinfo=UTC))["value"][0] == 30
