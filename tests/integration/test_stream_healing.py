"""Whatever goes wrong on the way: after the session the store holds exactly the true bars."""

import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from candlecast.domain.sources import Trade
from candlecast.store.bars import read_bars
from stream_feeds import (
    CLOSE,
    MINUTE,
    ONE,
    ManualClock,
    Mute,
    Reset,
    Tell,
    Vendor,
    bar,
    opened,
    played,
    seeded_bars,
    values,
)

SECOND = timedelta(seconds=1)
N_MINUTES = 8
START = CLOSE - N_MINUTES * MINUTE

minutes = st.integers(0, N_MINUTES - 1)
deliveries = st.lists(
    st.tuples(
        st.sampled_from(["on time", "dropped", "twice", "late", "corrected", "taken back"]),
        st.integers(1, 5),
    ),
    min_size=2 * N_MINUTES,
    max_size=2 * N_MINUTES,
)
outages = st.lists(st.tuples(st.sampled_from(["mute", "reset"]), minutes, st.integers(0, 59)))


def scripted(truth, fates):
    """What the socket brings of each true bar, and what the archive holds from when on."""
    script, archive = [], []
    for item, (fate, lag) in zip(truth, fates, strict=True):
        end = item.ts + MINUTE
        first = bar(item.symbol, item.ts, 5.0)
        if fate == "corrected":
            # In time for the last time that the archive is asked for this session.
            corrected_at = end + min(lag, 2) * MINUTE
            script += [Tell(end + SECOND, first), Tell(corrected_at, item)]
            archive += [(end, first), (corrected_at, item)]
            continue
        archive.append((end, item))
        if fate == "taken back":  # the correction overtakes the first version
            script += [Tell(end + SECOND, item), Tell(end + 30 * SECOND, first)]
        elif fate == "late":
            script.append(Tell(end + lag * 20 * SECOND, item))
        elif fate != "dropped":
            times = 2 if fate == "twice" else 1
            script += [Tell(end + number * lag * SECOND, item) for number in range(1, times + 1)]
    return script, archive


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(deliveries, outages)
def test_any_mix_of_faults_followed_by_a_heal_gives_exactly_the_true_bars(fates, drawn):
    truth = seeded_bars(["A", "B"], START, N_MINUTES)
    script, archive = scripted(truth, fates)
    for kind, minute, second in drawn:
        at = START + minute * MINUTE + second * SECOND
        script.append(Mute(at, CLOSE + 10 * MINUTE) if kind == "mute" else Reset(at))
    script.sort(key=lambda step: step.at)
    vendor = Vendor(ManualClock(START), script, archive, end=CLOSE + 12 * MINUTE)
    with tempfile.TemporaryDirectory() as folder:
        run, stored, _ = played(vendor, Path(folder), ["A", "B"])
    assert values(stored) == values(truth)
    assert len(stored) == len(truth)
    assert run.failures == {}


def test_what_was_known_at_any_instant_is_read_the_same_after_later_corrections(tmp_path):
    truth = seeded_bars(["A", "B"], START, N_MINUTES)
    fates = [("corrected", 1 + number % 5) for number in range(len(truth))]
    script, archive = scripted(truth, fates)
    script.sort(key=lambda step: step.at)
    vendor = Vendor(ManualClock(START), script, archive)
    seen = []

    def look(_):
        now = vendor.clock.now()
        stores = opened(tmp_path, vendor.clock)
        seen.append((now, read_bars(stores.database, ONE, as_of=now)))
        stores.close()

    played(vendor, tmp_path, ["A", "B"], on_closed=look)
    stores = opened(tmp_path, vendor.clock)
    last_at_each_instant = dict(seen)
    assert len(last_at_each_instant) > N_MINUTES
    for as_of, then in last_at_each_instant.items():
        assert read_bars(stores.database, ONE, as_of=as_of).equals(then)
    stores.close()


def test_a_trade_only_feed_without_faults_needs_no_healing(tmp_path):
    trades = [
        Trade(symbol, START + number * 10 * SECOND, 10.0 + number % 7, 2.0, str(number))
        for number in range(6 * N_MINUTES)
        for symbol in ("A", "B")
    ]
    script = [Tell(trade.at + SECOND / 10, trade) for trade in trades]
    truth = (
        pl.DataFrame({"symbol": [t.symbol for t in trades], "ts": [t.at for t in trades]})
        .with_columns(pl.col("ts").dt.truncate("1m"), price=pl.Series([t.price for t in trades]))
        .group_by("symbol", "ts")
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=pl.len() * 2.0,
        )
    )
    vendor = Vendor(ManualClock(START - 2 * MINUTE), script, [])
    run, stored, _ = played(vendor, tmp_path, ["A", "B"])
    assert set(stored.select(truth.columns).rows()) == set(truth.rows())
    assert run.n_revised == run.n_healed == 0
