"""Volatility models: where the return will go is unknown, how far is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Rows
from candlecast.models.location_scale import LocationScale
from candlecast.models.log_linear import LogLinear
from candlecast.models.regression import Constant, Inputs, Regressor

HAR_FEATURES: Final = ("har_1", "har_5", "har_22")


@MODELS.register("ewma")
class Ewma(LocationScale):
    """The symbol's own exponentially weighted volatility, with the shape of past residuals.

    Needs no feature: the units of the targets are this volatility already. See `LocationScale`
    for shapes and errors.

    References
    ----------
    J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, eq. 5.3.
    """

    has_own_shape = False
    is_flexible = False

    def uses(self, rows: Rows) -> tuple[str, ...]:
        """No feature."""
        return ()

    def fit_location(self, inputs: Inputs, target: FloatArray, weight: FloatArray) -> Regressor:
        """None: zero."""
        return Constant(0.0)

    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """The mean distance."""
        return Constant(float(np.average(distance, weights=weight)))

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """A constant."""
        return Constant(state["value"])


@MODELS.register("har")
class Har(Ewma):
    """Heterogeneous autoregression of volatility: a day, a week and a month of bar variance.

    Log-linear in the three components relative to the symbol's EWMA volatility, pooled over all
    symbols. Needs the features har_1, har_5 and har_22. See `LocationScale` for shapes and
    errors.

    References
    ----------
    Corsi (2009), J. Financial Econometrics 7(2), eq. 6; in logarithms as in Andersen, Bollerslev
    and Diebold (2007), Rev. Economics and Statistics 89(4).
    """

    def uses(self, rows: Rows) -> tuple[str, ...]:
        """The three components."""
        return HAR_FEATURES

    def fit_scale(self, inputs: Inputs, distance: FloatArray, weight: FloatArray) -> Regressor:
        """Log-linear in the components."""
        return LogLinear.fitted(inputs.X, distance, weight)

    def load_regressor(self, folder: Path, state: dict[str, Any]) -> Regressor:
        """A constant location or a log-linear scale."""
        return Constant(state["value"]) if "value" in state else LogLinear.from_state(state)
