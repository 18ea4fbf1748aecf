"""Gradient-boosted symmetric trees by CatBoost: location and scale, served by ONNX Runtime."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples
from candlecast.errors import InvalidSpec
from candlecast.models.location_scale import LocationScale
from candlecast.models.regression import Constant, Inputs, Regressor
from candlecast.models.served_trees import PARITY_ROWS, FittedTrees, LoadedTrees, plain_bytes

if TYPE_CHECKING:
    import catboost

OPSET: Final = 15
LINK, LOGARITHM, IDENTITY = "link", "logarithm", "identity"
SQUARES: Final = "RMSE"
NEARLY_GAMMA: Final = "Tweedie:variance_power=1.9"
"""Of the family of which 2 is the gamma: CatBoost allows powers below 2."""


class CatBoostEnsemble:
    """A model of CatBoost on numbers; `has_log_link` tells whether it yields a logarithm."""

    suffix = ".json"

    def __init__(self, model: catboost.CatBoost, *, has_log_link: bool, n_jobs: int = 1) -> None:
        self._model = model
        self._has_log_link = has_log_link
        self._n_jobs = n_jobs

    @classmethod
    def reopened(cls, native: bytes) -> CatBoostEnsemble:
        """The model of its JSON form."""
        has_log_link = json.loads(native)["model_info"][LINK] == LOGARITHM
        model = _catboost().CatBoost()
        with TemporaryDirectory() as folder:
            path = Path(folder) / "trees.json"
            path.write_bytes(native)
            model.load_model(str(path), format="json")
        return cls(model, has_log_link=has_log_link)

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        raw = self._model.predict(X.astype(np.float32), thread_count=self._n_jobs)
        return np.exp(raw) if self._has_log_link else np.asarray(raw)

    def importances(self) -> FloatArray:
        """(n_features,) shares of how far predictions move with each feature's splits."""
        found = np.array(self._model.get_feature_importance(type="PredictionValuesChange"))
        return np.asarray(found / max(found.sum(), np.finfo(float).tiny))

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) Shapley values before the exponential."""
        rows = _catboost().Pool(X.astype(np.float32))
        found = self._model.get_feature_importance(
            rows, type="ShapValues", thread_count=self._n_jobs
        )
        return np.asarray(found)[:, :-1]

    def native(self) -> bytes:
        """CatBoost's JSON without its log of the training, which tells the time."""
        state = json.loads(self._saved("json"))
        state["model_info"] = {LINK: LOGARITHM if self._has_log_link else IDENTITY}
        return json.dumps(state, sort_keys=True).encode()

    def as_onnx(self) -> bytes:
        """CatBoost's own export, with the exponential where there is a link."""
        import onnx

        graph = onnx.load_from_string(self._saved("onnx"))
        (trees,), (output,) = graph.graph.node, graph.graph.output
        if self._has_log_link:
            trees.output[0] = "logarithm"
            graph.graph.node.append(onnx.helper.make_node("Exp", ["logarithm"], [output.name]))
            graph.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        output.type.tensor_type.shape.dim.add().dim_value = 1
        return plain_bytes(graph)

    def _saved(self, form: str) -> bytes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"trees.{form}"
            self._model.save_model(str(path), format=form)
            return path.read_bytes()


@MODELS.register("catboost")
class CatBoost(LocationScale):
    """Symmetric trees by CatBoost for the location, and with a Tweedie objective for the scale.

    Parameters
    ----------
    n_estimators, learning_rate, depth, rsm, l2_leaf_reg, border_count : as in CatBoost, but
        `l2_leaf_reg` is in independent outcomes.
    n_jobs : int, threads, 0 for all we may use; the result does not depend on it.
    seed : int.

    Notes
    -----
    Needs ``pip install 'candlecast[catboost]'`` to be fitted or explained, not to be served.
    Features (n_rows, n_features) float64; fitted on float32 values. See `LocationScale` for
    shapes, missing values and further errors.

    Raises
    ------
    InvalidSpec when it is to be fitted and CatBoost is not installed.

    References
    ----------
    Prokhorenkova et al. (2018), CatBoost, NeurIPS 31.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "n_estimators": {"low": 50, "high": 400, "log": True},
        "learning_rate": {"low": 0.01, "high": 0.15, "log": True},
        "depth": {"low": 3, "high": 7},
        "rsm": {"low": 0.3, "high": 1.0},
        "l2_leaf_reg": {"low": 1.0, "high": 500.0, "log": True},
    }

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_estimators: int = 100,
        learning_rate: float = 0.05,
        depth: int = 5,
        rsm: float = 0.7,
        l2_leaf_reg: float = 50.0,
        border_count: int = 63,
        n_jobs: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self._l2_leaf_reg = l2_leaf_reg
        self._n_jobs = n_jobs or os.cpu_count() or 1
        self._parameters: dict[str, Any] = {
            "iterations": n_estimators,
            "learning_rate": learning_rate,
            "depth": depth,
            "rsm": rsm,
            "border_count": border_count,
            "random_seed": seed,
            "thread_count": self._n_jobs,
            "boosting_type": "Plain",
            "bootstrap_type": "No",
            "random_strength": 0.0,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }

    def fit(self, examples: Examples) -> Self:
        """Fit every horizon on the examples whose outcome is known."""
        _catboost()
        return super().fit(examples)

    def fit_location(self, inputs: Inputs, target: FloatArray, weight: FloatArray) -> Regressor:
        """Least squares."""
        return self._boosted(inputs, target, weight, SQUARES)

    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """Tweedie deviance of power 1.9, nearly the gamma's."""
        return self._boosted(inputs, distance, weight, NEARLY_GAMMA)

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """A constant, or the trees of an ONNX file."""
        if "value" in state:
            return Constant(state["value"])
        return LoadedTrees(folder, state, CatBoostEnsemble.reopened)

    def _boosted(
        self, inputs: Inputs, target: FloatArray, weight: FloatArray, objective: str
    ) -> Regressor:
        catboost = _catboost()
        values = inputs.X.astype(np.float32)
        has_log_link = objective == NEARLY_GAMMA
        # Trees begin at zero: with a logarithm that is the mean when targets are divided by it.
        mean = float(np.average(target, weights=weight)) if has_log_link else 1.0
        parameters = self._parameters | {
            "loss_function": objective,
            # CatBoost multiplies the penalty with the mean weight.
            "l2_leaf_reg": self._l2_leaf_reg / float(weight.mean()),
        }
        rows = catboost.Pool(values, target / mean, weight=weight, thread_count=self._n_jobs)
        model = catboost.CatBoost(parameters).fit(rows)
        if has_log_link:
            model.set_scale_and_bias(1.0, float(np.log(mean)))
        trees = CatBoostEnsemble(model, has_log_link=has_log_link, n_jobs=self._n_jobs)
        return FittedTrees(trees, values[:: max(1, len(values) // PARITY_ROWS)])


def _catboost() -> ModuleType:
    try:
        return import_module("catboost")
    except ImportError as error:
        raise InvalidSpec(
            "the model catboost needs its library; pip install 'candlecast[catboost]'"
        ) from error
