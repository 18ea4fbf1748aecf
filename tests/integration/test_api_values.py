"""Pure functions of the API: how prices are rebased, and when a forecast is stale."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.api.chart import rebased
from candlecast.api.freshness import fresh_until, state_at
from candlecast.api.responses import as_json, iso
from candlecast.domain.adjustment import placed_actions, with_factors
from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import Timeframe, trading_calendar

NYSE = trading_calendar("XNYS")
FRIDAY_CLOSE = datetime(2013, 3, 1, 21, tzinfo=UTC)
MONDAY_CLOSE = datetime(2013, 3, 4, 21, tzinfo=UTC)


def bars(close, adj_close, actions=None):
    n = len(close)
    day = datetime(2013, 1, 1, tzinfo=UTC)
    prices = {name: np.asarray(close, dtype=float) for name in ("open", "high", "low", "close")}
    frame = {
        "symbol": pl.Series(["A"] * n, dtype=pl.String),
        "ts": pl.Series(
            [day + timedelta(days=i) for i in range(n)], dtype=pl.Datetime("us", "UTC")
        ),
        **prices,
        "volume": [100.0] * n,
        "adj_close": pl.Series(adj_close, dtype=pl.Float64),
        "source": pl.Series(["files"] * n, dtype=pl.String),
    }
    return with_factors(pl.DataFrame(frame), actions)


def test_a_split_leaves_no_jump_and_the_newest_close_as_it_was_traded():
    drawn = rebased(bars([200.0, 202.0, 101.0], [20.0, 20.2, 20.2]))
    assert drawn["close"].to_list() == pytest.approx([100.0, 101.0, 101.0])
    assert drawn["volume"].to_list() == pytest.approx([200.0, 200.0, 100.0])


positive = st.floats(0.01, 1e5)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=20))
def test_returns_are_those_of_the_adjusted_closes_and_turnover_stays(rows):
    close, adjusted = np.array(rows).T
    drawn = rebased(bars(close, adjusted))
    assert drawn["close"][-1] == pytest.approx(close[-1])
    np.testing.assert_allclose(
        drawn["close"].to_numpy() / close[-1], adjusted / adjusted[-1], rtol=1e-9
    )
    np.testing.assert_allclose(drawn["close"] * drawn["volume"], close * 100, rtol=1e-9)


def test_raw_bars_are_drawn_through_a_split_to_the_newest_raw_close():
    split = {"symbol": "A", "kind": "split", "value": 7.0, "source": "test"}
    day = datetime(2013, 1, 3, tzinfo=UTC)
    known = ACTIONS.conform(pl.DataFrame([split | {"ex_date": day, "known_at": day}]))
    always = {"A": trading_calendar("24/7")}
    actions = placed_actions(known, Timeframe.parse("1d"), always)
    drawn = rebased(bars([700.0, 707.0, 102.0], [None] * 3, actions))
    assert drawn["close"].to_list() == pytest.approx([100.0, 101.0, 102.0])
    assert drawn["volume"].to_list() == pytest.approx([700.0, 700.0, 100.0])


def test_without_adjusted_closes_prices_are_drawn_as_they_are():
    drawn = rebased(bars([3.0, 4.0], [None, None]))
    assert drawn["close"].to_list() == [3.0, 4.0]
    assert rebased(bars([], [])).is_empty()


def test_a_daily_forecast_stands_over_the_weekend_to_the_next_close():
    end_at = datetime(2013, 4, 2, 20, tzinfo=UTC)
    assert fresh_until(FRIDAY_CLOSE, end_at, NYSE) == MONDAY_CLOSE


def test_a_forecast_is_over_at_its_own_end():
    end_at = FRIDAY_CLOSE + timedelta(minutes=-90)
    assert fresh_until(FRIDAY_CLOSE + timedelta(minutes=-120), end_at, NYSE) == end_at


def test_a_forecast_made_during_a_session_stands_to_that_close():
    end_at = datetime(2013, 4, 2, 20, tzinfo=UTC)
    during = FRIDAY_CLOSE - timedelta(hours=2)
    assert fresh_until(during, end_at, NYSE) == FRIDAY_CLOSE


def test_past_the_end_of_the_calendar_only_the_own_end_counts():
    as_of = datetime(2045, 1, 1, tzinfo=UTC)
    assert fresh_until(as_of, as_of + timedelta(days=1), NYSE) == as_of + timedelta(days=1)


def test_it_is_stale_only_after_that_instant():
    assert state_at(MONDAY_CLOSE, MONDAY_CLOSE) == "fresh"
    assert state_at(MONDAY_CLOSE + timedelta(seconds=1), MONDAY_CLOSE) == "stale"


def test_instants_are_written_in_utc_and_missing_numbers_as_null():
    assert iso(datetime.fromisoformat("2013-03-01T16:00:00-05:00")) == "2013-03-01T21:00:00Z"
    assert as_json({"a": float("nan"), "b": float("inf")}).body == b'{"a":null,"b":null}'
