"""Random rows with outcomes of any length, for the tests of what may train beside what."""

from __future__ import annotations

import numpy as np

from candlecast.domain.examples import Examples

START = np.datetime64("2020-01-01", "us")
HOURS = (1, 24, 168)


def random_examples(generator: np.random.Generator) -> Examples:
    """8 to 60 rows, several of one instant, with outcomes of 1 to 3 horizons, some unknown.

    The feature of a row is its position; an outcome is its position and horizon as one number.
    """
    n, n_horizons = int(generator.integers(8, 60)), int(generator.integers(1, 4))
    hours = np.sort(generator.integers(0, 24 * generator.integers(3, 60), n))
    as_of = START + hours.astype("timedelta64[h]")
    length = generator.integers(1, generator.choice([3, 30, 300]), (n, n_horizons))
    y = np.arange(n * n_horizons, dtype=float).reshape(n, n_horizons)
    y[generator.random(y.shape) < 0.2] = np.nan
    return make_examples(as_of, as_of[:, None] + length.astype("timedelta64[h]"), y)


def daily_examples(n_days: int, n_ahead: int) -> Examples:
    """A row a day whose only outcome ends `n_ahead` days later."""
    as_of = START + np.arange(n_days).astype("timedelta64[D]")
    y = np.arange(n_days, dtype=float)[:, None]
    return make_examples(as_of, as_of[:, None] + np.timedelta64(n_ahead, "D"), y)


def make_examples(as_of: np.ndarray, end_at: np.ndarray, y: np.ndarray) -> Examples:
    """Examples of one symbol with these stamps, ends and outcomes."""
    n, n_horizons = y.shape
    return Examples(
        X=np.arange(n, dtype=float)[:, None],
        symbol=np.zeros(n, dtype=np.int32),
        as_of=as_of,
        scale=np.ones(n),
        climatology=np.zeros((n, n_horizons, 17)),
        feature_names=("row",),
        tickers=("A",),
        horizons=("1h", "1D", "1W")[:n_horizons],
        horizon_bars=np.array(HOURS[:n_horizons]),
        y=y,
        end_at=end_at,
        weight=np.ones(n),
    )


def outcomes(examples: Examples) -> set[float]:
    """The outcomes that are known: which (row, horizon) they are."""
    return {*examples.y[~np.isnan(examples.y)].tolist()}
