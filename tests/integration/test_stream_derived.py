"""What a stream keeps besides its bars: coarser bars and the share of large trades."""

from datetime import timedelta

import numpy as np
import polars as pl

from candlecast.domain.frames import LARGE_TRADES
from candlecast.domain.large_trades import compute_large_trades, make_trades
from candlecast.domain.market import Timeframe
from candlecast.domain.sources import Trade
from candlecast.store.bars import read_bars
from candlecast.store.facts import read_facts
from stream_feeds import (
    CLOSE,
    MINUTE,
    ManualClock,
    Tell,
    Vendor,
    archived,
    opened,
    played,
    seeded_bars,
    told_live,
)

SECOND = timedelta(seconds=1)
START = CLOSE - 30 * MINUTE


def test_coarser_bars_are_made_as_they_end_and_agree_with_the_minutes(tmp_path):
    bars = seeded_bars(["A", "B"], START, 30)
    vendor = Vendor(ManualClock(START), told_live(bars), archived(bars))
    seen = []

    def look(frame):
        stores = opened(tmp_path, vendor.clock)
        seen.append((vendor.clock.now(), len(read_bars(stores.database, Timeframe(5)))))
        stores.close()

    _, minutes, _ = played(vendor, tmp_path, ["A", "B"], on_closed=look, is_deriving=True)
    stores = opened(tmp_path, vendor.clock)
    for length in (5, 15, 30):
        coarse = read_bars(stores.database, Timeframe(length))
        expected = minutes.group_by_dynamic("ts", every=f"{length}m", group_by="symbol").agg(
            pl.col("open").first(), pl.col("high").max(), pl.col("volume").sum()
        )
        assert coarse.select(expected.columns).rows() == expected.rows()
    stores.close()
    assert next(n for at, n in seen if at > START + 12 * MINUTE) >= 4, "while the stream runs"


def test_large_trades_are_counted_as_from_all_trades_at_once(tmp_path):
    draw = np.random.default_rng(3)
    start = CLOSE - 75 * MINUTE  # 15 minutes before a full hour begins
    trades = [
        Trade("A", start + number * 1.5 * SECOND, 10.0, float(draw.lognormal()), str(number))
        for number in range(1000)
    ]
    script = [Tell(start + (number // 10 + 1) * 15 * SECOND, t) for number, t in enumerate(trades)]
    vendor = Vendor(ManualClock(start - 2 * MINUTE), script, [], end=start + 27 * MINUTE)
    played(vendor, tmp_path, ["A"], reconcile=timedelta(days=1))
    stores = opened(tmp_path, vendor.clock)
    stored = read_facts(stores.database, LARGE_TRADES)
    stores.close()
    whole = compute_large_trades(make_trades(trades), closed_at=CLOSE, source="vendor")
    names = ["ts", "n_trades", "n_large", "large_volume", "threshold"]
    assert len(stored) >= 8
    assert stored.select(names).rows() == whole.head(len(stored)).select(names).rows()
    assert (stored["known_at"] > stored["ts"] + MINUTE).all()
