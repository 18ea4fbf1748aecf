"""Invented bars: what can be asked for, and that no choice of numbers leaves a float's range."""

import re
from datetime import UTC, datetime
from math import inf, nan

import numpy as np
import polars as pl
import pytest

from candlecast.domain.market import FixedClock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Request
from candlecast.errors import InvalidSpec
from candlecast.providers.simulated import MAX_VOLATILITY, PRICES, SimulatedProvider

CLOCK = FixedClock(datetime(2039, 12, 1, tzinfo=UTC))
PRICE_COLUMNS = ("open", "high", "low", "close")


def fetched(provider, ticker, start, calendar):
    request = Request((Symbol(ticker, calendar=calendar),), datetime(start, 1, 1, tzinfo=UTC))
    return provider.fetch_bars(request, Timeframe.parse("1d"), CLOCK).bars


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", value) for value in (-1, -5)),
        *(("volatility_daily", value) for value in (nan, inf, 0.0, -0.1, 0.6)),
        *(("start_price", value) for value in (nan, inf, 0.0, -1.0, 1e308, 1e-300)),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidSpec, match=rf"^{name} is {re.escape(str(value))}; "):
        SimulatedProvider(**{name: value})


@pytest.mark.parametrize("start_price", PRICES)
@pytest.mark.parametrize("calendar", ["24/7", "XNYS"])
def test_the_wildest_walks_have_positive_finite_prices_to_their_end(start_price, calendar):
    n_sessions = len(trading_calendar(calendar).sessions)
    farthest = abs(np.log(start_price)) + 10 * MAX_VOLATILITY * np.sqrt(n_sessions)
    assert farthest < -np.log(np.finfo(float).tiny)
    assert farthest < np.log(np.finfo(float).max)
    provider = SimulatedProvider(volatility_daily=MAX_VOLATILITY, start_price=start_price)
    for ticker in ("A", "B", "C"):
        bars = fetched(provider, ticker, 2039, calendar)
        prices = bars.select(PRICE_COLUMNS).to_numpy()
        assert len(bars) > 200
        assert np.isfinite(prices).all()
        assert (prices > 0).all()
        assert bars.select((pl.col("low") <= pl.col("high")).all()).item()


def test_a_bar_is_the_same_whatever_span_it_was_asked_for_with():
    provider = SimulatedProvider(seed=0)
    long, short = (fetched(provider, "A", start, "XNYS") for start in (2038, 2039))
    assert len(short) > 200
    assert long.join(short, on=["symbol", "ts"], how="semi").equals(short)
