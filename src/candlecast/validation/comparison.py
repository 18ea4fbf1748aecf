"""Which of two forecasters is better? Diebold-Mariano's test, and a guard for many comparisons.

1. Losses of one date are averaged over the symbols, for symbols move together.
2. The variance of the mean difference counts autocovariances up to a lag of at least the
   horizon's bars less one, as far as outcomes overlap, and at least the cube root of the number
   of dates, for losses cluster.
3. They count alike up to the lag, as Diebold and Mariano have it, but never for less than with
   Bartlett's falling weights: alike alone they may even make a variance negative.
4. The statistic is corrected for few dates and held against Student's t (Harvey, Leybourne and
   Newbold).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec
from candlecast.validation.significance import by_date

Name = TypeVar("Name", bound=Hashable)
ROUNDING: Final = 1e-12
"""Numbers that differ by a smaller share are the same."""
DATES_PER_LAG = 3
"""With fewer dates for each lag there is too little data to tell a variance."""


@dataclass(frozen=True)
class DieboldMariano:
    """Whether a forecaster's losses are smaller than another's.

    `mean_difference` is the other's mean loss less its own, by date: positive where it is better.
    `p_better` is that of the one-sided null hypothesis that it is not better, `p_value` that of
    the two-sided one that both are as good; with `statistic` None where there is too little data.
    """

    mean_difference: float
    statistic: float | None
    p_better: float | None
    p_value: float | None
    n_dates: int
    lag: int


def diebold_mariano(
    score: FloatArray, other: FloatArray, when: NDArray[np.datetime64], *, horizon_bars: int
) -> DieboldMariano:
    """The test of (n_rows,) losses `score` against `other`, both of the dates `when`.

    Rows where either is NaN are left out. Outcomes overlap for `horizon_bars` dates.

    References
    ----------
    Diebold and Mariano (1995), Journal of Business & Economic Statistics 13(3); Harvey, Leybourne
    and Newbold (1997), International Journal of Forecasting 13(2).
    """
    if horizon_bars < 1:
        raise InvalidSpec(f"horizon_bars is {horizon_bars}; it is at least 1")
    ours, theirs = by_date(np.stack([score, other]), when)
    difference = theirs - ours
    n = len(difference)
    lag = max(horizon_bars - 1, math.ceil(n ** (1 / 3)))
    mean = float(difference.mean()) if n else math.nan
    if n < DATES_PER_LAG * (lag + 1):
        return DieboldMariano(mean, None, None, None, n, lag)
    variance = long_run_variance(difference, lag)
    rounding = ROUNDING * float(np.abs(difference).max())
    if are_equal(ours, theirs):
        statistic = 0.0
    elif variance <= rounding**2:  # the same difference on every date
        statistic = math.copysign(math.inf, mean)
    else:
        n_steps = lag + 1
        correction = (n + 1 - 2 * n_steps + n_steps * (n_steps - 1) / n) / n
        statistic = mean / math.sqrt(variance / n) * math.sqrt(correction)
    p_better = float(stdtr(n - 1, -statistic))
    p_value = 2 * min(p_better, 1 - p_better)
    return DieboldMariano(mean, statistic, p_better, p_value, n, lag)


def are_equal(ours: FloatArray, theirs: FloatArray) -> bool:
    """Whether the losses of two forecasters are the same but for rounding."""
    return bool(np.abs(theirs - ours).max() <= ROUNDING * np.abs(theirs).max())


def long_run_variance(series: FloatArray, lag: int) -> float:
    """N times the variance of the mean of a (n,) `series` correlated over at most `lag` steps."""
    centred = series - series.mean()
    n = len(centred)
    lags = np.arange(1, lag + 1)
    covariances = np.array([centred[k:] @ centred[: n - k] for k in lags]) / n
    at_zero = float(centred @ centred) / n
    alike = at_zero + 2 * float(covariances.sum())
    falling = at_zero + 2 * float((covariances * (1 - lags / (lag + 1))).sum())
    return max(alike, falling, 0.0)


def holm(p_values: Mapping[Name, float], n_trials: int | None = None) -> dict[Name, float]:
    """The p-value of each comparison, adjusted for how many were made, by its name.

    The chance that any true null hypothesis is below a level is at most that level. `n_trials`
    counts those as well that are not shown; by default there are none.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6(2).
    """
    n = len(p_values) if n_trials is None else n_trials
    if n < len(p_values):
        raise InvalidSpec(f"{len(p_values)} comparisons were made of {n} trials; count them all")
    adjusted: dict[Name, float] = {}
    largest = 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (n - place) * p_value))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
