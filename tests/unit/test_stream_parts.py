"""What a stream is made of: the judgement of silence, waits, gaps, the inlet and replayed time."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.sources import Fetched, Quote, Request, Trade
from candlecast.errors import InvalidSpec, NotFound, ProviderUnavailable, RateLimited
from candlecast.pipelines.healing import Gaps, Healer
from candlecast.pipelines.inlet import Alive, Inlet
from candlecast.pipelines.polling import PollingSource
from candlecast.pipelines.replay import ReplayClock, ReplaySource
from candlecast.pipelines.watchdog import Backoff, Reconciler, Watchdog
from stream_feeds import seeded_bars, unstamped

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
FRIDAY_OPEN = datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
FRIDAY_CLOSE = datetime(2024, 3, 8, 21, 0, tzinfo=UTC)
MONDAY_OPEN = datetime(2024, 3, 11, 13, 30, tzinfo=UTC)  # the clocks have changed
HALF_DAY_CLOSE = datetime(2024, 7, 3, 17, 0, tzinfo=UTC)


def dog(heard_at, calendars=("XNYS",)):
    return Watchdog(calendars, 2 * MINUTE, heard_at)


@pytest.mark.parametrize(
    ("heard_at", "now", "is_dead"),
    [
        (FRIDAY_OPEN + MINUTE, FRIDAY_OPEN + 2 * MINUTE, False),
        (FRIDAY_OPEN + MINUTE, FRIDAY_OPEN + 3 * MINUTE, True),
        (FRIDAY_OPEN - 60 * MINUTE, FRIDAY_OPEN - MINUTE, False),
        (FRIDAY_OPEN - 60 * MINUTE, FRIDAY_OPEN + MINUTE, False),
        (FRIDAY_OPEN - 60 * MINUTE, FRIDAY_OPEN + 2 * MINUTE, True),
        (FRIDAY_CLOSE - MINUTE, FRIDAY_CLOSE + 5 * MINUTE, False),
        (FRIDAY_CLOSE, MONDAY_OPEN + MINUTE, False),
        (FRIDAY_CLOSE, MONDAY_OPEN + 2 * MINUTE, True),
        (HALF_DAY_CLOSE, HALF_DAY_CLOSE + 60 * MINUTE, False),
    ],
)
def test_silence_counts_only_while_the_market_is_open(heard_at, now, is_dead):
    assert dog(heard_at).is_dead(now, heard_at) is is_dead


def test_one_open_market_is_enough():
    watchdog = dog(FRIDAY_CLOSE, ("XNYS", "24/7"))
    assert watchdog.is_dead(FRIDAY_CLOSE + 3 * MINUTE, FRIDAY_CLOSE)


def test_a_new_connection_is_given_time():
    watchdog = dog(FRIDAY_OPEN)
    now = FRIDAY_OPEN + 10 * MINUTE
    assert not watchdog.is_dead(now, now - MINUTE)
    assert watchdog.is_dead(now, now - 2 * MINUTE)


def test_true_silence_is_believed_twice_as_long_each_time_until_something_is_heard():
    watchdog = dog(FRIDAY_OPEN)
    for n_true in range(8):
        limit = 2 * MINUTE * 2 ** min(n_true, 4)
        assert not watchdog.is_dead(FRIDAY_OPEN + limit - SECOND, FRIDAY_OPEN)
        assert watchdog.is_dead(FRIDAY_OPEN + limit, FRIDAY_OPEN)
        watchdog.found_true()
    watchdog.hear(FRIDAY_OPEN + MINUTE)
    assert watchdog.is_dead(FRIDAY_OPEN + 3 * MINUTE, FRIDAY_OPEN)


def test_waits_double_up_to_the_cap_with_full_jitter_and_start_anew_after_health():
    draws = np.array(
        [
            [backoff.wait_seconds(timedelta(0), None) for _ in range(9)]
            for backoff in (Backoff(np.random.default_rng(seed)) for seed in range(400))
        ]
    )
    limits = np.minimum(60.0, 2.0 ** np.arange(9))
    assert (draws >= 0).all()
    assert (draws <= limits).all()
    assert (draws.min(axis=0) < 0.02 * limits).all(), "jitter reaches down to nothing"
    assert (draws.max(axis=0) > 0.98 * limits).all()
    assert abs(draws.mean(axis=0) / limits - 0.5).max() < 0.1
    backoff = Backoff(np.random.default_rng(0))
    for _ in range(9):
        backoff.wait_seconds(timedelta(0), None)
    assert backoff.wait_seconds(timedelta(seconds=60), None) <= 1.0


def test_a_vendor_that_asks_for_a_pause_gets_at_least_that():
    backoff = Backoff(np.random.default_rng(0))
    asked = backoff.wait_seconds(timedelta(0), RateLimited("slow down", 42.0))
    assert 42.0 <= asked <= 43.0


def test_gaps_are_joined_asked_for_together_and_settled_bit_by_bit():
    gaps = Gaps()
    gaps.add(["B", "A"], FRIDAY_OPEN, FRIDAY_OPEN + 5 * MINUTE)
    gaps.add(["A"], FRIDAY_OPEN + 8 * MINUTE, FRIDAY_OPEN + 9 * MINUTE)
    gaps.add(["C"], FRIDAY_OPEN, FRIDAY_OPEN)
    published = FRIDAY_OPEN + 7 * MINUTE
    assert gaps.questions(published) == [
        (["B"], (FRIDAY_OPEN, FRIDAY_OPEN + 5 * MINUTE)),
        (["A"], (FRIDAY_OPEN, published)),
    ]
    gaps.settle({"A": (FRIDAY_OPEN, published), "B": (FRIDAY_OPEN, published)})
    assert gaps.spans == {"A": (published, FRIDAY_OPEN + 9 * MINUTE)}
    gaps.settle({"A": (published + MINUTE, FRIDAY_CLOSE)})
    assert gaps.spans, "its beginning is still missing"


def test_many_symbols_are_asked_for_some_at_a_time():
    gaps = Gaps()
    names = [f"S{number:03}" for number in range(120)]
    gaps.add(names, FRIDAY_OPEN, FRIDAY_CLOSE)
    asked = [tickers for tickers, _ in gaps.questions(FRIDAY_CLOSE)]
    assert [ticker for tickers in asked for ticker in tickers] == names
    assert max(map(len, asked)) == 50


def test_a_feed_without_archive_says_so_once_and_goes_on():
    told = []
    healer = Healer(None, {"A": Symbol("A")}, FixedClock(FRIDAY_CLOSE), lambda _: 0, told.append)
    healer.gaps.add(["A"], FRIDAY_OPEN, FRIDAY_CLOSE)
    assert healer.heal() == healer.heal() == 0
    assert len(told) == 1


def test_a_session_that_has_ended_is_asked_for_once():
    symbols = [Symbol("A"), Symbol("B", calendar="24/7")]
    reconciler = Reconciler(symbols, 15 * MINUTE, FRIDAY_CLOSE - 5 * MINUTE)
    for ticker in ("A", "B"):
        reconciler.hear(ticker, FRIDAY_CLOSE - MINUTE)
    assert reconciler.due(FRIDAY_CLOSE + MINUTE) == []
    due = reconciler.due(FRIDAY_CLOSE + 2 * MINUTE)
    assert [(tickers, end) for tickers, _, end in due] == [(["A"], FRIDAY_CLOSE)]
    assert reconciler.due(FRIDAY_CLOSE + 3 * MINUTE) == []


def test_a_full_inlet_holds_the_feed_back_and_drops_nothing():
    inlet = Inlet(capacity=3)
    ticks = [Trade("A", FRIDAY_OPEN, 1.0, 1.0, str(number)) for number in range(100)]
    thread = threading.Thread(target=lambda: [inlet(tick) for tick in ticks])
    thread.start()
    taken = []
    while len(taken) < len(ticks):
        events = inlet.take(1.0)
        assert len(events) <= 3
        taken += events
    thread.join()
    assert taken == ticks


def test_a_closed_inlet_lets_everyone_go_and_still_gives_what_it_holds():
    inlet = Inlet(capacity=1)
    inlet(Trade("A", FRIDAY_OPEN, 1.0, 1.0))
    waiting = [
        threading.Thread(target=inlet, args=(Trade("A", FRIDAY_OPEN, 2.0, 1.0),)),
        threading.Thread(target=inlet.wait_until_done),
    ]
    for thread in waiting:
        thread.start()
    inlet.close()
    for thread in waiting:
        thread.join()
    assert [event.price for event in inlet.take(0.0)] == [1.0]


def test_of_quotes_the_newest_stands_for_all():
    inlet = Inlet(capacity=1)
    for number in range(50):
        inlet(Quote("A", FRIDAY_OPEN + number * SECOND, 1.0, 2.0, 1.0, 1.0))
    assert inlet.take_quotes()["A"].at == FRIDAY_OPEN + 49 * SECOND
    assert inlet.take_quotes() == {}


def test_a_replays_archive_knows_nothing_of_its_future():
    bars = unstamped(seeded_bars(["A"], FRIDAY_OPEN, 60))
    clock = ReplayClock(FRIDAY_OPEN + 10 * MINUTE)
    source = ReplaySource(bars, clock)
    request = Request((Symbol("A"),), FRIDAY_OPEN, FRIDAY_CLOSE)
    fetched = source.fetch_bars(request, Timeframe(1), clock)
    assert fetched.bars["ts"].max() == FRIDAY_OPEN + 9 * MINUTE
    assert fetched.covered == {"A": (FRIDAY_OPEN, FRIDAY_OPEN + 10 * MINUTE)}


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_replay_that_would_never_end_is_refused(speed):
    with pytest.raises(InvalidSpec, match="positive"):
        ReplayClock(FRIDAY_OPEN, speed)


def test_replayed_time_stands_before_the_replay_and_runs_at_its_speed():
    clock = ReplayClock(FRIDAY_OPEN, speed=1e6)
    assert clock.now() == FRIDAY_OPEN
    clock.run()
    assert clock.reach(FRIDAY_OPEN + 10 * MINUTE, threading.Event())
    assert clock.now() >= FRIDAY_OPEN + 10 * MINUTE
    stop = threading.Event()
    stop.set()
    assert not clock.reach(FRIDAY_CLOSE + timedelta(days=365), stop)


class Archive:
    """Answers with one bar a minute until an error is due."""

    delay_seconds = 0.0

    def __init__(self, error_after=None, failures=None):
        self.n_asked, self.error_after, self.failures = 0, error_after, failures or {}

    def fetch_bars(self, request, timeframe, clock):
        self.n_asked += 1
        if self.error_after is not None and self.n_asked > self.error_after:
            raise ProviderUnavailable("gone")
        n_minutes = int((request.end - request.start) / MINUTE)
        bars = unstamped(seeded_bars(["A"], request.start, n_minutes))
        covered = dict.fromkeys(request.tickers, (request.start, request.end))
        return Fetched(bars, failures=self.failures, covered=covered)


def test_polling_hands_over_the_last_minutes_and_vouches_for_them():
    inlet = Inlet()
    clock = FixedClock(FRIDAY_OPEN + 10 * MINUTE + 3 * SECOND)
    feed = PollingSource(Archive()).open_feed(clock)
    feed.connect([Symbol("A")], inlet)
    feed.close()
    *bars, alive = inlet.take(0.0)
    assert [bar.ts for bar in bars] == [FRIDAY_OPEN + number * MINUTE for number in range(5, 10)]
    assert alive == Alive(FRIDAY_OPEN + 10 * MINUTE)


def test_polling_that_fails_ends_the_feed_with_the_reason():
    clock = ReplayClock(FRIDAY_OPEN + 3 * SECOND, speed=60_000)
    feed = PollingSource(Archive(error_after=3)).open_feed(clock)
    clock.run()
    feed.connect([Symbol("A")], Inlet())
    feed._thread.join(timeout=30)
    assert isinstance(feed.failure, ProviderUnavailable)
    feed.close()


def test_polling_for_symbols_that_nobody_knows_is_refused_at_once():
    feed = PollingSource(Archive(failures={"A": "unknown symbol"})).open_feed(
        FixedClock(FRIDAY_OPEN)
    )
    with pytest.raises(NotFound, match="A: unknown symbol"):
        feed.connect([Symbol("A")], Inlet())
    feed.close()
