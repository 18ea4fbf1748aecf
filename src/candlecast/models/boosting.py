"""Gradient-boosted trees: location and scale by LightGBM, served by ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.models.location_scale import Constant, LocationScale, Regressor
from candlecast.models.served_trees import PARITY_ROWS, FittedTrees, LoadedTrees, plain_bytes
from candlecast.models.waiting_threads import passive_threads

if TYPE_CHECKING:
    import lightgbm

OPSET: Final = 15  # the newest that the LightGBM converter knows
LEAF_SHARE: Final = 50


class LightGbmBooster:
    """A booster of LightGBM and the threads that it may use."""

    suffix = ".txt"

    def __init__(self, booster: lightgbm.Booster, n_jobs: int = 1) -> None:
        self._booster = booster
        self._n_jobs = n_jobs

    @classmethod
    def reopened(cls, native: bytes) -> LightGbmBooster:
        """The booster of its text form."""
        import lightgbm

        return cls(lightgbm.Booster(model_str=native.decode()))

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        return np.asarray(self._booster.predict(X, num_threads=self._n_jobs))

    def importances(self) -> FloatArray:
        """(n_features,) shares of the gain of all splits."""
        gains = np.asarray(self._booster.feature_importance("gain"), dtype=float)
        return np.asarray(gains / max(gains.sum(), np.finfo(float).tiny))

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) exact Shapley values of the margin."""
        values = np.asarray(X, dtype=np.float32)
        found = self._booster.predict(values, pred_contrib=True, num_threads=self._n_jobs)
        return np.asarray(found, dtype=float)[:, :-1]

    def native(self) -> bytes:
        """LightGBM's text."""
        return bytes(self._booster.model_to_string().encode())

    def as_onnx(self) -> bytes:
        """One TreeEnsembleRegressor, with the exponential where the objective has it."""
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        shape = FloatTensorType([None, self._booster.num_feature()])
        graph = convert_lightgbm(
            self._booster, initial_types=[("X", shape)], target_opset=OPSET, zipmap=False
        )
        return plain_bytes(graph)


@MODELS.register("lightgbm")
class LightGbm(LocationScale):
    """Trees for the location, and trees with a gamma objective for the scale.

    Parameters
    ----------
    n_estimators, learning_rate, num_leaves, min_data_in_leaf, feature_fraction, lambda_l2,
    max_bin : as in LightGBM; `min_data_in_leaf` is an upper bound (a fiftieth of the rows at
    most, so that short histories can be learnt from), and `lambda_l2` is in independent
    outcomes: a leaf needs as many to move half of the way it wants to.
    early_stopping_rounds : int, how many trees in a row may tell nothing of the later outcomes of
        the training rows before no more are grown for the scale; 0: all are. The trees are then
        grown again on all rows. The location has to prove itself on such rows anyway.
    n_jobs : int, threads, 0 for all we may use; the result does not depend on it.
    seed : int.

    Notes
    -----
    Features (n_rows, n_features) float64; fitted on float32 values, which is what ONNX trees
    compare with. See `LocationScale` for shapes and errors.

    References
    ----------
    Ke et al. (2017), LightGBM, NeurIPS 30.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "n_estimators": {"low": 50, "high": 400, "log": True},
        "learning_rate": {"low": 0.01, "high": 0.15, "log": True},
        "num_leaves": {"low": 7, "high": 63, "log": True},
        "min_data_in_leaf": {"low": 50, "high": 1000, "log": True},
        "feature_fraction": {"low": 0.3, "high": 1.0},
        "lambda_l2": {"low": 1.0, "high": 500.0, "log": True},
    }

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_estimators: int = 100,
        learning_rate: float = 0.05,
        num_leaves: int = 31,
        min_data_in_leaf: int = 200,
        feature_fraction: float = 0.7,
        lambda_l2: float = 10.0,
        max_bin: int = 63,
        early_stopping_rounds: int = 0,
        n_jobs: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self._n_estimators = n_estimators
        self._min_data_in_leaf = min_data_in_leaf
        self._early_stopping_rounds = early_stopping_rounds
        self._n_jobs = n_jobs or os.cpu_count() or 1
        self._parameters: dict[str, Any] = {
            "learning_rate": learning_rate,
            "num_leaves": num_leaves,
            "feature_fraction": feature_fraction,
            "lambda_l2": lambda_l2,
            "max_bin": max_bin,
            "seed": seed,
            "num_threads": self._n_jobs,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }

    def fit_location(self, X: FloatArray, target: FloatArray, weight: FloatArray) -> Regressor:
        """Least squares."""
        return self._boosted(X, target, weight, "regression")

    def fit_scale(self, X: FloatArray, distance: FloatArray, weight: FloatArray) -> Regressor:
        """Gamma deviance."""
        return self._boosted(X, distance, weight, "gamma")

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """A constant, or the trees of an ONNX file."""
        if "value" in state:
            return Constant(state["value"])
        return LoadedTrees(folder, state, LightGbmBooster.reopened)

    def _boosted(
        self, X: FloatArray, target: FloatArray, weight: FloatArray, objective: str
    ) -> Regressor:
        with passive_threads():
            import lightgbm

        values = X.astype(np.float32)
        leaf = max(5, min(self._min_data_in_leaf, len(X) // LEAF_SHARE))
        parameters = self._parameters | {"objective": objective, "min_data_in_leaf": leaf}
        n_trees = self._n_estimators
        if self._early_stopping_rounds and objective == "gamma":
            n_trees = self._best_n_trees(values, target, weight, parameters)
        data = lightgbm.Dataset(values, label=target, weight=weight, params=parameters)
        booster = lightgbm.train(parameters, data, n_trees)
        probe = values[:: max(1, len(values) // PARITY_ROWS)]
        return FittedTrees(LightGbmBooster(booster, self._n_jobs), probe)

    def _best_n_trees(
        self,
        values: FloatArray,
        target: FloatArray,
        weight: FloatArray,
        parameters: dict[str, Any],
    ) -> int:
        # Grown on the rows whose outcome came first, judged by what followed.
        import lightgbm

        early, late = self.inner_fold
        if not early.any() or not late.any():
            return self._n_estimators
        parts = [
            lightgbm.Dataset(values[part], target[part], weight=weight[part], params=parameters)
            for part in (early, late)
        ]
        parts[1].set_reference(parts[0])
        stopping = lightgbm.early_stopping(self._early_stopping_rounds, verbose=False)
        trial = lightgbm.train(
            parameters, parts[0], self._n_estimators, valid_sets=parts[1:], callbacks=[stopping]
        )
        return max(1, trial.best_iteration)
