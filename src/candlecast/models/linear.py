"""Linear models: ridge location and log-linear scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.models.location_scale import LocationScale
from candlecast.models.log_linear import LogLinear, standardiser
from candlecast.models.regression import Constant, Inputs, Regressor

LOCATION_PENALTY: Final = 400.0
"""In units of weight: slopes near 0.05 standard deviations at most beforehand."""


class Ridge:
    """Least squares with a penalty on standardised features, without an intercept."""

    def __init__(self, centre: FloatArray, spread: FloatArray, slopes: FloatArray) -> None:
        self.centre, self.spread, self.slopes = centre, spread, slopes

    @classmethod
    def fitted(cls, X: FloatArray, target: FloatArray, weight: FloatArray) -> Self:
        """Solve the penalised normal equations."""
        centre, spread = standardiser(X)
        Z = (X - centre) / spread
        gram = (Z * weight[:, None]).T @ Z
        gram[np.diag_indices_from(gram)] += LOCATION_PENALTY
        return cls(centre, spread, np.linalg.solve(gram, Z.T @ (weight * target)))

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) expected target."""
        return np.asarray(((X - self.centre) / self.spread) @ self.slopes)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Its coefficients."""
        return {key: value.tolist() for key, value in vars(self).items()}

    def importances(self) -> FloatArray:
        """(n_features,) shares of the sizes of the standardised slopes."""
        size = np.abs(self.slopes)
        return np.asarray(size / max(size.sum(), np.finfo(float).tiny))

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features): what each adds to the prediction."""
        return np.asarray((X - self.centre) / self.spread * self.slopes)


@MODELS.register("linear")
class Linear(LocationScale):
    """Ridge location and log-linear scale on all features.

    The baseline beside which a more elaborate model has to justify itself. Features are
    standardised by the training rows, whose mean stands in for a missing value. See
    `LocationScale` for shapes and errors.

    References
    ----------
    Hoerl and Kennard (1970), Technometrics 12(1), for the location; McCullagh and Nelder (1989),
    ch. 8, for the scale (gamma family, logarithmic link).
    """

    is_flexible = False

    def fit_location(self, inputs: Inputs, target: FloatArray, weight: FloatArray) -> Regressor:
        """Ridge."""
        return Ridge.fitted(inputs.X, target, weight)

    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """Log-linear."""
        return LogLinear.fitted(inputs.X, distance, weight)

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """Whichever of the three the state describes."""
        if "value" in state:
            return Constant(state["value"])
        if "intercept" in state:
            return LogLinear.from_state(state)
        return Ridge(*(np.array(state[key]) for key in ("centre", "spread", "slopes")))
