"""What a model is fitted on: X, y, weight, times, scale."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray
from candlecast.domain.history import History
from candlecast.domain.sequences import Sequences
from candlecast.errors import NotFound

SAME_RETURN: Final = 1e-9
DAILY_STEP_SECONDS: Final = 20 * 3600
"""Rows of one symbol that usually lie at least so far apart are of sessions."""
SESSIONS_END: Final = np.timedelta64(3, "h")
"""Sessions of a date have closed everywhere by this hour (UTC) of the next, and none of the next
has: the day of what is always open ends at midnight, Wellington's closes before four."""
CORRELATION: Final = 0.3
"""Assumed between the outcomes of two symbols on one date: typical of stocks of one market."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What a model may know: one row for each (symbol, as_of), sorted by as_of.

    Shapes: `X` (n_rows, n_features), float64 and scale-free, NaN where the symbol is too young
    for the feature (never in examples) or a source besides prices says nothing; `symbol` (n_rows,)
    codes into `tickers`; `as_of` (n_rows,) datetime64[us]; `scale` (n_rows,) the symbol's own
    forecast of the standard deviation of one bar's log return, > 0; `climatology`
    (n_rows, n_horizons, 17) the quantiles of the symbol's own past returns known at `as_of`.
    `horizon_bars` (n_horizons,) tells how many bars each of `horizons` lasts. `history` are the
    log returns behind each row, `sequences` its windows of several timeframes; each is there for
    the models that look at it.
    """

    X: FloatArray
    symbol: NDArray[np.int32]
    as_of: NDArray[np.datetime64]
    scale: FloatArray
    climatology: FloatArray
    feature_names: tuple[str, ...]
    tickers: tuple[str, ...]
    horizons: tuple[str, ...]
    horizon_bars: NDArray[np.int64]
    history: History | None = field(default=None, kw_only=True)
    sequences: Sequences | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.as_of)

    def column(self, name: str) -> FloatArray:
        """The values of one feature, (n_rows,); NotFound when the rows do not carry it."""
        if name not in self.feature_names:
            raise NotFound.among("feature of these rows", name, self.feature_names)
        return self.X[:, self.feature_names.index(name)]

    def matrix(self, names: tuple[str, ...]) -> FloatArray:
        """(n_rows, len(names)): the features `names` in that order; NotFound when one is absent."""
        if names == self.feature_names:
            return self.X
        columns = [self.column(name) for name in names]
        return np.column_stack(columns) if columns else np.empty((len(self), 0))

    def dates(self) -> NDArray[np.datetime64]:
        """(n_rows,) what the rows of one date share: see `session_dates`."""
        return session_dates(self.as_of, self.symbol)

    def horizon_scale(self) -> FloatArray:
        """(n_rows, n_horizons): `scale` times the square root of the horizon's bars."""
        return self.scale[:, None] * np.sqrt(self.horizon_bars)[None, :]

    def take(self, index: NDArray[Any]) -> Self:
        """The rows at `index` (positions or a mask), everything else as it is."""
        n = len(self)
        if index.dtype == bool and index.shape == (n,) and index.all():
            return self
        rows = {
            f.name: value[index]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray)
            and f.name != "horizon_bars"
            and len(value) == n
        }
        behind = {
            name: value.take(index)
            for name in ("history", "sequences")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **rows, **behind)


@dataclass(frozen=True, eq=False)
class Examples(Rows):
    """Rows whose outcome is known: what a model is fitted on.

    `y` (n_rows, n_horizons) log returns, NaN where the horizon has not ended; `end_at`
    (n_rows, n_horizons) when it ends; `weight` (n_rows,) >= 0.
    """

    y: FloatArray
    end_at: NDArray[np.datetime64]
    weight: FloatArray

    def known_by(self, instant: np.datetime64) -> Self:
        """The examples as they stood at `instant`: later rows gone, later outcomes unknown.

        A row stays while at least one of its horizons has ended (`end_at <= instant`).
        """
        y = np.where(self.end_at <= instant, self.y, np.nan)
        return replace(self, y=y).take((self.as_of <= instant) & ~np.isnan(y).all(axis=1))

    def without_outcomes(self) -> Rows:
        """The same rows with all that a model may not know when it is asked left out."""
        return Rows(**{f.name: getattr(self, f.name) for f in fields(Rows)})

    def n_effective(self, horizon: int) -> float:
        """How many independent outcomes the known ones of a horizon (its position) are worth.

        Outcomes that overlap in time count once between them, and those of one date are
        correlated across symbols (`CORRELATION`), so that a second hundred symbols adds little.
        Exchanges that close at different times of a day have one date between them.
        """
        known = ~np.isnan(self.y[:, horizon])
        n_dates = len(np.unique(session_dates(self.as_of[known], self.symbol[known])))
        if n_dates == 0:
            return 0.0
        n_together = known.sum() / n_dates
        n_per_date = n_together / (1 + (n_together - 1) * CORRELATION)
        return float(n_dates * n_per_date / self.horizon_bars[horizon])

    def targets(self) -> FloatArray:
        """(n_rows, n_horizons): `y` in units of the symbol's own forecast volatility."""
        return self.y / self.horizon_scale()

    def spreads(self) -> FloatArray:
        """(n_rows, n_horizons): how far the price moved on its way, in the units of `targets`.

        The root of the summed variances of the horizon's bars, which says more of the volatility
        than where the price ended. NaN where the outcome is unknown, or made of other bars than
        the horizon's next ones (some had no trade), or there is no history of variances.
        """
        result, history = np.full(self.y.shape, np.nan), self.history
        if history is None or history.variances is None:
            return result
        series = (history.variances, history.returns)
        moved, turned = (np.append(0.0, np.cumsum(np.nan_to_num(values))) for values in series)
        for column, n_bars in enumerate(self.horizon_bars):
            first = history.at + 1
            last = np.minimum(first + n_bars, len(history.returns))
            is_whole = np.abs(turned[last] - turned[first] - self.y[:, column]) < SAME_RETURN
            total = np.where(is_whole, moved[last] - moved[first], np.nan)
            result[:, column] = np.sqrt(np.maximum(total, 0.0))
        return result / self.horizon_scale()


def session_dates(as_of: NDArray[np.datetime64], symbol: NDArray[Any]) -> NDArray[np.datetime64]:
    """(n_rows,) what rows share whose outcomes come together, by instants and symbols (n_rows,).

    The date of the session where a symbol has at most one row a day, whenever its exchange closes;
    else, and where the instants of one symbol are those of all, `as_of` itself.
    """
    code = np.unique(symbol, return_inverse=True)[1]
    order = np.lexsort((as_of, code))
    code, instant = code[order], as_of[order]
    step_seconds = np.diff(instant) / np.timedelta64(1, "s")
    is_next = (np.diff(code) == 0) & (step_seconds > 0)
    if not is_next.any() or np.median(step_seconds[is_next]) < DAILY_STEP_SECONDS:
        return as_of
    n_own = 1 + np.bincount(code[1:][is_next]).max()
    if n_own == len(np.unique(as_of)):
        return as_of
    return (as_of - SESSIONS_END).astype("datetime64[D]").astype(as_of.dtype)
