"""Are the stated probabilities kept? Coverage of bands, PIT histogram, reliability of P(up)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.reports.cards import ALL, BANDS

N_PIT_BINS: Final = 20
N_RELIABILITY_BINS: Final = 10
COLUMNS: Final = (
    *("horizon", "part", "kind", "lower", "upper", "expected", "observed", "n", "low", "high"),
)
"""What `calibration` returns."""


def calibration(rows: pl.DataFrame) -> pl.DataFrame:
    """Expected and observed shares of each horizon and part, `COLUMNS`.

    `kind` ``coverage``: outcomes within the central band of `expected` probability. ``pit``:
    outcomes that fell between the quantiles at levels `lower` and `upper`. ``reliability``: of a
    tenth of the forecasts by their P(up), its mean and how many rose. `n` forecasts are counted;
    `low` and `high` are the 95 % interval of what was observed, null where none is computed.
    """
    found = []
    for part in (rows.with_columns(pl.lit(ALL).alias("part")), rows):
        for (horizon, name), own in part.group_by("horizon", "part", maintain_order=True):
            parts = (*_coverage(own), *_pit(own), *_reliability(own))
            found += [(horizon, name, *values) for values in parts]
    return pl.DataFrame(found, COLUMNS, orient="row", infer_schema_length=None).with_columns(
        pl.selectors.float().fill_nan(None)
    )


def _coverage(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    pits = rows["pit"].to_numpy()
    shares = [(level, metrics.coverage(pits, level)) for level in BANDS]
    return [
        ("coverage", (1 - level) / 2, (1 + level) / 2, level, share, len(pits), None, None)
        for level, share in shares
    ]


def _pit(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    counts, edges = np.histogram(rows["pit"].to_numpy(), N_PIT_BINS, (0, 1))
    bins = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    n, share = len(rows), 1 / N_PIT_BINS
    return [("pit", low, high, share, count / n, n, None, None) for low, high, count in bins]


def _reliability(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    # Outcomes that overlap, and those of one date, count as one block.
    dates = np.unique(rows["date"].to_numpy(), return_inverse=True)[1]
    block = dates // (2 * int(rows["horizon_bars"][0]))
    found = metrics.reliability(
        rows["prob_up"].to_numpy(), rows["y"].to_numpy(), block, N_RELIABILITY_BINS
    )
    bins = zip(found.stated, found.came, found.n, found.low, found.high, strict=True)
    return [
        ("reliability", None, None, float(stated), float(came), int(n), float(low), float(high))
        for stated, came, n, low, high in bins
    ]
