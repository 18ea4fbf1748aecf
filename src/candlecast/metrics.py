"""Pinball, CRPS, coverage, PIT, RPS, IC, Brier, hit rate, Sharpe, drawdown: arrays in, numbers out.

Functions named after a loss give one number a row, so that they can be averaged by date, symbol
or horizon; the others give one number. A row with a missing (NaN) forecast or outcome scores
NaN, and every average leaves NaN out; an average of nothing is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

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
Z_95: Final = 1.959963984540054
"""The normal score of 97.5 %."""
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


@dataclass(frozen=True, eq=False)
class Reliability:
    """What came among rows that were told about the same probability of a rise.

    Attributes
    ----------
    stated, came : (n_bins,) the mean stated probability, and the share of rows with a rise
    n : (n_bins,) rows
    low, high : (n_bins,) the interval of `came`
    """

    stated: FloatArray
    came: FloatArray
    n: NDArray[np.int64]
    low: FloatArray
    high: FloatArray

    def brier_parts(self) -> tuple[float, float, float]:
        """Reliability, resolution and uncertainty (Murphy 1973, J. Appl. Meteor. 12, eq. 8).

        The first less the second and with the third is the Brier score of the bins' stated means.
        """
        share = self.n / self.n.sum()
        base = float(share @ self.came)
        reliability = float(share @ (self.stated - self.came) ** 2)
        return reliability, float(share @ (self.came - base) ** 2), base * (1 - base)


def reliability(
    probability: FloatArray, y: FloatArray, block: NDArray[Any], n_bins: int = 10
) -> Reliability:
    """The reliability curve of P(return > 0) in bins of about as many rows each.

    Rows of equal probability share a bin, so that there can be fewer. `block` (n_rows,) tells which
    rows may depend on one another, such as those of one date or of dates within a horizon: the
    95 % intervals sum errors over blocks.
    """
    is_known = ~(np.isnan(probability) | np.isnan(y))
    p, up, of_block = probability[is_known], (y > 0)[is_known], block[is_known]
    inner = np.quantile(p, np.arange(1, n_bins) / n_bins) if len(p) else np.empty(0)
    _, place = np.unique(np.searchsorted(inner, p, side="right"), return_inverse=True)
    n = np.bincount(place)
    came, stated = (np.bincount(place, values) / n for values in (up, p))
    blocks, number = np.unique(of_block, return_inverse=True)
    cells = place * len(blocks) + number
    errors = np.bincount(cells, up - came[place], len(n) * len(blocks))
    errors = errors.reshape(len(n), len(blocks))
    margin = Z_95 * np.sqrt((errors**2).sum(axis=1)) / n
    return Reliability(stated, came, n, np.maximum(came - margin, 0), np.minimum(came + margin, 1))


def rps(probabilities: FloatArray, outcome: NDArray[Any]) -> FloatArray:
    """(n_rows,): the ranked probability score of ordered classes, divided by their number.

    `probabilities` (n_rows, n_classes); `outcome` (n_rows,) the class that came, -1 where it is
    unknown, or (n_rows, n_classes) the share of each class where ties share some. The scale is
    that of the M6 competition, where a uniform forecast of five classes scores 0.16 on average.
    """
    n_classes = probabilities.shape[1]
    if outcome.ndim == 2:
        gap = np.cumsum(probabilities - outcome, axis=1)
        return np.asarray((gap**2).sum(axis=1) / n_classes)
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


def correlations_by_date(
    forecast: FloatArray, outcome: FloatArray, when: NDArray[Any], *, is_ranked: bool = False
) -> FloatArray:
    """(n_dates,): Pearson's correlation across the rows of each date, in the order of the dates.

    With `is_ranked` Spearman's, ties ranked by their mean. NaN for a date with fewer than two
    complete rows, or on which either never varies.
    """
    is_known = ~(np.isnan(forecast) | np.isnan(outcome))
    dates, every = np.unique(when, return_inverse=True)
    date, n_dates = every[is_known], len(dates)
    x, y = forecast[is_known], outcome[is_known]
    if is_ranked:
        x, y = _ranks_within(x, date), _ranks_within(y, date)
    count = np.maximum(np.bincount(date, minlength=n_dates), 1)
    size = np.bincount(date, x * x, n_dates) * np.bincount(date, y * y, n_dates)
    x, y = (v - (np.bincount(date, v, n_dates) / count)[date] for v in (x, y))
    squares = np.bincount(date, x * x, n_dates) * np.bincount(date, y * y, n_dates)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.bincount(date, x * y, n_dates) / np.sqrt(squares)
    # A constant leaves the rounding error of its mean behind, which is no variation.
    return np.where(squares > 1e-24 * size, found, np.nan)


def information_ratio(correlations: FloatArray) -> float:
    """Mean over standard deviation of the dates' correlations (ICIR); NaN when they never vary."""
    known = correlations[~np.isnan(correlations)]
    deviation = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return float(known.mean()) / deviation if deviation > 1e-15 else float("nan")


def r_squared(forecast: FloatArray, outcome: FloatArray) -> float:
    """1 - squared errors over squared distances from the outcomes' mean; NaN if all are alike."""
    is_known = ~(np.isnan(forecast) | np.isnan(outcome))
    x, y = forecast[is_known], outcome[is_known]
    total = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    return 1 - float(((y - x) ** 2).sum()) / total if total > 0 else float("nan")


def confusion(
    outcome: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """(n_classes, n_classes): rows by the class that came and the class that was said; a row
    where either is -1 is left out.
    """
    is_known = (outcome >= 0) & (predicted >= 0)
    cell = outcome[is_known] * n_classes + predicted[is_known]
    return np.bincount(cell, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_scores(counts: NDArray[np.integer]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n_classes,) each: precision, recall and F1 of every class of a `confusion`.

    NaN where nothing of the class was said (precision), came (recall) or either (F1).
    """
    right, said, came = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return right / said, right / came, 2 * right / (said + came)


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


def _ranks_within(values: FloatArray, group: NDArray[np.integer]) -> FloatArray:
    # Ranks among the rows of the same group, ties sharing their mean rank.
    order = np.lexsort((values, group))
    v, g = values[order], group[order]
    is_new_group = np.concatenate([[True], g[1:] != g[:-1]]) if len(g) else np.empty(0, bool)
    is_new_value = is_new_group | np.concatenate([[True], v[1:] != v[:-1]])[: len(v)]
    start = np.flatnonzero(is_new_value)
    length = np.diff(np.append(start, len(v)))
    run = np.cumsum(is_new_value) - 1
    first_of_group = np.maximum.accumulate(np.where(is_new_group, np.arange(len(g)), 0))
    ranks = np.empty(len(v))
    ranks[order] = start[run] + (length[run] - 1) / 2 - first_of_group
    return ranks


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
