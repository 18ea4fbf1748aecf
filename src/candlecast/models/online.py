"""Online learning: a model that learns from each settled batch without being fitted again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import LEVELS, MEDIAN, FloatArray, uncrossed
from candlecast.domain.examples import CORRELATION, Examples, Rows
from candlecast.errors import BadArtifact, InvalidSpec, NotFitted
from candlecast.models.artifact import read_json, write_json
from candlecast.models.evidence import DRIFT_PRIOR, MAX_TARGET, MIN_DISTANCE
from candlecast.models.log_linear import MAX_SCORE, PENALTY
from candlecast.models.shape import GAUSSIAN_SHAPE, SHAPE_PRIOR

MAX_LOG: Final = 4.0
"""A scale beyond exp(±4) of the symbol's own volatility is no forecast but an accident."""
MAX_SURPRISE: Final = 6.0
"""Expected distances: one step cannot follow more, what is beyond is left to the shape."""
SETTLING: Final = 50.0
"""Independent outcomes after which a residual of the young regression counts half."""
STEADY: Final = 5.0
"""Independent outcomes after which features are held within what was usual so far."""
MAX_RESIDUAL: Final = 60.0
EDGES: Final = np.sinh(np.linspace(-np.arcsinh(MAX_RESIDUAL), np.arcsinh(MAX_RESIDUAL), 1202))
"""Bins of residuals: 0.008 wide in the middle, 1 % of the residual far out."""
NEVER: Final = "0001-01-01"


@MODELS.register("online")
class Online:
    """Log-linear scale by recursive estimation, and the shape of its own forecast errors.

    At each instant, oldest first: the outcomes are compared with the forecast that stood before
    them, their standardised errors enter the shape's histogram, and then the regression of the
    log scale takes one step of Fisher scoring. So `fit` is one pass over the past in the order of
    time, and ``fit(old).update(new)`` is ``fit(old and new)`` to the digit, wherever the outcomes
    of one instant and horizon come in one batch. The shape is made of errors out of sample.

    Parameters
    ----------
    half_life_days : float >= 0, after which what was learnt counts half; 0: never forgotten.
    seed : int, unused; every model takes one.

    Notes
    -----
    Features (n_rows, n_features) as they come; a missing one is given its running mean, and one
    beyond six running standard deviations is held there. The centre is 0 in the median of the
    shape alone: direction is not learnt. Answers are (n_rows, n_horizons, 17) log returns. An
    outcome of an instant not after the newest that was learnt of its symbol is passed over, so
    that each is learnt from once; one that comes after later ones of other symbols is learnt at
    the weight that its age has left it. Saved as JSON; loaded, it goes on as if it had never
    stopped.

    Raises
    ------
    NotFitted when asked before `fit`; NotFound when a feature is missing; InvalidSpec for a
    negative half-life, or when updated with other horizons than it was fitted with.

    References
    ----------
    Fahrmeir (1992), J. American Statistical Association 87(418), recursive Fisher scoring for
    generalised linear models; Dawid (1984), J. Royal Statistical Society A 147(2), for judging
    forecasts by the errors they made before they learnt.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "half_life_days": {"choices": [0.0, 500.0, 1000.0, 2000.0]}
    }

    def __init__(self, *, seed: int = 7, half_life_days: float = 0.0) -> None:
        if half_life_days < 0:
            raise InvalidSpec(f"half_life_days is {half_life_days}; it is not negative")
        self.seed = seed
        self.half_life_days = half_life_days
        self.feature_names: tuple[str, ...] = ()
        self.horizons: tuple[str, ...] = ()
        self._states: list[_State] = []

    def fit(self, examples: Examples) -> Self:
        """Forget everything, and learn from `examples` in the order of their as_of."""
        self.feature_names, self.horizons = examples.feature_names, examples.horizons
        n_features = len(self.feature_names)
        self._states = [_State(int(n), n_features) for n in examples.horizon_bars]
        return self.update(examples)

    def update(self, examples: Examples) -> Self:
        """Learn from later examples, each once, in the order of their as_of."""
        if not self._states:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        if examples.horizons != self.horizons:
            raise InvalidSpec(
                f"fitted for the horizons {', '.join(self.horizons)}, updated with "
                f"{', '.join(examples.horizons)}; name the same ones"
            )
        X, targets = examples.matrix(self.feature_names), examples.targets()
        for horizon, state in enumerate(self._states):
            is_new = ~np.isnan(targets[:, horizon])
            learnt = [state.learnt_until.get(ticker, NEVER) for ticker in examples.tickers]
            is_new &= examples.as_of > np.array(learnt, "datetime64[us]")[examples.symbol]
            self._learn(state, X[is_new], targets[is_new, horizon], examples.take(is_new), horizon)
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return."""
        if not self._states:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        X = rows.matrix(self.feature_names)
        standard = [state.scale(X)[:, None] * state.shape() for state in self._states]
        return uncrossed(np.stack(standard, axis=1) * rows.horizon_scale()[..., None])

    def save(self, folder: Path) -> None:
        """Write model.json."""
        state = {
            "seed": self.seed,
            "half_life_days": self.half_life_days,
            "feature_names": list(self.feature_names),
            "horizons": list(self.horizons),
            "states": [state.as_plain() for state in self._states],
        }
        write_json(folder / "model.json", state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder / "model.json")
        model = cls(seed=state["seed"], half_life_days=state["half_life_days"])
        model.feature_names = tuple(state["feature_names"])
        model.horizons = tuple(state["horizons"])
        n_features = len(model.feature_names)
        model._states = [_State.from_plain(plain, n_features) for plain in state["states"]]
        return model

    def _learn(
        self, state: _State, X: FloatArray, target: FloatArray, rows: Examples, horizon: int
    ) -> None:
        if not len(rows):
            return
        starts = np.flatnonzero(np.append(True, rows.as_of[1:] != rows.as_of[:-1]))
        counts = np.diff(np.append(starts, len(rows)))
        together = 1 + (counts - 1) * CORRELATION
        # What an outcome is worth: less where many come at once, or overlap.
        worth = rows.weight / np.repeat(together, counts) / int(rows.horizon_bars[horizon])
        instants = rows.as_of[starts].astype("datetime64[us]")
        reached = np.datetime64(max(state.learnt_until.values(), default=str(instants[0])), "us")
        # The newest instant before each: what is older than that came late, and is worth less.
        before = np.maximum.accumulate(np.append(reached, instants[:-1]))
        days = (instants - before) / np.timedelta64(1, "D")
        rate = np.log(2) / self.half_life_days if self.half_life_days else 0.0
        kept, late = np.exp(-rate * np.maximum(days, 0)), np.exp(rate * np.minimum(days, 0))
        worth *= np.repeat(late, counts)
        for number, start in enumerate(starts):
            now = slice(start, start + counts[number])
            state.step(X[now], target[now], worth[now], float(kept[number]))
        for code in np.unique(rows.symbol):
            newest = rows.as_of[rows.symbol == code][-1].astype("datetime64[us]")
            state.learnt_until[rows.tickers[code]] = str(newest)


class _State:
    # All that one horizon has learnt. Sums are decayed: of weights, of features and their squares
    # (n_features,), of the regression (n_features + 1 squared, and n_features + 1), of residuals.

    def __init__(self, horizon_bars: int, n_features: int) -> None:
        self.horizon_bars = horizon_bars
        self.n_seen = 0.0
        self.learnt_until: dict[str, str] = {}  # by ticker: their outcomes come at other times
        self.weights, self.sums, self.squares = (np.zeros(n_features) for _ in range(3))
        self.information = np.zeros((n_features + 1, n_features + 1))
        self.response = np.zeros(n_features + 1)
        self.slopes: FloatArray = np.zeros(n_features + 1)
        self.slopes[0] = -np.log(np.pi / 2) / 2  # the mean distance of a Gaussian of variance 1
        self.residuals = np.zeros(len(EDGES) - 1)

    @classmethod
    def from_plain(cls, plain: dict[str, Any], n_features: int) -> _State:
        """The state that `as_plain` told."""
        state = cls(plain["horizon_bars"], n_features)
        state.n_seen, state.learnt_until = plain["n_seen"], plain["learnt_until"]
        if not isinstance(state.learnt_until, dict):
            raise BadArtifact("model.json: learnt_until is not told by ticker; train it again")
        for name, empty in state.arrays().items():
            found = np.array(plain[name], dtype=float)
            if found.shape != empty.shape:
                raise BadArtifact(f"model.json: {name} has shape {found.shape}, not {empty.shape}")
            setattr(state, name, found)
        return state

    def arrays(self) -> dict[str, FloatArray]:
        """Its arrays by name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}

    def as_plain(self) -> dict[str, Any]:
        """All of it as plain values."""
        return vars(self) | {name: value.tolist() for name, value in self.arrays().items()}

    def step(self, X: FloatArray, target: FloatArray, worth: FloatArray, kept: float) -> None:
        """Learn the outcomes of one instant, after the errors that were made before it."""
        for name, value in self.arrays().items():
            if name != "slopes":
                setattr(self, name, value * kept)
        self._see(X, worth)
        Z = np.column_stack([np.ones(len(X)), self._held(X)])
        log_scale = np.clip(Z @ self.slopes, -MAX_LOG, MAX_LOG)
        residual = np.clip(target / np.exp(log_scale), -MAX_RESIDUAL, MAX_RESIDUAL)
        trust = self.n_seen / (self.n_seen + SETTLING)
        place = np.clip(np.searchsorted(EDGES, residual) - 1, 0, len(self.residuals) - 1)
        self.residuals += np.bincount(place, worth * trust, len(self.residuals))
        self.n_seen = kept * self.n_seen + float(worth.sum())
        distance = np.clip(np.abs(target), MIN_DISTANCE, MAX_TARGET)
        surprise = np.minimum(distance / np.exp(log_scale), MAX_SURPRISE)
        working = Z @ self.slopes + surprise - 1
        weighted = Z * worth[:, None]
        self.information += weighted.T @ Z
        self.response += weighted.T @ working
        variance = self._variance()
        # Per standard deviation of the feature; the intercept is all but free.
        penalty = np.append(1e-9, PENALTY * np.where(variance > 1e-12, variance, 1.0))
        self.slopes = np.linalg.solve(self.information + np.diag(penalty), self.response)

    def scale(self, X: FloatArray) -> FloatArray:
        """(n_rows,): the expected distance from zero, in units of the symbol's own volatility."""
        log_scale = np.clip(self.slopes[0] + self._held(X) @ self.slopes[1:], -MAX_LOG, MAX_LOG)
        return np.asarray(np.exp(log_scale))

    def shape(self) -> FloatArray:
        """(17,): the quantiles in units of the scale."""
        total = float(self.residuals.sum())
        if total <= 0:
            return np.asarray(GAUSSIAN_SHAPE)
        reached = np.append(0.0, np.cumsum(self.residuals)) / total
        own = np.interp(LEVELS, reached, EDGES)
        # A mean return is the least certain number there is: drawn to zero as far as it is.
        error, prior = 1 / total, DRIFT_PRIOR**2 * self.horizon_bars
        own = own - own[MEDIAN] * error / (error + prior)
        trust = total / (total + SHAPE_PRIOR)
        return np.asarray(trust * own + (1 - trust) * GAUSSIAN_SHAPE)

    def _see(self, X: FloatArray, worth: FloatArray) -> None:
        is_known = ~np.isnan(X)
        # A broken value must not widen the band that it is held within.
        values = np.where(is_known, self._held(X) if self.n_seen > STEADY else X, 0.0)
        self.weights += worth @ is_known
        self.sums += worth @ values
        self.squares += worth @ values**2

    def _means(self) -> FloatArray:
        return np.asarray(self.sums / np.maximum(self.weights, 1e-12))

    def _variance(self) -> FloatArray:
        mean_square = self.squares / np.maximum(self.weights, 1e-12)
        return np.maximum(mean_square - self._means() ** 2, 0.0)

    def _held(self, X: FloatArray) -> FloatArray:
        means, reach = self._means(), MAX_SCORE * np.sqrt(self._variance())
        return np.clip(np.where(np.isnan(X), means, X), means - reach, means + reach)
