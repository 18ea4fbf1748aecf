"""Gradient-boosted trees: location and scale by LightGBM, served by ONNX Runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.models.location_scale import LocationScale
from candlecast.models.regression import Constant, Inputs, Regressor
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


@dataclass(frozen=True, eq=False)
class BinnedInputs(Inputs):
    """Rows of features whose float32 values LightGBM has put into bins.

    Attributes
    ----------
    binned : lightgbm.Dataset, of all training rows
    """

    binned: lightgbm.Dataset

    @classmethod
    def of(cls, X: FloatArray, parameters: dict[str, Any]) -> Self:
        """All rows of `X`."""
        with passive_threads():
            import lightgbm

        # It wants a label before it gives parts of itself away.
        label = np.zeros(len(X), dtype=np.float32)
        binned = lightgbm.Dataset(X.astype(np.float32), label=label, params=parameters)
        return cls(X, np.arange(len(X)), binned.construct())

    def dataset(self, target: FloatArray, weight: FloatArray) -> lightgbm.Dataset:
        """These rows with what is to be learnt of them."""
        part = self.binned.subset(self.at).construct()  # type: ignore[arg-type]
        return part.set_label(target).set_weight(weight)


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
            "feature_pre_filter": False,  # bins are for leaves of any size
            "force_col_wise": True,
            "verbosity": -1,
        }

    def fit_location(self, inputs: Inputs, target: FloatArray, weight: FloatArray) -> Regressor:
        """Least squares."""
        return self._boosted(inputs, target, weight, "regression")

    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """Gamma deviance."""
        return self._boosted(inputs, distance, weight, "gamma")

    def prepared(self, X: FloatArray) -> Inputs:
        """`X` in bins: finding them takes as long as growing forty trees."""
        return BinnedInputs.of(X, self._parameters)

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """A constant, or the trees of an ONNX file."""
        if "value" in state:
            return Constant(state["value"])
        return LoadedTrees(folder, state, LightGbmBooster.reopened)

    def _boosted(
        self, inputs: Inputs, target: FloatArray, weight: FloatArray, objective: str
    ) -> Regressor:
        import lightgbm

        assert isinstance(inputs, BinnedInputs)
        leaf = max(5, min(self._min_data_in_leaf, len(inputs) // LEAF_SHARE))
        parameters = self._parameters | {"objective": objective, "min_data_in_leaf": leaf}
        n_trees = self._n_estimators
        if self._early_stopping_rounds and objective == "gamma":
            n_trees = self._best_n_trees(inputs, target, weight, parameters)
        booster = lightgbm.train(parameters, inputs.dataset(target, weight), n_trees)
        probe = inputs.features[inputs.at[:: max(1, len(inputs) // PARITY_ROWS)]]
        return FittedTrees(LightGbmBooster(booster, self._n_jobs), probe.astype(np.float32))

    def _best_n_trees(
        self,
        inputs: BinnedInputs,
        target: FloatArray,
        weight: FloatArray,
        parameters: dict[str, Any],
    ) -> int:
        # Grown on the rows whose outcome came first, judged by what followed.
        import lightgbm

        early, late = self.inner_fold
        if not early.any() or not late.any():
            return self._n_estimators
        parts = [inputs.take(part).dataset(target[part], weight[part]) for part in (early, late)]
        stopping = lightgbm.early_stopping(self._early_stopping_rounds, verbose=False)
        trial = lightgbm.train(
            parameters, parts[0], self._n_estimators, valid_sets=parts[1:], callbacks=[stopping]
        )
        return max(1, trial.best_iteration)
