"""Shares of large trades: against a slow twin, without look-ahead; and dominance of one coin."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain import large_trades as module
from candlecast.domain.dominance import TOTAL, compute_dominance
from candlecast.domain.frames import CAPITALISATIONS, LARGE_TRADES
from candlecast.domain.large_trades import (
    LEAST_TRADES,
    LEVEL,
    TRADES,
    WINDOW_TRADES,
    compute_large_trades,
    compute_thresholds,
    make_trades,
    trailing,
)
from candlecast.domain.sources import Trade

MORNING = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
LATER = MORNING + timedelta(days=2)


def drawn(seed, *, n_trades=3000, symbols=("AAPL", "MSFT"), hours=4):
    """Trades of each symbol over some hours, sizes heavy-tailed, some at the same instant."""
    generator = np.random.default_rng(seed)
    frames = []
    for symbol in symbols:
        seconds = np.sort(generator.integers(0, hours * 3600, n_trades))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * n_trades,
                    "at": [MORNING + timedelta(seconds=int(s)) for s in seconds],
                    "price": 100 + generator.standard_normal(n_trades),
                    "size": np.ceil(generator.pareto(1.5, n_trades) * 10 + 1),
                    "id": [f"{n}" for n in range(n_trades)],
                },
                schema=TRADES,
            )
        )
    return pl.concat(frames)


def computed(trades, closed_at=LATER, **more):
    return compute_large_trades(trades, closed_at=closed_at, source="alpaca", **more)


def slow_twin(trades):
    """The rule once more, trade by trade."""
    ordered = trades.sort("symbol", "at", "price", "size", "id").rows(named=True)
    expected = {}
    for trade in ordered:
        hour = trade["at"].replace(minute=0, second=0)
        before = [
            other["price"] * other["size"]
            for other in ordered
            if other["symbol"] == trade["symbol"] and other["at"] < hour
        ][-WINDOW_TRADES:]
        if len(before) < LEAST_TRADES:
            continue
        threshold = sorted(before)[int(np.ceil(LEVEL * (len(before) - 1)))]
        key = trade["symbol"], trade["at"].replace(second=0)
        row = expected.setdefault(key, [0, 0.0, 0, 0.0, threshold])
        is_large = trade["price"] * trade["size"] >= threshold
        row[0] += 1
        row[1] += trade["size"]
        row[2] += is_large
        row[3] += trade["size"] * is_large
    return expected


def test_rows_equal_those_of_a_slow_twin(monkeypatch):
    monkeypatch.setattr(module, "WINDOW_TRADES", 300)
    monkeypatch.setattr(module, "LEAST_TRADES", 100)
    monkeypatch.setitem(globals(), "WINDOW_TRADES", 300)
    monkeypatch.setitem(globals(), "LEAST_TRADES", 100)
    trades = drawn(3, n_trades=600)
    rows = LARGE_TRADES.check(computed(trades))
    numbers = ("n_trades", "volume", "n_large", "large_volume", "threshold")
    found = {(row["symbol"], row["ts"]): [row[n] for n in numbers] for row in rows.to_dicts()}
    expected = slow_twin(trades)
    assert found.keys() == expected.keys()
    assert len(found) > 100
    for key, row in expected.items():
        assert found[key] == pytest.approx(row)


def test_about_one_trade_in_a_hundred_is_large_on_a_calm_market():
    rows = computed(drawn(5, n_trades=20_000))
    share = rows["n_large"].sum() / rows["n_trades"].sum()
    assert 0.007 < share < 0.013
    assert (rows["large_volume"] <= rows["volume"]).all()
    by_volume = rows["large_volume"].sum() / rows["volume"].sum()
    assert by_volume > 5 * share


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 4 * 60))
def test_later_trades_change_nothing_earlier(seed, minute):
    trades = drawn(seed, n_trades=1500)
    cut = MORNING + timedelta(minutes=minute)
    past = computed(trades.filter(pl.col("at") < cut), closed_at=cut)
    whole = computed(trades).filter(pl.col("ts") + timedelta(minutes=1) <= cut)
    assert past.equals(whole)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_order_and_repeated_trades_change_nothing(seed):
    trades = drawn(seed, n_trades=1500)
    again = pl.concat([trades, trades.sample(200, seed=1)]).sample(fraction=1, shuffle=True, seed=2)
    assert computed(again).equals(computed(trades))


def test_one_symbol_does_not_change_another():
    trades = drawn(7)
    alone = computed(trades.filter(pl.col("symbol") == "AAPL"))
    assert len(alone) > 0
    assert computed(trades).filter(pl.col("symbol") == "AAPL").equals(alone)


def test_there_is_no_row_before_enough_trades_are_known():
    few = drawn(1, n_trades=LEAST_TRADES - 1, hours=1)
    many = drawn(1, n_trades=LEAST_TRADES, hours=1)
    next_hour = [MORNING + timedelta(hours=2)]
    assert compute_thresholds(few, next_hour).is_empty()
    assert len(compute_thresholds(many, next_hour)) == 2
    assert computed(few).is_empty()


def test_a_minute_that_has_not_ended_has_no_row():
    trades = drawn(2)
    closed_at = MORNING + timedelta(hours=2, seconds=30)
    rows = computed(trades, closed_at=closed_at)
    assert rows["ts"].max() == MORNING + timedelta(hours=2) - timedelta(minutes=1)


def test_a_row_is_known_when_its_minute_has_ended_and_the_vendor_has_told():
    rows = computed(drawn(2), delay_seconds=900.0)
    assert (rows["known_at"] - rows["ts"]).unique().to_list() == [timedelta(minutes=16)]


def test_hour_by_hour_from_the_trailing_trades_equals_all_at_once():
    trades = drawn(11, n_trades=9000)
    kept, rows = make_trades([]), []
    for hour in range(5):
        start = MORNING.replace(minute=0) + timedelta(hours=hour)
        is_new = pl.col("at").is_between(start, start + timedelta(hours=1), closed="left")
        new = trades.filter(is_new)
        thresholds = compute_thresholds(kept, [start])
        rows.append(computed(new, thresholds=thresholds))
        kept = trailing(pl.concat([kept, new]))
        assert kept.group_by("symbol").len()["len"].max() <= WINDOW_TRADES
    assert pl.concat(rows).sort("symbol", "ts").equals(computed(trades))


def test_impossible_trades_do_not_count():
    trades = drawn(2)
    bad = make_trades(
        Trade("AAPL", MORNING + timedelta(hours=3), price, size)
        for price, size in [(-1.0, 5.0), (0.0, 5.0), (10.0, 0.0), (float("nan"), 1.0), (1e9, -1.0)]
    )
    assert computed(pl.concat([trades, bad])).equals(computed(trades))


def test_trades_without_an_id_are_all_counted():
    trades = drawn(2).with_columns(id=pl.lit(""))
    assert computed(trades).equals(computed(drawn(2)))


def capitalisations(*rows):
    return CAPITALISATIONS.conform(
        pl.DataFrame(
            [(asset, ts, value, "test", known_at) for asset, ts, value, known_at in rows],
            schema=CAPITALISATIONS.columns,
            orient="row",
        )
    )


def test_dominance_is_known_when_both_parts_are():
    noon, soon, late = MORNING, MORNING + timedelta(hours=1), MORNING + timedelta(hours=9)
    rows = compute_dominance(
        capitalisations(
            ("BTC-USD", noon, 1.0, soon),
            (TOTAL, noon, 2.0, late),
            ("ETH-USD", noon, 0.5, soon),
            ("BTC-USD", soon, 1.0, soon),  # no total
            (TOTAL, late, 3.0, late),  # no coin
        )
    )
    assert rows.rows() == [("btc_dominance", noon, 0.5, None, "test", late)]


def test_a_share_above_one_is_no_share():
    rows = [("ETH-USD", MORNING, 3.0, MORNING), (TOTAL, MORNING, 2.0, MORNING)]
    assert compute_dominance(capitalisations(*rows), "ETH-USD").is_empty()
    assert compute_dominance(CAPITALISATIONS.empty()).is_empty()
