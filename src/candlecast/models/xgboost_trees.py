"""Gradient-boosted trees by XGBoost: location and scale, served by ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.models.location_scale import LocationScale
from candlecast.models.regression import Constant, Inputs, Regressor
from candlecast.models.served_trees import PARITY_ROWS, FittedTrees, LoadedTrees, plain_bytes
from candlecast.models.waiting_threads import passive_threads

if TYPE_CHECKING:
    import xgboost

OPSET: Final = 15
LEAF_SHARE: Final = 50


class XgboostBooster:
    """A booster of XGBoost, fitted on arrays: names of columns would break its converter."""

    suffix = ".json"

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster

    @classmethod
    def reopened(cls, native: bytes) -> XgboostBooster:
        """The booster of its JSON form."""
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(bytearray(native))
        return cls(booster)

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        return np.asarray(self._booster.inplace_predict(X.astype(np.float32)), dtype=float)

    def importances(self) -> FloatArray:
        """(n_features,) shares of the gain of all splits."""
        gains = np.zeros(self._booster.num_features())
        for name, gain in self._booster.get_score(importance_type="total_gain").items():
            gains[int(name.removeprefix("f"))] = gain
        return np.asarray(gains / max(gains.sum(), np.finfo(float).tiny))

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) exact Shapley values of the margin."""
        import xgboost

        rows = xgboost.DMatrix(X.astype(np.float32))
        found = self._booster.predict(rows, pred_contribs=True)
        return np.asarray(found[:, :-1], dtype=float)

    def native(self) -> bytes:
        """XGBoost's JSON."""
        return bytes(self._booster.save_raw("json"))

    def as_onnx(self) -> bytes:
        """One TreeEnsembleRegressor, with the exponential where the objective has it."""
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        shape = FloatTensorType([None, self._booster.num_features()])
        graph = convert_xgboost(self._booster, initial_types=[("X", shape)], target_opset=OPSET)
        return plain_bytes(graph)


@MODELS.register("xgboost")
class XgBoost(LocationScale):
    """Trees by XGBoost for the location, and trees with a gamma objective for the scale.

    Parameters
    ----------
    n_estimators, learning_rate, max_leaves, colsample_bynode, reg_lambda, max_bin : as in
        XGBoost, whose trees grow leaf by leaf here; `reg_lambda` is in independent outcomes.
    min_rows_in_leaf : int, an upper bound (a fiftieth of the rows at most, so that short
        histories can be learnt from).
    n_jobs : int, threads, 0 for all we may use.
    seed : int.

    Notes
    -----
    Features (n_rows, n_features) float64; fitted on float32 values. See `LocationScale` for
    shapes, missing values and errors.

    References
    ----------
    Chen and Guestrin (2016), XGBoost, KDD 22.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "n_estimators": {"low": 50, "high": 400, "log": True},
        "learning_rate": {"low": 0.01, "high": 0.15, "log": True},
        "max_leaves": {"low": 7, "high": 63, "log": True},
        "min_rows_in_leaf": {"low": 50, "high": 1000, "log": True},
        "colsample_bynode": {"low": 0.3, "high": 1.0},
        "reg_lambda": {"low": 1.0, "high": 500.0, "log": True},
    }

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_estimators: int = 100,
        learning_rate: float = 0.05,
        max_leaves: int = 15,
        min_rows_in_leaf: int = 200,
        colsample_bynode: float = 0.7,
        reg_lambda: float = 50.0,
        max_bin: int = 63,
        n_jobs: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self._n_estimators = n_estimators
        self._min_rows_in_leaf = min_rows_in_leaf
        self._parameters: dict[str, Any] = {
            "eta": learning_rate,
            "max_leaves": max_leaves,
            "max_depth": 0,
            "grow_policy": "lossguide",
            "tree_method": "hist",
            "colsample_bynode": colsample_bynode,
            "reg_lambda": reg_lambda,
            "max_bin": max_bin,
            "seed": seed,
            "nthread": n_jobs or os.cpu_count() or 1,
            "verbosity": 0,
        }

    def fit_location(self, inputs: Inputs, target: FloatArray, weight: FloatArray) -> Regressor:
        """Least squares."""
        return self._boosted(inputs, target, weight, "reg:squarederror")

    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """Gamma deviance."""
        return self._boosted(inputs, distance, weight, "reg:gamma")

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """A constant, or the trees of an ONNX file."""
        if "value" in state:
            return Constant(state["value"])
        return LoadedTrees(folder, state, XgboostBooster.reopened)

    def _boosted(
        self, inputs: Inputs, target: FloatArray, weight: FloatArray, objective: str
    ) -> Regressor:
        with passive_threads():
            import xgboost

        values = inputs.X.astype(np.float32)
        leaf = max(5, min(self._min_rows_in_leaf, len(inputs) // LEAF_SHARE))
        # The hessian of a row is about its weight under both objectives.
        parameters = self._parameters | {
            "objective": objective,
            "min_child_weight": leaf * float(weight.mean()),
        }
        data = xgboost.QuantileDMatrix(
            values,
            label=target,
            weight=weight,
            max_bin=self._parameters["max_bin"],
            nthread=self._parameters["nthread"],
        )
        booster = xgboost.train(parameters, data, self._n_estimators)
        return FittedTrees(XgboostBooster(booster), values[:: max(1, len(values) // PARITY_ROWS)])
