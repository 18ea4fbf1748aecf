"""Climatology: the symbol's own past, the reference that every model has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray, uncrossed
from candlecast.domain.examples import Examples, Rows
from candlecast.models.artifact import read_json, write_json


@MODELS.register("climatology")
class Climatology:
    """Quantiles of all returns of the symbol known at as_of; the rows bring them along.

    Parameters
    ----------
    seed : int, unused; every model takes one.

    Notes
    -----
    There is nothing to learn: the reference grows with every bar on its own. Rows are (n_rows,)
    and the answer is (n_rows, n_horizons, 17) log returns.
    """

    def __init__(self, *, seed: int = 7) -> None:
        self.seed = seed

    def fit(self, examples: Examples) -> Self:
        """Nothing to learn."""
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """The quantiles that the rows carry."""
        return uncrossed(rows.climatology)

    def save(self, folder: Path) -> None:
        """Write model.json."""
        write_json(folder / "model.json", {"seed": self.seed})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(seed=read_json(folder / "model.json")["seed"])
