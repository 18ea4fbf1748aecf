"""Quantiles of a log return, and all that is derived from them.

A forecast is an array (..., 17): quantiles at `LEVELS`, never crossing. Between the levels the
quantile function is linear in the normal score z; beyond the outer levels it continues with the
slope of the last interval. Every number below is computed from this one continuous function
Q(z), so it is linear (means, shortfalls, quantiles) or quadratic (second moment) in the 17
values, and the weights are computed once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from candlecast.errors import BadFrame, InvalidSpec

FloatArray: TypeAlias = NDArray[np.floating[Any]]

LEVELS: Final[FloatArray] = np.array(
    [0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5]
    + [0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.975, 0.99]
)  # fmt: skip
SCORES: Final[FloatArray] = ndtri(LEVELS)
N_LEVELS: Final = len(LEVELS)
CRPS_LEVELS: Final[FloatArray] = np.arange(1, 100) / 100
MEDIAN: Final = N_LEVELS // 2
LABELS: Final = ("Bearish", "Neutral", "Bullish")
DEFAULT_BAND: Final = 0.8


def check_quantiles(quantiles: FloatArray) -> FloatArray:
    """`quantiles` unchanged; BadFrame when the shape is wrong, a value is missing or two cross."""
    if quantiles.ndim < 1 or quantiles.shape[-1] != N_LEVELS:
        raise BadFrame(f"quantiles need {N_LEVELS} levels, got shape {quantiles.shape}")
    if not np.isfinite(quantiles).all():
        raise BadFrame("quantiles hold missing or infinite values; drop these rows first")
    if (np.diff(quantiles, axis=-1) < 0).any():
        raise BadFrame("quantiles cross; pass them through uncrossed()")
    return quantiles


def uncrossed(quantiles: FloatArray) -> FloatArray:
    """The quantiles sorted: the rearrangement of Chernozhukov et al. (2010)."""
    return np.sort(quantiles, axis=-1)


def as_stored(quantiles: FloatArray) -> FloatArray:
    """The quantiles as every database returns them: rounded to float32, in float64."""
    return quantiles.astype(np.float32).astype(np.float64)


def quantile(quantiles: FloatArray, level: ArrayLike) -> FloatArray:
    """Q at one `level` or several: shape (...,) or (..., n_levels)."""
    return quantiles @ _weights_at(tuple(np.ravel(level))).reshape(N_LEVELS, *np.shape(level))


def at_scores(quantiles: FloatArray, scores: FloatArray) -> FloatArray:
    """Q at normal scores instead of levels, so that the far tails stay exact: (..., n_scores)."""
    return np.asarray(quantiles @ _weights_of(np.asarray(scores, dtype=float)))


def band(quantiles: FloatArray, level: float = DEFAULT_BAND) -> tuple[FloatArray, FloatArray]:
    """Lower and upper end of the central band that holds `level` of the probability."""
    if not 0 < level < 1:
        raise InvalidSpec(f"the level of a band lies between 0 and 1, not {level}")
    return quantile(quantiles, (1 - level) / 2), quantile(quantiles, (1 + level) / 2)


def probability_below(quantiles: FloatArray, value: ArrayLike) -> FloatArray:
    """P(return <= value): the distribution function, right-continuous; `value` broadcasts."""
    return np.asarray(ndtr(score_of(quantiles, value)))


def score_of(quantiles: FloatArray, value: ArrayLike) -> FloatArray:
    """The normal score z with Q(z) = `value`; ±inf outside a distribution of no width."""
    shape = np.broadcast_shapes(quantiles.shape[:-1], np.shape(value))
    flat = np.broadcast_to(quantiles, (*shape, N_LEVELS)).reshape(-1, N_LEVELS)
    x = np.broadcast_to(np.asarray(value, dtype=float), shape).reshape(-1)
    piece = np.clip((flat <= x[:, None]).sum(axis=1), 1, N_LEVELS - 1)
    rows = np.arange(len(flat))
    left, right = flat[rows, piece - 1], flat[rows, piece]
    slope = (right - left) / (SCORES[piece] - SCORES[piece - 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        score = SCORES[piece - 1] + (x - left) / slope
    no_width = np.where(x >= right, np.inf, -np.inf)
    is_missing = np.isnan(x) | np.isnan(flat).any(axis=1)
    return np.where(slope > 0, score, np.where(is_missing, np.nan, no_width)).reshape(shape)


def prob_up(quantiles: FloatArray) -> FloatArray:
    """P(return > 0)."""
    return np.asarray(1 - probability_below(quantiles, 0.0))


def mean(quantiles: FloatArray) -> FloatArray:
    """Expected log return (`yhat`)."""
    return np.asarray(quantiles @ _mean_weights())


def std(quantiles: FloatArray) -> FloatArray:
    """Standard deviation of the log return (`yhat_std`)."""
    centred = quantiles - mean(quantiles)[..., None]
    variance = np.einsum("...i,ij,...j->...", centred, _square_weights(), centred)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def value_at_risk(quantiles: FloatArray, tail: float = 0.05) -> FloatArray:
    """The loss exceeded with probability `tail`, as a positive log return."""
    return -quantile(quantiles, tail)


def expected_shortfall(quantiles: FloatArray, tail: float = 0.05) -> FloatArray:
    """The mean loss in the worst `tail` of cases, as a positive log return."""
    if not 0 < tail < 1:
        raise InvalidSpec(f"the tail of a shortfall lies between 0 and 1, not {tail}")
    return np.asarray(-(quantiles @ _tail_weights(tail)))


def class_probabilities(quantiles: FloatArray, lower: ArrayLike, upper: ArrayLike) -> FloatArray:
    """P(Bearish), P(Neutral), P(Bullish): below `lower`, between, above `upper`; (..., 3)."""
    below = probability_below(quantiles, lower)
    above = 1 - probability_below(quantiles, upper)
    return np.stack([below, np.clip(1 - below - above, 0, 1), above], axis=-1)


def label(probabilities: FloatArray) -> tuple[NDArray[np.str_], FloatArray]:
    """The likeliest class and its probability, the confidence; a tie is Neutral."""
    order = np.array([1, 0, 2])
    chosen = order[np.argmax(probabilities[..., order], axis=-1)]
    confidence = np.take_along_axis(probabilities, chosen[..., None], axis=-1)[..., 0]
    return np.array(LABELS)[chosen], confidence


def prices(quantiles: FloatArray, last_close: ArrayLike) -> FloatArray:
    """Quantiles of the price: `last_close` (...,) carried along the log returns."""
    return np.asarray(last_close)[..., None] * np.exp(quantiles)


def path(quantiles: FloatArray, horizon_bars: ArrayLike, steps: ArrayLike) -> FloatArray:
    """The distributions of the steps between fitted horizons, in variance time.

    `quantiles` (..., n_horizons, 17) at ascending `horizon_bars`; returns (..., n_steps, 17).
    Medians move linearly; squared distances from the median, which grow like a variance, move
    linearly too. Both start from zero at step 0, and none is asked beyond the last horizon.
    """
    ends = np.concatenate([[0], np.ravel(horizon_bars)]).astype(float)
    at = np.ravel(steps).astype(float)
    if (np.diff(ends) <= 0).any() or (at < 0).any() or (at > ends[-1]).any():
        raise InvalidSpec("horizons ascend from one bar, and steps lie within the last of them")
    centre = quantiles[..., MEDIAN, None]
    spread = np.sign(quantiles - centre) * (quantiles - centre) ** 2
    knots = np.concatenate([np.zeros_like(spread[..., :1, :]), spread], axis=-2)
    centres = np.concatenate([np.zeros_like(centre[..., :1, :]), centre], axis=-2)
    right = np.clip(np.searchsorted(ends, at), 1, len(ends) - 1)
    weight = ((at - ends[right - 1]) / (ends[right] - ends[right - 1]))[:, None]
    squared = knots[..., right - 1, :] * (1 - weight) + knots[..., right, :] * weight
    middle = centres[..., right - 1, :] * (1 - weight) + centres[..., right, :] * weight
    return np.asarray(middle + np.sign(squared) * np.sqrt(np.abs(squared)))


def crps_weights() -> FloatArray:
    """(17, 99): turns quantiles into Q at the 99 levels of the CRPS."""
    return _weights_at(tuple(CRPS_LEVELS))


@lru_cache(maxsize=64)
def _weights_at(levels: tuple[float, ...]) -> FloatArray:
    # (17, n): Q is linear in the 17 values, so its values are a product with these weights.
    wanted = np.asarray(levels, dtype=float)
    if not ((wanted > 0) & (wanted < 1)).all():
        raise InvalidSpec(f"levels lie between 0 and 1, not {levels}")
    return _weights_of(ndtri(wanted))


def _weights_of(score: FloatArray) -> FloatArray:
    right = np.clip(np.searchsorted(SCORES, score), 1, N_LEVELS - 1)
    share = (score - SCORES[right - 1]) / (SCORES[right] - SCORES[right - 1])
    weights = np.zeros((N_LEVELS, len(score)))
    columns = np.arange(len(score))
    weights[right - 1, columns] = 1 - share
    weights[right, columns] += share
    return weights


@lru_cache(maxsize=1)
def _lines() -> tuple[FloatArray, FloatArray, FloatArray]:
    # Piece i of Q is a_i + b_i z for edges_i < z < edges_{i+1}; a, b as weights (17, 16).
    identity = np.eye(N_LEVELS)
    b = (np.diff(identity, axis=0) / np.diff(SCORES)[:, None]).T
    a = identity[:, :-1] - b * SCORES[:-1]
    return a, b, np.concatenate([[-np.inf], SCORES[1:-1], [np.inf]])


def _density(z: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


@lru_cache(maxsize=1)
def _mean_weights() -> FloatArray:
    a, b, edges = _lines()
    return np.asarray(a @ np.diff(ndtr(edges)) - b @ np.diff(_density(edges)))


@lru_cache(maxsize=16)
def _tail_weights(tail: float) -> FloatArray:
    a, b, edges = _lines()
    cut = np.minimum(edges, ndtri(tail))
    return np.asarray((a @ np.diff(ndtr(cut)) - b @ np.diff(_density(cut))) / tail)


@lru_cache(maxsize=1)
def _square_weights() -> FloatArray:
    # E[(a + b z)^2] over a piece, whose ends are l and r, is
    # a^2 dPhi + 2ab (phi_l - phi_r) + b^2 (dPhi + z_l phi_l - z_r phi_r).
    a, b, edges = _lines()
    mass, slope = np.diff(ndtr(edges)), -np.diff(_density(edges))
    finite = np.where(np.isfinite(edges), edges, 0.0)
    curve = mass - np.diff(finite * _density(edges))
    cross = (a * slope) @ b.T
    return np.asarray((a * mass) @ a.T + cross + cross.T + (b * curve) @ b.T)
