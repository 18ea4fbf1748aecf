"""Every out-of-sample forecast beside its outcome: one row for each, with its losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples
from candlecast.domain.thresholds import class_bounds

CLIMATOLOGY: Final = "climatology"
DEVELOPMENT, HOLDOUT = "development", "holdout"
CLASSES: Final = tuple(name.lower() for name in dist.LABELS)


class Forecasts(Protocol):
    """Out-of-sample forecasts; see `validation.walk_forward.OutOfSample`."""

    @property
    def rows(self) -> NDArray[np.intp]:
        """(n_rows,) positions in the examples."""

    @property
    def quantiles(self) -> FloatArray:
        """(n_rows, n_horizons, 17) of the log return."""

    @property
    def fold(self) -> NDArray[np.int64]:
        """(n_rows,) the number of the test span."""

    @property
    def is_holdout(self) -> NDArray[np.bool_]:
        """(n_rows,) whether the span belongs to the final holdout."""


def score(
    examples: Examples,
    forecasts: Forecasts,
    threshold: str,
    references: Mapping[str, FloatArray],
    n_past: FloatArray,
) -> pl.DataFrame:
    """One row for each forecast and horizon whose outcome is known, by horizon and time.

    `references` are further quantiles (n_rows, n_horizons, 17) of the same rows by their name,
    the climatology is that of the examples, and made of `n_past` (n_rows, n_horizons) outcomes.
    `date` is what the rows of one session share; `mean`, `median` and `y` are log returns; `came`
    and `said` the positions of the classes that `threshold` makes (Bearish 0, Neutral 1, Bullish
    2); losses are those of `metrics`; those of a reference end in its name.
    """
    asked = examples.take(forecasts.rows)
    named = {CLIMATOLOGY: asked.climatology, **references}
    parts = [
        _one_horizon(asked, forecasts, threshold, named, horizon).with_columns(
            n_past=n_past[~np.isnan(asked.y[:, horizon]), horizon]
        )
        for horizon in range(len(asked.horizons))
    ]
    order = ("as_of", "symbol")
    return pl.concat([part.sort(order) for part in parts])


def reference_names(rows: pl.DataFrame) -> tuple[str, ...]:
    """The references that `rows` of `score` are held against."""
    return tuple(name.removeprefix("crps_") for name in rows.columns if name.startswith("crps_"))


def _one_horizon(
    asked: Examples,
    forecasts: Forecasts,
    threshold: str,
    references: Mapping[str, FloatArray],
    horizon: int,
) -> pl.DataFrame:
    known = np.flatnonzero(~np.isnan(asked.y[:, horizon]))
    own, y = forecasts.quantiles[known, horizon], asked.y[known, horizon]
    lower, upper = class_bounds(asked.climatology[known, horizon], threshold)
    classes = dist.class_probabilities(own, lower, upper)
    came = 1 + (y > upper).astype(np.int64) - (y < lower)
    prob_up = dist.prob_up(own)
    columns = {
        "symbol": np.array(asked.tickers)[asked.symbol[known]],
        "as_of": asked.as_of[known],
        "date": asked.dates()[known],
        "fold": forecasts.fold[known],
        "part": np.where(forecasts.is_holdout[known], HOLDOUT, DEVELOPMENT),
        "y": y,
        "mean": dist.mean(own),
        "median": own[:, dist.MEDIAN],
        "prob_up": prob_up,
        "came": came,
        "said": _said(classes),
        **{f"prob_{name}": classes[:, code] for code, name in enumerate(CLASSES)},
        "pit": metrics.pit(own, y),
        "hit": metrics.hits(prob_up, y),
        "rps": metrics.rps(classes, came),
        **_losses(own, y),
    }
    for name, quantiles in references.items():
        losses = _losses(quantiles[known, horizon], y)
        columns |= {f"{loss}_{name}": values for loss, values in losses.items()}
    return pl.DataFrame(columns).with_columns(
        pl.lit(asked.horizons[horizon]).alias("horizon"),
        pl.lit(int(asked.horizon_bars[horizon])).alias("horizon_bars"),
        pl.col("as_of").dt.year().alias("year"),
    )


def _said(classes: FloatArray) -> NDArray[np.int64]:
    names, _ = dist.label(classes)
    positions = {name: code for code, name in enumerate(dist.LABELS)}
    found, where = np.unique(names, return_inverse=True)
    return np.array([positions[str(name)] for name in found], dtype=np.int64)[where]


def _losses(quantiles: FloatArray, y: FloatArray) -> dict[str, FloatArray]:
    return {
        "crps": metrics.crps(quantiles, y),
        "pinball": metrics.pinball(quantiles, y),
        "brier": metrics.brier(dist.prob_up(quantiles), y),
    }
