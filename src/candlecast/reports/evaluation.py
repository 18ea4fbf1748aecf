"""What an evaluation found, as plain values and frames: what is written, drawn and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation of one experiment.

    Attributes
    ----------
    facts : what was judged: data span, symbols, spec, seed, versions, trials
    verdicts : by part, then ``overall`` or horizon: the phrase and a sentence for a trader
    overall, per_fold, per_symbol, per_year : see `reports.cards.cards`, by part, fold, symbol, year
    confusion : how often which class came and was said
    calibration : see `reports.calibration.calibration`, with intervals of the coverage
    comparisons : skill against each reference with interval, and tests
    uniformity : tests of the PIT
    importances : a row for each measure and feature, a column for each fold
    deletions : what deleting costs, by fold; empty where the model does not say what it looks at
    """

    facts: dict[str, Any]
    verdicts: dict[str, dict[str, dict[str, str]]]
    overall: pl.DataFrame
    per_fold: pl.DataFrame
    per_symbol: pl.DataFrame
    per_year: pl.DataFrame
    confusion: pl.DataFrame
    calibration: pl.DataFrame
    comparisons: pl.DataFrame
    uniformity: pl.DataFrame
    importances: pl.DataFrame
    deletions: list[dict[str, Any]]

    def as_values(self) -> dict[str, Any]:
        """All but the long tables as plain values, ready for JSON."""
        return {
            "facts": self.facts,
            "verdicts": self.verdicts,
            "overall": self.overall.to_dicts(),
            "comparisons": self.comparisons.to_dicts(),
            "uniformity": self.uniformity.to_dicts(),
            "confusion": self.confusion.to_dicts(),
            "top_features": self.top_features(),
            "deletions": self.deletions,
        }

    def top_features(self, n: int = 10) -> dict[str, list[dict[str, Any]]]:
        """The `n` most important features of each measure with mean, deviation and rank."""
        columns = ["rank", "feature", "mean", "std"]
        return {
            str(measure): own.sort("rank").head(n).select(columns).to_dicts()
            for (measure,), own in self.importances.group_by("measure", maintain_order=True)
        }
