"""Quantiles of a mixture of forecasts, exact on their continuous form.

The distribution function of a mixture is the weighted average of its members'. Between two
neighbouring values among all members' quantiles each member's normal score is linear in the
return, so the wanted quantile is found there by Newton's method in a handful of steps:

1. Sort all members' quantiles of a row; count how many of its own each member has passed.
2. So each interval has a line z = a + b x for each member; weigh the probabilities at its ends.
3. Find the interval that holds each level, and solve in it. Jumps, where a member has several
   equal quantiles, are kept.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from candlecast.domain.distribution import LEVELS, N_LEVELS, SCORES, FloatArray

CHUNK: Final = 4096
"""Distributions mixed at once: their tables fit into the processor's cache."""
N_STEPS: Final = 14
CLOSE: Final = 1e-13
TINY: Final = 1e-300


def mixture_quantiles(quantiles: FloatArray, weights: FloatArray) -> FloatArray:
    """(..., 17): quantiles at `LEVELS` of the mixture of (..., n_members, 17) distributions.

    `weights` (..., n_members), not negative and summing to 1, broadcast over the leading axes.
    Quantiles must not cross nor be missing.
    """
    *shape, n_members, _ = quantiles.shape
    flat = quantiles.reshape(-1, n_members, N_LEVELS)
    shares = np.broadcast_to(weights, (*shape, n_members)).reshape(-1, n_members)
    parts = [
        _mixed(flat[start : start + CHUNK], shares[start : start + CHUNK])
        for start in range(0, len(flat), CHUNK)
    ]
    found = np.concatenate(parts) if parts else np.empty((0, N_LEVELS))
    return found.reshape(*shape, N_LEVELS)


def _mixed(quantiles: FloatArray, weights: FloatArray) -> FloatArray:
    n_rows, n_members, _ = quantiles.shape
    values = quantiles.reshape(n_rows, -1)
    order = np.argsort(values, axis=1, kind="stable")
    knots = np.take_along_axis(values, order, axis=1)
    owner = order // N_LEVELS
    above, below = np.zeros(knots.shape), np.zeros((n_rows, knots.shape[1] - 1))
    lines = []
    for member in range(n_members):
        passed = np.cumsum(owner == member, axis=1)
        line = _line(quantiles[:, member], np.clip(passed, 1, N_LEVELS - 1))
        share = weights[:, member, None]
        above += share * ndtr(_score(line, knots))
        below += share * ndtr(_score(tuple(part[:, :-1] for part in line), knots[:, 1:]))
        lines.append(line)
    # An interval of no width holds no level of its own: what was reached before it counts.
    below[np.diff(knots, axis=1) <= 0] = 0.0
    below = np.maximum.accumulate(below, axis=1)
    interval = np.stack([(below < level).sum(axis=1) for level in LEVELS], axis=1)
    interval = np.minimum(interval, knots.shape[1] - 2)
    chosen = [tuple(np.take_along_axis(part, interval, axis=1) for part in line) for line in lines]
    left = np.take_along_axis(knots, interval, axis=1)
    right = np.take_along_axis(knots, interval + 1, axis=1)
    reached = np.take_along_axis(above, interval, axis=1)
    solved = _solved(chosen, weights, left, right)
    return np.maximum.accumulate(np.where(reached >= LEVELS, left, solved), axis=1)


Line = tuple[FloatArray, ...]


def _line(own: FloatArray, piece: NDArray[np.integer]) -> Line:
    # The member's piece of each interval: where it starts, its score there, scores per return
    # (infinite where the piece has no width).
    start = np.take_along_axis(own, piece - 1, axis=1)
    width = np.take_along_axis(own, piece, axis=1) - start
    score = SCORES[piece - 1]
    rise = SCORES[piece] - score
    with np.errstate(divide="ignore"):
        slope = np.where(width > 0, rise / np.where(width > 0, width, 1.0), np.inf)
    return start, score, slope


def _score(line: Line, x: FloatArray) -> FloatArray:
    start, score, slope = line
    with np.errstate(invalid="ignore"):
        inside = score + (x - start) * slope
    jump = np.where(x >= start, np.inf, -np.inf)
    return np.where(np.isfinite(slope), inside, jump)


def _solved(
    lines: list[Line], weights: FloatArray, left: FloatArray, right: FloatArray
) -> FloatArray:
    # Newton's steps, held within a bracket that shrinks: halved where a step would leave it.
    low, high = left.copy(), right.copy()
    at = _first_guess(lines, weights, left, right)
    for _ in range(N_STEPS):
        probability, density = np.zeros(at.shape), np.zeros(at.shape)
        for member, line in enumerate(lines):
            score, slope = _score(line, at), line[2]
            share = weights[:, member, None]
            probability += share * ndtr(score)
            steepness = np.where(np.isfinite(slope), slope, 0.0)
            finite = np.where(np.isfinite(score), score, 0.0)
            density += share * steepness * np.exp(-0.5 * finite**2) / np.sqrt(2 * np.pi)
        # What has arrived stays where it is: a row's answer depends on no other row.
        is_done = np.abs(probability - LEVELS) < CLOSE
        if is_done.all():
            break
        low = np.where(probability <= LEVELS, at, low)
        high = np.where(probability >= LEVELS, at, high)
        step = (probability - LEVELS) / np.maximum(density, TINY)
        proposed = at - step
        is_inside = (proposed >= low) & (proposed <= high)
        at = np.where(is_done, at, np.where(is_inside, proposed, (low + high) / 2))
    return at


def _first_guess(
    lines: list[Line], weights: FloatArray, left: FloatArray, right: FloatArray
) -> FloatArray:
    # Mixtures of similar members are nearly straight in the normal score.
    ends = []
    for x in (left, right):
        total = sum(
            weights[:, member, None] * ndtr(_score(line, x)) for member, line in enumerate(lines)
        )
        ends.append(ndtri(np.clip(total, 1e-12, 1 - 1e-12)))
    rise = ends[1] - ends[0]
    share = np.where(rise > 0, (SCORES - ends[0]) / np.where(rise > 0, rise, 1.0), 0.0)
    return np.asarray(left + np.clip(share, 0.0, 1.0) * (right - left))
