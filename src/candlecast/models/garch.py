"""GARCH(1,1) with Student-t innovations: volatility from a symbol's own returns alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray, uncrossed
from candlecast.domain.examples import CORRELATION, Examples, Rows
from candlecast.domain.history import History
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFitted
from candlecast.models.artifact import read_json, write_json
from candlecast.models.variance_recursion import (
    N_PARAMETERS,
    Garch11,
    fourth_moment,
    horizon_share,
    log_likelihood,
    next_variance,
    quantiles_of_freedom,
    student_quantiles,
)

MIN_BARS: Final = 60
"""Fewer returns of a symbol say nothing of its own; all of them together must be so many."""
MAX_SCORE: Final = 10.0
MAX_BARS: Final = 20_000
MAX_POOLED: Final = 100
START: Final = np.array([0.0, 3.5, -2.5, 1.5])
"""Persistence 0.97, a thirteenth of it from the last surprise, 6.5 degrees of freedom."""
START_WIDTH: Final = np.array([1.0, 2.0, 1.0, 1.0])
OWN_WIDTH: Final = np.array([0.15, 0.3, 0.2, 0.2])
"""How far, in free numbers, a symbol is expected to lie from all symbols together."""
DRIFT_PRIOR: Final = 0.5 / 252**0.5
"""Plausible mean over standard deviation of a bar's return: a yearly ratio of one half."""
WITHOUT_HISTORY: Final = (
    "garch filters the returns behind each row, and these rows carry none; "
    "give them a history or choose another model"
)


class _Span(NamedTuple):
    """A stretch of one symbol's returns, and the rows (positions) whose newest bar is in it."""

    squared: FloatArray
    returns: FloatArray
    rows: NDArray[np.integer]
    at: NDArray[np.integer]
    symbol: int


@MODELS.register("garch")
class Garch:
    """GARCH(1,1) with Student-t innovations, fitted for each symbol by maximum likelihood.

    Parameters
    ----------
    shrinkage : float >= 0, how firmly a symbol's parameters are held to those of all symbols
        together; 0 takes each symbol's own maximum of the likelihood.
    seed : int, unused; every model takes one.

    Notes
    -----
    Needs rows with a `history`, (n_rows,) spans of log returns; the features are not looked at,
    and any horizons can be asked for. A symbol is fitted on its longest span known in the
    examples (at most the last 20,000 bars) in units of its own standard deviation, so that twice
    the returns give twice the width; symbols with fewer than 60 returns, and symbols that were
    not there, get the parameters of all together. When asked, the unit is the mean squared return
    of the span up to the row's newest bar.

    A return counts for at most ten times the standard deviation of the span before it.

    The variance of a horizon is the exact sum of the expected variances of its bars. Its shape is
    the Student-t with the exact kurtosis of the sum; that of one bar is the fitted one. The mean
    return, in units of the forecast standard deviation, is one number for all symbols, shrunk
    towards zero by what is plausible. Quantiles (n_rows, n_horizons, 17) are log returns.

    Raises
    ------
    InvalidSpec where the rows carry no history; NotEnoughHistory when all symbols together have
    fewer than 60 returns; NotFitted when asked before `fit`.

    References
    ----------
    Bollerslev (1986), J. Econometrics 31(3), eq. 1 and 6; Bollerslev (1987), Rev. Economics and
    Statistics 69(3), for the Student-t.
    """

    def __init__(self, *, seed: int = 7, shrinkage: float = 1.0) -> None:
        if not shrinkage >= 0:
            raise InvalidSpec("shrinkage of garch is at least 0")
        self.seed = seed
        self.shrinkage = shrinkage
        self._pooled: FloatArray = np.empty(0)
        self._own: dict[str, FloatArray] = {}
        self._drift = 0.0

    def fit(self, examples: Examples) -> Self:
        """All symbols together first, then each by itself, held to them."""
        series = _longest_spans(_history(examples), examples.symbol)
        if sum(len(span.returns) for span in series) < MIN_BARS:
            raise NotEnoughHistory(
                f"garch needs {MIN_BARS} returns of all symbols together and has "
                f"{sum(len(span.returns) for span in series)}; ingest more history"
            )
        scaled = {s.symbol: s.squared / s.squared.mean() for s in series}
        chosen = [scaled[s.symbol] for s in series if len(s.returns) >= MIN_BARS]
        chosen = chosen or list(scaled.values())
        self._pooled = _maximised(chosen[:: -(-len(chosen) // MAX_POOLED)], START, START_WIDTH)
        width: FloatArray = np.full(N_PARAMETERS, np.inf)
        if self.shrinkage:
            width = OWN_WIDTH / np.sqrt(self.shrinkage)
        self._own = {
            examples.tickers[symbol]: _maximised([squared], self._pooled, width)
            for symbol, squared in scaled.items()
            if len(squared) >= MIN_BARS
        }
        self._drift = self._fitted_drift(series, examples.tickers)
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return."""
        if not self._pooled.size:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        asked, which = np.unique(rows.symbol, return_inverse=True)
        models = {int(code): self._of(rows.tickers[code]) for code in asked}
        unit: FloatArray = np.ones(len(rows))
        following: FloatArray = np.ones(len(rows))
        for span in _spans(_history(rows), rows.symbol):
            model = models[span.symbol]
            mean_square = np.cumsum(span.squared) / np.arange(1, len(span.squared) + 1)
            mean_square = np.maximum(mean_square, np.finfo(float).tiny)
            unit[span.rows] = mean_square[span.at]
            variance = next_variance(model, span.squared, model.variance * mean_square)
            following[span.rows] = variance[span.at]
        each = np.array(list(models.values())).reshape(-1, N_PARAMETERS)
        long_run = unit * np.array([model.variance for model in models.values()])[which]
        parts = [
            self._quantiles(each, which, following / long_run, int(n_bars))
            for n_bars in rows.horizon_bars
        ]
        return uncrossed(np.stack(parts, axis=1) * np.sqrt(long_run)[:, None, None])

    def save(self, folder: Path) -> None:
        """Write model.json."""
        state = {
            "seed": self.seed,
            "shrinkage": self.shrinkage,
            "drift": self._drift,
            "pooled": self._pooled.tolist(),
            "own": {ticker: free.tolist() for ticker, free in self._own.items()},
        }
        write_json(folder / "model.json", state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder / "model.json")
        model = cls(seed=state["seed"], shrinkage=state["shrinkage"])
        model._drift, model._pooled = state["drift"], np.array(state["pooled"])
        model._own = {ticker: np.array(free) for ticker, free in state["own"].items()}
        return model

    def parameters(self, ticker: str) -> Garch11:
        """The recursion of a symbol, in units of its mean squared return."""
        if not self._pooled.size:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        return self._of(ticker)

    def _of(self, ticker: str) -> Garch11:
        return Garch11.from_free(self._own.get(ticker, self._pooled))

    def _quantiles(
        self, each: FloatArray, which: NDArray[np.integer], ahead: FloatArray, n_bars: int
    ) -> FloatArray:
        # In units of the long-run standard deviation of one bar. `each` symbol's parameters,
        # `which` is a row's; `ahead` is the next bar's variance.
        _, alpha, beta, freedom = each.T
        variance = n_bars + (ahead - 1) * horizon_share(alpha + beta, n_bars)[which]
        if n_bars == 1:
            shape = quantiles_of_freedom(freedom)[which]
        else:
            c0, c1, c2 = fourth_moment(alpha, beta, freedom, n_bars)[which].T
            shape = student_quantiles((c0 + c1 * ahead + c2 * ahead**2) / variance**2 - 3)
        centred = shape + self._drift * np.sqrt(n_bars)
        return np.asarray(centred * np.sqrt(variance)[:, None])

    def _fitted_drift(self, series: list[_Span], tickers: tuple[str, ...]) -> float:
        # Symbols of one date are correlated: many of them together add little.
        standard = []
        for span in series:
            model, unit = self._of(tickers[span.symbol]), np.full(1, span.squared.mean())
            forecast = next_variance(model, span.squared, model.variance * unit)
            counted = np.copysign(np.sqrt(span.squared), span.returns)
            standard.append(counted[1:] / np.sqrt(forecast[:-1]))
        longest, total = max(map(len, standard)), sum(map(len, standard))
        together = total / max(longest, 1)
        n_effective = longest * together / (1 + (together - 1) * CORRELATION)
        error = 1 / max(n_effective, 1.0)
        trust = DRIFT_PRIOR**2 / (DRIFT_PRIOR**2 + error)
        return float(np.concatenate(standard).mean()) * trust


def _history(rows: Rows) -> History:
    if rows.history is None:
        raise InvalidSpec(WITHOUT_HISTORY)
    return rows.history


def _spans(history: History, symbol: NDArray[np.integer]) -> list[_Span]:
    # One for each start, up to the newest bar that any of its rows knows.
    order = np.argsort(history.start, kind="stable")
    starts = history.start[order]
    edges = np.flatnonzero(np.diff(starts)) + 1
    spans = []
    for rows in np.split(order, edges) if len(order) else []:
        start, newest = int(history.start[rows[0]]), int(history.at[rows].max())
        returns = np.nan_to_num(history.returns[start : newest + 1])
        # The first of a segment is no return: it stands there as zero and is left out.
        skipped = min(int(np.isnan(history.returns[start])), len(returns) - 1)
        returns = returns[skipped:]
        at = np.maximum(history.at[rows] - start - skipped, 0)
        spans.append(_Span(_capped(returns**2), returns, rows, at, int(symbol[rows[0]])))
    return spans


def _capped(squared: FloatArray) -> FloatArray:
    # A wrong split or a bad print would stay in the mean for years. What stands before a bar
    # decides how much of it counts.
    before = np.cumsum(squared) - squared
    count = np.arange(len(squared))
    limit = np.full(len(squared), np.inf)
    is_judged = (count >= MIN_BARS) & (before > 0)
    limit[is_judged] = MAX_SCORE**2 * before[is_judged] / count[is_judged]
    return np.asarray(np.minimum(squared, limit))


def _longest_spans(history: History, symbol: NDArray[np.integer]) -> list[_Span]:
    # The longest of each symbol, by symbol, cut to what is fitted.
    longest: dict[int, _Span] = {}
    for span in _spans(history, symbol):
        known = longest.get(span.symbol)
        if known is None or len(span.returns) > len(known.returns):
            longest[span.symbol] = span
    return [
        span._replace(squared=span.squared[-MAX_BARS:], returns=span.returns[-MAX_BARS:])
        for _, span in sorted(longest.items())
        if span.squared.any()
    ]


def _maximised(series: list[FloatArray], centre: FloatArray, width: FloatArray) -> FloatArray:
    # The mode of the likelihood of all `series` times a normal density around `centre`.
    from scipy.optimize import minimize

    n_bars = sum(map(len, series))

    def loss(free: FloatArray) -> tuple[float, FloatArray]:
        value = -0.5 * float((((free - centre) / width) ** 2).sum())
        gradient = -(free - centre) / width**2
        for squared in series:
            own, slope = log_likelihood(free, squared)
            value, gradient = value + own, gradient + slope
        return -value / n_bars, -gradient / n_bars

    bounds = [(-6.0, 6.0), (-4.0, 9.0), (-7.0, 5.0), (-3.0, 5.5)]
    found = minimize(
        loss, np.clip(centre, *np.transpose(bounds)), jac=True, method="L-BFGS-B", bounds=bounds
    )
    return found.x if np.isfinite(found.fun) else centre
