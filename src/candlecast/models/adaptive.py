"""Bands that follow their own outcomes: wider after too many misses, narrower after too few."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from candlecast.domain.distribution import (
    LEVELS,
    SCORES,
    FloatArray,
    at_scores,
    uncrossed,
)
from candlecast.domain.examples import CORRELATION, Examples
from candlecast.errors import BadFrame

BANDS: Final[FloatArray] = np.array([0.5, 0.8, 0.9, 0.95, 0.98])
"""Central bands whose misses are counted; their ends are among the 17 levels."""
FAST: Final = 0.012
SLOW: Final = 0.006
MAX_ERROR: Final = 0.3
"""The most, in units of the logarithm of the width, that one instant tells the fast part."""
MAX_LOG_WIDTH: Final = 2.0

EDGES: Final[FloatArray] = np.asarray(ndtri((1 + BANDS) / 2))
SLOPES: Final[FloatArray] = np.exp(-(EDGES**2) / 2) * np.sqrt(2 / np.pi) * EDGES
"""By how much coverage grows with the logarithm of a band's width."""
LOWER: Final = np.array([int(np.argmin(np.abs(LEVELS - (1 - band) / 2))) for band in BANDS])
UPPER: Final = len(LEVELS) - 1 - LOWER


@dataclass(frozen=True)
class AdaptiveState:
    """How much wider than the model says the bands of one horizon are, and how that moves.

    Attributes
    ----------
    fast : logarithm by which all bands are widened; forgets within weeks, and one bad day cannot
        move it far
    slow : logarithm for each of `BANDS`; forgets nothing, so that no error lasts

    Notes
    -----
    Each instant whose outcomes become known tells, of every band, the share of misses beyond what
    it should have: the error e. The slow part is adaptive conformal inference on the logarithm
    of the width, θ ← θ + γ e / s, with s the band's gain in coverage per unit of θ; its sum bounds
    the long-run error of coverage by a constant over the time, whatever the data. The fast part
    adds γ (clip(mean error) − itself), as the proportional part of a controller does. The step γ
    is that of `FAST` and `SLOW` times the independent outcomes among those of one instant
    (`CORRELATION`), over the square root of the horizon's bars, because outcomes that overlap say
    little new. All errors are those of the forecasts as they were made, adapted: what is stored
    of a forecast and its outcome is enough, and a lost state is computed anew from these.

    References
    ----------
    Gibbs and Candès (2021), "Adaptive conformal inference under distribution shift", NeurIPS 34,
    eq. 2; with a saturated fast part as in Angelopoulos, Candès and Tibshirani (2023), "Conformal
    PID control for time series prediction", NeurIPS 36.
    """

    fast: float = 0.0
    slow: tuple[float, ...] = (0.0,) * len(BANDS)

    def __post_init__(self) -> None:
        values = (self.fast, *self.slow)
        if len(self.slow) != len(BANDS) or not all(map(math.isfinite, values)):
            raise BadFrame(f"a state is {len(BANDS) + 1} finite numbers, not {values}; settle anew")

    def after(self, missed: FloatArray, n_outcomes: int, horizon_bars: int) -> AdaptiveState:
        """The state once an instant has told the shares `missed` (n_bands,) of its outcomes."""
        n_independent = n_outcomes / (1 + (n_outcomes - 1) * CORRELATION)
        step = n_independent / math.sqrt(horizon_bars)
        error = missed - (1 - BANDS)
        pooled = float(np.clip(error.sum() / SLOPES.sum(), -MAX_ERROR, MAX_ERROR))
        slow = np.clip(self.slow + SLOW * step * error / SLOPES, -MAX_LOG_WIDTH, MAX_LOG_WIDTH)
        fast = self.fast + FAST * step * (pooled - self.fast)
        return AdaptiveState(fast, tuple(slow.tolist()))

    def adapt(self, quantiles: FloatArray) -> FloatArray:
        """(n_rows, 17) quantiles, wider or narrower around the median by what the state says."""
        log_width = self.fast + np.interp(np.abs(SCORES), EDGES, self.slow)
        return uncrossed(at_scores(quantiles, SCORES * np.exp(log_width)))

    def to_mapping(self) -> dict[str, Any]:
        """As plain values."""
        return {"fast": self.fast, "slow": list(self.slow)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """What `to_mapping` gave; BadFrame for anything else."""
        try:
            return cls(float(values["fast"]), tuple(map(float, values["slow"])))
        except (KeyError, TypeError, ValueError) as error:
            raise BadFrame(f"{values} is no state of a calibration; settle anew") from error


def adapted(
    quantiles: FloatArray, examples: Examples, rows: NDArray[np.integer] | None = None
) -> FloatArray:
    """(n_rows, n_horizons, 17): out-of-sample `quantiles` of the examples at `rows` (by default
    all), each adapted to what was known at its as_of of the outcomes of the others, across folds.
    """
    at = np.arange(len(examples)) if rows is None else rows
    as_of, y, end_at = examples.as_of[at], examples.y[at], examples.end_at[at]
    made = [
        _adapted(quantiles[:, h], as_of, y[:, h], end_at[:, h], int(n_bars))
        for h, n_bars in enumerate(examples.horizon_bars)
    ]
    return np.stack(made, axis=1)


def updated(
    state: AdaptiveState,
    pit: ArrayLike,
    as_of: NDArray[np.datetime64],
    end_at: NDArray[np.datetime64],
    horizon_bars: int,
) -> AdaptiveState:
    """The state after outcomes (n,) that became known at `end_at`, of forecasts made at `as_of`.

    `pit` is the probability that the forecast, as it was made, gave to outcomes up to the one
    that came. The order in which they are given does not matter.
    """
    is_missed = np.abs(np.asarray(pit, dtype=float)[:, None] - 0.5) > BANDS / 2
    for rows in _groups(end_at, as_of):
        state = state.after(is_missed[rows].mean(axis=0), len(rows), horizon_bars)
    return state


def _adapted(
    quantiles: FloatArray,
    as_of: NDArray[np.datetime64],
    y: FloatArray,
    end_at: NDArray[np.datetime64],
    horizon_bars: int,
) -> FloatArray:
    made = np.empty_like(quantiles)
    state = AdaptiveState()
    waiting: list[tuple[np.datetime64, int, FloatArray, int]] = []
    for number, rows in enumerate(_groups(as_of)):
        while waiting and waiting[0][0] <= as_of[rows[0]]:
            _, _, missed, n = heapq.heappop(waiting)
            state = state.after(missed, n, horizon_bars)
        made[rows] = state.adapt(quantiles[rows])
        known = rows[~np.isnan(y[rows])]
        outcome, band = y[known, None], made[known]
        is_missed = (outcome < band[:, LOWER]) | (outcome > band[:, UPPER])
        for ended in _groups(end_at[known]):
            end = end_at[known[ended[0]]]
            heapq.heappush(waiting, (end, number, is_missed[ended].mean(axis=0), len(ended)))
    return made


def _groups(*keys: NDArray[np.datetime64]) -> list[NDArray[np.intp]]:
    # Rows whose keys are all the same, in the order of the keys, the first of them first.
    if not len(keys[0]):
        return []
    order = np.lexsort(keys[::-1])
    is_new = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    return np.split(order, np.flatnonzero(is_new) + 1)
