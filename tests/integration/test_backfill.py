"""Backfill: what is missing is fetched once, from whoever has it, and never known too early."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.domain.market import FixedClock, trading_calendar
from candlecast.domain.resample import resample_all
from candlecast.errors import BadFrame, InvalidSpec, NotFound, ProviderUnavailable, RateLimited
from candlecast.pipelines.backfill import Wanted, backfill
from candlecast.pipelines.missing import windows, without
from candlecast.pipelines.resample import derive_changed
from candlecast.pipelines.universe import read_market
from candlecast.providers.simulated import SimulatedProvider
from candlecast.store.bars import read_bars
from candlecast.store.coverage import read_coverage
from candlecast.store.pins import pin
from pipeline_rows import at, opened
from vendor import MINUTE, Boasting, Short, Vendor, symbols, true_minutes

FIRST = datetime(2024, 3, 6, tzinfo=UTC)  # clocks change on the tenth
NIGHT = datetime(2024, 3, 14, 1, tzinfo=UTC)
TRUTH = true_minutes("A", "B", start=FIRST, n_sessions=6)
WANTED = Wanted(symbols("A", "B"), MINUTE, start=FIRST)


def stored(stores, **chosen):
    return read_bars(stores.database, MINUTE, **chosen)


def values(bars):
    return bars.select("symbol", "ts", "open", "high", "low", "close", "volume")


def test_all_that_a_vendor_has_is_stored_and_asked_for_once(database_url, tmp_path):
    vendor = Vendor(TRUTH)
    with opened(database_url, tmp_path, NIGHT) as stores:
        run = backfill(stores, {"vendor": vendor}, WANTED)
        assert run.written.inserted == len(TRUTH)
        assert values(stored(stores)).equals(values(TRUTH))
        assert (stored(stores)["known_at"] - stored(stores)["ts"]).unique().to_list() == [
            timedelta(minutes=1)
        ]
        vendor.requests.clear()
        again = backfill(stores, {"vendor": vendor}, replace(WANTED, recheck=timedelta(0)))
        assert (again.written.inserted, vendor.requests) == (0, [])
        backfill(stores, {"vendor": vendor}, WANTED)
        assert min(r.start for r in vendor.requests) == NIGHT - timedelta(days=4)


def test_a_minute_without_a_trade_is_covered_and_so_not_missing(database_url, tmp_path):
    with opened(database_url, tmp_path, NIGHT) as stores:
        backfill(stores, {"vendor": Vendor(TRUTH)}, WANTED)
        spans = read_coverage(stores.database, MINUTE)
        assert spans.rows() == [("A", FIRST, NIGHT), ("B", FIRST, NIGHT)]


def test_who_was_stopped_goes_on_where_he_was(tmp_path):
    long = true_minutes("A", "B", start=FIRST, n_sessions=30)
    late = datetime(2024, 5, 1, tzinfo=UTC)
    answers = []

    def breaks(request):
        answers.append(request)
        if len(answers) == 3:
            raise ProviderUnavailable("the line is dead; try again")

    vendor = Vendor(long, fault=breaks)
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, late) as stores:
        run = backfill(stores, {"vendor": vendor}, WANTED)
        assert set(run.failures) == {"A", "B"}
        assert "vendor: the line is dead" in run.failures["A"]
        reached = stored(stores)["ts"].max()
        assert reached < long["ts"].max()
        asked = vendor.requests[2].start
        vendor.requests.clear()
        healed = backfill(stores, {"vendor": vendor}, WANTED)
        assert healed.failures == {}
        assert vendor.requests[0].start == asked
        assert values(stored(stores)).equals(values(long))
        # None of it is late: it is still the first backfill.
        assert set(stored(stores)["known_at"] - stored(stores)["ts"]) == {timedelta(minutes=1)}


def test_the_next_provider_fills_in_and_every_bar_says_whose_it_is(database_url, tmp_path):
    first = Vendor(TRUTH, source="first", fault=lambda _: {"B": "no such symbol"})
    second = Vendor(TRUTH, source="second")
    with opened(database_url, tmp_path, NIGHT) as stores:
        run = backfill(stores, {"first": first, "second": second}, WANTED)
        assert run.failures == {}
        pairs = stored(stores).select("symbol", "source").unique().sort("symbol").rows()
        assert pairs == [("A", "first"), ("B", "second")]
        assert {r.tickers for r in second.requests} == {("B",)}


def test_a_throttled_provider_hands_over_and_all_reasons_are_told(tmp_path):
    def throttled(_):
        raise RateLimited("vendor one asks to wait 30 s; ask less often", 30)

    one, two = Vendor(TRUTH, fault=throttled), Vendor(TRUTH, fault=lambda _: {"A": "unknown"})
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, NIGHT) as stores:
        run = backfill(stores, {"one": one, "two": two}, WANTED)
        assert set(run.failures) == {"A"}
        assert "one: vendor one asks to wait 30 s" in run.failures["A"]
        assert "two: unknown" in run.failures["A"]
        assert stored(stores)["symbol"].unique().to_list() == ["B"]


def test_the_next_provider_is_asked_for_what_lies_before_a_shorter_history(tmp_path):
    begins = FIRST + timedelta(days=2)
    short = Short(TRUTH, source="short", begins=begins)
    whole = Vendor(TRUTH, source="whole")
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, NIGHT) as stores:
        run = backfill(stores, {"short": short, "whole": whole}, WANTED)
        assert run.failures == {}
        bars = stored(stores)
        assert values(bars).equals(values(TRUTH))
        assert set(bars.filter(pl.col("ts") < begins)["source"]) == {"whole"}
        assert set(bars.filter(pl.col("ts") >= begins)["source"]) == {"short"}
        alone = backfill(stores, {"short": short}, replace(WANTED, symbols=symbols("C")))
        assert "no bars of this span" in alone.failures["C"]


def test_an_answer_that_makes_no_sense_does_not_stop_the_others(tmp_path):
    def nonsense(_):
        raise BadFrame("a page holds no bars")

    broken, whole = Vendor(TRUTH, fault=nonsense), Vendor(TRUTH, source="whole")
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, NIGHT) as stores:
        assert backfill(stores, {"broken": broken, "whole": whole}, WANTED).failures == {}
        assert values(stored(stores)).equals(values(TRUTH))


def test_a_symbol_asks_its_own_providers_in_its_own_order(tmp_path):
    one, two = Vendor(TRUTH, source="one"), Vendor(TRUTH, source="two")
    chosen = (*symbols("A", providers=("two", "one")), *symbols("B"))
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, NIGHT) as stores:
        backfill(stores, {"one": one, "two": two}, replace(WANTED, symbols=chosen))
        pairs = stored(stores).select("symbol", "source").unique().sort("symbol").rows()
        assert pairs == [("A", "two"), ("B", "one")]
        stranger = replace(WANTED, symbols=symbols("A", providers=("three",)))
        with pytest.raises(NotFound, match="provider of A 'three'"):
            backfill(stores, {"one": one}, stranger)


def test_invented_bars_come_last_when_allowed_and_give_way_to_real_ones(database_url, tmp_path):
    def dead(_):
        raise ProviderUnavailable("no answer")

    vendor, invented = Vendor(TRUTH, fault=dead), SimulatedProvider()
    allowed = replace(WANTED, is_simulation_allowed=True)
    with opened(database_url, tmp_path, NIGHT) as stores:
        with pytest.raises(InvalidSpec, match="--allow-simulated"):
            backfill(stores, {"vendor": vendor, "simulated": invented}, WANTED)
        with pytest.raises(InvalidSpec, match="name it last"):
            backfill(stores, {"simulated": invented, "vendor": vendor}, allowed)
        assert stored(stores).is_empty()
        backfill(stores, {"vendor": vendor, "simulated": invented}, allowed)
        assert stored(stores)["source"].unique().to_list() == ["simulated"]
    vendor.fault = None
    with opened(database_url, tmp_path, NIGHT + timedelta(hours=1)) as stores:
        backfill(stores, {"vendor": vendor}, WANTED)
        real = stored(stores).filter(pl.col("source") == "vendor")
        assert values(real).equals(values(TRUTH))
        assert set(real["known_at"]) == {NIGHT + timedelta(hours=1)}
        # And they never come back over a real bar.
        backfill(stores, {"simulated": invented}, replace(allowed, recheck=timedelta(days=30)))
        assert stored(stores).filter(pl.col("source") == "vendor").equals(real)


def test_a_bar_that_appears_where_all_was_answered_is_known_from_then_on(database_url, tmp_path):
    ts = TRUTH.filter(pl.col("symbol") == "A")["ts"][500]
    shown_at = NIGHT + timedelta(hours=2)
    vendor = Vendor(TRUTH, hidden=[("A", ts, shown_at)])
    with opened(database_url, tmp_path, NIGHT) as stores:
        backfill(stores, {"vendor": vendor}, WANTED)
        assert len(stored(stores)) == len(TRUTH) - 1
        backfill(at(stores, shown_at), {"vendor": vendor}, replace(WANTED, recheck=timedelta(30)))
        (late,) = stored(stores).filter(symbol="A", ts=ts)["known_at"]
        assert late == shown_at
        assert len(stored(stores, as_of=NIGHT)) == len(TRUTH) - 1


def test_what_a_provider_says_beyond_the_question_is_not_believed(tmp_path):
    vendor = Boasting(TRUTH)
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, NIGHT) as stores:
        start = FIRST + timedelta(days=1)
        backfill(stores, {"vendor": vendor}, replace(WANTED, symbols=symbols("A"), start=start))
        assert stored(stores)["symbol"].unique().to_list() == ["A"]
        assert stored(stores)["ts"].min() >= start
        assert read_coverage(stores.database, MINUTE).rows() == [("A", start, NIGHT)]


def test_training_reads_the_real_bars_that_replaced_invented_ones(tmp_path):
    def dead(_):
        raise ProviderUnavailable("no answer")

    vendor = Vendor(TRUTH, fault=dead)
    chain = {"vendor": vendor, "simulated": SimulatedProvider()}
    allowed = replace(WANTED, is_simulation_allowed=True)
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, NIGHT) as stores:
        run = backfill(stores, chain, allowed)
        assert "no answer; bars were invented" in run.failures["A"]
    vendor.fault = None
    seen_at = NIGHT + timedelta(hours=1)
    with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, seen_at) as stores:
        backfill(stores, chain, allowed)
        for is_newest in (False, True):
            market = read_market(
                stores, MINUTE, (), None, is_newest=is_newest, is_simulation_allowed=False
            )
            assert market.prices.select("symbol", "ts").equals(TRUTH.select("symbol", "ts"))
            assert market.prices["close"].equals(TRUTH["close"])
            assert set(market.prices["known_at"]) == {seen_at}
            assert market.simulated == frozenset()


def test_coarser_bars_follow_corrections_healed_gaps_and_older_history(database_url, tmp_path):
    ts = TRUTH.filter(pl.col("symbol") == "A")["ts"][600]
    hidden = TRUTH.filter(symbol="B")["ts"][500:560]
    later = NIGHT + timedelta(hours=1)
    vendor = Vendor(
        TRUTH,
        corrections=[(later, "A", ts, 999.0)],
        hidden=[("B", moment, later) for moment in hidden],
    )
    younger = replace(WANTED, start=FIRST + timedelta(days=1))
    whole = replace(WANTED, recheck=timedelta(days=30))
    with opened(database_url, tmp_path, NIGHT) as stores:
        backfill(stores, {"vendor": vendor}, younger)
        derive_changed(stores, MINUTE)
        here = at(stores, later)
        backfill(here, {"vendor": vendor}, whole)
        derive_changed(here, MINUTE)
        calendars = dict.fromkeys(("A", "B"), trading_calendar("XNYS"))
        for target, bars in resample_all(stored(stores), MINUTE, calendars, as_of=later).items():
            made = read_bars(stores.database, target)
            assert values(made).equals(values(bars)), target
        again = derive_changed(here, MINUTE).values()
        assert {(written.inserted, written.revised) for written in again} == {(0, 0)}


def test_newer_bars_were_known_when_they_ended_unless_something_was_made_without_them(
    database_url, tmp_path
):
    noon = datetime(2024, 3, 8, 17, tzinfo=UTC)
    made_of = noon + timedelta(hours=1)
    vendor = Vendor(TRUTH)
    with opened(database_url, tmp_path, noon) as stores:
        backfill(stores, {"vendor": vendor}, WANTED)
        pin(stores.database, MINUTE, ["A", "B"], made_of)
        backfill(at(stores, NIGHT), {"vendor": vendor}, WANTED)
        bars = stored(stores)
        natural = bars["ts"] + timedelta(minutes=1)
        is_between = (natural > noon) & (natural <= made_of)
        assert is_between.sum() > 50
        assert set(bars.filter(is_between)["known_at"]) == {NIGHT}
        assert (bars.filter(~is_between)["known_at"] == natural.filter(~is_between)).all()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("correct"), st.integers(0, 10_000), st.floats(50, 150)),
        st.tuples(st.just("hide"), st.integers(0, 10_000), st.integers(1, 20)),
        st.tuples(st.just("fail"), st.sampled_from(["A", "B"]), st.just(0)),
    ),
    max_size=8,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=EVENTS, steps=st.lists(st.integers(1, 30), min_size=3, max_size=6))
def test_what_was_read_as_of_an_instant_is_read_again_whatever_came_since(
    tmp_path_factory, events, steps
):
    folder = tmp_path_factory.mktemp("reads")
    vendor = Vendor(TRUTH)
    keys = TRUTH.select("symbol", "ts").rows()
    now = FIRST + timedelta(hours=20)
    seen = {}
    with opened(f"sqlite:///{folder}/a.db", folder, now) as stores:
        for number, step in enumerate(steps):
            failing = set()
            for kind, what, how in events[number::3]:
                if kind == "fail":
                    failing.add(what)
                elif kind == "correct":
                    vendor.corrections.append((now, *keys[what % len(keys)], how))
                else:
                    vendor.hidden.append((*keys[what % len(keys)], now + timedelta(hours=how)))
            vendor.fault = lambda _, names=failing: dict.fromkeys(names, "away")
            here = replace(stores, clock=FixedClock(now))
            backfill(here, {"vendor": vendor}, replace(WANTED, recheck=timedelta(days=30)))
            for (earlier, tickers), frame in seen.items():
                assert stored(stores, as_of=earlier, symbols=tickers).equals(frame)
                assert stores.mirror.read(MINUTE, as_of=earlier, symbols=tickers).equals(frame)
            begun = tuple(stored(stores)["symbol"].unique().sort())  # no symbol's first backfill
            for hours in (0, 3, 30) if begun else ():
                as_of = now - timedelta(hours=hours)
                seen[as_of, begun] = stored(stores, as_of=as_of, symbols=begun)
            pin(stores.database, MINUTE, begun, now)
            now += timedelta(hours=step)
        now += timedelta(days=30)
        vendor.fault = None
        here = replace(stores, clock=FixedClock(now))
        backfill(here, {"vendor": vendor}, replace(WANTED, recheck=timedelta(days=90)))
        assert values(stored(stores)).equals(values(vendor.as_seen(now)))


@given(
    span=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    taken=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6),
)
def test_what_is_left_of_a_span_is_what_no_other_span_holds(span, taken):
    def instant(hour):
        return FIRST + timedelta(hours=hour)

    pairs = [(instant(a), instant(b)) for a, b in taken if a < b]
    left = without((instant(span[0]), instant(span[1])), pairs)
    held = {h for a, b in taken for h in range(a, b)}
    expected = {h for h in range(*span) if h not in held}
    assert {h for h in range(60) if any(a <= instant(h) < b for a, b in left)} == expected
    assert left == sorted(left)


def test_windows_follow_one_another():
    parts = list(windows((FIRST, NIGHT), timedelta(days=3)))
    assert [b for _, b in parts[:-1]] == [a for a, _ in parts[1:]]
    assert (parts[0][0], parts[-1][1]) == (FIRST, NIGHT)
    assert np.unique([b - a for a, b in parts[:-1]]).tolist() == [timedelta(days=3)]
