"""Units of features are learnt from the training span alone, and travel as JSON."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.market import Timeframe
from candlecast.domain.normalising import WIDEST, Normaliser
from candlecast.domain.sequences import Sequences
from candlecast.domain.specs import TensorSpec
from candlecast.errors import BadArtifact, InvalidSpec, NotEnoughHistory
from candlecast.features.timeframes import Windows, keys_of
from candlecast.models.network_windows import WindowReader
from tensor_markets import MONDAY, NAMES, bars_of, line_of, many_windows


def test_what_comes_after_the_training_span_changes_neither_units_nor_tensors_in_it():
    bars = bars_of("AAA", "BTC")
    until = MONDAY + timedelta(days=3)
    rng = np.random.default_rng(3)
    factor = pl.Series(np.exp(rng.normal(0, 3, len(bars))))
    price = ("open", "high", "low", "close")
    is_later = pl.col("known_at") > until
    nonsense = bars.with_columns(
        pl.when(is_later).then(pl.col(name) * factor).otherwise(name).alias(name) for name in price
    )
    keys = keys_of(line_of(bars)).filter(pl.col("as_of") <= until)
    found = []
    for given in (bars, nonsense, bars.filter(~is_later)):
        windows = Windows(TensorSpec(("1h",), NAMES, 5), [line_of(given)], keys)
        normaliser = windows.fit_normaliser(until)
        found.append((normaliser, windows.normalised(normaliser).take(np.arange(len(keys)))))
    (expected, tensors), *others = found
    for normaliser, changed in others:
        assert normaliser.to_mapping() == expected.to_mapping()
        np.testing.assert_array_equal(changed.values, tensors.values)
    at_end = Windows(TensorSpec(("1h",), NAMES, 5), [line_of(nonsense)], keys)
    late = at_end.fit_normaliser(until + timedelta(days=9))
    assert late.to_mapping() != expected.to_mapping()


def test_normalised_values_are_in_units_of_the_quartiles_and_bounded():
    windows = many_windows()
    normaliser = windows.fit_normaliser(MONDAY + timedelta(days=9))
    values = windows.timelines[0].values[:, 0]
    low, middle, high = np.nanquantile(values.astype(np.float64), (0.25, 0.5, 0.75))
    unit = (high - low) / 1.3489795003921634
    everything = np.arange(len(windows))
    plain, found = windows.take(everything), windows.normalised(normaliser).take(everything)
    expected = np.clip((plain.values[..., 0] - middle) / unit, -WIDEST, WIDEST)
    np.testing.assert_allclose(
        found.values[..., 0][found.mask], expected[found.mask], rtol=1e-4, atol=1e-5
    )
    assert (found.values[~found.mask] == 0).all()
    np.testing.assert_array_equal(found.mask, plain.mask)


def units_of(*columns):
    values = np.array(columns, dtype=np.float32).T
    names = tuple(f"f{place}" for place in range(len(columns)))
    spec = TensorSpec(("1h",), names)
    return Normaliser.fit(spec, [(values, np.ones(len(values), dtype=bool))])


def test_constant_and_nearly_constant_features_have_finite_units():
    n = 101
    rare = np.zeros(n)
    rare[:5] = 1.0
    found = units_of(np.full(n, 0.1), rare, np.arange(n))
    assert found.location[0].tolist() == pytest.approx([0.1, 0.0, 50.0])
    assert found.scale[0].tolist() == pytest.approx([1.0, rare.std(), 50 / 1.3489795])
    values = np.array([[0.1, 1.0, 1e9]], dtype=np.float32)
    found.apply(values, 0)
    assert values[0].tolist() == pytest.approx([0.0, 1 / rare.std(), WIDEST], abs=1e-6)


def test_units_survive_json_to_the_last_bit():
    normaliser = many_windows().fit_normaliser(MONDAY + timedelta(days=9))
    again = Normaliser.from_mapping(json.loads(json.dumps(normaliser.to_mapping())))
    assert again.to_mapping() == normaliser.to_mapping()
    np.testing.assert_array_equal(again.scale, normaliser.scale)
    np.testing.assert_array_equal(again.location, normaliser.location)


@pytest.mark.parametrize(
    "damage",
    [
        {"scale": [[1.0]]},
        {"scale": [[0.0, 1.0]]},
        {"scale": [[float("nan"), 1.0]]},
        {"location": [["x", 1.0]]},
        {"features": None},
        {"is_learnt": [False]},
        {"is_learnt": [True, True]},
        {"is_learnt": [1.0]},
    ],
)
def test_damaged_units_are_refused(damage):
    whole = many_windows().fit_normaliser(MONDAY + timedelta(days=9)).to_mapping()
    with pytest.raises(BadArtifact, match="fit it again"):
        Normaliser.from_mapping(whole | damage)
    without = {name: value for name, value in whole.items() if name not in damage}
    with pytest.raises(BadArtifact, match="fit it again"):
        Normaliser.from_mapping(without)


def test_units_of_other_features_or_timeframes_are_refused():
    windows = many_windows()
    normaliser = windows.fit_normaliser(MONDAY + timedelta(days=9))
    with pytest.raises(InvalidSpec, match="is not for these windows; fit one on them"):
        windows.normalised(replace(normaliser, features=("other", "place")))
    with pytest.raises(InvalidSpec, match="is not for these windows"):
        windows.normalised(replace(normaliser, timeframes=("1d",)))


def test_where_no_bar_of_the_training_span_has_all_features_the_rarest_is_named():
    with pytest.raises(
        NotEnoughHistory, match=r"no bar of 1h .* log_close is the rarest; leave it"
    ):
        many_windows().fit_normaliser(MONDAY)
    values = np.array([[1, 2, np.nan], [1, np.nan, 3], [1, np.nan, 3]], dtype=np.float32)
    spec = TensorSpec(("1h",), ("always", "once", "twice"))
    with pytest.raises(NotEnoughHistory, match="once is the rarest"):
        Normaliser.fit(spec, [(values, np.ones(3, dtype=bool))])


def test_a_timeframe_that_begins_after_the_training_span_is_masked_for_ever():
    bars = bars_of("AAA", "BTC")
    hourly, daily = line_of(bars), line_of(bars)
    early = MONDAY + timedelta(days=3)
    late = daily.as_of > np.datetime64(early.replace(tzinfo=None), "us").astype(np.int64)
    daily = replace(
        daily,
        timeframe=Timeframe.parse("1d"),
        values=np.where(late[:, None], daily.values, np.float32("nan")),
        is_complete=daily.is_complete & late,
    )
    windows = Windows(TensorSpec(("1h", "1d"), NAMES, 5), [hourly, daily], keys_of(hourly))
    everything = np.arange(len(windows))
    normaliser = windows.fit_normaliser(early)
    assert normaliser.is_learnt.tolist() == [True, False]
    plain, found = windows.take(everything), windows.normalised(normaliser).take(everything)
    assert plain.mask[:, :, 1].any()
    assert not found.mask[:, :, 1].any()
    assert (found.values[:, :, 1] == 0).all()
    np.testing.assert_array_equal(found.mask[:, :, 0], plain.mask[:, :, 0])
    reader = WindowReader(windows.spec, normaliser)
    inputs = reader.inputs(Sequences(windows, everything), everything)
    np.testing.assert_array_equal(inputs.values, found.values)
    np.testing.assert_array_equal(inputs.mask, found.mask)
    assert windows.fit_normaliser(early + timedelta(days=9)).is_learnt.tolist() == [True, True]


def test_the_end_of_the_training_span_needs_a_time_zone():
    with pytest.raises(InvalidSpec, match="without a time zone"):
        many_windows().fit_normaliser(MONDAY.replace(tzinfo=None))
