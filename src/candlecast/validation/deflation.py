"""How good is the best of many trials? Sharpe ratios deflated by how many were tried.

The best of many trials without any skill looks skilled. The deflated Sharpe ratio is the
probability that the true ratio exceeds what the best of so many would show by luck alone, with
regard to the length of the series, its skew and its tails. It serves for losses saved
from date to date as well as for returns: both are series whose mean is held against its scatter.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri

from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec, NotEnoughHistory

MIN_VALUES: Final = 20


def sharpe_ratio(values: FloatArray) -> float:
    """Mean by standard deviation of a (n,) series, of one step; NaN where it never moves."""
    spread = float(np.std(values, ddof=1))
    is_still = spread <= 1e-12 * float(np.abs(values).max())
    return math.nan if is_still else float(np.mean(values)) / spread


def expected_maximum(n_trials: int, deviation: float = 1.0) -> float:
    """The expected largest Sharpe ratio of so many independent trials without skill.

    `deviation` is the standard deviation of a ratio across trials; one trial expects zero.

    References
    ----------
    Bailey and López de Prado (2014), Journal of Portfolio Management 40(5), equation 6.
    """
    if n_trials < 1:
        raise InvalidSpec(f"n_trials is {n_trials}; count the chosen one too")
    if n_trials == 1:
        return 0.0
    share = np.euler_gamma
    largest = (1 - share) * ndtri(1 - 1 / n_trials) + share * ndtri(1 - 1 / (n_trials * math.e))
    return deviation * float(largest)


def deflated_sharpe(
    values: FloatArray,
    n_trials: int,
    deviation: float | None = None,
    *,
    n_overlapping: int = 1,
) -> float:
    """The probability that the true Sharpe ratio of a (n,) series exceeds the luck of `n_trials`.

    `values` are of the chosen trial, at the same step as `deviation`, that of the ratios across
    trials; where it is not known it is taken to be that of series without skill, the inverse
    square root of n. NaN are left out. Where values are of outcomes that overlap, so many of them
    count as one. NotEnoughHistory for fewer than 20 that count.

    References
    ----------
    Bailey and López de Prado (2014), Journal of Portfolio Management 40(5), equation 9.
    """
    known = values[~np.isnan(values)]
    n = len(known) / n_overlapping
    if n < MIN_VALUES:
        raise NotEnoughHistory(f"{n:.0f} values tell no Sharpe ratio; bring {MIN_VALUES} or more")
    ratio = sharpe_ratio(known)
    if math.isnan(ratio):
        return float(known.mean() > 0)
    scores = (known - known.mean()) / known.std()
    skew, kurtosis = float((scores**3).mean()), float((scores**4).mean())
    threshold = expected_maximum(n_trials, 1 / math.sqrt(n) if deviation is None else deviation)
    return probabilistic_sharpe(ratio, threshold, n=n, skew=skew, kurtosis=kurtosis)


def probabilistic_sharpe(
    ratio: float, threshold: float, *, n: float, skew: float, kurtosis: float
) -> float:
    """The probability that the true ratio exceeds `threshold`, given that of n values.

    `kurtosis` is 3 for a normal distribution.

    References
    ----------
    Bailey and López de Prado (2012), Journal of Risk 15(2).
    """
    # Not negative for any distribution: its kurtosis is at least 1 plus its squared skew.
    spread = math.sqrt(max(1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2, 0.0))
    excess = (ratio - threshold) * math.sqrt(n - 1)
    return float(ndtr(excess / spread)) if spread > 0 else float(excess > 0)
