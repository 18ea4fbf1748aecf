"""Labels of real bars: against the twins, and what they say of real markets."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from candlecast.domain.catalog import LABELS
from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.market import trading_calendar
from candlecast.validation.causality import audit
from label_twins import (
    Market,
    assert_same,
    barrier_twin,
    forward_twin,
    realised_twin,
    regime_twin,
    rotation_twin,
)
from price_frames import DAILY, prices_of, stamped

US_DAILY = Path(__file__).parents[3] / "shared" / "data" / "us_daily" / "us_daily.parquet"
XNYS = trading_calendar("XNYS")
TWINS = {
    "forward_return": forward_twin,
    "realised_volatility": realised_twin,
    "regime_change": lambda market, row: regime_twin(market, row, 0.5),
    "sector_rotation": lambda market, row: rotation_twin(market, row, "JPM", 0.25),
    "triple_barrier": lambda market, row: barrier_twin(market, row, 1.0, 1.0),
}
EVEN = ("price_direction", "regime_change", "sector_rotation", "triple_barrier")

pytestmark = pytest.mark.skipif(not US_DAILY.exists(), reason=f"{US_DAILY} is not here")


@pytest.fixture(scope="module")
def shares():
    """PRICES of some US shares, daily."""
    raw = pl.read_parquet(US_DAILY).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("volume").cast(pl.Float64)
    )
    tickers = ["JPM", *raw["symbol"].unique().sort()[::20][:29]]
    return prices_of(stamped(raw.filter(pl.col("symbol").is_in(tickers)), DAILY, XNYS))


def labels_of(kind, prices, horizons):
    parameters = {"leader": "JPM"} if kind == "sector_rotation" else {}
    calendars = dict.fromkeys(prices["symbol"].unique(), XNYS)
    return LABELS.get(kind).compute(
        prices, timeframe=DAILY, horizons=horizons, calendars=calendars, **parameters
    )


def crash(prices):
    """Three symbols around the days of March 2020."""
    some = ["JPM", *prices["symbol"].unique().sort()[:2]]
    is_then = pl.col("ts").dt.year() == 2020
    return prices.filter(pl.col("symbol").is_in(some) & is_then & (pl.col("ts").dt.month() < 8))


@pytest.mark.parametrize("kind", TWINS)
@pytest.mark.parametrize("horizon", ["1W", "10d"])
def test_labels_of_a_crash_are_those_of_the_twins(kind, horizon, shares):
    prices = crash(shares)
    market = Market(prices, DAILY, XNYS, horizon)
    labels = labels_of(kind, prices, [horizon])
    assert_same(labels, market, lambda row: TWINS[kind](market, row))
    assert labels["confidence"].count() > 100


@pytest.mark.parametrize("kind", EVEN)
def test_no_class_of_real_shares_is_rare(kind, shares):
    labels = labels_of(kind, shares, LABELS.get(kind).daily)
    known = labels.drop_nulls("value")
    assert len(known) > 0.9 * len(labels) > 20_000
    parts = known.group_by("value").len()
    assert set(parts["value"]) == {-1.0, 0.0, 1.0}
    assert parts["len"].min() > 0.15 * len(known)
    assert known["confidence"].drop_nulls().is_between(0, 1).all()


@pytest.mark.parametrize("kind", LABELS.names())
def test_nothing_of_real_bars_is_looked_ahead_at(kind, shares):
    prices = crash(shares)
    key = ("symbol", "ts", "horizon")
    findings = audit(
        lambda frame: labels_of(kind, frame, ("1D", "1W")), prices, key=key, stamp="end_at"
    )
    assert findings == []
    FRAME.check(labels_of(kind, prices, ("1D", "1W")))
