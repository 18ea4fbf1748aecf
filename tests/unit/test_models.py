"""What the models promise beyond the contract: calibration, honesty about direction, artefacts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.specs import ModelSpec
from candlecast.errors import (
    BadArtifact,
    FitFailed,
    InvalidSpec,
    NotEnoughHistory,
    NotFitted,
    NotFound,
)
from candlecast.models.artifact import FORMAT
from candlecast.models.conformal import Calibrated, load_model, make_model, save_model
from candlecast.models.log_linear import LogLinear
from candlecast.models.volatility import Ewma
from markets import make_examples


def test_calibration_repairs_a_model_whose_bands_are_half_as_wide_as_they_should_be() -> None:
    class Narrow(Ewma):
        def predict(self, rows):  # type: ignore[no-untyped-def]
            honest = super().predict(rows)
            middle = honest[..., dist.MEDIAN, None]
            return middle + (honest - middle) / 2

    past, future = make_examples(seed=1, n_days=8000), make_examples(seed=2, n_days=8000)
    raw = Narrow().fit(past).predict(future)
    repaired = Calibrated(Narrow, 0.3).fit(past).predict(future)
    for horizon in range(2):
        y = future.y[:, horizon]
        before = metrics.coverage(metrics.pit(raw[:, horizon], y), 0.8)
        after = metrics.coverage(metrics.pit(repaired[:, horizon], y), 0.8)
        assert before < 0.6
        assert after == pytest.approx(0.8, abs=0.03)


def test_calibrated_coverage_stays_within_sampling_error_on_exchangeable_data() -> None:
    inside, n = 0.0, 0
    for seed in range(8):
        past, future = make_examples(seed=seed, n_days=260), make_examples(seed=100 + seed)
        model = make_model(ModelSpec("har", calibration="split", calibration_share=0.4), 7).fit(
            past
        )
        pits = metrics.pit(model.predict(future)[:, 0], future.y[:, 0])
        known = ~np.isnan(pits)
        inside += metrics.coverage(pits[known], 0.8) * known.sum()
        n += int(known.sum())
    assert inside / n == pytest.approx(0.8, abs=0.015)


def test_few_independent_outcomes_move_the_calibration_less_than_many() -> None:
    # The same defect, bands too wide, seen on a short and on a long calibration span.
    class Wide(Ewma):
        def predict(self, rows):  # type: ignore[no-untyped-def]
            return super().predict(rows) * 2

    repaired = []
    for n_days in (400, 8000):
        model = Calibrated(Wide, 0.3).fit(make_examples(seed=1, n_days=n_days))
        assert model._scores is not None
        repaired.append(float(model._scores[1, -3] / dist.SCORES[-3]))
    assert 0.5 < repaired[1] < 0.6 < repaired[0] < 1


def test_outcomes_that_overlap_or_come_together_count_less() -> None:
    examples = make_examples(seed=1, n_days=500)
    daily, weekly = examples.n_effective(0), examples.n_effective(1)
    assert daily == pytest.approx(499 * 3 / (1 + 2 * 0.3))
    assert weekly == pytest.approx(495 / 5 * 3 / (1 + 2 * 0.3))
    one = examples.take(examples.symbol == 0)
    assert one.n_effective(0) == pytest.approx(499)


def test_a_location_that_proves_nothing_is_not_used() -> None:
    for seed in range(5):
        model = make_model(ModelSpec(kind="linear"), seed).fit(make_examples(seed=seed))
        assert model.model._shrinkage == [0.0, 0.0]  # type: ignore[attr-defined]


def test_a_location_that_is_really_there_is_found() -> None:
    examples = make_examples(seed=3, edge=0.5)
    model = make_model(ModelSpec(kind="linear"), 7).fit(examples)
    assert all(share > 0.5 for share in model.model._shrinkage)  # type: ignore[attr-defined]
    rows = make_examples(seed=4, edge=0.5)
    median = model.predict(rows)[:, 0, dist.MEDIAN]
    known = ~np.isnan(rows.y[:, 0])
    assert np.corrcoef(median[known], rows.y[known, 0])[0, 1] > 0.3


def test_har_beats_ewma_where_the_daily_component_tells_more() -> None:
    past, future = (
        make_examples(seed=5, volatility_signal=0.6),
        make_examples(seed=6, volatility_signal=0.6),
    )
    scores = {}
    for kind in ("ewma", "har"):
        model = make_model(ModelSpec(kind=kind), 7).fit(past)
        scores[kind] = metrics.crps(model.predict(future)[:, 0], future.y[:, 0])
    assert metrics.skill(scores["har"], scores["ewma"]) > 0.03


def test_log_linear_finds_the_coefficients_it_was_simulated_from() -> None:
    rng = np.random.default_rng(8)
    X = rng.standard_normal((20_000, 2))
    target = np.exp(0.3 + 0.5 * X[:, 0] - 0.2 * X[:, 1]) * rng.gamma(2.0, 0.5, len(X))
    model = LogLinear.fitted(X, target, np.ones(len(X)))
    assert model.intercept == pytest.approx(0.3, abs=0.03)
    assert model.slopes / model.spread == pytest.approx([0.5, -0.2], abs=0.02)


def test_a_horizon_without_outcomes_is_refused_with_the_count() -> None:
    examples = make_examples(seed=1)
    examples.y[:, 1] = np.nan
    with pytest.raises(FitFailed, match="has 0 examples"):
        make_model(ModelSpec(kind="ewma", calibration_share=0.0), 7).fit(examples)


def test_too_few_outcomes_to_calibrate_are_refused_with_the_count() -> None:
    examples = make_examples(seed=1, n_days=60)
    with pytest.raises(NotEnoughHistory, match="to calibrate on"):
        make_model(ModelSpec("ewma", calibration="split", calibration_share=0.1), 7).fit(examples)


def test_an_unfitted_model_says_so() -> None:
    with pytest.raises(NotFitted, match="fit"):
        make_model(ModelSpec(kind="ewma"), 7).predict(make_examples(seed=1))


def test_an_unknown_parameter_names_the_close_one() -> None:
    with pytest.raises(NotFound, match="n_estimators"):
        make_model(ModelSpec(kind="lightgbm", parameters={"n_estimator": 5}), 7)


def _saved(folder: Path) -> str:
    spec = ModelSpec(kind="lightgbm", parameters={"n_estimators": 5})
    return save_model(make_model(spec, 7).fit(make_examples(seed=1)), spec, folder)


@pytest.mark.parametrize("name", ["model.json", "conformal.json", "scale_0.onnx", "manifest.json"])
def test_a_changed_file_of_an_artefact_is_refused(tmp_path: Path, name: str) -> None:
    sha256 = _saved(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadArtifact):
        load_model(tmp_path, sha256)


@pytest.mark.parametrize(("number", "age"), [(FORMAT - 1, "an earlier"), (FORMAT + 1, "a later")])
def test_an_artefact_of_another_format_says_how_to_make_it_again(
    tmp_path: Path, number: int, age: str
) -> None:
    _saved(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": number}))
    told = rf"was made by {age} version \(format {number}\); run `candlecast train` to make it"
    with pytest.raises(BadArtifact, match=told):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["voting", "averaging", "stacking"])
def test_a_kind_that_takes_members_says_where_to_see_how(kind: str) -> None:
    with pytest.raises(InvalidSpec, match=r"candlecast train experiments/voting\.toml"):
        make_model(ModelSpec(kind=kind), 7)


def test_a_file_too_many_or_too_few_in_an_artefact_is_refused(tmp_path: Path) -> None:
    sha256 = _saved(tmp_path)
    (tmp_path / "extra.json").write_text("{}")
    with pytest.raises(BadArtifact, match=r"extra\.json"):
        load_model(tmp_path, sha256)
    (tmp_path / "extra.json").unlink()
    (tmp_path / "scale_1.onnx").unlink()
    with pytest.raises(BadArtifact, match="scale_1"):
        load_model(tmp_path, sha256)


def test_an_onnx_twin_that_disagrees_is_not_saved(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from candlecast.models.onnx_file import OnnxRegressor

    honest = OnnxRegressor.predict
    monkeypatch.setattr(OnnxRegressor, "predict", lambda self, X: honest(self, X) * 1.01)
    with pytest.raises(BadArtifact, match="off by"):
        _saved(tmp_path)


def test_a_saved_model_holds_no_code_and_names_its_features_and_libraries(tmp_path: Path) -> None:
    _saved(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".onnx", ".txt"}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["spec"]["parameters"] == {"n_estimators": 5}
    assert set(manifest["libraries"]) >= {"lightgbm", "onnxruntime"}
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())


def test_the_same_training_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert _saved(tmp_path / "a") == _saved(tmp_path / "b")
