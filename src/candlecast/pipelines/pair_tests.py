"""Every comparison of a report: two forecasters, one loss, one horizon, one part; tested once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import polars as pl

from candlecast.domain.market import Horizon
from candlecast.pipelines.report import SEED
from candlecast.reports.cards import ALL
from candlecast.reports.scored import CLIMATOLOGY, reference_names
from candlecast.validation.comparison import DieboldMariano, are_equal, diebold_mariano, holm
from candlecast.validation.deflation import MIN_VALUES, deflated_sharpe
from candlecast.validation.significance import SkillTest, by_date, reference_margin, skill_test

OVERALL: Final = "overall"
N_PAST: Final = "n_past"
LOSSES: Final = ("crps", "brier")
"""Of the distribution, and of the direction."""
Pair: TypeAlias = tuple[str, str, str, str]
"""Horizon or ``overall``, part, loss and reference."""


@dataclass(frozen=True)
class PairTest:
    """Whether a loss is smaller than that of a reference; None where there is too little data.

    `statistic` and the one-sided `p_value` are Diebold and Mariano's; `p_adjusted` counts all that
    was compared or tried; `deflated_sharpe` is that of the loss saved from date to date.
    """

    skill: SkillTest
    statistic: float | None
    p_value: float | None
    p_adjusted: float | None
    deflated_sharpe: float | None


def pair_tests(rows: pl.DataFrame, n_trials: int = 0) -> dict[Pair, PairTest]:
    """What each comparison of a report says once it is counted how many there are.

    `rows` are those of `reports.scored.score` with `n_past`; of all horizons together only
    climatology is compared. Adjusted for all comparisons, or `n_trials` models where they are more.
    """
    groups = {
        (horizon, part, loss, name): own
        for horizon, part, own in [*wholes(rows), *parts(rows)]
        for loss, name in pairs_of(own)
        if horizon != OVERALL or name == CLIMATOLOGY
    }
    compared = {pair: _diebold_mariano(own, *pair[2:]) for pair, own in groups.items()}
    told = {pair: dm.p_better for pair, dm in compared.items() if dm.p_better is not None}
    adjusted = holm(told, max(n_trials, len(told)))
    return {
        pair: PairTest(
            skill=_skill(own, *pair[2:]),
            statistic=compared[pair].statistic,
            p_value=compared[pair].p_better,
            p_adjusted=adjusted.get(pair),
            deflated_sharpe=None if pair[0] == OVERALL else _deflated(own, *pair[2:], n_trials),
        )
        for pair, own in groups.items()
    }


def parts(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Horizon, part and rows: of each horizon all, then development and holdout."""
    for horizon in sorted(rows["horizon"].unique(), key=lambda name: Horizon.parse(name).rank):
        own = rows.filter(pl.col("horizon") == horizon)
        yield horizon, ALL, own
        for part in sorted(own["part"].unique()):
            yield horizon, part, own.filter(pl.col("part") == part)


def wholes(rows: pl.DataFrame) -> list[tuple[str, str, pl.DataFrame]]:
    """``overall``, part and rows of all horizons: all, then development and holdout.

    Outcomes of different length are no one series: each score is put in units of its horizon's
    reference before they are averaged.
    """
    unit = pl.col(f"crps_{CLIMATOLOGY}").mean().over("horizon")
    scaled = rows.with_columns(pl.col("crps") / unit, pl.col(f"crps_{CLIMATOLOGY}") / unit)
    named = [
        (part, scaled.filter(pl.col("part") == part)) for part in sorted(rows["part"].unique())
    ]
    return [(OVERALL, part, own) for part, own in [(ALL, scaled), *named]]


def pairs_of(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """Each loss and the reference that it is held against."""
    return [("crps", name) for name in reference_names(rows)] + [("brier", CLIMATOLOGY)]


def _skill(rows: pl.DataFrame, loss: str, reference: str) -> SkillTest:
    return skill_test(
        rows[loss].to_numpy(),
        rows[f"{loss}_{reference}"].to_numpy(),
        rows["date"].to_numpy(),
        horizon_bars=_n_bars(rows),
        seed=SEED,
        margin=_margin(rows, reference),
    )


def _diebold_mariano(rows: pl.DataFrame, loss: str, reference: str) -> DieboldMariano:
    return diebold_mariano(
        rows[loss].to_numpy(),
        rows[f"{loss}_{reference}"].to_numpy(),
        rows["date"].to_numpy(),
        horizon_bars=_n_bars(rows),
    )


def _deflated(rows: pl.DataFrame, loss: str, reference: str, n_trials: int) -> float | None:
    losses = rows.select(loss, f"{loss}_{reference}").to_numpy().T
    ours, theirs = by_date(losses, rows["date"].to_numpy())
    saved = (1 - _margin(rows, reference)) * theirs - ours
    if len(saved) < MIN_VALUES * _n_bars(rows) or are_equal(ours, theirs):
        return None
    return deflated_sharpe(saved, max(n_trials, 1), n_overlapping=_n_bars(rows))


def _margin(rows: pl.DataFrame, reference: str) -> float:
    # What a reference loses because it is estimated; others are taken for what they are.
    if reference != CLIMATOLOGY:
        return 0.0
    return reference_margin(rows[N_PAST].to_numpy(), rows["horizon_bars"].to_numpy())


def _n_bars(rows: pl.DataFrame) -> int:
    return int(rows["horizon_bars"].max())  # type: ignore[arg-type]
