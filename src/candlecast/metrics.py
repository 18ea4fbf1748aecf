"""Pinball, CRPS, coverage, PIT, RPS, IC, Brier, hit rate, Sharpe, drawdown: arrays in, numbers out.

Functions named after a loss give one number a row, so that they can be averaged by date, symbol
or horizon; the others give one number. A row with a missing (NaN) forecast or outcome scores
NaN, and every average leaves NaN out; an average of nothing is NaN.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlecast.domain.distribution import (
    CRPS_LEVELS,
    LEVELS,
    FloatArray,
    crps_weights,
    probability_below,
)
from candlecast.errors import InvalidSpec

CHUNK_ROWS: Final = 2048
"""Rows scored at once: their 99 levels fit into the processor's cache."""
EDGE: Final = 1e-9
"""An outcome on the edge of a band lies in it, whatever the rounding."""


def pinball(quantiles: FloatArray, y: FloatArray) -> FloatArray:
    """(n_rows,): the pinball loss of (n_rows, 17) quantiles, averaged over the levels."""
    return _mean_pinball(quantiles, y, np.eye(len(LEVELS)), LEVELS)


def pinball_by_level(quantiles: FloatArray, y: FloatArray) -> FloatArray:
    """(17,): the pinball loss at each level, averaged over the rows."""
    losses = (
        average(np.maximum(level * (y - q), (level - 1) * (y - q)))
        for level, q in zip(LEVELS, quantiles.T, strict=True)
    )
    return np.array(list(losses))


def crps(quantiles: FloatArray, y: FloatArray) -> FloatArray:
    """(n_rows,): the CRPS, twice the mean pinball loss at the 99 percentiles of the forecast.

    The percentiles are those of the continuous form in `domain.distribution`; the identity is
    Laio and Tamea (2007), Hydrol. Earth Syst. Sci. 11, eq. 8.
    """
    return 2 * _mean_pinball(quantiles, y, crps_weights(), CRPS_LEVELS)


def pit(quantiles: FloatArray, y: FloatArray) -> FloatArray:
    """(n_rows,): the probability that the forecast gave to outcomes up to the one that came."""
    return probability_below(quantiles, y)


def coverage(pits: FloatArray, level: float) -> float:
    """The share of outcomes within the central band that should hold `level` of them."""
    if not 0 < level < 1:
        raise InvalidSpec(f"the level of a band lies between 0 and 1, not {level}")
    is_inside = np.where(np.isnan(pits), np.nan, np.abs(pits - 0.5) <= level / 2 + EDGE)
    return average(is_inside)


def hits(prob_up: FloatArray, y: FloatArray) -> FloatArray:
    """(n_rows,): 1 where the likelier side of zero came true, else 0; a return of 0 is not up."""
    is_right = (prob_up > 0.5) == (y > 0)
    return np.where(np.isnan(prob_up) | np.isnan(y), np.nan, is_right)


def hit_rate(prob_up: FloatArray, y: FloatArray) -> float:
    """The share of rows whose likelier side of zero came true."""
    return average(hits(prob_up, y))


def brier(probability: FloatArray, y: FloatArray) -> FloatArray:
    """(n_rows,): the squared distance of P(return > 0) from what came, 1 or 0 (Brier 1950)."""
    return np.where(np.isnan(y), np.nan, (probability - (y > 0)) ** 2)


def rps(probabilities: FloatArray, outcome: NDArray[np.integer]) -> FloatArray:
    """(n_rows,): the ranked probability score of ordered classes, divided by their number.

    `probabilities` (n_rows, n_classes); `outcome` (n_rows,) the class that came, -1 where it is
    unknown. The scale is that of the M6 competition, where a uniform forecast of five classes
    scores 0.16 on average.
    """
    n_classes = probabilities.shape[1]
    reached = outcome[:, None] <= np.arange(n_classes)
    score = ((np.cumsum(probabilities, axis=1) - reached) ** 2).sum(axis=1) / n_classes
    return np.where(outcome < 0, np.nan, score)


def information_coefficient(forecast: FloatArray, outcome: FloatArray) -> float:
    """Rank correlation (Spearman) of forecast and outcome; NaN when either never varies."""
    from scipy.stats import rankdata  # half a second, which no other metric needs

    is_known = ~(np.isnan(forecast) | np.isnan(outcome))
    x, y = rankdata(forecast[is_known]), rankdata(outcome[is_known])
    x, y = x - x.mean() if len(x) else x, y - y.mean() if len(y) else y
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if spread > 0 else float("nan")


def sharpe(returns: FloatArray, periods_per_year: float) -> float:
    """Annualised mean over standard deviation of simple returns; NaN when they never vary."""
    known = returns[~np.isnan(returns)]
    deviation = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    if deviation <= 1e-15:
        return float("nan")
    return float(known.mean()) / deviation * float(np.sqrt(periods_per_year))


def max_drawdown(returns: FloatArray) -> float:
    """The largest loss from a peak of wealth that simple `returns` compound to, as 0 … 1."""
    wealth = np.concatenate([[1.0], np.cumprod(1 + returns[~np.isnan(returns)])])
    return float(np.max(1 - wealth / np.maximum.accumulate(wealth)))


def skill(score: ArrayLike, reference: ArrayLike) -> float:
    """1 - sum(score) / sum(reference) over the rows that have both: the share of loss saved."""
    ours, theirs = np.asarray(score, dtype=float), np.asarray(reference, dtype=float)
    is_known = ~(np.isnan(ours) | np.isnan(theirs))
    total = float(theirs[is_known].sum())
    return 1 - float(ours[is_known].sum()) / total if total > 0 else float("nan")


def average(values: FloatArray) -> float:
    """The mean of what is not NaN; NaN when there is nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _mean_pinball(
    quantiles: FloatArray, y: FloatArray, weights: FloatArray, levels: FloatArray
) -> FloatArray:
    # The loss is level * (y - q) - y + max(q, y): all but the maximum is linear in the 17 values.
    mean = y * (levels.mean() - 1) - quantiles @ (weights @ levels) / len(levels)
    shares = np.full(len(levels), 1 / len(levels))
    for start in range(0, len(y), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        curve = quantiles[rows] @ weights
        mean[rows] += np.maximum(curve, y[rows, None], out=curve) @ shares
    return np.asarray(mean)
