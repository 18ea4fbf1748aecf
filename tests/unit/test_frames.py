"""Frames: what check() refuses and what conform() puts right."""

from datetime import UTC, date, datetime
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.distribution import LEVELS
from candlecast.domain.frames import (
    BARS,
    FEATURES,
    FORECASTS,
    INSTANT,
    LABELS,
    PRICES,
    QUANTILES,
    UNSTAMPED,
    FrameSpec,
)
from candlecast.domain.order import ascends
from candlecast.errors import BadFrame

ALL = (BARS, UNSTAMPED, PRICES, FEATURES, LABELS, FORECASTS)
DAYS = [datetime(2020, 1, day, tzinfo=UTC) for day in (2, 3, 6)]


@pytest.fixture
def bars():
    return BARS.conform(
        pl.DataFrame({"symbol": ["A", "A", "B"], "ts": [DAYS[0], DAYS[1], DAYS[0]]}).with_columns(
            *(pl.lit(10.0).alias(name) for name in ("open", "high", "low", "close", "volume")),
            source=pl.lit("test"),
            known_at=pl.col("ts"),
        )
    )


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_an_empty_frame_passes_its_own_check(spec: FrameSpec):
    assert spec.check(spec.empty()).is_empty()
    assert spec.conform(spec.empty()).schema == spec.empty().schema


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_keys_are_columns_that_hold_no_nulls(spec: FrameSpec):
    assert set(spec.key) <= set(spec.columns)
    assert not set(spec.key) & spec.nullable
    assert spec.nullable <= set(spec.columns)


def test_the_quantile_columns_are_named_after_their_levels():
    assert QUANTILES[0] == "q010"
    assert QUANTILES[-1] == "q990"
    assert [int(name[1:]) for name in QUANTILES] == pytest.approx(list(LEVELS * 1000))
    assert set(QUANTILES) < set(FORECASTS.columns)


def test_conforming_adds_what_may_be_null_orders_columns_and_sorts_rows(bars):
    present = sorted(set(bars.columns) - {"vwap", "trade_count"})
    shuffled = bars.reverse().select(present)
    assert BARS.conform(shuffled).equals(bars)


def test_conforming_casts_integers_dates_and_other_time_units(bars):
    loose = bars.with_columns(
        pl.col("volume").cast(pl.Int32), pl.col("known_at").cast(pl.Datetime("ns", "UTC"))
    )
    assert BARS.conform(loose).equals(bars)
    dated = bars.head(1).with_columns(ts=pl.lit(date(2020, 1, 2)))
    assert BARS.conform(dated).equals(bars.head(1))


def test_conforming_drops_foreign_columns_unless_the_frame_is_open(bars):
    assert BARS.conform(bars.with_columns(other=1)).columns == bars.columns
    features = bars.select("symbol", "ts", as_of="ts").with_columns(rsi_14=pl.lit(0.5))
    assert FEATURES.conform(features).columns == ["symbol", "ts", "as_of", "rsi_14"]


def test_a_missing_column_is_named(bars):
    with pytest.raises(BadFrame, match="BARS lacks high, low; it has"):
        BARS.conform(bars.drop("high", "low"))


def test_what_cannot_be_cast_is_refused_with_the_column(bars):
    with pytest.raises(BadFrame, match=r"BARS: .*'close'"):
        BARS.conform(bars.with_columns(close=pl.lit("ten")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.reverse(), "not sorted by symbol, ts"),
        (lambda f: pl.concat([f, f.tail(1)]), "twice; keep one"),
        (lambda f: f.with_columns(pl.col("ts").dt.replace_time_zone(None)), r"BARS\.ts is .*None"),
        (lambda f: f.with_columns(pl.col("close").cast(pl.Float32)), r"BARS\.close is Float32"),
        (lambda f: f.with_columns(close=pl.lit(None, pl.Float64)), r"BARS\.close holds nulls"),
        (lambda f: f.drop("source"), "BARS has columns"),
        (lambda f: f.with_columns(other=1), "BARS has columns"),
        (lambda f: f.select(reversed(f.columns)), "BARS has columns"),
    ],
)
def test_check_says_what_is_wrong(bars, change, message):
    with pytest.raises(BadFrame, match=message):
        BARS.check(change(bars))


def test_check_returns_the_frame_itself(bars):
    assert BARS.check(bars) is bars


def test_rows_of_one_symbol_out_of_order_are_found_though_the_next_symbol_is_in_order():
    ts = pl.Series("ts", [DAYS[1], DAYS[0], DAYS[2]], dtype=INSTANT)
    frame = pl.DataFrame({"symbol": ["A", "A", "B"], "ts": ts, "as_of": ts})
    with pytest.raises(BadFrame, match="not sorted"):
        FEATURES.check(frame)


def test_one_symbol_and_ts_may_carry_several_horizons_but_each_once(bars):
    labels = LABELS.conform(
        bars.head(1).select("symbol", "ts", end_at="ts", horizon_bars=1, horizon=pl.lit("1D"))
    )
    both = pl.concat([labels, labels.with_columns(horizon=pl.lit("1W"))])
    assert LABELS.check(both).height == 2
    with pytest.raises(BadFrame, match="twice"):
        LABELS.check(pl.concat([labels, labels]))


THREE = FrameSpec("THREE", dict.fromkeys("abc", pl.Int64), key=("a", "b", "c"))
FEW = st.integers(0, 2)


@given(rows=st.lists(st.tuples(FEW, FEW, FEW), max_size=6), is_put_in_order=st.booleans())
def test_the_order_asked_for_is_that_of_tuples(rows, is_put_in_order):
    rows = sorted(rows) if is_put_in_order else rows
    frame = pl.DataFrame(rows, schema=THREE.columns, orient="row")
    if rows != sorted(rows):
        with pytest.raises(BadFrame, match="not sorted"):
            THREE.check(frame)
    elif len(set(rows)) < len(rows):
        first = next(row for row, after in pairwise(rows) if row == after)
        with pytest.raises(BadFrame) as error:
            THREE.check(frame)
        assert f"holds {first} twice" in str(error.value)
    else:
        assert THREE.check(frame) is frame


def test_nothing_can_be_said_of_an_order_that_a_missing_key_decides():
    frame = pl.DataFrame({"a": [1, 1, 1], "b": [2, None, 1]})
    found = frame.select(ascends(("a", "b"), strictly=True)).to_series()
    assert found.to_list() == [None, None, None]
