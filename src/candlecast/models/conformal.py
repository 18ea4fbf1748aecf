"""Calibrate any model; keep coverage while the market changes.

Conformal on the probability scale: models fitted on earlier examples are asked about later ones;
where the outcomes really fell among their quantiles, as normal scores, becomes the new scale. A
band that held 72 % of the calibration outcomes instead of 80 % is widened by as much as was
missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

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
from candlecast.errors import BadArtifact, NotEnoughHistory, NotFitted
from candlecast.models.artifact import make_base_model, open_sealed, read_json, seal, write_json
from candlecast.models.soundness import UNSOUND, check_answers

MAX_SCORE: Final = 12.0
MIN_CALIBRATION_ROWS: Final = 20
PRIOR_OUTCOMES: Final = 50.0
"""Independent outcomes that the model's own quantiles are worth beside the calibration's."""


class Calibrated:
    """A model and the normal scores at which its quantiles are read off, for each horizon.

    Parameters
    ----------
    make : makes a fresh model; `model` is the one that forecasts.
    share : in [0, 1), how much of the distinct as_of instants, the latest, calibrates under
        ``split`` and ``refit``; 0 leaves the model as it is.
    calibration : ``split``: the model is fitted on the instants before. ``refit``: a fresh one is
        then fitted on all. ``cross``: the instants are cut into n_folds + 1 equal parts, each
        but the first is forecast by a model fitted on what was known before it, and a fresh one
        is fitted on all. ``none``: the model as it is.
    n_folds : how many parts calibrate under ``cross``.

    Notes
    -----
    Outcomes of fitting rows that reach into the part that calibrates are unknown to the fit.
    The quantile of n scores at level p is the order statistic of rank p (n + 1), so that bands
    are not too narrow for small n: under ``split`` and exchangeability, P(y <= Q(p)) >= p - 1/n.
    ``refit`` and ``cross`` hold that scores of models fitted on less are not smaller than those
    of the one that forecasts. Where outcomes overlap, a long span holds few independent ones: the
    new scale is mixed with the model's own as if that had seen 50 of them. Shapes, units and NaN
    policy are those of the model.

    References
    ----------
    Vovk, Gammerman and Shafer (2005), ch. 2; on the probability scale as in Chernozhukov,
    Wüthrich and Zhu (2021), PNAS 118(48), algorithm 2; pooled over folds as in Vovk (2015),
    "Cross-conformal predictors", Ann. Math. Artif. Intell. 74.
    """

    def __init__(
        self,
        make: Callable[[], Model],
        share: float = 0.25,
        calibration: str = "split",
        n_folds: int = 4,
    ) -> None:
        self._make = make
        self.model = make()
        self.share = 0.0 if calibration == "none" else share
        self.calibration = calibration
        self.n_folds = n_folds
        self._scores: FloatArray | None = None

    def fit(self, examples: Examples) -> Self:
        """Calibrate on the later examples by models fitted on the earlier ones."""
        n_horizons = len(examples.horizons)
        cuts = self._cuts(np.unique(examples.as_of))
        scores = np.tile(SCORES, (n_horizons, 1))
        if len(cuts):
            guessed = np.concatenate([self._guessed(examples, *part) for part in pairwise(cuts)])
            later = examples.take(examples.as_of > cuts[0])
            scores = np.array([_calibrated_scores(guessed, later, h) for h in range(n_horizons)])
        if self.calibration != "split" or not len(cuts):
            self.model = self._make().fit(examples)
        self._scores = scores
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
        write_json(folder / "conformal.json", {"scores": self._scores.tolist()})

    @classmethod
    def restored(cls, model: Model, folder: Path) -> Self:
        """`model` with the calibration saved in `folder`."""
        calibrated = cls(lambda: model)
        scores = np.array(read_json(folder / "conformal.json")["scores"], dtype=float)
        is_sound = scores.ndim == 2 and len(scores) > 0 and scores.shape[1] == len(LEVELS)
        if not is_sound or np.any(np.diff(scores) < 0) or np.abs(scores).max() > MAX_SCORE:
            raise BadArtifact("conformal.json holds no calibration; run `candlecast train`")
        calibrated._scores = scores
        return calibrated

    def _cuts(self, instants: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
        # The last instant before each part that calibrates, and the last of all; or none.
        n = len(instants)
        if self.calibration == "cross":
            edges = np.arange(1, self.n_folds + 2) * n // (self.n_folds + 1)
            return np.unique(instants[np.maximum(edges - 1, 0)])
        if self.share == 0:
            return instants[:0]
        return instants[[min(int(n * (1 - self.share)), n - 1), n - 1]]

    def _guessed(
        self, examples: Examples, after: np.datetime64, until: np.datetime64
    ) -> FloatArray:
        self.model = self._make().fit(examples.known_by(after))
        is_asked = (examples.as_of > after) & (examples.as_of <= until)
        return self.model.predict(examples.take(is_asked).without_outcomes())


def make_model(spec: ModelSpec, seed: int) -> Calibrated:
    """The model that `spec` describes, calibrated as it says."""
    make = partial(make_base_model, spec, seed)
    return Calibrated(make, spec.calibration_share, spec.calibration, spec.calibration_folds)


def save_model(
    model: Calibrated, spec: ModelSpec, folder: Path, details: dict[str, Any] | None = None
) -> str:
    """Write `model` and its manifest into `folder`, empty before; returns the manifest's sha256."""
    model.save(folder)
    return seal(folder, spec, details or {})


def load_model(folder: Path, manifest_sha256: str | None = None) -> Calibrated:
    """The model that `save_model` wrote; BadArtifact when anything was changed since, and for
    what no model has written.
    """
    manifest = open_sealed(folder, manifest_sha256)
    try:
        spec = ModelSpec.from_mapping(manifest["spec"])
        model = MODELS.get(spec.kind).load(folder)  # type: ignore[attr-defined]
        calibrated = Calibrated.restored(model, folder)
        check_answers(calibrated, spec, manifest)
    except BadArtifact:
        raise
    except UNSOUND as error:
        raise BadArtifact(
            f"{folder.name} holds no model that this program can load ({error}); "
            "run `candlecast train`"
        ) from error
    return calibrated


def _calibrated_scores(guessed: FloatArray, later: Examples, horizon: int) -> FloatArray:
    y = later.y[:, horizon]
    known = ~np.isnan(y)
    if known.sum() < MIN_CALIBRATION_ROWS:
        raise NotEnoughHistory(
            f"horizon {later.horizons[horizon]} has {known.sum()} outcomes to calibrate on and "
            f"needs {MIN_CALIBRATION_ROWS}; ingest more history or choose fewer splits"
        )
    scores = np.clip(score_of(guessed[known, horizon], y[known]), -MAX_SCORE, MAX_SCORE)
    n_effective = later.n_effective(horizon)
    trust = n_effective / (n_effective + PRIOR_OUTCOMES)
    return trust * np.quantile(scores, LEVELS, method="weibull") + (1 - trust) * SCORES
