"""Scores of groups of forecasts: one flat row of numbers for each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain.market import Horizon
from candlecast.reports.scored import CLASSES, CLIMATOLOGY, reference_names

BANDS: Final = (0.5, 0.8, 0.9, 0.95)
"""The central bands whose coverage is told."""
ALL: Final = "all"


def cards(rows: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """A row of scores for each horizon and each group of the columns `by`, in their order.

    `rows` are those of `reports.scored.score`. MSE, RMSE and R² are of the mean and MAE of the
    median, in log returns; R² is against the outcomes' own mean. IC and rank IC are means over the
    dates of the correlation across symbols of the mean and the outcome, ICIR their mean over
    their standard deviation. Precision, recall and F1 are of each class. A skill is the share of
    the reference's loss that is saved. What cannot be computed is null.
    """
    key = ["horizon", *by]
    groups = rows.partition_by(key, as_dict=True, maintain_order=True)
    found = [dict(zip(key, values, strict=True)) | card(part) for values, part in groups.items()]
    frame = pl.DataFrame(found, infer_schema_length=None)
    floats = frame.with_columns(pl.selectors.float().fill_nan(None))
    ranks = {name: Horizon.parse(name).rank for name in frame["horizon"].unique()}
    rank = pl.col("horizon").replace_strict(ranks, return_dtype=pl.Int64)
    return floats.sort(rank, *by, maintain_order=True)


def by_part(rows: pl.DataFrame) -> pl.DataFrame:
    """`cards` of all rows of a horizon, and of development and holdout apart."""
    whole = rows.with_columns(pl.lit(ALL).alias("part"))
    both = pl.concat([cards(whole, ["part"]), cards(rows, ["part"])])
    horizons = {name: at for at, name in enumerate(dict.fromkeys(both["horizon"]))}
    order = pl.col("horizon").replace_strict(horizons)
    return both.sort(order, maintain_order=True)


def card(rows: pl.DataFrame) -> dict[str, Any]:
    """The scores of `rows`, of one horizon, as one flat row; see `cards`."""
    y, mean, median = (rows[name].to_numpy() for name in ("y", "mean", "median"))
    squared = (mean - y) ** 2
    pits = rows["pit"].to_numpy()
    return {
        "n": len(rows),
        "n_dates": rows["date"].n_unique(),
        "mse": metrics.average(squared),
        "rmse": metrics.average(squared) ** 0.5,
        "mae": metrics.average(np.abs(median - y)),
        "r2": metrics.r_squared(mean, y),
        "direction_accuracy": metrics.average(rows["hit"].to_numpy()),
        **_classes(rows),
        **{name: metrics.average(rows[name].to_numpy()) for name in _LOSSES},
        **_skills(rows),
        **{f"coverage_{level * 100:g}": metrics.coverage(pits, level) for level in BANDS},
        **_correlations(rows),
    }


def confusions(rows: pl.DataFrame) -> pl.DataFrame:
    """How many forecasts of each horizon and part said and met which class; (came, said, n)."""
    whole = rows.with_columns(pl.lit(ALL).alias("part"))
    found = []
    for frame in (whole, rows):
        for (horizon, part), own in frame.group_by("horizon", "part", maintain_order=True):
            counts = _confusion(own)
            found += [
                (horizon, part, came, said, int(counts[i, j]))
                for i, came in enumerate(CLASSES)
                for j, said in enumerate(CLASSES)
            ]
    return pl.DataFrame(found, ["horizon", "part", "came", "said", "n"], orient="row")


_LOSSES: Final = ("pinball", "crps", "brier", "rps")


def _classes(rows: pl.DataFrame) -> dict[str, float]:
    counts = _confusion(rows)
    scores = zip(("precision", "recall", "f1"), metrics.class_scores(counts), strict=True)
    return {
        "accuracy": float(np.trace(counts) / counts.sum()),
        **{
            f"{name}_{label}": float(value)
            for name, values in scores
            for label, value in zip(CLASSES, values, strict=True)
        },
    }


def _confusion(rows: pl.DataFrame) -> Any:
    return metrics.confusion(rows["came"].to_numpy(), rows["said"].to_numpy(), len(CLASSES))


def _skills(rows: pl.DataFrame) -> dict[str, float]:
    names = [(loss, name) for loss in ("crps", "pinball") for name in reference_names(rows)]
    return {
        f"{loss}_skill_{name}": metrics.skill(
            rows[loss].to_numpy(), rows[f"{loss}_{name}"].to_numpy()
        )
        for loss, name in (*names, ("brier", CLIMATOLOGY))
    }


def _correlations(rows: pl.DataFrame) -> dict[str, float]:
    forecast, outcome, when = (rows[name].to_numpy() for name in ("mean", "y", "date"))
    plain, ranked = (
        metrics.correlations_by_date(forecast, outcome, when, is_ranked=is_ranked)
        for is_ranked in (False, True)
    )
    return {
        "ic": metrics.average(plain),
        "icir": metrics.information_ratio(plain),
        "rank_ic": metrics.average(ranked),
        "rank_icir": metrics.information_ratio(ranked),
    }
