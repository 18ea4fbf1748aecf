"""Windows of several timeframes show what had ended and was known, and nothing beyond a gap."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.specs import TensorSpec
from candlecast.errors import (
    BadFrame,
    InvalidSpec,
    LeakageError,
    NotEnoughHistory,
    NotFound,
)
from candlecast.features.timeframes import Windows, keys_of
from candlecast.features.timelines import Timeline
from tensor_markets import (
    DAY,
    HOUR,
    MICROSECOND,
    MONDAY,
    NAMES,
    bars_of,
    keys_at,
    line_of,
    many_windows,
    prices_of,
    some_features,
    timeline_of,
    utc,
)


def windows_of(line, pairs, n_steps=4):
    spec = TensorSpec((line.timeframe.name,), NAMES, n_steps)
    return Windows(spec, [line], keys_at(pairs))


def first_of(line, *pairs, n_steps=4):
    """Places of the bars in the windows (their second feature), mask and age, row by row."""
    tensors = windows_of(line, pairs, n_steps).take(np.arange(len(pairs)))
    shown = np.where(tensors.mask[..., 0], tensors.values[:, :, 0, 1], -1)
    return shown.astype(int).tolist(), tensors.age_bars[:, 0].tolist()


# --- what is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"timeframes": ()}, "name at least one timeframe, e.g. 5m"),
        ({"features": ()}, "name at least one feature, e.g. return_1"),
        ({"timeframes": ("1h", "1h")}, "timeframe 1h is named twice"),
        ({"features": ("a", "a")}, "feature a is named twice"),
        ({"n_steps": 0}, "n_steps is 0; it is at least 1, usually 100 to 200"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_with_its_remedy(fields, remedy):
    good = TensorSpec(("1h", "1d"), ("return_1",))
    with pytest.raises(InvalidSpec, match=remedy):
        replace(good, **fields)


def test_an_unknown_timeframe_names_the_close_ones():
    with pytest.raises(NotFound, match=r"unknown timeframe '60m'; did you mean .*30m"):
        TensorSpec(("60m",), ("return_1",))


def test_the_order_of_timeframes_makes_no_other_spec_but_that_of_features_does():
    spec = TensorSpec(("1d", "5m"), ("a", "b"))
    assert spec.timeframes == ("5m", "1d")
    assert spec.id == TensorSpec(("5m", "1d"), ("a", "b")).id
    assert spec.id != TensorSpec(("5m", "1d"), ("b", "a")).id
    assert TensorSpec.from_mapping(
        {"timeframes": ["5m", "1d"], "features": ["a", "b"], "n_steps": 128}
    ) == TensorSpec(("5m", "1d"), ("a", "b"))


# --- what is seen -----------------------------------------------------------------------------


def test_an_hour_is_seen_from_the_microsecond_on_at_which_it_has_ended():
    line = line_of(bars_of("BTC"))
    ended = MONDAY + timedelta(hours=6)
    shown, ages = first_of(line, ("BTC", ended - MICROSECOND), ("BTC", ended))
    assert shown == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert ages == pytest.approx([1.0, 0.0], abs=1e-4)


def test_a_bar_that_claims_to_be_known_before_it_ended_is_not_believed():
    bars = bars_of("BTC").with_columns(known_at="ts")
    shown, _ = first_of(line_of(bars), ("BTC", MONDAY + timedelta(hours=6) - MICROSECOND))
    assert shown == [[1, 2, 3, 4]]


def test_before_the_first_bar_all_is_masked_and_there_is_no_age():
    shown, ages = first_of(line_of(bars_of("BTC")), ("BTC", MONDAY), ("AAA", MONDAY))
    assert shown == [[-1] * 4] * 2
    assert np.isnan(ages).all()


def test_a_window_ends_at_a_real_gap():
    bars = bars_of("BTC", timeframe=DAY, n_sessions=20)
    kept = bars.filter(~pl.col("ts").dt.day().is_between(5, 12))  # eight days are missing
    asked = MONDAY + timedelta(days=14)
    shown, _ = first_of(line_of(kept, DAY), ("BTC", asked))
    assert shown == [[-1, -1, 4, 5]]


def test_what_heals_a_gap_late_is_no_part_of_the_window_and_hides_nothing():
    bars = bars_of("BTC")
    healed = pl.col("ts").is_between(MONDAY + timedelta(hours=2), MONDAY + timedelta(hours=4))
    late = pl.when(healed).then(MONDAY + timedelta(hours=20)).otherwise("known_at")
    line = line_of(bars.with_columns(known_at=late))
    shown, _ = first_of(
        line, ("BTC", MONDAY + timedelta(hours=8)), ("BTC", MONDAY + timedelta(hours=21))
    )
    assert shown == [[1, 5, 6, 7], [17, 18, 19, 20]]
    assert first_of(line, ("BTC", MONDAY + timedelta(hours=21)), n_steps=24)[0] == [
        [-1] * 6 + [0, 1, *range(5, 21)]
    ]


def test_a_row_that_waits_for_its_market_is_left_out_until_then():
    prices = prices_of(bars_of("BTC"), HOUR)
    features = some_features(np.random.default_rng(2), prices)
    waiting = MONDAY + timedelta(hours=9)
    as_of = pl.when(pl.col("place") == 3).then(waiting).otherwise("as_of")
    line = timeline_of(HOUR, prices, features.with_columns(as_of=as_of))
    assert not line.is_ordered
    shown, _ = first_of(line, ("BTC", waiting - MICROSECOND), ("BTC", waiting), n_steps=6)
    assert shown == [[1, 2, 4, 5, 6, 7], [3, 4, 5, 6, 7, 8]]


def test_a_window_goes_back_as_far_as_it_takes_when_many_rows_wait():
    prices = prices_of(bars_of("BTC"), HOUR)
    features = some_features(np.random.default_rng(2), prices)
    waiting = MONDAY + timedelta(hours=60)
    as_of = pl.when(pl.col("place").is_between(3, 30)).then(waiting).otherwise("as_of")
    line = timeline_of(HOUR, prices, features.with_columns(as_of=as_of))
    asked = MONDAY + timedelta(hours=32)
    assert first_of(line, ("BTC", asked), n_steps=3)[0] == [[1, 2, 31]]
    assert first_of(line, ("BTC", asked), n_steps=5)[0] == [[-1, 0, 1, 2, 31]]


def test_no_window_reaches_into_another_symbol():
    prices = prices_of(bars_of("AAA", "BTC"), HOUR).with_columns(segment=pl.lit(0, pl.Int64))
    line = timeline_of(HOUR, prices, some_features(np.random.default_rng(2), prices))
    shown, _ = first_of(line, ("BTC", MONDAY + timedelta(hours=2)))
    assert shown == [[-1, -1, 0, 1]]


def test_places_with_an_unknown_feature_are_masked_and_zero():
    prices = prices_of(bars_of("BTC"), HOUR)
    features = some_features(np.random.default_rng(2), prices)
    value = pl.when(pl.col("place") != 2).then("log_close")
    line = timeline_of(HOUR, prices, features.with_columns(log_close=value))
    tensors = windows_of(line, [("BTC", MONDAY + timedelta(hours=4))]).take(np.array([0]))
    assert tensors.mask[0, :, 0].tolist() == [True, True, False, True]
    assert tensors.values[0, 2, 0].tolist() == [0.0, 0.0]
    assert (tensors.values[0, [0, 1, 3], 0, 0] > 3).all()


HOUR_BAR = timedelta(minutes=390 / 7)  # a session has seven of them


@pytest.mark.parametrize(
    ("ticker", "timeframe", "last", "fresh_until", "then_open"),
    [
        ("AAA", HOUR, utc(2021, 3, 2, 15, 30), utc(2021, 3, 3, 15, 30) + HOUR_BAR, None),
        ("AAA", DAY, utc(2021, 3, 2, 21), utc(2021, 3, 4, 21), utc(2021, 3, 5, 14, 30)),
        ("BTC", HOUR, utc(2021, 3, 2, 3), utc(2021, 3, 3, 4), None),
        ("BTC", DAY, utc(2021, 3, 2), utc(2021, 3, 4), None),
    ],
)
def test_a_timeframe_is_masked_once_more_than_a_session_and_a_bar_is_missing(
    ticker, timeframe, last, fresh_until, then_open
):
    bars = bars_of(ticker, timeframe=timeframe).filter(pl.col("known_at") <= last)
    line = line_of(bars, timeframe)
    later = (then_open or fresh_until) + timedelta(seconds=20)
    shown, ages = first_of(line, (ticker, fresh_until), (ticker, later))
    assert shown[0][-1] == len(bars) - 1
    assert shown[1] == [-1] * 4
    assert ages[0] <= ages[1] < ages[0] + 0.01


def test_nights_and_weekends_make_nothing_stale():
    line = line_of(bars_of("AAA"))  # Monday to Friday
    monday_before_open = utc(2021, 3, 8, 14, 29)
    shown, ages = first_of(line, ("AAA", monday_before_open))
    assert -1 not in shown[0]
    assert ages == [0.0]


# --- frames and keys that cannot be used --------------------------------------------------------


def test_features_of_other_rows_are_refused():
    prices = prices_of(bars_of("BTC"), HOUR)
    features = some_features(np.random.default_rng(2), prices)
    with pytest.raises(BadFrame, match="compute them from these PRICES"):
        timeline_of(HOUR, prices, features.head(-1))


def test_features_stamped_before_their_bar_was_known_are_a_leak():
    prices = prices_of(bars_of("BTC"), HOUR)
    features = some_features(np.random.default_rng(2), prices).with_columns(as_of="ts")
    with pytest.raises(LeakageError, match="1h features are stamped before"):
        timeline_of(HOUR, prices, features)


def test_no_rows_are_no_timeline():
    prices = prices_of(bars_of("BTC"), HOUR).head(0)
    with pytest.raises(NotEnoughHistory, match="no 1h bars; ingest or derive"):
        timeline_of(HOUR, prices, some_features(np.random.default_rng(2), prices))


@pytest.mark.parametrize(
    "keys",
    [
        pl.DataFrame({"symbol": ["BTC"]}),
        keys_at([("BTC", MONDAY)]).with_columns(pl.col("as_of").dt.replace_time_zone(None)),
        keys_at([("BTC", None)]),
    ],
)
def test_keys_without_symbol_and_instant_are_refused(keys):
    with pytest.raises(BadFrame, match="keys"):
        windows_of(line_of(bars_of("BTC")), []).at(keys)


def test_timelines_that_are_not_those_of_the_spec_are_refused():
    line = line_of(bars_of("BTC"))
    with pytest.raises(InvalidSpec, match="timelines of"):
        Windows(TensorSpec(("1d",), NAMES), [line], keys_at([]))
    with pytest.raises(InvalidSpec, match="other features"):
        Windows(TensorSpec(("1h",), (*NAMES, "third")), [line], keys_at([]))


# --- batches ------------------------------------------------------------------------------------


def test_keys_of_a_timeline_are_its_instants_once_a_symbol_by_as_of():
    windows = many_windows()
    assert windows.keys["as_of"].is_sorted()
    assert windows.keys.n_unique() == len(windows)
    assert {*windows.keys["symbol"]} == {"AAA", "BTC", "ZZZ"}


def test_batches_hold_each_row_once_in_an_order_that_the_seed_decides():
    windows = many_windows()

    def order(seed):
        generator = None if seed is None else np.random.default_rng(seed)
        return np.concatenate([rows for rows, _ in windows.batches(32, generator=generator)])

    assert order(None).tolist() == list(range(len(windows)))
    assert sorted(order(1)) == list(range(len(windows)))
    assert order(1).tolist() == order(1).tolist() != order(2).tolist()


def test_a_batch_is_what_its_rows_are_alone():
    windows = many_windows()
    whole = windows.take(np.arange(len(windows)))
    chosen = np.arange(0, len(windows), 3)
    sizes = []
    for rows, tensors in windows.batches(10, chosen, np.random.default_rng(5)):
        sizes.append(len(tensors))
        np.testing.assert_array_equal(tensors.values, whole.values[rows])
        np.testing.assert_array_equal(tensors.mask, whole.mask[rows])
        np.testing.assert_array_equal(tensors.age_bars, whole.age_bars[rows])
    assert sum(sizes) == len(chosen)
    assert max(sizes) == 10
    assert whole.values.dtype == np.float32


def test_a_batch_of_no_rows_is_refused():
    with pytest.raises(InvalidSpec, match="at least one"):
        next(many_windows().batches(0))


def test_timelines_of_chunks_joined_are_that_of_all():
    bars = bars_of("AAA", "BTC", "ZZZ")
    healed = pl.col("ts").dt.hour() == 15
    bars = bars.with_columns(
        known_at=pl.when(healed).then(pl.col("known_at").dt.offset_by("7h")).otherwise("known_at")
    )
    whole = line_of(bars)
    parts = [line_of(bars.filter(pl.col("symbol") == t)) for t in ("AAA", "BTC", "ZZZ")]
    keys = keys_of(whole)
    spec = TensorSpec(("1h",), NAMES, 6)
    expected, found = (
        Windows(spec, [line], keys).take(np.arange(len(keys)))
        for line in (whole, Timeline.concat(parts))
    )
    assert expected.mask.any()
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.mask, expected.mask)
    with pytest.raises(BadFrame, match="out of order"):
        Timeline.concat(parts[::-1])
