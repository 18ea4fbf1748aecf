"""GARCH(1,1) with Student-t innovations: its recursion, likelihood, and what a horizon sums to."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from scipy.signal import lfilter
from scipy.special import digamma, expit, gammaln, stdtrit

from candlecast.domain.distribution import LEVELS, FloatArray

MIN_FREEDOM: Final = 2.05
MAX_FREEDOM: Final = 200.0
MIN_KURTOSIS_FREEDOM: Final = 4.5
"""Below 4 a Student-t has no kurtosis: sums are judged as if there were at least so many."""
MAX_PERSISTENCE: Final = 0.9995
BACKCAST_BARS: Final = 75
BACKCAST_DECAY: Final = 0.94
N_SHAPES: Final = 257
N_PARAMETERS: Final = 4


class Garch11(NamedTuple):
    """sigma2[t + 1] = omega + alpha r[t]^2 + beta sigma2[t]; r[t] = sigma[t] times a Student-t of
    `freedom` degrees scaled to variance 1.
    """

    omega: float
    alpha: float
    beta: float
    freedom: float

    @property
    def persistence(self) -> float:
        """How much of a surprise is left after one bar."""
        return self.alpha + self.beta

    @property
    def variance(self) -> float:
        """The variance of one bar in the long run."""
        return self.omega / (1 - self.persistence)

    @classmethod
    def from_free(cls, free: FloatArray) -> Garch11:
        """From four unbounded numbers: log long-run variance, logits of persistence and of the
        share of alpha in it, log of the degrees of freedom above 2.05.
        """
        persistence = MAX_PERSISTENCE * float(expit(free[1]))
        alpha = persistence * float(expit(free[2]))
        omega = float(np.exp(free[0])) * (1 - persistence)
        freedom = min(MIN_FREEDOM + float(np.exp(free[3])), MAX_FREEDOM)
        return cls(omega, alpha, persistence - alpha, freedom)


def backcast(squared: FloatArray) -> float:
    """The variance before the first bar: its first squared returns, the earliest counting most."""
    decay = BACKCAST_DECAY ** np.arange(min(BACKCAST_BARS, len(squared)))
    return float(np.average(squared[: len(decay)], weights=decay))


def log_likelihood(free: FloatArray, squared: FloatArray) -> tuple[float, FloatArray]:
    """The log-likelihood of a series of squared returns, and its gradient in the free numbers."""
    model = Garch11.from_free(free)
    before = backcast(squared)
    past = np.concatenate([[before], squared[:-1]])
    recursion = [1.0, -model.beta]
    start = np.array([model.beta * before])
    sigma2 = lfilter([1.0], recursion, model.omega + model.alpha * past, zi=start)[0]
    nu = model.freedom
    ratio = squared / (sigma2 * (nu - 2))
    fit = np.log1p(ratio)
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * (nu - 2))
    value = len(squared) * constant - 0.5 * float(np.log(sigma2).sum() + (nu + 1) * fit.sum())
    pull = ratio / (1 + ratio)
    by_sigma2 = ((nu + 1) * pull - 1) / (2 * sigma2)
    earlier = np.concatenate([[before], sigma2[:-1]])
    inputs = np.stack([np.ones_like(past), past, earlier])
    by_freedom = 0.5 * len(squared) * (digamma((nu + 1) / 2) - digamma(nu / 2) - 1 / (nu - 2))
    by_freedom += 0.5 * float((nu + 1) / (nu - 2) * pull.sum() - fit.sum())
    natural = lfilter([1.0], recursion, inputs) @ by_sigma2
    return value, _in_free_numbers(model, natural, by_freedom)


def next_variance(model: Garch11, squared: FloatArray, long_run: FloatArray) -> FloatArray:
    """(n_bars,): after each bar the variance of the next, where the recursion began at the
    `long_run` variance (n_bars,) known by that bar. In its units: omega stands for a share of it.
    """
    fading = model.beta ** np.arange(1, len(squared) + 1)
    steady = (1 - model.persistence) * (1 - fading) / (1 - model.beta) + fading
    return np.asarray(lfilter([model.alpha], [1.0, -model.beta], squared) + steady * long_run)


def horizon_share(persistence: FloatArray, n_bars: int) -> FloatArray:
    """By how many bars' worth the next bar's distance from the long run counts in a horizon."""
    return np.asarray((1 - persistence**n_bars) / (1 - persistence))


def fourth_moment(
    alpha: FloatArray, beta: FloatArray, freedom: FloatArray, n_bars: int
) -> FloatArray:
    """(..., 3): c0, c1, c2 of E[sum of r]^4 = c0 + c1 x + c2 x^2 over the next `n_bars`, where x is
    the next bar's variance and the long-run variance is 1. Exact for symmetric innovations.
    """
    kurtosis = 3 + 6 / (np.maximum(freedom, MIN_KURTOSIS_FREEDOM) - 4)
    persistence, omega = alpha + beta, 1 - alpha - beta
    squared_shock = alpha**2 * kurtosis + 2 * alpha * beta + beta**2
    shape = (*np.shape(alpha), 3)
    mean, square, cross, total = (np.zeros(shape) for _ in range(4))
    mean[..., 1], square[..., 2] = 1.0, 1.0
    # `cross` is the sum over earlier bars i of E[r_i^2 sigma2_j].
    so_far = np.zeros(shape)
    constant = np.zeros(shape)
    constant[..., 0] = 1.0
    w, p, s = omega[..., None], persistence[..., None], squared_shock[..., None]
    shock = (alpha * kurtosis + beta)[..., None]
    for _ in range(n_bars):
        total += kurtosis[..., None] * square + 6 * cross
        cross = w * so_far + p * cross + w * mean + shock * square
        so_far = so_far + mean
        square = w**2 * constant + 2 * w * p * mean + s * square
        mean = w * constant + p * mean
    return total


def student_quantiles(excess_kurtosis: FloatArray) -> FloatArray:
    """(..., 17): quantiles of the Student-t of variance 1 with this excess kurtosis."""
    return quantiles_of_freedom(4 + 6 / np.maximum(excess_kurtosis, 6 / (MAX_FREEDOM - 4)))


def quantiles_of_freedom(freedom: FloatArray) -> FloatArray:
    """(..., 17): quantiles of the Student-t of variance 1 with these degrees of freedom."""
    inverse = np.clip(1 / freedom, 1 / MAX_FREEDOM, 1 / MIN_FREEDOM)
    place = (inverse - 1 / MAX_FREEDOM) / (1 / MIN_FREEDOM - 1 / MAX_FREEDOM) * (N_SHAPES - 1)
    left = np.minimum(place.astype(int), N_SHAPES - 2)
    share = (place - left)[..., None]
    table = _shapes()
    return np.asarray((1 - share) * table[left] + share * table[left + 1])


@lru_cache(maxsize=1)
def _shapes() -> FloatArray:
    # (N_SHAPES, 17): evenly spaced in 1 / freedom, in which quantiles are nearly straight lines.
    freedom = 1 / np.linspace(1 / MAX_FREEDOM, 1 / MIN_FREEDOM, N_SHAPES)[:, None]
    return np.asarray(stdtrit(freedom, LEVELS) * np.sqrt((freedom - 2) / freedom))


def _in_free_numbers(model: Garch11, natural: FloatArray, by_freedom: float) -> FloatArray:
    by_omega, by_alpha, by_beta = natural
    persistence, share = model.persistence, model.alpha / model.persistence
    slope = persistence * (1 - persistence / MAX_PERSISTENCE)
    above = model.freedom - MIN_FREEDOM
    is_free = model.freedom < MAX_FREEDOM
    return np.array(
        [
            by_omega * model.omega,
            slope * (share * by_alpha + (1 - share) * by_beta - model.variance * by_omega),
            persistence * share * (1 - share) * (by_alpha - by_beta),
            by_freedom * above * is_free,
        ]
    )
