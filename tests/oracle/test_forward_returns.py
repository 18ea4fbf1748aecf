"""Forward returns against a slow twin that walks the bars one by one."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.market import Horizon, Timeframe, trading_calendar
from candlecast.errors import InvalidSpec
from candlecast.labels.forward import forward_return
from price_frames import DAILY, daily_prices, prices_of, stamped

FIVE = Timeframe.parse("5m")


def daily_twin(prices, horizon, calendar):
    """Value of each bar: the close that many sessions later, looked up by date."""
    n = Horizon.parse(horizon).sessions(calendar)
    close = {
        (row["symbol"], row["ts"].date()): row["close"] for row in prices.iter_rows(named=True)
    }
    values = []
    for row in prices.iter_rows(named=True):
        place = int(np.searchsorted(calendar.sessions, np.datetime64(row["ts"].date())))
        later = close.get((row["symbol"], calendar.sessions[place + n].astype(object)))
        values.append(None if later is None else math.log(later / row["close"]))
    return values


def finer_twin(prices, horizon, calendar):
    """Value of each bar: the last close by the horizon's end, in that instant's session."""
    rows = prices.rows(named=True)
    closes = prices["close_at"].dt.replace_time_zone(None).to_numpy()
    ends = calendar.advance(closes, Horizon.parse(horizon))
    by_symbol = {s: [row for row in rows if row["symbol"] == s] for s in ("A", "B")}
    values = []
    for row, end in zip(rows, ends, strict=True):
        end_at = end.astype(object).replace(tzinfo=UTC)
        session = int(np.searchsorted(calendar.closes, end))
        own = by_symbol[row["symbol"]]
        done = [other for other in own if other["close_at"] <= end_at]
        is_proven = own[-1]["close_at"] >= end_at
        is_there = done and is_proven and done[-1]["session"] == session
        values.append(math.log(done[-1]["close"] / row["close"]) if is_there else None)
    return values


def values_of(prices, horizon, calendar, timeframe=DAILY):
    calendars = dict.fromkeys(prices["symbol"].unique(), calendar)
    labels = forward_return(prices, timeframe=timeframe, horizons=[horizon], calendars=calendars)
    return FRAME.check(labels)


def same(left, right):
    return np.allclose(
        np.array(left, dtype=float), np.array(right, dtype=float), rtol=1e-12, atol=1e-15,
        equal_nan=True,
    )  # fmt: skip


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), horizon=st.sampled_from(["1D", "3d", "1W", "1M"]))
def test_daily_values_are_those_of_the_twin(seed, horizon):
    calendar = trading_calendar("XNYS")
    prices = daily_prices(seed=seed, n_symbols=3, n_sessions=180)
    rng = np.random.default_rng(seed)
    prices = prices.filter(pl.Series(rng.random(len(prices)) > 0.1))
    labels = values_of(prices, horizon, calendar)
    assert same(labels["value"], daily_twin(prices, horizon, calendar))


def finer_prices(seed, name="XNYS", n_days=4):
    """Two symbols on 5-minute bars, of which most are missing: nothing was traded."""
    calendar, rng = trading_calendar(name), np.random.default_rng(seed)
    start = int(np.searchsorted(calendar.sessions, np.datetime64("2020-11-24")))
    opens = [
        np.arange(calendar.opens[i], calendar.closes[i], np.timedelta64(5, "m"))
        for i in range(start, start + n_days)
    ]
    frames = []
    for symbol in ("A", "B"):
        times = np.concatenate(opens)
        times = times[rng.random(len(times)) < 0.15]
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, len(times))))
        ts = pl.Series(times.astype("M8[us]")).dt.replace_time_zone("UTC")
        columns = dict.fromkeys(("open", "high", "low", "close"), close)
        frames.append(pl.DataFrame({"symbol": symbol, "ts": ts, **columns, "volume": 1.0}))
    return prices_of(stamped(pl.concat(frames), FIVE, calendar), FIVE, name)


@settings(max_examples=6)
@given(
    seed=st.integers(0, 10**6),
    horizon=st.sampled_from(["5m", "30m", "2h", "1D"]),
    name=st.sampled_from(["XNYS", "24/7"]),
)
def test_finer_values_are_those_of_the_twin(seed, horizon, name):
    calendar = trading_calendar(name)
    prices = finer_prices(seed, name, n_days=2 if name == "24/7" else 3)
    labels = values_of(prices, horizon, calendar, FIVE)
    assert same(labels["value"], finer_twin(prices, horizon, calendar))
    assert labels["value"].count() > 0


def test_a_horizon_ends_at_the_close_of_its_last_session():
    prices = daily_prices(n_symbols=1, n_sessions=30)
    labels = values_of(prices, "1W", trading_calendar("XNYS"))
    assert labels["horizon_bars"].unique().to_list() == [5]
    assert labels["end_at"][:25].equals(prices["close_at"][5:], check_names=False)
    assert labels["value"][:25].is_not_null().all()
    assert labels["value"][25:].is_null().all()
    assert (labels["end_at"][25:] > prices["close_at"][-1]).all()


def test_an_outcome_of_which_one_bar_was_seen_late_is_known_late():
    prices = daily_prices(n_symbols=1, n_sessions=30)
    seen = datetime(2000, 3, 1, tzinfo=UTC)
    row = pl.int_range(pl.len())
    late = prices.with_columns(known_at=pl.when(row == 10).then(seen).otherwise("known_at"))
    before = values_of(prices, "1D", trading_calendar("XNYS"))
    after = values_of(late, "1D", trading_calendar("XNYS"))
    assert after["end_at"][9:11].to_list() == [seen, seen]
    others = ~row.is_in([9, 10])
    assert after.filter(others).equals(before.filter(others))
    assert after["value"].equals(before["value"])


def test_weeks_and_months_of_an_open_market_are_longer():
    days = np.arange("2020-01-01", "2020-03-01", dtype="M8[D]").astype("M8[us]")
    ts = pl.Series(days).dt.replace_time_zone("UTC")
    close = np.exp(np.arange(len(days)) / 100)
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    bars = pl.DataFrame({"symbol": "BTC", "ts": ts, **columns, "volume": 1.0})
    always = trading_calendar("24/7")
    prices = prices_of(stamped(bars, DAILY, always), DAILY, "24/7")
    labels = values_of(prices, "1M", always)
    assert labels["horizon_bars"].unique().to_list() == [30]
    assert labels["value"][0] == pytest.approx(0.30)
    assert labels["end_at"][0] == datetime(2020, 2, 1, tzinfo=UTC)


def test_symbols_of_several_markets_keep_their_own_time():
    stocks = daily_prices(n_symbols=1, n_sessions=30)
    always, xnys = trading_calendar("24/7"), trading_calendar("XNYS")
    coin = stocks.with_columns(symbol=pl.lit("COIN"))
    both = pl.concat([coin, stocks])
    labels = forward_return(
        both, timeframe=DAILY, horizons=["1D"], calendars={"COIN": always, "SYN00": xnys}
    )
    ends = dict(labels.group_by("symbol").agg(pl.col("end_at").first()).iter_rows())
    assert ends["SYN00"] == stocks["close_at"][1]
    assert ends["COIN"] - stocks["ts"][0] > timedelta(days=1)
    assert FRAME.check(labels).height == 60


def test_horizons_are_named_once_and_in_one_way():
    prices = daily_prices(n_symbols=1, n_sessions=30)
    calendars = {"SYN00": trading_calendar("XNYS")}
    labels = forward_return(
        prices, timeframe=DAILY, horizons=["1d", "1D", "5d"], calendars=calendars
    )
    assert labels["horizon"].unique().sort().to_list() == ["1D", "5d"]


def test_minutes_make_no_sense_on_daily_bars():
    prices = daily_prices(n_symbols=1, n_sessions=30)
    with pytest.raises(InvalidSpec, match="finer timeframe"):
        values_of(prices, "30m", trading_calendar("XNYS"))


def test_a_horizon_beyond_the_calendar_is_refused():
    prices = daily_prices(n_symbols=1, n_sessions=30)
    with pytest.raises(InvalidSpec, match="ends after the calendar XNYS"):
        values_of(prices, "9999W", trading_calendar("XNYS"))
