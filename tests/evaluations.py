"""An evaluation of a small market, put together without stores, for the tests of reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from candlecast.domain import distribution as dist
from candlecast.domain.described import to_mapping
from candlecast.domain.examples import Examples
from candlecast.domain.spec_text import as_toml
from candlecast.domain.specs import ExperimentSpec
from candlecast.pipelines import evidence
from candlecast.pipelines.pair_tests import pair_tests
from candlecast.reports.calibration import calibration
from candlecast.reports.cards import by_part, cards, confusions
from candlecast.reports.evaluation import Evaluation
from candlecast.reports.scored import score
from candlecast.validation.walk_forward import OutOfSample
from markets import make_examples


def made_of(examples: Examples, *, seed: int = 3, share: float = 0.5) -> OutOfSample:
    """Forecasts of the later rows: the width follows har_1, the centre is a little noise."""
    rows = np.flatnonzero(np.arange(len(examples)) >= len(examples) * (1 - share))
    unit = examples.horizon_scale()[rows]
    width = np.exp(0.3 * examples.X[rows, 0]) / np.exp(0.09)
    shift = 0.1 * np.random.default_rng(seed).standard_normal(unit.shape)
    quantiles = unit[..., None] * (shift[..., None] + width[:, None, None] * dist.SCORES)
    fold = 1 + np.arange(len(rows)) * 3 // len(rows)
    return OutOfSample(rows, quantiles, fold, fold == 3)


def scored_rows(examples: Examples, made: OutOfSample, threshold: str = "scaled") -> pl.DataFrame:
    """The rows of a report, with a wider reference beside the climatology."""
    references = {"wide": 1.5 * made.quantiles}
    n_past = np.full((len(made.rows), len(examples.horizons)), 500.0)
    return score(examples, made, threshold, references, n_past)


def make_evaluation(symbol: str = "AAA") -> Evaluation:
    """All parts of a report; the first symbol is called `symbol`."""
    examples = make_examples(seed=11, n_days=400)
    examples = replace(examples, tickers=(symbol, *examples.tickers[1:]))
    rows = scored_rows(examples, made_of(examples))
    tests = pair_tests(rows)
    spec = ExperimentSpec(symbols=examples.tickers)
    names = [f"feature_{at:02}" for at in range(14)]
    importances = pl.DataFrame(
        {
            "measure": ["gain"] * 14 + ["permutation"] * 14,
            "rank": [*range(1, 15)] * 2,
            "feature": names * 2,
            "mean": [0.2 / at for at in range(1, 15)] * 2,
            "std": [0.02] * 28,
            "fold_1": [0.1] * 28,
        }
    )
    deletion = {"fold": 1, "kind": "contributions", "n_deleted": 5, "loss": 0.55, "n_rows": 90}
    deletion |= {"loss_top": 0.6, "loss_random": 0.56, "difference": 0.04, "interval": None}
    return Evaluation(
        facts=facts(spec, examples),
        verdicts=evidence.verdicts(rows, tests),
        overall=evidence.with_direction_intervals(by_part(rows), rows),
        per_fold=cards(rows, ["part", "fold"]),
        per_symbol=cards(rows, ["symbol"]),
        per_year=cards(rows, ["year"]),
        confusion=confusions(rows),
        calibration=evidence.with_intervals(calibration(rows), rows),
        comparisons=evidence.comparisons(rows, tests),
        uniformity=evidence.uniformity(rows),
        importances=importances,
        deletions=[deletion],
    )


def facts(spec: ExperimentSpec, examples: Examples) -> dict[str, object]:
    """What a report says of where it comes from."""
    return {
        "spec_id": spec.id,
        "spec": to_mapping(spec),
        "toml": as_toml(spec),
        "run_id": "0123456789abcdef",
        "seed": 7,
        "as_of": "2016-02-05T21:00:00+00:00",
        "data_sha256": "ab" * 32,
        "data_from": "2015-01-01",
        "data_until": "2016-02-04",
        "tested_from": "2015-07-20",
        "tested_until": "2016-02-04",
        "n_examples": len(examples),
        "n_tested": len(examples) // 2,
        "n_folds": 3,
        "symbols": list(examples.tickers),
        "simulated": [],
        "features": list(examples.feature_names),
        "n_trials": 12,
        "shortfalls": {},
        "versions": {"candlecast": "0", "python": "3"},
    }
