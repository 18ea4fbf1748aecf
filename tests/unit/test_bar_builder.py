"""Bars from ticks: whatever order they come in, the bar is what the trades say."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.bar_builder import BarBuilder, Delays
from candlecast.domain.sources import FeedBar, Trade

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
START = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)


def trade(seconds, price=10.0, size=1.0, *, symbol="A", name=""):
    return Trade(symbol, START + seconds * SECOND, price, size, name)


def vendors_bar(minute=0, close=11.0, *, symbol="A", volume=5.0):
    return FeedBar(symbol, START + minute * MINUTE, 10.0, 12.0, 9.0, close, volume)


def built(*ticks, at_seconds, builder=None):
    """The bars closed by then; each tick comes at its own time, late ones after the newest."""
    builder = builder or BarBuilder()
    for tick in ticks:
        at = tick.ts + MINUTE if isinstance(tick, FeedBar) else tick.at
        builder.add(tick, min(max(at, builder.newest_at), START + at_seconds * SECOND))
    return builder.closed(START + at_seconds * SECOND)


def expected_bar(trades):
    """What a bar is, said plainly."""
    ordered = sorted(trades, key=lambda item: item.at)
    prices = [item.price for item in ordered]
    volume = sum(item.size for item in ordered)
    money = sum(item.price * item.size for item in ordered)
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": pytest.approx(volume),
        "vwap": pytest.approx(money / volume),
        "trade_count": len(ordered),
    }


def as_values(bar):
    names = ("open", "high", "low", "close", "volume", "vwap", "trade_count")
    return {name: getattr(bar, name) for name in names}


ticks = st.lists(
    st.tuples(
        st.integers(0, 59_999_999),
        st.floats(1.0, 100.0).map(lambda price: round(price, 2)),
        st.integers(1, 500).map(float),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda item: item[0],
)


@settings(max_examples=50)
@given(ticks, st.randoms(use_true_random=False), st.data())
def test_any_order_and_any_repetition_of_trades_gives_the_same_bar(drawn, order, data):
    trades = [
        Trade("A", START + timedelta(microseconds=at), price, size, str(number))
        for number, (at, price, size) in enumerate(drawn)
    ]
    repeated = trades + data.draw(st.lists(st.sampled_from(trades), max_size=10))
    order.shuffle(repeated)
    (bar,) = built(*repeated, at_seconds=75)
    assert as_values(bar) == expected_bar(trades)


def test_a_minute_closes_when_the_vendors_time_has_passed_it_by_the_grace():
    builder = BarBuilder()
    assert built(trade(10), trade(61.5), at_seconds=61.6, builder=builder) == []
    closed = built(trade(62), at_seconds=62, builder=builder)
    assert [bar.ts for bar in closed] == [START]


def test_without_further_ticks_our_own_clock_closes_the_minute_after_the_patience():
    builder = BarBuilder()
    builder.add(trade(59), START + 59 * SECOND)
    assert builder.closed(START + 74 * SECOND) == []
    assert [bar.ts for bar in builder.closed(START + 75 * SECOND)] == [START]
    assert builder.closed(START + 76 * SECOND) == []


def test_a_trade_within_the_grace_still_counts_and_a_later_one_corrects_the_bar():
    builder = BarBuilder()
    first = built(trade(10, 10.0), trade(61, 20.0), trade(59, 15.0), at_seconds=62, builder=builder)
    assert first == []
    (bar,) = built(trade(63, 20.0), at_seconds=63, builder=builder)
    assert (bar.close, bar.trade_count) == (15.0, 2)
    (corrected,) = built(trade(5, 8.0), at_seconds=70, builder=builder)
    assert (corrected.ts, corrected.open, corrected.low, corrected.trade_count) == (START, 8, 8, 3)


def test_a_repeated_trade_id_counts_once_even_after_the_bar_has_closed():
    builder = BarBuilder()
    (bar,) = built(trade(10, name="x"), trade(11, name="x"), at_seconds=80, builder=builder)
    assert bar.trade_count == 1
    assert built(trade(10, name="x"), at_seconds=81, builder=builder) == []


def test_the_same_id_of_two_symbols_is_two_trades():
    closed = built(trade(10, name="x"), trade(10, name="x", symbol="B"), at_seconds=80)
    assert [bar.symbol for bar in closed] == ["A", "B"]


def test_the_vendors_bar_is_taken_at_once_and_wins_over_our_own():
    builder = BarBuilder()
    own = built(trade(10), trade(63), at_seconds=63, builder=builder)
    assert [bar.trade_count for bar in own] == [1]
    assert built(vendors_bar(), at_seconds=64, builder=builder) == [vendors_bar()]
    assert built(trade(20), at_seconds=65, builder=builder) == []


def test_where_the_vendor_sends_bars_our_own_build_waits_for_it():
    builder = BarBuilder()
    built(vendors_bar(0), at_seconds=61, builder=builder)
    assert built(trade(70), trade(125), at_seconds=125, builder=builder) == []
    assert built(vendors_bar(1), at_seconds=126, builder=builder) == [vendors_bar(1)]
    closed = built(at_seconds=136, builder=builder)
    assert closed == []


def test_where_the_vendors_bar_does_not_come_our_own_is_closed_after_the_patience():
    builder = BarBuilder()
    built(vendors_bar(0), at_seconds=60, builder=builder)
    built(trade(70), trade(125), at_seconds=125, builder=builder)
    (bar,) = built(at_seconds=140, builder=builder)
    assert (bar.ts, bar.trade_count) == (START + MINUTE, 1)


def test_a_second_bar_of_the_vendor_is_a_correction_and_a_repeated_one_is_nothing():
    builder = BarBuilder()
    assert built(vendors_bar(), at_seconds=60, builder=builder) == [vendors_bar()]
    assert built(vendors_bar(), at_seconds=61, builder=builder) == []
    corrected = vendors_bar(close=11.5)
    assert built(corrected, at_seconds=90, builder=builder) == [corrected]


def test_a_correction_an_hour_late_is_passed_on_although_the_minute_is_forgotten():
    builder = BarBuilder()
    built(vendors_bar(), at_seconds=60, builder=builder)
    built(vendors_bar(60), at_seconds=3660, builder=builder)
    corrected = vendors_bar(close=11.5)
    assert built(corrected, at_seconds=3670, builder=builder) == [corrected]


def test_minutes_without_a_trade_have_no_bar():
    builder = BarBuilder()
    built(trade(10), at_seconds=10, builder=builder)
    closed = built(trade(190), at_seconds=190, builder=builder)
    assert [bar.ts for bar in closed] == [START]


def test_minutes_that_an_outage_touches_have_no_own_bar_but_take_the_vendors():
    builder = BarBuilder()
    built(trade(10), at_seconds=10, builder=builder)
    builder.interrupt(START + 30 * SECOND)
    builder.add(trade(40), START + 40 * SECOND)
    builder.resume(START + 80 * SECOND)
    built(trade(90), trade(130), at_seconds=130, builder=builder)
    closed = builder.closed(START + 300 * SECOND)
    assert [bar.ts for bar in closed] == [START + 2 * MINUTE]
    assert built(vendors_bar(1), at_seconds=301, builder=builder) == [vendors_bar(1)]


def test_a_minute_that_ended_before_an_outage_is_closed_in_spite_of_it():
    builder = BarBuilder()
    built(trade(10), trade(59), at_seconds=59, builder=builder)
    builder.interrupt(START + 63 * SECOND)
    assert [bar.ts for bar in builder.closed(START + 90 * SECOND)] == [START]


def test_the_forming_bar_can_be_read_until_it_closes():
    builder = BarBuilder()
    assert builder.forming("A", START) is None
    built(trade(10, 10.0), trade(20, 12.0), at_seconds=20, builder=builder)
    forming = builder.forming("A", START + 20 * SECOND)
    assert (forming.ts, forming.open, forming.close) == (START, 10.0, 12.0)
    builder.closed(START + 90 * SECOND)
    assert builder.forming("A", START + 90 * SECOND) is None


@pytest.mark.parametrize(
    ("tick", "reason"),
    [
        (trade(10, 0.0), "no positive number"),
        (trade(10, float("nan")), "no positive number"),
        (trade(10, 1.0, -1.0), "negative"),
        (trade(200), "ahead of our clock"),
        (vendors_bar(close=-1.0), "no positive number"),
        (vendors_bar(close=13.0), "outside its low and high"),
        (vendors_bar(volume=float("inf")), "no number"),
        (FeedBar("A", START + SECOND, 1, 1, 1, 1, 1), "no start of a minute"),
    ],
)
def test_what_cannot_be_true_is_refused_with_the_reason(tick, reason):
    builder = BarBuilder()
    assert built(tick, at_seconds=60, builder=builder) == []
    (refused,) = builder.refused
    assert refused.tick == tick
    assert reason in refused.reason


def test_a_trade_too_late_for_a_correction_is_refused_not_forgotten():
    builder = BarBuilder()
    built(trade(10), trade(610), trade(700), trade(20), at_seconds=700, builder=builder)
    assert [refused.reason for refused in builder.refused] == ["it came 680 s late"]


def test_one_wrong_instant_in_the_future_does_not_close_the_minutes_before_it():
    builder = BarBuilder()
    assert built(trade(10), trade(3600), at_seconds=20, builder=builder) == []
    assert builder.newest_at == START + 10 * SECOND


def test_memory_does_not_grow_with_time():
    builder = BarBuilder(Delays(window=5 * MINUTE))
    sizes = []
    for minute in range(60):
        now = START + (minute + 1) * MINUTE + 20 * SECOND
        for symbol in ("A", "B", "C"):
            late = trade(60 * minute + 30, symbol=symbol, name=str(minute))
            builder.add(late, late.at)
        assert len(builder.closed(now)) == 3
        sizes.append(builder.n_minutes)
    assert max(sizes) == sizes[-1] <= 3 * 8
