"""A loaded model is asked once, so that wrong shapes and numbers show before it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from candlecast.domain.catalog import MODELS, Forecaster, SequenceModel
from candlecast.domain.distribution import N_LEVELS, SCORES
from candlecast.domain.examples import Rows
from candlecast.domain.history import History
from candlecast.domain.specs import ModelSpec
from candlecast.errors import BadArtifact, CandlecastError

UNSOUND: Final = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError, OSError, CandlecastError),
)
"""What a model raises that is made from a state that no model has written."""
N_ROWS: Final = 2
N_BARS: Final = 400
BAR_SCALE: Final = 0.01


def check_answers(model: Forecaster, spec: ModelSpec, manifest: Mapping[str, Any]) -> None:
    """BadArtifact unless the model gives quantiles for rows of the manifest's features and
    horizons. One that looks at windows, or whose manifest tells neither, is not asked.
    """
    names, horizons = manifest.get("feature_names"), manifest.get("horizons")
    if not horizons or names is None or _looks_at_windows(spec):
        return
    rows = _rows(tuple(names), tuple(horizons))
    with np.errstate(all="ignore"):
        quantiles = model.predict(rows)
    expected = (N_ROWS, len(horizons), N_LEVELS)
    if quantiles.shape != expected or not np.isfinite(quantiles).all():
        raise BadArtifact(
            f"{spec.kind} does not answer with {expected} finite numbers; run `candlecast train`"
        )


def _looks_at_windows(spec: ModelSpec) -> bool:
    is_own = isinstance(MODELS.get(spec.kind), SequenceModel)
    return is_own or any(map(_looks_at_windows, spec.members))


def _rows(names: tuple[str, ...], horizons: tuple[str, ...]) -> Rows:
    # A symbol that nothing is known of, at rest, in a market that goes up and down.
    bars = np.arange(1, len(horizons) + 1)
    returns = BAR_SCALE * np.where(np.arange(N_BARS) % 2, 1.0, -1.0)
    returns[0] = np.nan
    climatology = BAR_SCALE * np.sqrt(bars)[:, None] * SCORES
    return Rows(
        X=np.zeros((N_ROWS, len(names))),
        symbol=np.zeros(N_ROWS, dtype=np.int32),
        as_of=np.datetime64("2000-01-03T21:00", "us") + np.arange(N_ROWS) * np.timedelta64(1, "D"),
        scale=np.full(N_ROWS, BAR_SCALE),
        climatology=np.tile(climatology, (N_ROWS, 1, 1)),
        feature_names=names,
        tickers=("ASKED",),
        horizons=horizons,
        horizon_bars=bars,
        history=History(
            returns, np.zeros(N_ROWS, dtype=np.int64), np.arange(N_BARS - N_ROWS, N_BARS)
        ),
    )
