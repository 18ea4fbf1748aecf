"""Is the skill more than luck? Block-bootstrap tests and intervals over dates.

Scores of one date are averaged over the symbols, for symbols move together; dates are resampled
in blocks, for outcomes overlap and calm and wild times cluster. The test:

1. The difference of a date is (1 - margin) * reference - score; under the null hypothesis its
   mean is not positive, that is the share of loss saved (the skill) does not exceed `margin`.
2. Circular blocks of dates (Politis and Romano 1992) give the standard error, and resampled
   blocks the distribution of the studentised mean (Götze and Künsch 1996). A block holds two
   horizons, and at least the square root of the number of dates.
3. The p-value is the larger of the bootstrap's and of Student's t with one degree of freedom
   less than there are blocks: where either alone rejects too often (wild variance the one, few
   skewed blocks the other), together they reject a true null in about 1 of 100 cases.

`reference_margin` says how much of the loss is saved by merely knowing a constant distribution
that the reference has to estimate: so much is no skill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec

SIGNIFICANCE: Final = 0.01
MIN_DATES: Final = 60
MIN_BLOCKS: Final = 8
N_RESAMPLES: Final = 4999
INTERVAL_LEVEL: Final = 0.95

SKILL, NO_SKILL, TOO_LITTLE_DATA = "skill", "no skill", "too little data"


@dataclass(frozen=True)
class SkillTest:
    """Whether scores beat those of a reference by more than a margin.

    `skill` is the share of the reference's loss saved, averaged by date, and `skill_interval`
    its 95 % confidence interval; `mean_difference` is the mean of (1 - margin) * reference -
    score, in units of the score; `p_value` that of the one-sided null hypothesis that it is not
    positive. `verdict` is ``skill`` (p <= 0.01), ``no skill`` or ``too little data``; in the
    last case `p_value` and `skill_interval` are None.
    """

    verdict: str
    skill: float
    skill_interval: tuple[float, float] | None
    mean_difference: float
    p_value: float | None
    n_dates: int
    margin: float


def skill_test(
    score: FloatArray,
    reference: FloatArray,
    when: NDArray[np.datetime64],
    *,
    horizon_bars: int,
    seed: int,
    margin: float,
) -> SkillTest:
    """The test of (n_rows,) losses `score` against `reference`, both of the dates `when`.

    Rows where either is NaN are left out; rows of one date count as one. Outcomes overlap for
    `horizon_bars` dates. `margin` is the skill that must be exceeded: for a reference that is
    itself estimated the `reference_margin`, else 0.
    """
    if not 0 <= margin < 1:
        raise InvalidSpec(f"margin lies in [0, 1), not {margin}")
    ours, theirs = by_date(np.stack([score, reference]), when)
    n_dates, loss = len(ours), float(theirs.mean()) if len(theirs) else 0.0
    difference = (1 - margin) * theirs - ours
    saved = float((theirs - ours).mean()) / loss if loss > 0 else math.nan
    mean = float(difference.mean()) if n_dates else math.nan
    length = block_length(n_dates, horizon_bars)
    if not is_enough(n_dates, length) or not loss > 0:
        return SkillTest(TOO_LITTLE_DATA, saved, None, mean, None, n_dates, margin)
    p_value = _Resampled(difference, length, seed).p_value()
    # The skill is a ratio of means; to first order it varies like the mean of this.
    influence = (theirs - ours - saved * theirs) / loss
    low, high = _Resampled(influence, length, seed).interval(INTERVAL_LEVEL)
    verdict = SKILL if p_value <= SIGNIFICANCE else NO_SKILL
    interval = (saved + low, saved + high)
    return SkillTest(verdict, saved, interval, mean, p_value, n_dates, margin)


def mean_interval(
    values: FloatArray,
    when: NDArray[np.datetime64],
    *,
    horizon_bars: int,
    seed: int,
    level: float = INTERVAL_LEVEL,
) -> tuple[float, float] | None:
    """The confidence interval of a mean over dates, such as a hit rate; None: too little data.

    It is cut to the range of `values` (a hit rate stays within 0 and 1); NaN are left out.
    """
    (series,) = by_date(values[None, :], when)
    length = block_length(len(series), horizon_bars)
    if not is_enough(len(series), length):
        return None
    low, high = _Resampled(series, length, seed).interval(level)
    return max(low, float(np.nanmin(values))), min(high, float(np.nanmax(values)))


def block_length(n_dates: int, horizon_bars: int) -> int:
    """Dates in a block: twice the horizon's bars, and at least the square root of `n_dates`."""
    return max(2 * horizon_bars, math.ceil(math.sqrt(n_dates)))


def is_enough(n_dates: int, block_length: int) -> bool:
    """Whether there are dates and blocks enough to test anything."""
    return n_dates >= MIN_DATES and n_dates // block_length >= MIN_BLOCKS


def reference_margin(n_known: ArrayLike, horizon_bars: ArrayLike) -> float:
    """The skill that knowing a constant distribution gives against its empirical estimate.

    `n_known` are the numbers of outcomes behind the reference's rows, `horizon_bars` one number
    or one a row. The expected CRPS of the empirical distribution of n independent outcomes is
    (1 + 1/n) times that of the true one; outcomes that overlap by `horizon_bars` count for
    n / horizon_bars of them or a little more. So the share is at most the mean of
    horizon_bars / n, for the Brier score likewise. Without it a forecaster who merely knew the
    constant distribution of five random walks would be found skilled in 57 of 100 cases, with
    it in none.
    """
    known = np.maximum(np.asarray(n_known, dtype=float), 1)
    share = np.minimum(np.asarray(horizon_bars) / known, 0.5)
    return float(share.mean()) if share.size else 0.0


class _Resampled:
    # The mean of a series of dates with its standard error, and their bootstrap distribution.

    def __init__(self, series: FloatArray, block_length: int, seed: int) -> None:
        n, length = len(series), block_length
        self.n_blocks = n // length
        self.mean = float(series.mean())
        centred = series - self.mean
        total = np.concatenate([[0.0], np.cumsum(np.concatenate([centred, centred[:length]]))])
        blocks = (total[length : length + n] - total[:n]) / length
        # Centring takes the share length / n of the variance of block means away.
        self.error = math.sqrt(float(blocks @ blocks) / n * length / (n - length))
        self.is_constant = self.error <= 1e-12 * max(float(np.abs(series).max()), 1e-300)
        n_drawn = -(-n // length)
        drawn = blocks[_starts(n, n_drawn, N_RESAMPLES, seed)]
        means = drawn.mean(axis=0)
        squares = np.einsum("ij,ij->j", drawn, drawn) / n_drawn
        spread = np.sqrt(np.maximum(squares - means**2, 0) / (n_drawn - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.ratios = np.nan_to_num(means / spread)

    def p_value(self) -> float:
        """Of the one-sided null hypothesis that the mean is not positive."""
        if self.is_constant:
            return 1.0 if self.mean <= 0 else 1 / (N_RESAMPLES + 1)
        ratio = self.mean / self.error
        as_large = 1 + int(np.count_nonzero(self.ratios >= ratio))
        return max(as_large / (N_RESAMPLES + 1), float(stdtr(self.n_blocks - 1, -ratio)))

    def interval(self, level: float) -> tuple[float, float]:
        """Equal-tailed, no narrower than Student's on either side."""
        tail = (1 - level) / 2
        low, high = np.quantile(self.ratios, [tail, 1 - tail])
        least = -float(stdtrit(self.n_blocks - 1, tail))
        up, down = max(float(high), least), max(-float(low), least)
        return self.mean - up * self.error, self.mean + down * self.error


@lru_cache(maxsize=8)
def _starts(n: int, n_drawn: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    # Kept, for a report asks several questions of series of one length.
    return np.random.default_rng(seed).integers(0, n, (n_drawn, n_resamples))


def by_date(rows: FloatArray, when: NDArray[np.datetime64]) -> FloatArray:
    """(n_series, n_rows) to (n_series, n_dates): means over the rows complete in all series."""
    is_known = ~np.isnan(rows).any(axis=0)
    dates, where = np.unique(when[is_known], return_inverse=True)
    counts = np.bincount(where, minlength=len(dates))
    sums = [np.bincount(where, weights=row[is_known], minlength=len(dates)) for row in rows]
    return np.stack(sums) / np.maximum(counts, 1)
