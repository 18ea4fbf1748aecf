"""Real minutes make the coarser bars that vendors published themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import BARS
from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.resample import resample, resample_all

DATA = Path(__file__).parents[3] / "shared" / "data"
LATER = datetime(2039, 1, 1, tzinfo=UTC)
PRICES = ("open", "high", "low", "close")
M1, M5, M30, D1 = map(Timeframe.parse, ("1m", "5m", "30m", "1d"))

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no real bars to compare with in {DATA}")


def load(name):
    """The file as BARS; symbols of several venues are told apart."""
    frame = pl.read_parquet(DATA / name)
    if "venue" in frame.columns:
        frame = frame.with_columns(symbol=pl.col("venue") + ":" + pl.col("symbol"))
    known = [column for column in frame.columns if column in BARS.columns]
    return BARS.conform(frame.select(known).with_columns(source=pl.lit("x"), known_at="ts"))


def on(bars, calendar):
    return dict.fromkeys(bars["symbol"].unique(), calendar)


def beside(made, published):
    pairs = made.join(published, on=["symbol", "ts"], suffix="_published")
    assert len(pairs)
    return pairs


def relative(pairs, name):
    return (pairs[name] / pairs[f"{name}_published"] - 1).abs()


def test_minutes_of_crypto_make_the_five_minutes_of_the_same_venue():
    minutes = load("crypto_1m/crypto_1m.parquet")
    ends = minutes.group_by("symbol").agg(first=pl.col("ts").min(), last=pl.col("ts").max())
    made = resample(minutes, M1, M5, on(minutes, trading_calendar("24/7")), as_of=LATER)
    # The outermost buckets are cut by the file, and its last minute was still going on.
    whole = made.join(ends, on="symbol").filter(
        pl.col("ts") >= pl.col("first"), pl.col("ts").dt.offset_by("5m") <= pl.col("last")
    )
    pairs = beside(whole, load("crypto_5m/crypto_5m.parquet"))
    assert len(pairs) > 44_000
    for name in PRICES:
        assert (pairs[name] == pairs[f"{name}_published"]).all()
    assert relative(pairs, "volume").max() < 1e-9


def test_minutes_of_us_stocks_make_the_published_days():
    minutes = load("lean/equities_1m_sample.parquet")
    calendar = trading_calendar("XNYS")
    made = resample(minutes, M1, D1, on(minutes, calendar), as_of=LATER)
    pairs = beside(made, load("lean/equities_daily_raw.parquet"))
    assert len(pairs) == 18
    # Trades before the open and after the close would show here.
    for name in ("open", "close"):
        assert (pairs[name] == pairs[f"{name}_published"]).all()
    # The vendor corrected a few prints in its days that still stand in its minutes.
    for name in ("high", "low"):
        assert relative(pairs, name).max() < 5e-4
        assert (pairs[name] == pairs[f"{name}_published"]).sum() >= 12
    assert relative(pairs, "volume").max() < 0.03


def test_half_hours_from_the_open_add_up_to_the_published_clock_hours():
    minutes = load("lean/equities_1m_sample.parquet")
    made = resample(minutes, M1, M30, on(minutes, trading_calendar("XNYS")), as_of=LATER)
    hours = made.group_by("symbol", pl.col("ts").dt.truncate("1h"), maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    pairs = beside(hours, load("lean/equities_hour_raw.parquet"))
    assert len(pairs) == 63
    assert (pairs["volume"] == pairs["volume_published"]).all()
    # Two of the hours lack a stray print that stands in the minutes.
    is_same = pl.all_horizontal(relative(pairs, name) < 5e-4 for name in PRICES)
    assert pairs.select(is_same).to_series().sum() == 61


def test_nothing_of_the_sessions_is_lost_on_the_way_to_days():
    minutes = load("us_1m/us_1m.parquet")
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    is_regular = local.dt.time().is_between(pl.time(9, 30), pl.time(16, 0), closed="left")
    regular = minutes.filter(is_regular & (local.dt.date() != pl.date(2024, 7, 3)))
    by_day = regular.group_by("symbol", local.dt.date().alias("day"), maintain_order=True).agg(
        pl.col("open").first(), pl.col("close").last(), pl.col("volume").sum()
    )
    made = resample_all(minutes, M1, on(minutes, trading_calendar("XNYS")), as_of=LATER)
    days = made[D1].filter(pl.col("ts").dt.date() != pl.date(2024, 7, 3))  # a half-day
    assert days.select("symbol", pl.col("ts").dt.date(), "open", "close", "volume").rows() == (
        by_day.rows()
    )
    for frame in made.values():
        assert frame["volume"].sum() == made[D1]["volume"].sum()
        is_between = (pl.col("open") <= pl.col("high")) & (pl.col("low") <= pl.col("close"))
        assert frame.select(is_between.all()).item()


def test_a_market_that_no_library_knows_has_its_own_sessions():
    minutes = load("vn_1m/vn_1m.parquet")
    days = minutes["ts"].dt.date().unique().sort().to_numpy().astype("datetime64[D]")
    midnights = days.astype("datetime64[us]")
    opens, closes = (midnights + np.timedelta64(at, "m") for at in (2 * 60 + 15, 7 * 60 + 46))
    made = resample_all(
        minutes, M1, on(minutes, TradingCalendar("Hanoi", days, opens, closes)), as_of=LATER
    )
    by_day = minutes.group_by("symbol", pl.col("ts").dt.truncate("1d"), maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    assert made[D1].select(by_day.columns).equals(by_day)
    by_five = minutes.group_by("symbol", pl.col("ts").dt.truncate("5m"), maintain_order=True)
    assert made[M5].select("symbol", "ts", "close").equals(by_five.agg(pl.col("close").last()))
