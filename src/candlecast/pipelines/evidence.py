"""Is it more than luck? The tests and intervals of an evaluation, and its verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from candlecast import metrics
from candlecast.domain.distribution import FloatArray
from candlecast.pipelines.dataset import TrainingSet
from candlecast.pipelines.label import compute_labels
from candlecast.pipelines.pair_tests import (
    LOSSES,
    Pair,
    PairTest,
    pairs_of,
    parts,
    wholes,
)
from candlecast.pipelines.report import SEED, verdict
from candlecast.reports.scored import CLIMATOLOGY
from candlecast.validation.significance import (
    SIGNIFICANCE,
    SKILL,
    TOO_LITTLE_DATA,
    SkillTest,
    mean_interval,
)
from candlecast.validation.uniformity import uniformity_test


def past_counts(training: TrainingSet) -> FloatArray:
    """(n_rows, n_horizons): how many outcomes of its symbol were known at each row's as_of."""
    labels = compute_labels(training.spec.labels, training.market).drop_nulls("value")
    keys = training.keys.select("symbol", "as_of").with_row_index("row").sort("as_of")
    counts = []
    for horizon in training.rows.horizons:
        known = labels.filter(pl.col("horizon") == horizon).sort("end_at")
        known = known.select("symbol", "end_at", n=pl.int_range(1, pl.len() + 1).over("symbol"))
        found = keys.join_asof(
            known, left_on="as_of", right_on="end_at", by="symbol", check_sortedness=False
        )
        counts.append(found.sort("row")["n"].fill_null(0).to_numpy().astype(float))
    return np.column_stack(counts)


def comparisons(rows: pl.DataFrame, tests: Mapping[Pair, PairTest]) -> pl.DataFrame:
    """Each horizon and part against each reference: skill, its interval, and two tests.

    `rows` and `tests` are those of `pair_tests`. The loss ``crps`` is about the distribution,
    ``brier`` about the direction. The skill and its block-bootstrap interval are of losses
    averaged by date; `p_value` is that of `skill_test`, `dm_p_value` of Diebold and Mariano's,
    both one-sided against the reference being as good; `dm_p_adjusted` is the latter after Holm.
    `deflated_sharpe` is the probability that more of the loss is saved than the best of all models
    tried would save by luck. Against climatology `p_value` and it ask for more than knowing the
    distribution that never changes would save.
    """
    found = []
    for horizon, part, _ in parts(rows):
        for loss, name in pairs_of(rows):
            test = tests[horizon, part, loss, name]
            low, high = test.skill.skill_interval or (None, None)
            found.append(
                {
                    "horizon": horizon,
                    "part": part,
                    "loss": loss,
                    "reference": name,
                    "skill": test.skill.skill,
                    "low": low,
                    "high": high,
                    "p_value": test.skill.p_value,
                    "dm_statistic": test.statistic,
                    "dm_p_value": test.p_value,
                    "dm_p_adjusted": test.p_adjusted,
                    "deflated_sharpe": test.deflated_sharpe,
                    "verdict": test.skill.verdict,
                    "n_dates": test.skill.n_dates,
                }
            )
    return pl.DataFrame(found, infer_schema_length=None).with_columns(
        pl.selectors.float().fill_nan(None)
    )


def uniformity(rows: pl.DataFrame) -> pl.DataFrame:
    """The test of the PIT of each horizon and part, with what its shape says."""
    found = []
    for horizon, part, own in parts(rows):
        tested = uniformity_test(
            own["pit"].to_numpy(), own["date"].to_numpy(), horizon_bars=own["horizon_bars"][0]
        )
        named = {"horizon": horizon, "part": part, "p_value": tested.p_value}
        found.append(named | tested.moments | {"n_dates": tested.n_dates})
    return pl.DataFrame(found, infer_schema_length=None)


def with_intervals(calibration: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """`calibration` with the 95 % block-bootstrap interval of each coverage as `low`, `high`."""
    groups = {(horizon, part): own for horizon, part, own in parts(rows)}

    def interval(row: dict[str, Any]) -> tuple[float | None, float | None]:
        if row["kind"] != "coverage":
            return row["low"], row["high"]
        own = groups[row["horizon"], row["part"]]
        distance = np.abs(own["pit"].to_numpy() - 0.5)
        is_inside = (distance <= row["expected"] / 2 + metrics.EDGE).astype(float)
        return _interval(own, is_inside)

    found = [interval(row) for row in calibration.iter_rows(named=True)]
    return calibration.with_columns(
        pl.Series("low", [low for low, _ in found], pl.Float64),
        pl.Series("high", [high for _, high in found], pl.Float64),
    )


def with_direction_intervals(overall: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The cards by part with the interval of the direction accuracy beside it."""
    groups = {(horizon, part): own for horizon, part, own in parts(rows)}
    found = [
        _interval(own := groups[horizon, part], own["hit"].to_numpy())
        for horizon, part in overall.select("horizon", "part").iter_rows()
    ]
    return overall.with_columns(
        pl.Series("direction_accuracy_low", [low for low, _ in found], pl.Float64),
        pl.Series("direction_accuracy_high", [high for _, high in found], pl.Float64),
    )


def verdicts(
    rows: pl.DataFrame, tests: Mapping[Pair, PairTest]
) -> dict[str, dict[str, dict[str, str]]]:
    """By part, then ``overall`` or horizon: the verdict and a sentence for a trader.

    The verdict is that of its own two tests; the sentence also counts how many were made, and
    how many models were tried, by `tests` as of `pair_tests`.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for horizon, part, _ in [*wholes(rows), *parts(rows)]:
        shape, direction = (tests[horizon, part, loss, CLIMATOLOGY] for loss in LOSSES)
        phrase = verdict(shape.skill.verdict, direction.skill.verdict)
        sentence = _sentence(shape.skill, direction.skill, shape.p_adjusted, direction.p_adjusted)
        found.setdefault(part, {})[horizon] = {"verdict": phrase, "sentence": sentence}
    return found


def _interval(rows: pl.DataFrame, values: FloatArray) -> tuple[float | None, float | None]:
    n_bars = int(rows["horizon_bars"][0])
    found = mean_interval(values, rows["date"].to_numpy(), horizon_bars=n_bars, seed=SEED)
    return found or (None, None)


def _sentence(
    shape: SkillTest,
    direction: SkillTest,
    shape_p_value: float | None,
    direction_p_value: float | None,
) -> str:
    if TOO_LITTLE_DATA in {shape.verdict, direction.verdict}:
        return (
            f"{shape.n_dates} dates are too few to tell skill from luck: bring more history, "
            "and trust no number here until then."
        )
    assert shape.skill_interval is not None
    saved, low, high = (f"{100 * share:+.1f} %" for share in (shape.skill, *shape.skill_interval))
    if shape.verdict == SKILL:
        how_far = (
            "How far prices move is forecast better than by each symbol's own past: loss saved "
            f"{saved}, 95 % interval {low} to {high}{_counted(shape_p_value)}."
        )
    else:
        how_far = (
            "How far prices move is not shown to be forecast better than by each symbol's own "
            f"past: loss saved {saved}, 95 % interval {low} to {high}; p = {shape.p_value:.2g}, "
            f"where at most {SIGNIFICANCE:g} would be proof."
        )
    where = (
        f"Which way they move is told better than by chance{_counted(direction_p_value)}."
        if direction.verdict == SKILL
        else "Which way they move is not told better than by chance: use the ranges, not the sign."
    )
    if SKILL not in {shape.verdict, direction.verdict}:
        where = "Nor is which way: do not trade on this model."
    return f"{how_far} {where}"


def _counted(p_value: float | None) -> str:
    # What is left of a proof when it was one of many chances to find one.
    if p_value is None or p_value <= SIGNIFICANCE:
        return ""
    return (
        f"; but among all that was compared and tried that may be luck: p = {p_value:.2g}, "
        f"where at most {SIGNIFICANCE:g} would be proof"
    )
