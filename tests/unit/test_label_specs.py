"""How labels are asked for: their kind with its parameters, thresholds, weights."""

from __future__ import annotations

import math

import pytest

from candlecast.domain.catalog import LABELS
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec, LabelSpec
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines.label import default_horizons, look_up, own_parameters


@pytest.mark.parametrize(
    ("parameters", "stored"),
    [
        ({}, "forward_return"),
        ({"is_simple": True}, "forward_return[is_simple=true]"),
        ({"is_simple": False}, "forward_return"),
        (
            {"is_simple": True, "is_scaled": True},
            "forward_return[is_scaled=true,is_simple=true]",
        ),
        ({"is_scaled": True, "is_simple": False}, "forward_return[is_scaled=true]"),
    ],
)
def test_a_kind_is_stored_with_the_parameters_that_differ(parameters, stored):
    assert look_up(LabelSpec(parameters=parameters))[1].stored_kind == stored


def test_a_number_is_written_in_one_way():
    kinds = {
        look_up(LabelSpec("triple_barrier", parameters={"upper": upper}))[1].stored_kind
        for upper in (2, 2.0)
    }
    assert kinds == {"triple_barrier[upper=2]"}
    assert LabelSpec("regime_change", parameters={"threshold": 0.7}).stored_kind == (
        "regime_change[threshold=0.7]"
    )


def test_a_direction_has_the_threshold_of_the_forecast_unless_it_names_its_own():
    kind = "price_direction"
    assert look_up(LabelSpec(kind))[1].stored_kind == kind
    fixed = LabelSpec(kind, threshold="fixed:0.02")
    assert look_up(fixed)[1].stored_kind == "price_direction[threshold=fixed:0.02]"
    own = LabelSpec(kind, threshold="fixed:0.02", parameters={"threshold": "scaled"})
    assert look_up(own)[1].stored_kind == kind
    assert look_up(LabelSpec("regime_change", threshold="fixed:0.02"))[1].parameters == {}


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        (LabelSpec("forward_retrun"), NotFound, "forward_return"),
        (LabelSpec("triple_barrier", parameters={"uper": 1.0}), NotFound, "upper"),
        (LabelSpec("forward_return", parameters={"prices": 1.0}), NotFound, "prices"),
        (LabelSpec("triple_barrier", parameters={"upper": "high"}), InvalidSpec, "float"),
        (LabelSpec("forward_return", parameters={"is_simple": 1}), InvalidSpec, "bool"),
        (LabelSpec("price_direction", parameters={"threshold": 0.02}), InvalidSpec, "str"),
    ],
)
def test_what_no_label_has_is_named(spec, error, told):
    with pytest.raises(error, match=told):
        look_up(spec)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"weighting": "unique"}, "equal or uniqueness"),
        ({"half_life_days": -1.0}, "not negative"),
        ({"half_life_days": math.inf}, "finite"),
        ({"half_life_days": math.nan}, "finite"),
        ({"parameters": {"upper": math.nan}}, "upper"),
    ],
)
def test_impossible_settings_are_refused(settings, told):
    with pytest.raises(InvalidSpec, match=told):
        LabelSpec(**settings)


def test_weights_are_part_of_an_experiment():
    spec = ExperimentSpec.from_mapping(
        {"labels": {"weighting": "uniqueness", "half_life_days": 90}}
    )
    assert (spec.labels.weighting, spec.labels.half_life_days) == ("uniqueness", 90.0)
    assert spec.id != ExperimentSpec().id


def test_default_horizons_are_those_that_are_whole_numbers_of_bars():
    hour, day = Timeframe.parse("1h"), Timeframe.parse("1d")
    assert default_horizons("regime_change", hour) == ("12h",)
    assert default_horizons("regime_change", day) == ("10D",)
    assert default_horizons("sector_rotation", hour) == ("6h",)
    assert default_horizons("forward_return", hour) == ("1h", "1D")
    with pytest.raises(InvalidSpec, match=r"6h.*--horizon"):
        default_horizons("sector_rotation", Timeframe.parse("4h"))


@pytest.mark.parametrize("kind", LABELS.names())
def test_every_parameter_has_a_default_that_is_accepted(kind):
    defaults = own_parameters(LABELS.get(kind))
    assert look_up(LabelSpec(kind, parameters=defaults))[1].stored_kind == kind
