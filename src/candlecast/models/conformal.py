"""Calibrate any model; keep coverage while the market changes.

Split conformal on the probability scale: the model is fitted on the earlier examples and asked
about the later ones; where the outcomes really fell among its quantiles, as normal scores,
becomes the new scale. A band that held 72 % of the calibration outcomes instead of 80 % is
widened by as much as was missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from candlecast.domain.catalog import MODELS, Model
from candlecast.domain.distribution import (
    LEVELS,
    SCORES,
    FloatArray,
    at_scores,
    score_of,
    uncrossed,
)
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.specs import ModelSpec
from candlecast.errors import NotEnoughHistory, NotFitted
from candlecast.models.artifact import make_base_model, open_sealed, read_json, seal, write_json

MAX_SCORE: Final = 12.0
MIN_CALIBRATION_ROWS: Final = 20
PRIOR_OUTCOMES: Final = 50.0
"""Independent outcomes that the model's own quantiles are worth beside the calibration's."""


class Calibrated:
    """A model and the normal scores at which its quantiles are read off, for each horizon.

    Parameters
    ----------
    model : any Model.
    share : in [0, 1), how much of the distinct as_of instants, the latest, calibrates; 0 leaves
        the model as it is.

    Notes
    -----
    Outcomes of the fitting rows that reach into the calibration span are unknown to the fit.
    The quantile of n scores at level p is the order statistic of rank p (n + 1), so that bands
    are not too narrow for small n. Where outcomes overlap, a long span holds few independent
    ones: the new scale is mixed with the model's own as if that had seen 50 of them. Shapes,
    units and NaN policy are those of the model.

    References
    ----------
    Vovk, Gammerman and Shafer (2005), ch. 2; on the probability scale as in Chernozhukov,
    Wüthrich and Zhu (2021), PNAS 118(48), algorithm 2.
    """

    def __init__(self, model: Model, share: float) -> None:
        self.model = model
        self.share = share
        self._scores: FloatArray | None = None

    def fit(self, examples: Examples) -> Self:
        """Fit on the earlier examples, calibrate on the later ones."""
        n_horizons = len(examples.horizons)
        if self.share == 0:
            self.model.fit(examples)
            self._scores = np.tile(SCORES, (n_horizons, 1))
            return self
        days = np.unique(examples.as_of)
        cut = days[min(int(len(days) * (1 - self.share)), len(days) - 1)]
        later = examples.take(examples.as_of > cut)
        self.model.fit(examples.known_by(cut))
        guessed = self.model.predict(later)
        self._scores = np.array(
            [_calibrated_scores(guessed[:, h], later, h) for h in range(n_horizons)]
        )
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) calibrated quantiles of the log return."""
        if self._scores is None:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        raw = self.model.predict(rows)
        read = [at_scores(raw[:, h], scores) for h, scores in enumerate(self._scores)]
        return uncrossed(np.stack(read, axis=1))

    def save(self, folder: Path) -> None:
        """Write the model's files and conformal.json."""
        if self._scores is None:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        self.model.save(folder)
        state = {"share": self.share, "scores": self._scores.tolist()}
        write_json(folder / "conformal.json", state)

    @classmethod
    def restored(cls, model: Model, folder: Path) -> Self:
        """`model` with the calibration saved in `folder`."""
        state = read_json(folder / "conformal.json")
        calibrated = cls(model, state["share"])
        calibrated._scores = np.array(state["scores"])
        return calibrated


def make_model(spec: ModelSpec, seed: int) -> Calibrated:
    """The model that `spec` describes, calibrated as it says."""
    return Calibrated(make_base_model(spec, seed), spec.calibration_share)


def save_model(
    model: Calibrated, spec: ModelSpec, folder: Path, details: dict[str, Any] | None = None
) -> str:
    """Write `model` and its manifest into `folder`, empty before; returns the manifest's sha256."""
    model.save(folder)
    return seal(folder, spec, details or {})


def load_model(folder: Path, manifest_sha256: str | None = None) -> Calibrated:
    """The model that `save_model` wrote; BadArtifact when anything was changed since."""
    manifest = open_sealed(folder, manifest_sha256)
    spec = ModelSpec.from_mapping(manifest["spec"])
    return Calibrated.restored(MODELS.get(spec.kind).load(folder), folder)  # type: ignore[attr-defined]


def _calibrated_scores(guessed: FloatArray, later: Examples, horizon: int) -> FloatArray:
    y = later.y[:, horizon]
    known = ~np.isnan(y)
    if known.sum() < MIN_CALIBRATION_ROWS:
        raise NotEnoughHistory(
            f"horizon {later.horizons[horizon]} has {known.sum()} outcomes to calibrate on and "
            f"needs {MIN_CALIBRATION_ROWS}; ingest more history or choose fewer splits"
        )
    scores = np.clip(score_of(guessed[known], y[known]), -MAX_SCORE, MAX_SCORE)
    n_effective = later.n_effective(horizon)
    trust = n_effective / (n_effective + PRIOR_OUTCOMES)
    return trust * np.quantile(scores, LEVELS, method="weibull") + (1 - trust) * SCORES
