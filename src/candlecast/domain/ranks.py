"""What ranks are: classes of equal size from the lowest return to the highest, ties shared."""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec

N_CLASSES: Final = 5
"""Quintiles: class 1 holds the lowest fifth of the returns, class 5 the highest."""


def class_bounds(n_symbols: int, n_classes: int = N_CLASSES) -> FloatArray:
    """(n_symbols + 1, n_classes): how much of each class the lowest 0, 1, 2 … symbols fill."""
    if n_symbols < 1 or n_classes < 1:
        raise InvalidSpec(f"{n_symbols} symbols in {n_classes} classes: take at least one of each")
    size = n_symbols / n_classes
    reached = np.arange(n_symbols + 1)[:, None] - np.arange(n_classes) * size
    bounds = np.clip(reached, 0.0, size)
    bounds[-1] = size
    return np.asarray(bounds)


def shared_classes(returns: FloatArray, n_classes: int = N_CLASSES) -> FloatArray:
    """(..., n_symbols, n_classes): the share of each class that each symbol's rank reached.

    `returns` (..., n_symbols), without NaN. Symbols with the same return share their places
    evenly, as the rules of the M6 competition have it.
    """
    n_symbols = returns.shape[-1]
    bounds = class_bounds(n_symbols, n_classes)
    order = np.argsort(returns, axis=-1, kind="stable")
    ordered = np.take_along_axis(returns, order, axis=-1)
    place = np.broadcast_to(np.arange(n_symbols), ordered.shape)
    is_first = np.ones(ordered.shape, dtype=bool)
    is_first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    is_last = np.ones(ordered.shape, dtype=bool)
    is_last[..., :-1] = is_first[..., 1:]
    first = np.maximum.accumulate(np.where(is_first, place, 0), axis=-1)
    ends = np.where(is_last, place + 1, n_symbols)
    end = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    shares = (bounds[end] - bounds[first]) / (end - first)[..., None]
    classes: FloatArray = np.empty_like(shares)
    np.put_along_axis(classes, order[..., None], shares, axis=-2)
    return classes


def expected_rank(probabilities: FloatArray) -> FloatArray:
    """(n_symbols,): the mean class, from 1 (lowest returns) to the number of classes."""
    return np.asarray(probabilities @ np.arange(1, probabilities.shape[-1] + 1))
