"""Examples of a market whose truth is known, for the tests of models and pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.history import History
from candlecast.domain.normalising import Normaliser
from candlecast.domain.sequences import Sequences, Tensors
from candlecast.domain.specs import TensorSpec

TENSORS = TensorSpec(timeframes=("1d",), features=("har_1", "har_5", "signal"), n_steps=8)


@dataclass(frozen=True, eq=False)
class ExampleWindows:
    """The last rows of each symbol as windows of one timeframe."""

    spec: TensorSpec
    values: np.ndarray  # (n_symbols, n_days, n_features)
    as_of: np.ndarray  # (n_rows,), a row for each symbol of each day

    def take(self, rows: np.ndarray) -> Tensors:
        day, symbol = np.divmod(rows, len(self.values))
        days = day[:, None] + np.arange(1 - self.spec.n_steps, 1)
        mask = days >= 0
        found = self.values[symbol[:, None], np.maximum(days, 0)] * mask[..., None]
        return Tensors(
            found[:, :, None].astype(np.float32), mask[:, :, None], np.zeros((len(rows), 1), "f4")
        )

    def fit_normaliser(self, until: datetime) -> Normaliser:
        is_known = self.as_of <= np.datetime64(until.replace(tzinfo=None), "us")
        table = self.values.swapaxes(0, 1).reshape(-1, len(self.spec.features)).astype(np.float32)
        return Normaliser.fit(self.spec, [(table, is_known)])


FEATURES = ("har_1", "har_5", "har_22", "noise", "signal")


def make_examples(
    *, seed: int, n_days: int = 500, edge: float = 0.0, volatility_signal: float = 0.3
) -> Examples:
    """Three symbols, two horizons: volatility depends on har_1, direction on `edge` times signal.

    Returns are Gaussian given the features; the newest outcomes are open (NaN).
    """
    rng = np.random.default_rng(seed)
    tickers, bars = ("AAA", "BBB", "CCC"), np.array([1, 5])
    n = n_days * len(tickers)
    as_of = np.repeat(
        np.datetime64("2015-01-01T21:00", "us") + np.arange(n_days) * np.timedelta64(1, "D"), 3
    )
    X = rng.standard_normal((n, len(FEATURES)))
    scale = np.tile([0.01, 0.02, 0.03], n_days)
    spread = np.exp(volatility_signal * X[:, 0]) / np.exp(volatility_signal**2)
    units = scale[:, None] * np.sqrt(bars)
    noise = rng.standard_normal((n, 2))
    y = (edge * X[:, 4, None] + spread[:, None] * noise) * units
    returns = np.vstack([np.full(3, np.nan), y[:-3, 0].reshape(n_days - 1, 3)]).T.reshape(-1)
    symbol, day = np.tile(np.arange(3), n_days), np.repeat(np.arange(n_days), 3)
    shown = [FEATURES.index(name) for name in TENSORS.features]
    windows = ExampleWindows(TENSORS, X.reshape(n_days, 3, -1).swapaxes(0, 1)[..., shown], as_of)
    end_at = as_of[:, None] + bars * np.timedelta64(1, "D")
    y[end_at > as_of[-1]] = np.nan
    return Examples(
        X=X,
        symbol=symbol.astype(np.int32),
        as_of=as_of,
        scale=scale,
        climatology=units[..., None] * 1.1 * dist.SCORES,
        feature_names=FEATURES,
        tickers=tickers,
        horizons=("1D", "1W"),
        horizon_bars=bars,
        y=y,
        end_at=end_at,
        weight=np.ones(n),
        history=History(returns, symbol * n_days, symbol * n_days + day),
        sequences=Sequences(windows, np.arange(n)),
    )
