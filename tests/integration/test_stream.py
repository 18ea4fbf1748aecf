"""A live stream against a vendor that plays a script: what is stored is what was traded."""

import threading
from datetime import timedelta

import polars as pl
import pytest

from candlecast.domain.sources import Quote, Trade
from candlecast.errors import BadCredentials, InvalidSpec, ProviderUnavailable, RateLimited
from candlecast.pipelines import healing
from candlecast.store.bars import read_bars
from candlecast.store.coverage import read_coverage
from candlecast.store.quarantine import read_quarantine
from candlecast.store.quotes import read_quotes
from stream_feeds import (
    CLOSE,
    MINUTE,
    ONE,
    ManualClock,
    Mute,
    Reset,
    Tell,
    Vendor,
    archived,
    bar,
    opened,
    played,
    seeded_bars,
    told_live,
    values,
)

SECOND = timedelta(seconds=1)
START = CLOSE - 30 * MINUTE


def make_vendor(script, bars, *, start=START, archive=None, **fields):
    script = sorted(script, key=lambda step: step.at)
    archive = archived(bars) if archive is None else archive
    return Vendor(ManualClock(start), script, archive, **fields)


class FeedOnly:
    """What a vendor is without its archive."""

    def __init__(self, vendor):
        self.open_feed = vendor.open_feed


def late(stored, by=SECOND):
    """The bars that became known later than a live one."""
    return stored.filter(pl.col("known_at") - pl.col("ts") > MINUTE + by)


def test_each_bar_is_stored_when_it_closes_and_handed_on_stamped_with_that_moment(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    batches = []
    vendor = make_vendor(told_live(bars), bars)
    run, stored, _ = played(vendor, tmp_path, ["A", "B"], on_closed=batches.append)
    assert values(stored) == values(bars)
    assert (run.n_bars, run.n_revised, run.n_healed, run.n_connections) == (60, 0, 0, 1)
    assert set((stored["known_at"] - stored["ts"]).unique()) == {MINUTE + SECOND}
    assert sum(len(batch) for batch in batches) == 60


def test_a_mute_socket_is_reconnected_after_two_minutes_and_the_gap_healed(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    silent_from = START + 10 * MINUTE
    vendor = make_vendor([*told_live(bars), Mute(silent_from, CLOSE)], bars)
    run, stored, told = played(vendor, tmp_path, ["A", "B"])
    assert values(stored) == values(bars)
    assert run.n_connections == 2
    assert any("silent" in line for line in told)
    healed = late(stored)
    assert run.n_healed == len(healed) == 4
    assert healed["ts"].min() >= silent_from - 2 * MINUTE
    assert healed["known_at"].max() < silent_from + 5 * MINUTE


def test_a_reset_connection_is_opened_again_and_nothing_is_lost_or_doubled(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    resets = [Reset(START + minutes * MINUTE + 30 * SECOND) for minutes in (3, 4, 11)]
    lost = {bar.ts for bar in bars if bar.ts.minute % 4 == 3}
    script = [step for step in told_live(bars) if step.tick.ts not in lost]
    vendor = make_vendor([*script, *resets], bars)
    run, stored, _ = played(vendor, tmp_path, ["A", "B"])
    assert run.n_connections == 4
    assert values(stored) == values(bars)
    assert len(stored) == len(bars)


def test_refused_reconnections_are_tried_again_and_the_archive_bridges_the_time(tmp_path):
    bars = seeded_bars(["A"], START, 30)
    away = tuple(RateLimited("slow down", 0.01) for _ in range(4))
    down = (*away, ProviderUnavailable("maintenance"))
    vendor = make_vendor([*told_live(bars), Reset(START + 5 * MINUTE, refusals=down)], bars)
    run, stored, told = played(vendor, tmp_path, ["A"])
    assert values(stored) == values(bars)
    assert run.n_connections == 2
    assert vendor.n_connects == 2 + len(down)
    assert sum("slow down" in line for line in told) == len(away)


def test_an_archive_that_is_throttled_at_first_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(healing, "RETRY_SECONDS", 0.001)
    bars = seeded_bars(["A"], START, 30)
    vendor = make_vendor(
        [*told_live(bars), Mute(START + 10 * MINUTE, CLOSE)],
        bars,
        archive_errors=[RateLimited("slow down", 0.01)],
        start=START + 2 * SECOND,
    )
    _, stored, told = played(vendor, tmp_path, ["A"])
    assert vendor.n_questions > 1
    assert any("stays open" in line for line in told)
    assert values(stored) == values(bars)


def test_a_refused_key_ends_the_stream_after_what_came_has_been_stored(tmp_path):
    bars = seeded_bars(["A"], START, 30)
    refused = Reset(START + 5 * MINUTE + 30 * SECOND, BadCredentials("the key is void"))
    vendor = make_vendor([*told_live(bars), refused], bars)
    with pytest.raises(BadCredentials, match="the key is void"):
        played(vendor, tmp_path, ["A"])
    stores = opened(tmp_path, vendor.clock)
    assert values(read_bars(stores.database, ONE)) == values(bars[:5])
    stores.close()


def test_a_bar_corrected_an_hour_late_keeps_the_version_that_was_known(tmp_path):
    start = CLOSE - 90 * MINUTE
    bars = seeded_bars(["A"], start, 90)
    corrections = [
        Tell(bars[5].ts + 61 * MINUTE, bar("A", bars[5].ts, 11.0)),
        Tell(bars[5].ts + 63 * MINUTE, bar("A", bars[5].ts, 12.0)),
        Tell(bars[5].ts + 66 * MINUTE, bar("A", bars[5].ts, 13.0)),
    ]
    archive = [*archived(bars), *((step.at, step.tick) for step in corrections)]
    vendor = make_vendor([*told_live(bars), *corrections], bars, start=start, archive=archive)
    run, stored, _ = played(vendor, tmp_path, ["A"])
    assert run.n_revised == 3
    assert stored.filter(ts=bars[5].ts)["close"].item() == 13.0
    stores = opened(tmp_path, vendor.clock)
    closes = []
    for as_of in (bars[6].ts + SECOND, *(step.at for step in corrections)):
        known = read_bars(stores.database, ONE, as_of=as_of).filter(ts=bars[5].ts)
        closes.append(known["close"].item())
    assert closes == [bars[5].close, 11.0, 12.0, 13.0]
    stores.close()


def test_out_of_order_and_repeated_bars_are_stored_once(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    script = told_live(bars)
    swapped = [Tell(step.at + 150 * SECOND, step.tick) for step in script[::3]]
    doubled = [Tell(step.at + SECOND, step.tick) for step in script[1::3]]
    vendor = make_vendor([*swapped, *script[1::3], *doubled, *script[2::3]], bars)
    run, stored, _ = played(vendor, tmp_path, ["A", "B"])
    assert values(stored) == values(bars)
    assert run.n_revised == 0


@pytest.mark.parametrize("skew", [-45 * SECOND, -5 * SECOND, 5 * SECOND, 45 * SECOND])
def test_a_vendor_whose_clock_is_ahead_or_behind_gives_the_same_bars_without_revisions(
    tmp_path, skew
):
    trades = [
        Trade("A", START + number * 7 * SECOND, 10 + number % 11, 1.0, str(number))
        for number in range(100)
    ]
    script = [Tell(max(trade.at - skew, START + SECOND), trade) for trade in trades]
    run, stored, _ = played(make_vendor(script, []), tmp_path, ["A"])
    whole = stored.filter(pl.col("ts") < START + 11 * MINUTE)
    expected = (
        pl.DataFrame({"ts": [t.at for t in trades], "price": [float(t.price) for t in trades]})
        .group_by(pl.col("ts").dt.truncate("1m"), maintain_order=True)
        .agg(open=pl.col("price").first(), close=pl.col("price").last(), volume=pl.len())
        .filter(pl.col("ts").is_in(whole["ts"].implode()))
    )
    assert len(whole) >= 10
    assert whole.select("open", "close", "volume").rows() == expected.drop("ts").rows()
    assert run.n_revised == 0
    assert run.n_refused == 0
    assert (whole["known_at"] >= whole["ts"] + MINUTE).all()


def test_ticks_from_the_far_future_are_refused_and_say_that_a_clock_is_wrong(tmp_path):
    bars = seeded_bars(["A"], START, 30)
    future = [Tell(START + 90 * SECOND, bar("A", CLOSE + 30 * MINUTE))]
    run, stored, told = played(make_vendor([*told_live(bars), *future], bars), tmp_path, ["A"])
    assert run.n_refused == 1
    assert any("check the machine's time" in line for line in told)
    assert values(stored) == values(bars)


def test_a_symbol_that_vanishes_does_not_stop_the_others_and_is_named(tmp_path):
    bars = seeded_bars(["A", "GONE"], START, 30)
    script = [s for s in told_live(bars) if s.tick.symbol == "A" or s.at < START + 5 * MINUTE]
    vendor = make_vendor(script, bars, unknown=frozenset({"GONE"}))
    run, stored, _ = played(vendor, tmp_path, ["A", "GONE"])
    assert values(stored.filter(symbol="A")) == values([b for b in bars if b.symbol == "A"])
    assert len(stored.filter(symbol="GONE")) == 4
    assert set(run.failures) == {"GONE"}
    assert run.n_connections == 1


def test_a_symbol_that_the_vendor_stops_sending_is_found_by_asking_and_healed(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    script = [s for s in told_live(bars) if s.tick.symbol == "A" or s.at < START + 5 * MINUTE]
    run, stored, _ = played(make_vendor(script, bars), tmp_path, ["A", "B"])
    assert values(stored) == values(bars)
    assert run.n_connections == 1
    healed = late(stored, MINUTE)
    assert set(healed["symbol"]) == {"B"}
    assert healed["known_at"].n_unique() >= 2, "once during the session, once after it"


def test_silence_while_all_markets_are_closed_is_no_reason_to_reconnect(tmp_path):
    vendor = make_vendor([], [], start=CLOSE + 2 * MINUTE, end=CLOSE + 5 * 60 * MINUTE)
    run, stored, told = played(vendor, tmp_path, ["A"])
    assert run.n_connections == 1
    assert told == []
    assert stored.is_empty()


def test_a_market_that_never_closes_is_never_silent(tmp_path):
    vendor = make_vendor([], [], start=CLOSE + 2 * MINUTE, end=CLOSE + 60 * MINUTE)
    run, _, _ = played(vendor, tmp_path, ["A"], calendar="24/7")
    assert 3 <= run.n_connections <= 7, "true silence is believed longer each time"


def test_what_was_missed_before_the_start_is_healed_as_in_an_ingest(tmp_path):
    bars = seeded_bars(["A"], START, 30)
    first = make_vendor(told_live(bars[:10]), bars, end=START + 10 * MINUTE + 2 * SECOND)
    played(first, tmp_path, ["A"])
    restart = START + 20 * MINUTE + 30 * SECOND
    second = make_vendor(told_live(bars[20:]), bars, start=restart)
    run, stored, _ = played(second, tmp_path, ["A"])
    assert values(stored) == values(bars)
    assert run.n_healed == 10
    assert set((stored[10:20]["known_at"] - stored[10:20]["ts"]).unique()) == {MINUTE}
    assert set((stored[20:]["known_at"] - stored[20:]["ts"]).unique()) == {MINUTE + SECOND}


def test_minutes_without_a_trade_are_covered_once_the_feed_has_gone_past_them(tmp_path):
    bars = [item for item in seeded_bars(["A", "B"], START, 30) if item.ts.minute % 3]
    vendor = make_vendor(told_live(bars), bars)
    played(vendor, tmp_path, ["A", "B"])
    stores = opened(tmp_path, vendor.clock)
    spans = read_coverage(stores.database, ONE)
    stores.close()
    assert len(spans) == 2
    assert (spans["start_at"] <= START + 2 * MINUTE).all()
    assert (spans["end_at"] == CLOSE).all()


def test_no_minute_of_a_mute_socket_is_covered_when_there_is_no_archive(tmp_path):
    bars = seeded_bars(["A"], START, 30)
    silent_from = START + 10 * MINUTE + 30 * SECOND
    script = [*told_live(bars), Mute(silent_from, CLOSE)]
    vendor = make_vendor(script, bars)
    _, stored, told = played(vendor, tmp_path, ["A"], feed=FeedOnly(vendor))
    stores = opened(tmp_path, vendor.clock)
    spans = read_coverage(stores.database, ONE)
    stores.close()
    lost = set(values(bars)) - values(stored)
    assert lost
    assert any("ingest them" in line for line in told)
    for _, ts, *_ in lost:
        assert spans.filter((pl.col("start_at") <= ts) & (pl.col("end_at") > ts)).is_empty()


def test_the_last_quote_and_trade_are_kept(tmp_path):
    quotes = [
        Tell(START + n * 10 * SECOND, Quote("A", START + n * 10 * SECOND, n, n + 1, 5, 6))
        for n in range(1, 13)
    ]
    trade = Tell(START + 30 * SECOND, Trade("A", START + 30 * SECOND, 10.5, 3.0, "x"))
    vendor = make_vendor([*quotes, trade], [], end=START + 3 * MINUTE)
    played(vendor, tmp_path, ["A"])
    stores = opened(tmp_path, vendor.clock)
    row = read_quotes(stores.database).row(0, named=True)
    stores.close()
    assert (row["bid"], row["ask"], row["quote_at"]) == (12.0, 13.0, START + 120 * SECOND)
    assert (row["price"], row["size"], row["trade_at"]) == (10.5, 3.0, START + 30 * SECOND)


def test_bars_that_cannot_be_true_are_set_aside_with_the_reason(tmp_path):
    bars = seeded_bars(["A"], START, 30)
    impossible = bar("A", bars[4].ts, -1.0)
    script = [step for step in told_live(bars) if step.tick.ts != impossible.ts]
    script.append(Tell(impossible.ts + MINUTE + SECOND, impossible))
    vendor = make_vendor(script, [])
    run, stored, _ = played(vendor, tmp_path, ["A"])
    assert values(stored) == values(bars) - values([bars[4]])
    assert run.n_refused == 1
    stores = opened(tmp_path, vendor.clock)
    aside = read_quarantine(stores.database, ONE)
    stores.close()
    assert aside.select("symbol", "ts", "close").rows() == [("A", impossible.ts, -1.0)]


def test_a_stop_in_the_middle_stores_what_has_come_and_leaves_no_thread(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    stop = threading.Event()
    batches = []

    def stop_after_ten(frame):
        batches.append(frame)
        if len(batches) == 10:
            stop.set()

    before = set(threading.enumerate())
    vendor = make_vendor(told_live(bars), bars)
    _, stored, _ = played(vendor, tmp_path, ["A", "B"], on_closed=stop_after_ten, stop=stop)
    assert 20 <= len(stored) <= 22
    assert set(threading.enumerate()) == before


def test_a_stream_without_symbols_says_what_to_do(tmp_path):
    with pytest.raises(InvalidSpec, match="--symbols"):
        played(make_vendor([], []), tmp_path, [])
