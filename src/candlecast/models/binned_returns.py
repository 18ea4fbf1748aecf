"""From probabilities of bins of returns to quantiles, and how far such probabilities are believed.

1. Cuts are training quantiles, evenly spaced in normal scores: fine where the tails are.
2. What a classifier says is divided by the base rate of each bin. The part that is the same for
   gains and losses speaks of the width, the rest of the direction.
3. Each part counts by as much as it improved the log score of later rows, and not at all where it
   did so no more clearly than chance.
4. A bin's probability is spread like the training returns within it, the outer bins' as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from candlecast.domain.distribution import LEVELS, FloatArray

OUTER_SCORE: Final = 2.0
"""The outer bins begin at this normal score: each holds 2.3 % of the training returns."""
GRID_SCORES: Final = np.linspace(-3.75, 3.75, 151)
SHAPE_PRIOR: Final = 50.0
"""Independent outcomes that the Gaussian shape is worth beside the training returns' own."""
N_FINE: Final = 6001
MIN_DISTANCE: Final = 1e-3
MIN_RATIO: Final = 1e-3
MIN_T: Final = 2.5
TRUSTS: Final = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class ReturnBins:
    """Bins of standardised returns.

    Attributes
    ----------
    cuts : (n_bins - 1,) ascending, in units of forecast volatility
    expected : (n_bins,) the probability of each bin in the smoothed training distribution
    base : (n_bins,) its share among the training rows; 0 where ties leave a bin empty
    grid : (151,) quantiles of the smoothed training distribution at `GRID_SCORES`
    """

    cuts: FloatArray
    expected: FloatArray
    base: FloatArray
    grid: FloatArray

    @classmethod
    def fitted(
        cls, target: FloatArray, weight: FloatArray, n_bins: int, n_effective: float
    ) -> Self:
        """Bins of `target`; the fewer independent outcomes, the more Gaussian the shape."""
        own = np.quantile(target, ndtr(GRID_SCORES), method="weibull")
        trust = n_effective / (n_effective + SHAPE_PRIOR)
        grid = trust * own + (1 - trust) * float(target.std()) * GRID_SCORES
        scores = np.linspace(-OUTER_SCORE, OUTER_SCORE, n_bins - 1)
        cuts = np.interp(ndtr(scores), ndtr(GRID_SCORES), grid)
        expected = np.diff(ndtr(np.concatenate([[-np.inf], scores, [np.inf]])))
        counts = np.bincount(np.searchsorted(cuts, target), weight, n_bins)
        return cls(cuts, expected, counts / counts.sum(), grid)

    def codes(self, target: FloatArray) -> NDArray[np.integer]:
        """(n_rows,) the bin of each return."""
        return np.searchsorted(self.cuts, target)

    def ratios(self, probabilities: FloatArray) -> FloatArray:
        """(n_rows, n_bins): probabilities over the base rates; 1 where a bin is empty."""
        known = self.base > 0
        return np.where(known, probabilities / np.where(known, self.base, 1.0), 1.0)

    def quantiles(self, ratios: FloatArray) -> FloatArray:
        """(n_rows, 17): each bin's expected probability times its ratio, shaped as in training."""
        share = ratios * self.expected
        share = share / share.sum(axis=1, keepdims=True)
        before = np.cumsum(share, axis=1) - share
        level = np.zeros((len(ratios), len(LEVELS)))
        for code, width in enumerate(self.expected):
            reached = (LEVELS - before[:, code, None]) / share[:, code, None]
            level += width * np.clip(reached, 0, 1)
        return np.asarray(np.interp(level, ndtr(GRID_SCORES), self.grid))

    def log_distances(self) -> FloatArray:
        """(n_bins,) the mean logarithm of how far the training returns of each bin lie from 0."""
        scores = np.linspace(GRID_SCORES[0], GRID_SCORES[-1], N_FINE)
        values = np.interp(scores, GRID_SCORES, self.grid)
        codes, density = self.codes(values), np.exp(-0.5 * scores**2)
        logs = np.log(np.maximum(np.abs(values), MIN_DISTANCE)) * density
        n_bins = len(self.expected)
        mass = np.bincount(codes, density, n_bins)
        return np.asarray(np.bincount(codes, logs, n_bins) / np.maximum(mass, np.finfo(float).tiny))

    def state(self) -> dict[str, list[float]]:
        """Plain values; `ReturnBins.restored` reads them back."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def restored(cls, state: dict[str, list[float]]) -> Self:
        """What `state` described."""
        return cls(**{name: np.array(value) for name, value in state.items()})


@dataclass(frozen=True)
class Trust:
    """How far the two parts of a classifier's ratios are believed, each in [0, 1]."""

    width: float = 0.0
    direction: float = 0.0

    @classmethod
    def proven(
        cls, ratios: FloatArray, codes: NDArray[np.integer], block: NDArray[np.integer]
    ) -> Self:
        """What later rows say: their `ratios`, the `codes` of what came, and blocks of dates.

        Rows of one block are taken to be one piece of evidence.
        """
        found = cls()
        for part in ("width", "direction"):
            known = found.log_score(ratios, codes)
            options = [replace(found, **{part: trust}) for trust in TRUSTS]
            gains = [option.log_score(ratios, codes) - known for option in options]
            best = int(np.argmax([gain.sum() for gain in gains]))
            sums = np.bincount(block, weights=gains[best])
            error = float(np.sqrt((sums**2).sum()))
            if float(sums.sum()) > MIN_T * error:
                found = options[best]
        return found

    def applied(self, ratios: FloatArray) -> FloatArray:
        """(n_rows, n_bins): the ratios by as much as they are believed, > 0."""
        mirrored = ratios[:, ::-1]
        same, rest = (ratios + mirrored) / 2, (ratios - mirrored) / 2
        return np.maximum(1 + self.width * (same - 1) + self.direction * rest, MIN_RATIO)

    def log_score(self, ratios: FloatArray, codes: NDArray[np.integer]) -> FloatArray:
        """(n_rows,): how much likelier than by the base rate what came was said to be."""
        return np.asarray(np.log(self.applied(ratios)[np.arange(len(codes)), codes]))
