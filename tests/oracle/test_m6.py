"""The M6 competition: our scores are the official ones, to the last digit they were given with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast import metrics
from candlecast.domain.ranks import shared_classes

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "m6"
MONTHS = (1, 2, 3)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"real data are not at {FOLDER}")


@pytest.fixture(scope="module")
def outcomes():
    """The symbols and their classes, by month: from the first close within it to the last."""
    prices = pl.read_parquet(FOLDER / "m6_prices_periods_1_3.parquet").sort("symbol", "ts")
    periods = pl.read_parquet(FOLDER / "m6_periods.parquet")
    found = {}
    for month in MONTHS:
        _, start, end = periods.row(month - 1)
        within = prices.filter(pl.col("ts").dt.replace_time_zone(None).is_between(start, end))
        ends = within.group_by("symbol", maintain_order=True).agg(
            pl.col("adj_close").last() / pl.col("adj_close").first()
        )
        found[month] = ends["symbol"].to_list(), shared_classes(ends["adj_close"].to_numpy())
    return found


def test_every_official_score_is_ours(outcomes):
    submissions = pl.read_parquet(FOLDER / "m6_golden_submissions_1_3.parquet").sort("ID")
    scores = pl.read_parquet(FOLDER / "m6_golden_scores_1_3.parquet")
    assert len(scores) == 9
    for month, name, official in scores.select("period", "submission", "rps").iter_rows():
        own = submissions.filter(pl.col("period") == month, pl.col("submission") == name)
        symbols, classes = outcomes[month]
        assert own["ID"].to_list() == symbols
        probabilities = own.select(f"Rank{number}" for number in range(1, 6)).to_numpy()
        ours = metrics.average(metrics.rps(probabilities, classes))
        assert ours == pytest.approx(official, abs=1e-10), (month, name)


def test_the_competitions_benchmark_scores_0_16_in_every_month(outcomes):
    for symbols, classes in outcomes.values():
        uniform = np.full((len(symbols), 5), 0.2)
        assert metrics.average(metrics.rps(uniform, classes)) == pytest.approx(0.16, abs=1e-12)
        np.testing.assert_allclose(classes.sum(axis=0), 20)
