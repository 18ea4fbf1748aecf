"""The shape of a distribution about its location: from residuals to quantiles of each row.

1. Three log-linear regressions of the residual's size, of its root and of its square: how heavy the
   tails are for how wide the middle is. The size only puts the residuals of all regimes on one
   level; forecasts have that of the usual half year, whatever a crisis did to the mean.
2. The residuals' own quantiles in bins of that tail index; a row stands between two bins.
3. What the residuals of a symbol add to that, shrunk by how many there are: some trade so rarely
   that most bars stand still, some drift, some jump.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import LEVELS, MEDIAN, SCORES, FloatArray
from candlecast.domain.examples import Examples, Rows
from candlecast.models.evidence import date_blocks
from candlecast.models.log_linear import LogLinear

SHAPE_PRIOR: Final = 50.0
"""Independent outcomes that the Gaussian shape is worth beside the residuals' own."""
OWN_PRIOR: Final = 400.0
"""Independent outcomes that the shape of all symbols is worth beside one symbol's own."""
GAUSSIAN_SHAPE: Final = SCORES * np.sqrt(np.pi / 2)
"""Quantiles of a Gaussian in units of its mean distance from the centre."""
MAX_BINS: Final = 8
OUTCOMES_PER_BIN: Final = 250.0
MAX_ROWS: Final = 40_000
"""More rows would not make the regressions of the shape much surer, only slower."""
CHUNK_ROWS: Final = 4096
LEAST_RESIDUAL, MOST_RESIDUAL = 1e-3, 8.0
MIN_OWN_ROWS: Final = 100


@dataclass(frozen=True, eq=False)
class ShapeInputs:
    """What the shape of a row depends on: features, the predicted scale, how its past was shaped.

    Attributes
    ----------
    X : (n_rows, n_features), nothing missing
    scale : (n_rows,) > 0
    past : (n_rows, 17) quantiles of the symbol's own past
    """

    X: FloatArray
    scale: FloatArray
    past: FloatArray

    def __len__(self) -> int:
        return len(self.X)

    def values(self, index: NDArray[Any] | slice) -> FloatArray:
        """(n_chosen, n_features + 4) of the rows at `index`."""
        past = self.past[index]
        wide, whole = (np.maximum(past[:, -1 - k] - past[:, k], 1e-12) for k in (2, 0))
        middle = np.maximum(past[:, MEDIAN + 3] - past[:, MEDIAN - 3], 1e-3 * wide)
        skew = (past[:, -3] + past[:, 2] - 2 * past[:, MEDIAN]) / wide
        shaped = np.log(wide / middle), np.log(whole / middle), skew
        return np.column_stack([self.X[index], np.log(self.scale[index]), *shaped])


@dataclass(frozen=True, eq=False)
class Shape:
    """Quantiles of the residual in units of the scale.

    Attributes
    ----------
    bins : (n_bins, 17) quantiles at the usual level, by ascending tail index
    centres : (n_bins,) the mean tail index of each
    sizes : log-linear regressions of the root, the size and the square of the residual; empty
        where all rows have one shape
    own : what a symbol adds, (17,) by ticker
    """

    bins: FloatArray
    centres: FloatArray
    sizes: tuple[LogLinear, ...] = ()
    own: dict[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def pooled(cls, residual: FloatArray, n_effective: float) -> Self:
        """One shape for all rows, that of `residual`, nearer the Gaussian the fewer there are."""
        trust = n_effective / (n_effective + SHAPE_PRIOR)
        shape = trust * np.quantile(residual, LEVELS) + (1 - trust) * GAUSSIAN_SHAPE
        return cls(shape[None, :], np.zeros(1))

    @classmethod
    def fitted(
        cls, inputs: ShapeInputs, residual: FloatArray, rows: Examples, horizon: int
    ) -> Self:
        """The shape of `residual` (n_rows,) given what is known of each row."""
        n_effective = rows.n_effective(horizon)
        weight = rows.weight * (n_effective / rows.weight.sum())
        sizes = _size_regressions(inputs, residual, weight)
        level, tail = _level_and_tail(sizes, inputs)
        standard = residual / level
        n_bins = int(np.clip(n_effective / OUTCOMES_PER_BIN, 1, MAX_BINS))
        place = np.searchsorted(np.quantile(tail, np.arange(1, n_bins) / n_bins), tail)
        trust = n_effective / n_bins
        trust /= trust + SHAPE_PRIOR
        pooled = cls.pooled(standard, n_effective).bins[0]
        bins, centres = np.tile(pooled, (n_bins, 1)), np.full(n_bins, np.median(tail))
        for number in np.unique(place):
            is_in = place == number
            bins[number] = trust * np.quantile(standard[is_in], LEVELS) + (1 - trust) * pooled
            centres[number] = tail[is_in].mean()
        shape = cls(bins, np.maximum.accumulate(centres), sizes)
        own = _own(shape, standard, tail, rows, horizon)
        usual = _usual_level(residual, rows, horizon)
        own = {ticker: usual * added for ticker, added in own.items()}
        return cls(usual * bins, shape.centres, sizes, own)

    def quantiles(self, inputs: ShapeInputs, rows: Rows) -> FloatArray:
        """(n_rows, 17) quantiles in units of the scale."""
        if not self.sizes:
            return np.tile(self.bins[0], (len(inputs), 1))
        _, tail = _level_and_tail(self.sizes, inputs)
        added = np.zeros((len(rows.tickers), len(LEVELS)))
        for code, ticker in enumerate(rows.tickers):
            if ticker in self.own:
                added[code] = self.own[ticker]
        return self.between(tail) + added[rows.symbol]

    def between(self, tail: FloatArray) -> FloatArray:
        """(n_rows, 17): between the two bins whose centres lie around each tail index."""
        if len(self.bins) == 1:
            return np.tile(self.bins[0], (len(tail), 1))
        lower = np.clip(np.searchsorted(self.centres, tail) - 1, 0, len(self.bins) - 2)
        width = np.maximum(self.centres[lower + 1] - self.centres[lower], 1e-12)
        share = np.clip((tail - self.centres[lower]) / width, 0.0, 1.0)[:, None]
        return np.asarray((1 - share) * self.bins[lower] + share * self.bins[lower + 1])

    def state(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "bins": self.bins.tolist(),
            "centres": self.centres.tolist(),
            "sizes": [size.state() for size in self.sizes],
            "own": {ticker: added.tolist() for ticker, added in self.own.items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What `state` returned."""
        return cls(
            np.array(state["bins"]),
            np.array(state["centres"]),
            tuple(LogLinear.from_state(size) for size in state["sizes"]),
            {ticker: np.array(added) for ticker, added in state["own"].items()},
        )


def _size_regressions(
    inputs: ShapeInputs, residual: FloatArray, weight: FloatArray
) -> tuple[LogLinear, ...]:
    n, total = len(inputs), weight.sum()
    chosen = np.sort(np.random.default_rng(n).permutation(n)[:MAX_ROWS])
    F, residual, weight = inputs.values(chosen), residual[chosen], weight[chosen]
    weight = weight * (total / weight.sum())
    size = np.clip(np.abs(residual), LEAST_RESIDUAL, MOST_RESIDUAL)
    return LogLinear.fitted_to(F, [size**power for power in (0.5, 1.0, 2.0)], weight)


def _level_and_tail(
    sizes: tuple[LogLinear, ...], inputs: ShapeInputs
) -> tuple[FloatArray, FloatArray]:
    # All three have seen the same rows, and so standardise alike. Some rows at a time, which stay
    # in the processor's cache.
    slopes = np.column_stack([size.slopes for size in sizes])
    found = np.empty((len(inputs), len(sizes)))
    for first in range(0, len(inputs), CHUNK_ROWS):
        chunk = slice(first, first + CHUNK_ROWS)
        found[chunk] = sizes[0].scores(inputs.values(chunk)) @ slopes
    root, level, square = (found + np.array([size.intercept for size in sizes])).T
    return np.asarray(np.exp(level)), np.asarray(square - 4 * root)


def _usual_level(residual: FloatArray, rows: Examples, horizon: int) -> float:
    # The median over half years of the mean size of the residuals.
    block, _ = date_blocks(rows, horizon)
    size = np.clip(np.abs(residual), LEAST_RESIDUAL, MOST_RESIDUAL)
    return float(np.median(np.bincount(block, weights=size) / np.bincount(block)))


def _own(
    shape: Shape, standard: FloatArray, tail: FloatArray, rows: Examples, horizon: int
) -> dict[str, FloatArray]:
    # By how much the quantiles of a symbol's residuals differ from those expected of its rows.
    order: NDArray[np.intp] = np.argsort(rows.symbol, kind="stable")
    codes, starts = np.unique(rows.symbol[order], return_index=True)
    own = {}
    for code, of_symbol in zip(codes, np.split(order, starts[1:]), strict=True):
        if len(of_symbol) < MIN_OWN_ROWS:
            continue
        n_outcomes = len(of_symbol) / int(rows.horizon_bars[horizon])
        expected = shape.between(tail[of_symbol]).mean(axis=0)
        difference = np.quantile(standard[of_symbol], LEVELS) - expected
        own[rows.tickers[code]] = difference * (n_outcomes / (n_outcomes + OWN_PRIOR))
    return own
