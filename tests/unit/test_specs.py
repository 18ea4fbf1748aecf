"""Specs: the same content has the same id, and nonsense is refused by name."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.domain.described import content_hash, to_mapping
from candlecast.domain.specs import (
    ExperimentSpec,
    FeatureSpec,
    LabelSpec,
    ModelSpec,
    SplitSpec,
    TensorSpec,
)
from candlecast.errors import InvalidSpec, NotFound

parameters = st.dictionaries(
    st.sampled_from(["a", "b", "rate", "n_estimators"]),
    st.one_of(
        st.integers(-9, 9), st.floats(-9, 9), st.booleans(), st.sampled_from(["", "l2", "é"])
    ),
    max_size=4,
)
experiments = st.builds(
    ExperimentSpec,
    symbols=st.lists(st.sampled_from(["AAPL", "MSFT", "BTC"]), max_size=3).map(tuple),
    seed=st.integers(0, 99),
    features=st.builds(FeatureSpec, names=st.sampled_from([(), ("rsi_14",), ("a", "b")])),
    labels=st.builds(
        LabelSpec,
        horizons=st.sampled_from([("1D",), ("1D", "1W"), ("30m",)]),
        threshold=st.sampled_from(["scaled", "fixed:0.02"]),
    ),
    splits=st.builds(
        SplitSpec,
        n_splits=st.integers(1, 9),
        test_size=st.none() | st.integers(1, 99),
        embargo_days=st.integers(0, 9) | st.floats(0, 9),
    ),
    model=st.builds(ModelSpec, parameters=parameters),
)


@given(experiments)
def test_a_spec_survives_json_with_its_id(spec):
    again = ExperimentSpec.from_mapping(json.loads(json.dumps(to_mapping(spec))))
    assert again == spec
    assert again.id == spec.id


@given(experiments, experiments)
def test_two_specs_are_equal_exactly_when_their_ids_are(one, other):
    # True equals 1 in Python, so they are told apart by their JSON.
    same = json.dumps(to_mapping(one), sort_keys=True) == json.dumps(
        to_mapping(other), sort_keys=True
    )
    if same:
        assert one.id == other.id
    if one.id == other.id:
        assert one == other


def test_the_id_is_the_same_in_every_process():
    program = "from candlecast.domain.specs import ExperimentSpec as E; print(E(seed=3).id)"

    def run(hash_seed):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert {run("1"), run("2")} == {ExperimentSpec(seed=3).id}
    assert ExperimentSpec(seed=4).id != ExperimentSpec(seed=3).id


def test_the_order_of_parameters_and_the_kind_of_number_do_not_change_the_id():
    assert ModelSpec(parameters={"a": 1, "b": 2.0}).id == ModelSpec(parameters={"b": 2, "a": 1}).id
    assert SplitSpec(embargo_days=1).id == SplitSpec(embargo_days=1.0).id
    assert ModelSpec(parameters={"a": True}).id != ModelSpec(parameters={"a": 1}).id


def test_each_field_changes_the_id():
    spec = ExperimentSpec()
    changed = [
        replace(spec, seed=8),
        replace(spec, timeframe="1h"),
        replace(spec, symbols=("A",)),
        replace(spec, min_bars=252),
        replace(spec, features=FeatureSpec(("a",))),
        replace(spec, labels=LabelSpec(threshold="fixed:0.02")),
        replace(spec, splits=SplitSpec(n_splits=4)),
        replace(spec, model=ModelSpec(kind="har")),
    ]
    assert len({spec.id, *(other.id for other in changed)}) == 9


def test_a_hash_takes_no_number_that_is_none():
    with pytest.raises(ValueError, match="JSON"):
        content_hash({"a": float("nan")})


def test_specs_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SplitSpec().n_splits = 3


def test_horizons_are_canonical_and_named_once():
    assert LabelSpec(horizons=("1d", "1D", "5D")).horizons == ("1D", "5d")


@pytest.mark.parametrize(
    ("text", "value"), [("scaled", None), ("fixed:0.02", 0.02), ("fixed:1e-3", 0.001)]
)
def test_a_threshold_is_scaled_or_a_number(text, value):
    assert LabelSpec(threshold=text).fixed_threshold() == value


def test_further_parameters_win_over_those_of_the_experiment():
    spec = ExperimentSpec(model=ModelSpec(parameters={"a": 1, "b": 2}))
    assert spec.with_parameters({"b": 3}).model.parameters == {"a": 1, "b": 3}
    assert spec.model.parameters == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelSpec(horizons=()), "at least one horizon"),
        (lambda: LabelSpec(horizons=("tomorrow",)), "unknown horizon 'tomorrow'"),
        (lambda: LabelSpec(threshold="fixed"), "use scaled or fixed:0.02"),
        (lambda: LabelSpec(threshold="fixed:-1"), "use scaled or fixed:0.02"),
        (lambda: LabelSpec(threshold="fixed:nan"), "use scaled or fixed:0.02"),
        (lambda: LabelSpec(threshold="loose:0.1"), "use scaled or fixed:0.02"),
        (lambda: SplitSpec(n_splits=0), "at least 1"),
        (lambda: SplitSpec(test_size=0), "at least 1"),
        (lambda: SplitSpec(embargo_days=-1), "not negative"),
        (lambda: ModelSpec(calibration_share=1), r"\[0, 1\)"),
        (lambda: ModelSpec(parameters={"rate": float("nan")}), "rate is nan; give a finite"),
        (lambda: ExperimentSpec(min_bars=0), "at least 1"),
        (lambda: ExperimentSpec.from_mapping({"splits": 3}), "splits is 3, which is no SplitSpec"),
        (
            lambda: SplitSpec.from_mapping({"n_splits": "five"}),
            "n_splits is 'five', which is no int",
        ),
        (
            lambda: SplitSpec.from_mapping({"test_size": 1.5}),
            r"test_size is 1.5, which is no int \| None",
        ),
        (lambda: ExperimentSpec.from_mapping({"seed": True}), "seed is True, which is no int"),
        (lambda: LabelSpec.from_mapping({"horizons": "1D"}), "horizons is '1D', which is no tuple"),
        (lambda: ModelSpec.from_mapping({"parameters": {"a": [1]}}), "parameters is"),
    ],
)
def test_nonsense_is_refused_with_its_name(make, message):
    with pytest.raises(InvalidSpec, match=message):
        make()


def test_an_unknown_setting_names_the_close_ones():
    with pytest.raises(NotFound, match="setting of SplitSpec 'n_split'; did you mean n_splits"):
        ExperimentSpec.from_mapping({"splits": {"n_split": 3}})
    with pytest.raises(NotFound, match="unknown timeframe"):
        ExperimentSpec(timeframe="2d")


def test_an_experiment_is_read_from_toml(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(
        'seed = 3\n[labels]\nhorizons = ["1D", "1W"]\n[splits]\nembargo_days = 2\n'
        '[model]\nkind = "har"\n[model.parameters]\nrate = 0.1\n'
    )
    assert ExperimentSpec.from_toml(path) == ExperimentSpec(
        seed=3,
        labels=LabelSpec(horizons=("1D", "1W")),
        splits=SplitSpec(embargo_days=2.0),
        model=ModelSpec(kind="har", parameters={"rate": 0.1}),
    )


def test_what_a_file_says_to_the_search_is_none_of_the_experiments(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text("seed = 3\n[search.parameters]\nn_estimators = { low = 50, high = 400 }\n")
    assert ExperimentSpec.from_toml(path) == ExperimentSpec(seed=3)


def test_another_kind_takes_nothing_over_that_was_said_to_the_first():
    model = ModelSpec(
        kind="voting",
        parameters={"a": 1},
        members=(ModelSpec(kind="har"), ModelSpec(kind="ewma")),
        tensors=TensorSpec(timeframes=("1d",), features=("return_1",)),
        calibration="refit",
    )
    spec = ExperimentSpec(seed=3, model=model)
    changed = spec.with_kind("har")
    assert changed == ExperimentSpec(seed=3, model=ModelSpec(kind="har", calibration="refit"))
    assert spec.with_kind("voting") == spec


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"seed = ", InvalidSpec, "Invalid value"),
        (b"\xff\xfe", InvalidSpec, "decode"),
        (b"seed = 'x'", InvalidSpec, "seed is 'x'"),
        (b"seeds = 1", NotFound, "did you mean seed"),
        (b"timeframe = '1x'", NotFound, "timeframe '1x'"),
    ],
)
def test_a_bad_file_is_named_with_the_culprit(tmp_path, content, error, message):
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(error, match=rf"spec\.toml: .*{message}"):
        ExperimentSpec.from_toml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidSpec, match=r"absent\.toml"):
        ExperimentSpec.from_toml(tmp_path / "absent.toml")
