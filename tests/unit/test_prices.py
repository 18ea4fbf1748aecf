"""BARS to PRICES: factors, sessions, segments, and what is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from action_frames import actions_of, day, raw_bars
from candlecast.domain.frames import BARS, PRICES
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.domain.prices import make_prices, newest_segment_bars
from candlecast.errors import NotFound
from price_frames import DAILY, daily_bars, prices_of, stamped

XNYS = trading_calendar("XNYS")


def bars_on(days, *, symbol="A", close=100.0, adjusted=None, timeframe=DAILY, calendar=XNYS):
    """BARS at these instants, known when they closed."""
    n = len(days)
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * n,
            "ts": pl.Series(np.asarray(days, dtype="M8[us]")).dt.replace_time_zone("UTC"),
            **{name: np.full(n, close) for name in ("open", "high", "low", "close")},
            "volume": np.full(n, 1000.0),
            "adj_close": adjusted,
        },
        schema_overrides={"adj_close": pl.Float64},
    )
    opens = frame["ts"].dt.replace_time_zone(None).to_numpy()
    known = pl.Series(calendar.close_at(opens, timeframe)).dt.replace_time_zone("UTC")
    known = known.fill_null(datetime(2030, 1, 1, tzinfo=UTC))
    return BARS.conform(frame.with_columns(known_at=known, source=pl.lit("test")))


def sessions_from(day, places):
    start = int(np.searchsorted(XNYS.sessions, np.datetime64(day)))
    return XNYS.sessions[start + np.asarray(places)]


def test_prices_are_adjusted_and_money_stays_the_same():
    days = sessions_from("2020-01-02", range(3))
    prices = PRICES.check(prices_of(bars_on(days, adjusted=[50.0, 50.0, 100.0])))
    assert prices["factor"].to_list() == [0.5, 0.5, 1.0]
    assert prices["close"].to_list() == [50.0, 50.0, 100.0]
    assert prices["high"].to_list() == [50.0, 50.0, 100.0]
    assert (prices["close"] * prices["volume"]).to_list() == [100_000.0] * 3
    assert (prices["close"] / prices["factor"]).to_list() == [100.0] * 3


def test_a_missing_factor_holds_on_and_is_one_where_there_never_was_any():
    days = sessions_from("2020-01-02", range(4))
    prices = prices_of(bars_on(days, adjusted=[None, 80.0, None, 90.0]))
    assert prices["factor"].to_list() == [1.0, 0.8, 0.8, 0.9]
    both = pl.concat([bars_on(days, adjusted=[80.0] * 4), bars_on(days, symbol="B")])
    assert prices_of(both)["factor"].to_list() == [0.8] * 4 + [1.0] * 4


def test_a_later_bar_changes_no_earlier_price():
    bars = daily_bars(n_sessions=80, n_symbols=2)
    cut = bars["ts"].unique().sort()[50]
    whole = prices_of(bars).filter(pl.col("ts") <= cut)
    known = prices_of(bars.filter(pl.col("ts") <= cut))
    assert whole.equals(known)


def test_sessions_count_trading_days_and_close_early_on_half_days():
    prices = prices_of(bars_on(["2020-11-25", "2020-11-27", "2020-11-30"]))
    assert prices["session"].diff().to_list() == [None, 1, 1]
    assert prices["close_at"][1] == datetime(2020, 11, 27, 18, tzinfo=UTC)


def test_a_daily_bar_on_a_day_without_session_is_left_out():
    prices = prices_of(bars_on(["2020-11-25", "2020-11-26", "2020-11-28", "2020-11-30"]))
    assert prices["ts"].dt.day().to_list() == [25, 30]


@pytest.mark.parametrize(("n_missing", "n_segments"), [(0, 1), (5, 1), (6, 2)])
def test_only_a_long_silence_begins_a_new_segment(n_missing, n_segments):
    days = sessions_from("2020-01-02", [0, 1, 2, 3 + n_missing, 4 + n_missing])
    assert prices_of(bars_on(days))["segment"].n_unique() == n_segments


def test_segments_are_unique_over_symbols_and_ascend():
    segments = prices_of(daily_bars(n_sessions=200))["segment"]
    assert segments.is_sorted()
    assert segments.n_unique() == 5


def test_late_bars_are_kept_apart_from_those_known_before_them():
    bars = bars_on(sessions_from("2020-01-02", range(6)))
    late = bars["known_at"].to_list()
    late[1] = late[2] = datetime(2020, 3, 1, tzinfo=UTC)
    bars = bars.with_columns(known_at=pl.Series(late, dtype=bars["known_at"].dtype))
    assert prices_of(bars)["segment"].n_unique() == 1
    first, *rest = make_prices(bars, DAILY, {"A": XNYS}, is_first_version=True)["segment"]
    assert [segment == first for segment in rest] == [False, False, True, True, True]
    assert rest[0] == rest[1]


def test_bars_known_all_at_once_are_one_segment():
    bars = bars_on(sessions_from("2020-01-02", range(6)))
    bars = bars.with_columns(known_at=pl.col("known_at").max())
    prices = make_prices(bars, DAILY, {"A": XNYS}, is_first_version=True)
    assert prices["segment"].n_unique() == 1


def test_no_bars_give_no_prices():
    assert make_prices(BARS.empty(), DAILY, {}).equals(PRICES.empty())
    split = actions_of(("2020-01-06", "split", 2.0))
    assert make_prices(BARS.empty(), DAILY, {"A": XNYS}, actions=split).equals(PRICES.empty())


def test_a_split_is_no_return_and_turnover_stays():
    bars = raw_bars([700.0, 707.0, 101.0])
    split = actions_of(("2020-01-06", "split", 7.0))
    prices = PRICES.check(make_prices(bars, DAILY, {"A": XNYS}, actions=split))
    assert prices["close"].to_list() == prices["open"].to_list() == [700.0, 707.0, 707.0]
    assert prices["volume"].to_list() == pytest.approx([1000, 1000, 1000 / 7])
    assert prices["known_at"].equals(bars["known_at"])


def test_where_adjusted_closes_are_given_actions_change_nothing():
    bars = daily_bars(n_sessions=80, n_symbols=2)
    calendars = dict.fromkeys(bars["symbol"].unique(), XNYS)
    ex_date = bars["ts"].unique().sort()[40].date().isoformat()
    split = actions_of((ex_date, "split", 7.0, None, bars["symbol"][0]))
    for is_first in (False, True):
        with_split = make_prices(bars, DAILY, calendars, actions=split, is_first_version=is_first)
        assert with_split.equals(make_prices(bars, DAILY, calendars, is_first_version=is_first))


def test_raw_bars_continue_adjusted_ones_without_a_return_at_the_seam():
    bars = raw_bars([100.0, 100.0, 98.0, 49.0], given=[80.0, 80.0, None, None])
    rows = ("2020-01-06", "dividend", 2.0), ("2020-01-07", "split", 2.0)
    prices = make_prices(bars, DAILY, {"A": XNYS}, actions=actions_of(*rows))
    assert prices["close"].to_list() == pytest.approx([80.0] * 4)


LATE_SPLIT = ("2020-01-06", "split", 2.0, "2020-01-08")


def test_what_a_late_action_shaped_is_known_when_the_action_was():
    bars = raw_bars([100.0, 100.0, 50.0, 50.0, 50.0, 50.0])
    late = actions_of(LATE_SPLIT)
    prices = make_prices(bars, DAILY, {"A": XNYS}, actions=late, is_first_version=True)
    assert prices["close"].to_list() == [100.0] * 6
    assert prices["segment"].n_unique() == 1
    own = bars["known_at"].to_list()
    assert prices["known_at"].to_list() == [*own[:2], *[day("2020-01-08")] * 2, *own[4:]]
    newest = make_prices(bars, DAILY, {"A": XNYS}, actions=late)
    assert newest["close"].to_list() == [100.0] * 6
    assert newest["known_at"].equals(bars["known_at"])  # a correction never moves the stamp


def test_an_action_told_years_late_sets_a_quarter_aside_and_not_all_that_followed():
    bars = raw_bars([100.0] * 10 + [50.0] * 190)
    split = ("2020-01-16", "split", 2.0, "2024-01-02")
    prices = make_prices(bars, DAILY, {"A": XNYS}, actions=actions_of(split), is_first_version=True)
    assert prices["close"].to_list() == [100.0] * 200
    is_waiting = (prices["known_at"] == day("2024-01-02")).to_numpy()
    assert is_waiting.argmax() == 10
    assert (
        is_waiting.sum()
        == XNYS.session_index(np.array(["2020-04-17"], "M8[us]"))[0]
        - (XNYS.session_index(np.array(["2020-01-16"], "M8[us]"))[0])
    )
    assert (
        prices["known_at"]
        .filter(~pl.Series(is_waiting))
        .equals(bars["known_at"].filter(~pl.Series(is_waiting)))
    )
    segment = prices["segment"].to_numpy()
    apart = segment[:10], segment[is_waiting], segment[10:][~is_waiting[10:]]
    assert [len({*part}) for part in apart] == [1, 1, 1]
    assert len({part[0] for part in apart}) == 3


def test_a_row_that_waited_for_its_action_is_no_past_of_rows_known_before():
    bars = raw_bars([100.0, 100.0, 50.0, 50.0], given=[None, None, None, 100.0])
    late = actions_of((*LATE_SPLIT[:3], "2020-02-01"))
    segments = make_prices(bars, DAILY, {"A": XNYS}, actions=late, is_first_version=True)["segment"]
    assert segments[0] == segments[1] == segments[3] != segments[2]


def test_a_symbol_without_a_calendar_is_named():
    bars = bars_on(sessions_from("2020-01-02", [0]), symbol="AAPL")
    with pytest.raises(NotFound, match="calendar 'AAPL'; did you mean AAPLX"):
        make_prices(bars, DAILY, {"AAPLX": XNYS})


def test_each_symbol_follows_its_own_calendar():
    days = ["2020-07-03", "2020-07-04", "2020-07-06"]
    always = trading_calendar("24/7")
    bars = pl.concat([bars_on(days, symbol="BTC", calendar=always), bars_on(days, symbol="IBM")])
    prices = PRICES.check(make_prices(bars, DAILY, {"BTC": always, "IBM": XNYS}))
    assert prices.group_by("symbol", maintain_order=True).len().rows() == [("BTC", 3), ("IBM", 1)]
    assert prices["close_at"][0] == datetime(2020, 7, 4, tzinfo=UTC)


def test_finer_bars_belong_to_the_session_in_progress_or_the_next():
    minutes = ["2020-07-02T12:00", "2020-07-02T13:30", "2020-07-02T19:55", "2020-07-06T13:30"]
    five = Timeframe.parse("5m")
    prices = prices_of(bars_on(minutes, timeframe=five), five)
    assert (prices["session"] - prices["session"][0]).to_list() == [0, 0, 0, 1]
    assert prices["segment"].n_unique() == 1
    assert prices["close_at"][2] == datetime(2020, 7, 2, 20, tzinfo=UTC)


def test_a_session_that_begins_before_midnight_utc_is_one_session():
    sydney = trading_calendar("XASX")
    opened = sydney.opens[np.searchsorted(sydney.sessions, np.datetime64("2020-01-07"))]
    assert opened.astype("datetime64[D]") == np.datetime64("2020-01-06")
    hour = Timeframe.parse("1h")
    hours = opened + np.arange(5) * np.timedelta64(1, "h")
    prices = prices_of(bars_on(hours, timeframe=hour, calendar=sydney), hour, "XASX")
    assert prices["session"].n_unique() == 1
    assert prices["ts"].dt.date().n_unique() == 2


def test_the_newest_bars_of_each_symbol_are_its_last_ones():
    prices = prices_of(daily_bars(n_sessions=100, n_symbols=2))
    newest = newest_segment_bars(prices, 7)
    assert newest.group_by("symbol", maintain_order=True).len()["len"].to_list() == [7, 7]
    assert newest.equals(prices.group_by("symbol", maintain_order=True).tail(7))


def test_bars_are_stamped_when_they_close():
    bars = daily_bars(n_sessions=5, n_symbols=1)
    assert (bars["known_at"] - bars["ts"]).min() >= timedelta(hours=18)
    again = stamped(bars.drop("known_at"), DAILY, XNYS)
    assert again.equals(bars)
