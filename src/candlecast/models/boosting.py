"""Gradient-boosted trees: location and scale by LightGBM, served by ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.models.location_scale import Constant, LocationScale, Regressor
from candlecast.models.onnx_file import OnnxFile, OnnxRegressor, check_parity

if TYPE_CHECKING:
    import lightgbm

OPSET: Final = 15  # the newest that the LightGBM converter knows
PARITY_ROWS: Final = 512


class Booster:
    """A fitted LightGBM booster; `save` writes its text form and an ONNX twin that must agree."""

    def __init__(self, booster: lightgbm.Booster, probe: FloatArray, n_jobs: int) -> None:
        self._booster = booster
        self._probe = probe
        self._n_jobs = n_jobs

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        return np.asarray(self._booster.predict(X, num_threads=self._n_jobs))

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write NAME.txt and NAME.onnx; BadArtifact when the two do not agree on training rows."""
        self._booster.save_model(folder / f"{name}.txt")
        (folder / f"{name}.onnx").write_bytes(self._as_onnx())
        exported = OnnxRegressor(OnnxFile(folder / f"{name}.onnx")).predict(self._probe)
        gap = check_parity(name, exported, self.predict(self._probe))
        return {"onnx": f"{name}.onnx", "parity_gap": gap}

    def _as_onnx(self) -> bytes:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        shape = FloatTensorType([None, self._booster.num_feature()])
        graph = convert_lightgbm(
            self._booster, initial_types=[("X", shape)], target_opset=OPSET, zipmap=False
        )
        # The converter names the graph and orders the domains at random; the same model must
        # give the same bytes.
        graph.graph.name = "booster"
        graph.opset_import.sort(key=lambda opset: opset.domain)
        return bytes(graph.SerializeToString())


@MODELS.register("lightgbm")
class LightGbm(LocationScale):
    """Trees for the location, and trees with a gamma objective for the scale.

    Parameters
    ----------
    n_estimators, learning_rate, num_leaves, min_data_in_leaf, feature_fraction, lambda_l2,
    max_bin : as in LightGBM; `min_data_in_leaf` is an upper bound (a fiftieth of the rows at
    most, so that short histories can be learnt from), and `lambda_l2` is in independent
    outcomes: a leaf needs as many to move half of the way it wants to.
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

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_estimators: int = 100,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        min_data_in_leaf: int = 200,
        feature_fraction: float = 0.7,
        lambda_l2: float = 50.0,
        max_bin: int = 63,
        n_jobs: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self._n_estimators = n_estimators
        self._min_data_in_leaf = min_data_in_leaf
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
        return OnnxRegressor(OnnxFile(folder / state["onnx"]))

    def _boosted(
        self, X: FloatArray, target: FloatArray, weight: FloatArray, objective: str
    ) -> Regressor:
        # Threads that wait by spinning fight over shared cores: eight times slower when measured
        # beside other work, no faster alone. Read when the library is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import lightgbm

        values = X.astype(np.float32)
        leaf = max(5, min(self._min_data_in_leaf, len(X) // 50))
        parameters = self._parameters | {"objective": objective, "min_data_in_leaf": leaf}
        data = lightgbm.Dataset(values, label=target, weight=weight, params=parameters)
        booster = lightgbm.train(parameters, data, self._n_estimators)
        probe = values[:: max(1, len(values) // PARITY_ROWS)]
        return Booster(booster, probe, self._n_jobs)
