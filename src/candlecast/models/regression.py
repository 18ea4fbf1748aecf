"""What location and scale are made of: one number from a row of features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray


class Regressor(Protocol):
    """One number from a row of features."""

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        ...

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """The state as plain values; larger parts go to files called `name` in `folder`."""
        ...

    def importances(self) -> FloatArray:
        """(n_features,) shares of what was learnt, or no features at all: (0,)."""
        ...

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) what each adds, to the logarithm for a scale."""
        ...


@dataclass(frozen=True, eq=False)
class Inputs:
    """The rows that a regression is fitted on, `at` in the features of all training rows.

    A kind whose library has a form of its own for features makes it once of all rows, and takes
    from it what each regression needs.

    Attributes
    ----------
    features : (n_all_rows, n_features), nothing missing
    at : (n_rows,) positions in them, ascending
    """

    features: FloatArray
    at: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.at)

    @cached_property
    def X(self) -> FloatArray:  # noqa: N802 - as features are called everywhere
        """(n_rows, n_features) of these rows."""
        return self.features if len(self) == len(self.features) else self.features[self.at]

    def take(self, index: NDArray[Any]) -> Self:
        """Those at `index`, ascending positions or a mask."""
        return replace(self, at=self.at[index])


class Constant:
    """The same number for every row."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, X: FloatArray) -> FloatArray:
        """`value` for each row."""
        return np.full(len(X), self.value)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """The value."""
        return {"value": self.value}

    def importances(self) -> FloatArray:
        """None."""
        return np.empty(0)

    def contributions(self, X: FloatArray) -> FloatArray:
        """Nothing, whatever the feature."""
        return np.zeros_like(X, dtype=float)
