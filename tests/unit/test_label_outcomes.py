"""Labels of paths whose outcome can be told by looking at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.errors import InvalidSpec, NotFound
from candlecast.labels import barrier
from candlecast.labels.barrier import triple_barrier
from candlecast.labels.direction import price_direction
from candlecast.labels.forward import forward_return
from candlecast.labels.realised import realised_volatility
from candlecast.labels.regime import regime_change
from candlecast.labels.rotation import sector_rotation
from label_prices import awkward_prices
from price_frames import DAILY, prices_of, stamped

ALWAYS, XNYS = trading_calendar("24/7"), trading_calendar("XNYS")
HOURS = Timeframe.parse("1h")
WARM = 80


def with_future(future, *, symbol="A"):
    """Daily PRICES: 80 days up and down by 1 % around 100, then bars (open, high, low, close)."""
    calm = 100 * np.exp(0.01 * (np.arange(WARM) % 2))
    bars = [(c, c, c, c) for c in calm] + [tuple(bar) for bar in future]
    opens, highs, lows, closes = np.array(bars).T
    days = np.datetime64("2020-01-01", "us") + np.arange(len(bars)) * np.timedelta64(1, "D")
    frame = pl.DataFrame(
        {
            "symbol": symbol,
            "ts": pl.Series(days).dt.replace_time_zone("UTC"),
            "open": opens,
            "high": highs,
            "low": lows,
            "close": closes,
            "volume": 1.0,
        }
    )
    return prices_of(stamped(frame, DAILY, ALWAYS), DAILY, "24/7")


def decided(label, prices, horizon, **parameters):
    """The row of the label that stands on the last calm day."""
    calendars = dict.fromkeys(prices["symbol"].unique(), ALWAYS)
    labels = label(prices, timeframe=DAILY, horizons=[horizon], calendars=calendars, **parameters)
    return labels.filter(pl.col("symbol") == prices["symbol"][0]).row(WARM - 1, named=True)


FLAT = (101.0, 101.5, 100.5, 101.0)
"""A bar at the last calm close that touches no barrier of 2 % (4 days, 1 % a day)."""
UP, DOWN = (101.0, 106.0, 100.5, 101.0), (101.0, 101.5, 96.0, 101.0)
CASES = {
    "the high of the second day": ([FLAT, UP, FLAT, DOWN], 1.0, 2),
    "the low of the first day": ([DOWN, UP, FLAT, FLAT], -1.0, 1),
    "neither": ([FLAT, FLAT, FLAT, FLAT], 0.0, 4),
    "on the last day": ([FLAT, FLAT, FLAT, UP], 1.0, 4),
    "after the horizon": ([FLAT, FLAT, FLAT, FLAT, UP], 0.0, 4),
    "both in one bar": ([FLAT, (101.0, 106.0, 96.0, 101.0), UP, UP], 0.0, 2),
    "both in one bar that closes high": ([FLAT, (101.0, 106.0, 96.0, 105.9), UP, UP], 0.0, 2),
    "both in one bar that opened high": ([(105.0, 106.0, 96.0, 96.5), DOWN, UP, UP], 1.0, 1),
    "both in one bar that opened low": ([(96.0, 106.0, 95.0, 105.0), DOWN, UP, UP], -1.0, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_barrier_to_be_touched_decides_and_says_when(name):
    future, value, n_days = CASES[name]
    row = decided(triple_barrier, with_future(future), "4d")
    assert row["value"] == value
    assert row["end_at"] == row["ts"] + timedelta(days=1 + n_days)
    is_undecided = name.startswith("both") and value == 0
    assert (row["confidence"] == 0) == is_undecided


def test_a_barrier_touched_is_known_before_the_horizon_has_ended():
    row = decided(triple_barrier, with_future([FLAT, UP]), "4d")
    assert row["value"] == 1.0
    row = decided(triple_barrier, with_future([FLAT, FLAT]), "4d")
    assert row["value"] is None
    assert row["end_at"] == row["ts"] + timedelta(days=5)


def test_a_higher_barrier_is_touched_later_or_not_at_all():
    prices = with_future([FLAT, UP, (106.0, 112.0, 105.0, 111.0), FLAT])
    assert decided(triple_barrier, prices, "4d", upper=4.0)["end_at"].day == (
        decided(triple_barrier, prices, "4d", upper=1.0)["end_at"].day + 1
    )
    assert decided(triple_barrier, prices, "4d", upper=9.0)["value"] == 0.0


def test_the_nearer_the_other_barrier_was_the_less_clear_is_the_first():
    near, far = (101.0, 101.5, 99.2, 101.0), (101.0, 101.5, 100.9, 101.0)
    sure = [
        decided(triple_barrier, with_future([bar, UP, FLAT, FLAT]), "4d")["confidence"]
        for bar in (near, far)
    ]
    assert sure[0] < sure[1]


def test_chunks_of_bars_do_not_matter(monkeypatch):
    prices = awkward_prices(2, timeframe=HOURS, calendar="24/7", n_sessions=12)
    calendars = dict.fromkeys("ABC", ALWAYS)

    def labels():
        return triple_barrier(prices, timeframe=HOURS, horizons=["6h", "2d"], calendars=calendars)

    whole = labels()
    monkeypatch.setattr(barrier, "CHUNK_ROWS", 7)
    assert labels().equals(whole)


@pytest.mark.parametrize(
    ("upper", "lower"), [(0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (np.inf, 1.0)]
)
def test_barriers_without_height_are_refused(upper, lower):
    with pytest.raises(InvalidSpec, match="positive"):
        decided(triple_barrier, with_future([UP]), "1D", upper=upper, lower=lower)


def test_simple_returns_are_those_of_money():
    row = decided(forward_return, with_future([(110.0, 111.1, 101.0, 111.1)]), "1D", is_simple=True)
    last = 100 * np.exp(0.01)
    assert row["value"] == pytest.approx(111.1 / last - 1)


def test_a_scaled_return_counts_volatilities():
    prices = with_future([(101.0, 130.0, 101.0, 100 * np.exp(0.05))])
    row = decided(forward_return, prices, "1D", is_scaled=True)
    assert row["value"] == pytest.approx(4.0, rel=0.01)
    assert row["confidence"] == pytest.approx(0.99994, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "value"), [(0.019, 0.0), (0.021, 1.0), (-0.019, 0.0), (-0.021, -1.0)]
)
def test_a_fixed_threshold_is_a_simple_return(change, value):
    close = 100 * np.exp(0.01) * (1 + change)
    prices = with_future([(close, close, close, close)])
    row = decided(price_direction, prices, "1D", threshold="fixed:0.02")
    assert row["value"] == value
    assert 0 < row["confidence"] < 0.1


def test_a_path_that_swings_is_volatile_however_it_ends():
    swings = [(c, c, c, c) for c in (110.0, 100.0, 110.0, 100 * np.exp(0.01))]
    prices = with_future(swings)
    last = 100 * np.exp(0.01)
    steps = np.diff(np.log([last, 110.0, 100.0, 110.0, last]))
    row = decided(realised_volatility, prices, "4d")
    assert row["value"] == pytest.approx(np.sqrt((steps**2).sum()))
    assert row["confidence"] > 0.9


@pytest.mark.parametrize(
    ("closes", "value"),
    [([103, 104, 105, 106], 1.0), ([99, 98, 97, 96], -1.0), ([101, 101, 101, 101], 0.0),
     ([101, 101, 101, 102.5], 0.0), ([104, 104, 104, 101], 1.0)],
)  # fmt: skip
def test_a_regime_is_that_of_the_path_not_of_its_end(closes, value):
    prices = with_future([(c, c, c, c) for c in closes])
    assert decided(regime_change, prices, "4d")["value"] == value


@pytest.mark.parametrize("label", [regime_change, sector_rotation])
def test_a_negative_threshold_is_refused(label):
    with pytest.raises(InvalidSpec, match="threshold"):
        decided(label, with_future([FLAT]), "1D", threshold=-0.1)


def of_market(changes, names=("BTC-USD", "ETH-USD", "SOL-USD")):
    """Symbols that do the same until a last day on which each changes in its own way."""
    last = 100 * np.exp(0.01)
    frames = []
    for name, change in zip(names, changes, strict=True):
        close = last * np.exp(change)
        frames.append(with_future([(close, close, close, close)], symbol=name))
    return pl.concat(frames)


@pytest.mark.parametrize(
    ("changes", "value"),
    [((0.03, 0.01, 0.0), 1.0), ((0.0, 0.01, 0.03), -1.0), ((0.02, 0.0, 0.04), 0.0),
     ((-0.01, -0.04, -0.03), 1.0)],
)  # fmt: skip
def test_bitcoin_leads_where_it_does_better_than_the_mean_of_the_others(changes, value):
    prices = of_market(changes)
    labels = sector_rotation(
        prices,
        timeframe=DAILY,
        horizons=["1D"],
        calendars=dict.fromkeys(prices["symbol"].unique(), ALWAYS),
    )
    of_day = labels.filter(pl.col("ts") == prices["ts"][WARM - 1])
    assert of_day["value"].to_list() == [value] * 3
    assert of_day["confidence"].n_unique() == 1


def test_a_leader_has_to_be_named_unless_all_is_crypto():
    prices = of_market((0.0, 0.0, 0.0), ("SPY", "XLE", "XLK"))
    calendars = dict.fromkeys(("SPY", "XLE", "XLK"), ALWAYS)
    given = {"timeframe": DAILY, "horizons": ["1D"], "calendars": calendars}
    with pytest.raises(InvalidSpec, match="--set leader=SPY"):
        sector_rotation(prices, **given)
    with pytest.raises(NotFound, match="XLK"):
        sector_rotation(prices, leader="XLL", **given)
    assert sector_rotation(prices, leader="SPY", **given)["value"].count() > 0
    crypto = of_market((0.0, 0.0), ("BTC-USD", "XLE"))
    mixed = {"BTC-USD": ALWAYS, "XLE": XNYS}
    with pytest.raises(InvalidSpec, match="leader"):
        sector_rotation(crypto, timeframe=DAILY, horizons=["1D"], calendars=mixed)


def test_symbols_of_another_calendar_are_no_part_of_the_leaders_market():
    days = XNYS.sessions[(XNYS.sessions >= np.datetime64("2020-01-01"))][:90].astype("M8[us]")
    prices = of_market((0.01, 0.0, 0.0)).filter(
        pl.col("ts").is_in(pl.Series(days).dt.replace_time_zone("UTC").to_list())
    )
    calendars = {"BTC-USD": ALWAYS, "ETH-USD": ALWAYS, "SOL-USD": XNYS}
    labels = sector_rotation(
        prices, timeframe=DAILY, horizons=["1D"], calendars=calendars, leader="ETH-USD"
    )
    counts = dict(labels.group_by("symbol").agg(pl.col("value").count()).iter_rows())
    assert counts["BTC-USD"] == counts["ETH-USD"]
    assert counts["SOL-USD"] == 0


def test_where_a_bar_was_healed_no_volatility_of_it_is_known():
    prices = with_future([FLAT] * 10)
    seen = datetime(2021, 1, 1, tzinfo=UTC)
    late = prices.with_columns(
        known_at=pl.when(pl.int_range(pl.len()) == WARM).then(pl.lit(seen)).otherwise("known_at")
    )
    labels = forward_return(late, timeframe=DAILY, horizons=["1D"], calendars={"A": ALWAYS})
    assert labels["value"][WARM] is not None
    assert labels["confidence"][WARM] is None
    assert labels["end_at"][WARM - 1 : WARM + 1].to_list() == [seen, seen]
    # What was known of the other bars is what is known without the healed one.
    without = forward_return(
        late.filter(pl.col("known_at") < seen),
        timeframe=DAILY, horizons=["1D"], calendars={"A": ALWAYS},
    )  # fmt: skip
    assert labels["confidence"][WARM + 1 :].equals(without["confidence"][WARM:])


def test_that_a_bar_was_the_last_is_known_when_a_later_one_is():
    ts = [datetime(2020, 6, 1, hour, tzinfo=UTC) for hour in (0, 2, 9)]
    columns = {name: [1.0, 2.0, 3.0] for name in ("open", "high", "low", "close")}
    bars = pl.DataFrame({"symbol": "A", "ts": ts, **columns, "volume": 1.0})
    prices = prices_of(stamped(bars, HOURS, ALWAYS), HOURS, "24/7")
    labels = forward_return(prices, timeframe=HOURS, horizons=["4h"], calendars={"A": ALWAYS})
    assert labels["value"][0] == pytest.approx(np.log(2.0))
    assert labels["end_at"][0] == datetime(2020, 6, 1, 10, tzinfo=UTC)
    assert labels["value"][1] == 0.0
    assert labels["value"][2] is None
