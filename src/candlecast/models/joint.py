"""Many symbols at once: correlation, scenarios, rank probabilities.

1. Residuals are returns in units of the volatility that was forecast for them; their correlation
   is weighted towards the newest, shrunk towards a plain structure, and positive definite.
2. Scenarios couple the symbols by a Gaussian or Student copula of that correlation, drawn by a
   scrambled Sobol sequence whose best directions go to the strongest common movements. Within
   each symbol they are the quantiles of its own distribution at evenly spread levels, put into
   the copula's order, so that no marginal changes.
3. What is asked of a universe is counted in the scenarios: who ranks where, what a portfolio
   may lose.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import gammaincinv, ndtri

from candlecast.domain.distribution import LEVELS, FloatArray, at_scores, check_quantiles
from candlecast.domain.ranks import N_CLASSES, class_bounds, shared_classes
from candlecast.errors import BadFrame, InvalidSpec

Target: TypeAlias = Literal["zero", "constant", "factor"]

MAX_RESIDUAL: Final = 5.0
"""A residual so large says that the volatility was wrong, not how the symbols belong together."""
MIN_COMMON: Final = 20
"""Common bars (of effective weight) below which two symbols take the target's correlation."""
MIN_EIGENVALUE: Final = 1e-4
MAX_LOADING: Final = 0.99
N_SWEEPS: Final = 50
N_SCENARIOS: Final = 1 << 14
BITS: Final = 30
"""Of one number of the Sobol sequence."""
MOST_COUNTED: Final = 1 << 18
"""Outcomes whose ranks are counted at once; where many tie, each takes some 200 bytes."""
LARGEST: Final = 40_000_000
"""Numbers in one set of scenarios: 320 MB."""


def correlation(
    residuals: FloatArray,
    *,
    half_life_bars: float = float("inf"),
    target: Target = "factor",
    shrinkage: float | None = None,
    overlap_bars: int = 1,
) -> FloatArray:
    """The shrunk correlation of standardised residuals.

    Parameters
    ----------
    residuals : (n_bars, n_symbols) returns over the volatility forecast for them, oldest first;
        NaN where a symbol has none. Each pair is measured on the bars that both have.
    half_life_bars : after so many bars an observation counts half; infinite: all count alike
    target : what is shrunk to: no correlation, the same for all pairs, or one common factor
    shrinkage : the target's share; by default what minimises the expected squared error
    overlap_bars : sums over so many bars are compared, so that markets that close at different
        hours are seen to move together

    Returns
    -------
    (n_symbols, n_symbols), positive definite with a unit diagonal. A symbol that never moves, or
    shares fewer than 20 bars with another, has the target's correlation with it.

    Raises
    ------
    BadFrame when `residuals` is no matrix; InvalidSpec when a parameter is out of bounds.

    References
    ----------
    Ledoit and Wolf (2004), J. Portfolio Management 30(4); Schäfer and Strimmer (2005),
    Statistical Applications in Genetics and Molecular Biology 4(1), eq. 8, for the share.
    """
    _check_correlation(residuals, half_life_bars, shrinkage, overlap_bars)
    z = _summed(np.clip(residuals, -MAX_RESIDUAL, MAX_RESIDUAL), overlap_bars)
    is_known = ~np.isnan(z)
    age = np.arange(len(z))[::-1, None]
    weight = np.where(is_known, 0.5 ** (age / half_life_bars), 0.0)
    sample, n_common = _pairwise(np.where(is_known, z, 0.0), weight, is_known)
    n_common /= overlap_bars  # sums that overlap tell the same again
    is_measured = (n_common >= MIN_COMMON) & ~np.isnan(sample)
    goal = _target(sample, is_measured, target)
    if shrinkage is None:
        error = (1 - sample**2) ** 2 / np.maximum(n_common, 1.0)
        shrinkage = _share(sample, goal, error, is_measured)
    mixed = np.where(is_measured, (1 - shrinkage) * sample + shrinkage * goal, goal)
    return positive_definite(mixed)


def positive_definite(matrix: FloatArray) -> FloatArray:
    """A correlation near `matrix` (symmetric) that is positive definite, diagonal one."""
    symmetric = (matrix + matrix.T) / 2
    np.fill_diagonal(symmetric, 1.0)
    values, vectors = np.linalg.eigh(symmetric)
    if values[0] >= MIN_EIGENVALUE:
        return np.asarray(symmetric)
    lifted = (vectors * np.maximum(values, MIN_EIGENVALUE)) @ vectors.T
    size = np.sqrt(np.diag(lifted))
    lifted /= size[:, None] * size
    np.fill_diagonal(lifted, 1.0)
    return np.asarray((lifted + lifted.T) / 2)


def scenarios(
    quantiles: FloatArray,
    correlation: FloatArray,
    *,
    n_scenarios: int = N_SCENARIOS,
    seed: int = 7,
    degrees_of_freedom: float | None = None,
) -> FloatArray:
    """Joint outcomes of symbols whose own distributions are kept.

    Parameters
    ----------
    quantiles : (n_symbols, 17) of the log return of each symbol, never crossing
    correlation : (n_symbols, n_symbols), positive semidefinite with a unit diagonal
    n_scenarios : how many, rounded up to a power of two
    degrees_of_freedom : of a Student copula, in which extremes come together; None: Gaussian

    Returns
    -------
    (n_scenarios, n_symbols) log returns. Each column is a permutation of its symbol's quantiles
    at the levels (i + 1/2) / n_scenarios: the marginals are exact, only their order is random.

    Raises
    ------
    BadFrame when quantiles cross or are missing; InvalidSpec when a parameter is out of bounds.

    References
    ----------
    Owen (1998), ACM Trans. Modeling and Computer Simulation 8(1), for the scrambling; Acworth,
    Broadie and Glasserman (1998), Monte Carlo and Quasi-Monte Carlo Methods 1996, for the order.
    """
    check_quantiles(quantiles)
    _check_scenarios(correlation, len(quantiles), n_scenarios, degrees_of_freedom)
    n_bits = (n_scenarios - 1).bit_length()
    scores = _copula_scores(_root(correlation), n_bits, seed, degrees_of_freedom)
    order = np.argsort(scores.T, axis=1)
    levels = (np.arange(1 << n_bits) + 0.5) / (1 << n_bits)
    outcomes = np.empty(order.shape)
    np.put_along_axis(outcomes, order, at_scores(quantiles, ndtri(levels)), axis=1)
    return np.ascontiguousarray(outcomes.T)


def rank_probabilities(outcomes: FloatArray, n_classes: int = N_CLASSES) -> FloatArray:
    """(n_symbols, n_classes): the probability of each class of rank, lowest returns first.

    `outcomes` (n_scenarios, n_symbols). Rows add up to one, columns to n_symbols / n_classes:
    symbols that tie share the classes that they reach together, and where the classes do not
    divide the symbols, one symbol's place may belong to two of them.
    """
    if outcomes.ndim != 2 or min(outcomes.shape) < 1:
        raise BadFrame(f"outcomes are (n_scenarios, n_symbols), not {outcomes.shape}")
    n_scenarios, n_symbols = outcomes.shape
    n_at_once = max(MOST_COUNTED // n_symbols, 1)
    counts = np.zeros(n_symbols**2, dtype=np.int64)
    shared = np.zeros((n_symbols, n_classes))
    for start in range(0, n_scenarios, n_at_once):
        part = outcomes[start : start + n_at_once]
        order = np.argsort(part, axis=1).astype(np.int32)
        ordered = np.take_along_axis(part, order, axis=1)
        has_ties = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        cells = order[~has_ties] * np.int64(n_symbols) + np.arange(n_symbols)
        counts += np.bincount(cells.ravel(), minlength=n_symbols**2)
        if has_ties.any():
            shared += shared_classes(part[has_ties], n_classes).sum(axis=0)
    sizes = np.diff(class_bounds(n_symbols, n_classes), axis=0)
    return np.asarray((counts.reshape(n_symbols, n_symbols) @ sizes + shared) / n_scenarios)


def portfolio_quantiles(outcomes: FloatArray, weights: FloatArray) -> FloatArray:
    """(17,): quantiles of the simple return of a portfolio held without rebalancing.

    `outcomes` (n_scenarios, n_symbols) log returns; `weights` (n_symbols,) shares of the capital
    at the start, negative for what is sold short; the rest is cash that earns nothing.
    """
    if weights.shape != outcomes.shape[1:] or not np.isfinite(weights).all():
        raise InvalidSpec(f"give one finite weight for each of {outcomes.shape[1]} symbols")
    held = np.flatnonzero(weights)
    returns = np.expm1(outcomes[:, held]) @ weights[held]
    return np.asarray(np.quantile(returns, LEVELS, method="hazen"))


def _copula_scores(
    root: FloatArray, n_bits: int, seed: int, degrees_of_freedom: float | None
) -> FloatArray:
    # (2^n_bits, n_symbols): any increasing function of the copula's levels will do for an order.
    from scipy.stats.qmc import Sobol  # half a second, which few need

    is_student = degrees_of_freedom is not None
    sequence = Sobol(len(root) + is_student, bits=BITS, rng=np.random.default_rng(seed))
    # Each in the middle of its cell, lest a level be zero.
    levels = sequence.random_base2(n_bits) + 0.5 ** (BITS + 1)
    if degrees_of_freedom is None:
        return np.asarray(ndtri(levels) @ root.T)
    mixing = gammaincinv(degrees_of_freedom / 2, levels[:, 0])
    return np.asarray(ndtri(levels[:, 1:]) @ root.T / np.sqrt(mixing)[:, None])


def _summed(z: FloatArray, n_bars: int) -> FloatArray:
    # Sums over n_bars; a bar that a symbol has not got adds nothing, a window of mostly such is
    # none.
    if n_bars == 1:
        return z
    if len(z) < n_bars:
        return np.empty((0, z.shape[1]))
    windows = sliding_window_view(z, n_bars, axis=0)
    n_known = (~np.isnan(windows)).sum(axis=-1)
    total = np.nansum(windows, axis=-1) / np.sqrt(n_bars)
    return np.where(2 * n_known > n_bars, total, np.nan)


def _pairwise(
    z: FloatArray, weight: FloatArray, is_known: np.ndarray
) -> tuple[FloatArray, FloatArray]:
    # Correlation on common bars, around zero, and the number of bars that the weights are worth.
    known = is_known.astype(float)
    products = (weight * z).T @ z
    squares = (weight * z**2).T @ known
    mass = weight.T @ known
    with np.errstate(divide="ignore", invalid="ignore"):
        sample = products / np.sqrt(squares * squares.T)
        n_common = mass**2 / ((weight**2).T @ known)
    return np.where(squares * squares.T > 0, sample, np.nan), np.nan_to_num(n_common)


def _target(sample: FloatArray, is_measured: np.ndarray, target: Target) -> FloatArray:
    n = len(sample)
    is_pair = is_measured & ~np.eye(n, dtype=bool)
    if target == "zero" or not is_pair.any():
        return np.eye(n)
    if target == "constant":
        goal = np.full((n, n), sample[is_pair].mean())
    else:
        goal = _one_factor(np.where(is_pair, sample, 0.0), is_pair)
    np.fill_diagonal(goal, 1.0)
    return goal


def _one_factor(sample: FloatArray, is_pair: np.ndarray) -> FloatArray:
    # Loadings whose products come nearest to the correlations of the pairs, by least squares of
    # each given the others, from the leading eigenvector on.
    values, vectors = np.linalg.eigh(sample)
    loadings = np.sqrt(max(values[-1], 0.0)) * vectors[:, -1]
    weight = is_pair.astype(float)
    for _ in range(N_SWEEPS):
        fitted = (sample @ loadings) / np.maximum(weight @ loadings**2, MIN_EIGENVALUE)
        loadings = np.clip((loadings + fitted) / 2, -MAX_LOADING, MAX_LOADING)
    return np.outer(loadings, loadings)


def _share(
    sample: FloatArray, goal: FloatArray, error: FloatArray, is_measured: np.ndarray
) -> float:
    is_pair = is_measured & ~np.eye(len(sample), dtype=bool)
    distance = float(((sample - goal)[is_pair] ** 2).sum())
    if distance == 0.0:
        return 1.0 if is_pair.any() else 0.0
    return min(1.0, float(error[is_pair].sum()) / distance)


def _root(correlation: FloatArray) -> FloatArray:
    # Strongest directions first. Works for a singular matrix too: symbols that move as one.
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -1e-8 * len(values):
        raise InvalidSpec("the correlation is not positive; pass it through positive_definite()")
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1])


def _check_correlation(
    residuals: FloatArray, half_life_bars: float, shrinkage: float | None, overlap_bars: int
) -> None:
    if residuals.ndim != 2 or np.isinf(residuals).any():
        raise BadFrame(f"residuals are a finite (n_bars, n_symbols), not {residuals.shape}")
    if not half_life_bars > 0:
        raise InvalidSpec(f"half_life_bars is positive, not {half_life_bars}")
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise InvalidSpec(f"shrinkage lies in 0 … 1, not {shrinkage}")
    if overlap_bars < 1:
        raise InvalidSpec(f"overlap_bars is at least 1, not {overlap_bars}")


def _check_scenarios(
    correlation: FloatArray, n_symbols: int, n_scenarios: int, degrees_of_freedom: float | None
) -> None:
    if correlation.shape != (n_symbols, n_symbols) or not np.isfinite(correlation).all():
        raise BadFrame(f"{n_symbols} symbols need a correlation of that size, without gaps")
    if n_scenarios < 1 or n_scenarios * n_symbols > LARGEST:
        raise InvalidSpec(
            f"{n_scenarios} scenarios of {n_symbols} symbols: ask for at least 1 and at most "
            f"{LARGEST // max(n_symbols, 1):,}"
        )
    if degrees_of_freedom is not None and not degrees_of_freedom > 0:
        raise InvalidSpec(f"degrees_of_freedom is positive, not {degrees_of_freedom}")
