"""Random forest over bins of returns: the whole distribution at once, served by ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray, uncrossed
from candlecast.domain.examples import Examples, Rows
from candlecast.errors import BadArtifact, FitFailed, InvalidSpec, NotFitted
from candlecast.models.artifact import read_json, write_json
from candlecast.models.binned_returns import ReturnBins, Trust
from candlecast.models.forest_graph import ForestGraph
from candlecast.models.onnx_file import OnnxFile
from candlecast.models.sealed import inside

MIN_EXAMPLES: Final = 40
HOLDOUT_SHARE: Final = 0.3
MIN_BINS: Final = 3
PARITY_ROWS: Final = 512
MAX_BYTES: Final = 50 * 1024**2
PROOF_SHARE: Final = 0.3
"""How many of the trees are grown to find out whether they can be believed."""


@MODELS.register("forest")
class Forest:
    """A random forest that tells in which bin of returns the outcome will fall.

    Parameters
    ----------
    n_estimators : int, trees for each horizon.
    n_bins : int >= 3, bins of the return in units of the symbol's forecast volatility, cut at
        training quantiles; 3 for falls, rests and rises.
    max_leaf_nodes, max_features : as in scikit-learn; leaves bound the size of the artefact.
    min_rows_in_leaf : int, an upper bound (a fiftieth of a tree's rows at most).
    max_rows : int, each tree sees at most so many rows, drawn with replacement.
    n_jobs : int, threads, 0 for all we may use; the result does not depend on it.
    seed : int.

    Notes
    -----
    Features (n_rows, n_features) float64, compared in float32; a missing one is given the mean of
    the training rows. Every horizon is fitted on its own. What the trees say of the width and of
    the direction is believed by as much as a forest of the earlier rows proved on the later ones;
    the rest is the distribution of the training rows. Quantiles (n_rows, n_horizons, 17).

    Raises
    ------
    NotFitted when asked before `fit`; NotFound when a feature is missing; FitFailed when a
    horizon has fewer than 40 examples; BadArtifact when it would be larger than 50 MB.

    References
    ----------
    Breiman (2001), Machine Learning 45(1); probabilities of bins as in Meinshausen (2006), JMLR 7.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "n_bins": {"low": 7, "high": 25},
        "max_leaf_nodes": {"low": 32, "high": 256, "log": True},
        "min_rows_in_leaf": {"low": 20, "high": 200, "log": True},
        "max_features": {"low": 0.1, "high": 0.6},
    }

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_estimators: int = 100,
        n_bins: int = 11,
        max_leaf_nodes: int = 64,
        min_rows_in_leaf: int = 60,
        max_features: float = 0.2,
        max_rows: int = 10_000,
        n_jobs: int = 0,
    ) -> None:
        if n_bins < MIN_BINS:
            raise InvalidSpec(f"n_bins of forest is at least {MIN_BINS}")
        self.seed = seed
        self._n_estimators = n_estimators
        self._n_bins = n_bins
        self._max_rows = max_rows
        self._min_rows_in_leaf = min_rows_in_leaf
        self._parameters: dict[str, Any] = {
            "max_leaf_nodes": max_leaf_nodes,
            "max_features": max_features,
            "random_state": seed,
            "n_jobs": n_jobs or os.cpu_count() or 1,
        }
        self.feature_names: tuple[str, ...] = ()
        self._neutral = np.empty(0)
        self._importances = np.empty(0)
        self._horizons: list[tuple[ForestGraph, ReturnBins, Trust]] = []

    def fit(self, examples: Examples) -> Self:
        """Fit every horizon on the examples whose outcome is known."""
        self.feature_names = examples.feature_names
        n_known = np.maximum((~np.isnan(examples.X)).sum(axis=0), 1)
        self._neutral = np.nansum(examples.X, axis=0) / n_known
        X, targets = self._filled(examples), examples.targets()
        self._horizons, importances = [], []
        for horizon, name in enumerate(examples.horizons):
            known = ~np.isnan(targets[:, horizon])
            if known.sum() < MIN_EXAMPLES:
                raise FitFailed(
                    f"horizon {name} has {known.sum()} examples and needs {MIN_EXAMPLES}; "
                    "ingest more history or ask for fewer splits"
                )
            rows = examples.take(known)
            trust = self._proven(X[known], targets[known, horizon], rows, horizon)
            bins = self._binned(targets[known, horizon], rows, horizon)
            codes = bins.codes(targets[known, horizon])
            forest, shares = self._grown(X[known], codes, rows.weight, self._n_estimators)
            self._horizons.append((forest, bins, trust))
            importances.append(shares)
        self._importances = np.mean(importances, axis=0)
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return."""
        if not self._horizons:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        X = self._filled(rows).astype(np.float32)
        standard = [
            bins.quantiles(trust.applied(bins.ratios(forest.probabilities(X))))
            for forest, bins, trust in self._horizons
        ]
        return uncrossed(np.stack(standard, axis=1) * rows.horizon_scale()[..., None])

    def save(self, folder: Path) -> None:
        """Write model.json and an ONNX file for each horizon."""
        state = {
            "seed": self.seed,
            "n_bins": self._n_bins,
            "feature_names": list(self.feature_names),
            "neutral": self._neutral.tolist(),
            "importances": self._importances.tolist(),
            "horizons": [
                forest.save(folder, f"forest_{number}")
                | {"bins": bins.state(), "trust": vars(trust)}
                for number, (forest, bins, trust) in enumerate(self._horizons)
            ],
        }
        write_json(folder / "model.json", state)
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
        if n_bytes > MAX_BYTES:
            raise BadArtifact(
                f"the forest takes {n_bytes / 2**20:.0f} MiB, and {MAX_BYTES / 2**20:.0f} are "
                "allowed; lower n_estimators or max_leaf_nodes, or ask for fewer horizons"
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder / "model.json")
        model = cls(seed=state["seed"], n_bins=state["n_bins"])
        model.feature_names = tuple(state["feature_names"])
        model._neutral = np.array(state["neutral"])
        model._importances = np.array(state["importances"])
        model._horizons = [
            (
                ForestGraph(OnnxFile(inside(folder, each["onnx"])), model._n_bins),
                ReturnBins.restored(each["bins"]),
                Trust(**each["trust"]),
            )
            for each in state["horizons"]
        ]
        return model

    def importances(self) -> dict[str, float]:
        """The share of each feature in the fall of impurity, all horizons together."""
        if not self._horizons:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        if not self._importances.any():
            return {}
        shares = self._importances / self._importances.sum()
        return dict(zip(self.feature_names, shares.tolist(), strict=True))

    def contributions(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, n_features): what each adds to the expected log of the distance."""
        if not self._horizons:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        X = self._filled(rows)
        placed = np.zeros((len(rows), len(self._horizons), len(rows.feature_names)))
        where = [rows.feature_names.index(name) for name in self.feature_names]
        for horizon, (forest, bins, trust) in enumerate(self._horizons):
            distance = bins.log_distances()
            even = (distance + distance[::-1]) / 2  # the width is the same on both sides
            worth = trust.width * bins.ratios(bins.expected) * even
            placed[:, horizon, where] = forest.contributions(X, worth)
        return placed

    def _filled(self, rows: Rows) -> FloatArray:
        X = rows.matrix(self.feature_names)
        return np.where(np.isnan(X), self._neutral, X)

    def _binned(self, target: FloatArray, rows: Examples, horizon: int) -> ReturnBins:
        return ReturnBins.fitted(target, rows.weight, self._n_bins, rows.n_effective(horizon))

    def _grown(
        self, X: FloatArray, codes: NDArray[np.integer], weight: FloatArray, n_trees: int
    ) -> tuple[ForestGraph, FloatArray]:
        from sklearn.ensemble import RandomForestClassifier

        values = X.astype(np.float32)
        n_drawn = min(len(values), self._max_rows)
        forest = RandomForestClassifier(
            n_estimators=n_trees,
            min_samples_leaf=max(5, min(self._min_rows_in_leaf, n_drawn // 50)),
            max_samples=n_drawn,
            **self._parameters,
        )
        forest.fit(values, codes, sample_weight=weight)
        probe = values[:: max(1, len(values) // PARITY_ROWS)]
        return ForestGraph.of(forest, self._n_bins, probe), forest.feature_importances_

    def _proven(self, X: FloatArray, target: FloatArray, rows: Examples, horizon: int) -> Trust:
        # Fitted on the earlier rows, asked about the later ones.
        days = np.unique(rows.as_of)
        cut = days[int(len(days) * (1 - HOLDOUT_SHARE))]
        early, late = rows.end_at[:, horizon] <= cut, rows.as_of > cut
        if early.sum() < MIN_EXAMPLES or late.sum() < MIN_EXAMPLES:
            return Trust()
        bins = self._binned(target[early], rows.take(early), horizon)
        n_trees = max(1, round(self._n_estimators * PROOF_SHARE))
        forest, _ = self._grown(X[early], bins.codes(target[early]), rows.weight[early], n_trees)
        ratios = bins.ratios(forest.probabilities(X[late]))
        date = np.unique(rows.dates()[late], return_inverse=True)[1]
        block = date // (2 * int(rows.horizon_bars[horizon]))
        return Trust.proven(ratios, bins.codes(target[late]), block)


def _spread(found: FloatArray, classes: NDArray[np.integer], n_bins: int) -> FloatArray:
    probabilities = np.zeros((len(found), n_bins))
    probabilities[:, classes] = found
    return probabilities
