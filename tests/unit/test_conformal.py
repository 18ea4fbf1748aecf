"""Calibration: what the four ways do, held against a naive twin; and what split guarantees."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.specs import ModelSpec
from candlecast.errors import BadArtifact, NotEnoughHistory
from candlecast.models import conformal
from candlecast.models.artifact import make_base_model
from candlecast.models.conformal import Calibrated, load_model, make_model, save_model
from candlecast.models.volatility import Ewma
from markets import make_examples

PAST = make_examples(seed=1, n_days=300)
ROWS = make_examples(seed=2, n_days=30).without_outcomes()
HAR = partial(make_base_model, ModelSpec("har"), 7)
SPECS = {
    "split": ModelSpec("har", calibration="split", calibration_share=0.3),
    "refit": ModelSpec("har", calibration="refit", calibration_share=0.3),
    "cross": ModelSpec("har", calibration="cross", calibration_folds=3),
    "none": ModelSpec("har", calibration="none"),
}


class Narrow(Ewma):
    """Says half of the spread that it believes in."""

    def predict(self, rows):  # type: ignore[no-untyped-def]
        return super().predict(rows) / 2


def quantile_by_rank(values: list[float], level: float) -> float:
    """The value of rank level (n + 1), between two ranks in proportion."""
    ordered = sorted(values)
    rank = min(max(level * (len(ordered) + 1), 1), len(ordered))
    low = int(rank)
    high = min(low + 1, len(ordered))
    return ordered[low - 1] + (rank - low) * (ordered[high - 1] - ordered[low - 1])


def naive(examples: Examples, cuts: list[np.datetime64], *, is_refitted: bool) -> np.ndarray:
    """Scores row by row from models fitted before each cut, then read off row by row."""
    ends = [*cuts[1:], examples.as_of[-1]]
    scores: list[list[float]] = [[], []]
    for cut, end in zip(cuts, ends, strict=True):
        model = HAR().fit(examples.known_by(cut))
        later = examples.take((examples.as_of > cut) & (examples.as_of <= end))
        for made, outcomes in zip(model.predict(later), later.y, strict=True):
            for h, y in enumerate(outcomes):
                if not np.isnan(y):
                    scores[h].append(float(dist.score_of(made[h], y)))
    final = HAR().fit(examples) if is_refitted else model
    later = examples.take(examples.as_of > cuts[0])
    answer = final.predict(ROWS)
    for h in range(2):
        n = later.n_effective(h)
        trust = n / (n + conformal.PRIOR_OUTCOMES)
        read = [
            trust * quantile_by_rank(scores[h], level) + (1 - trust) * score
            for level, score in zip(dist.LEVELS, dist.SCORES, strict=True)
        ]
        answer[:, h] = dist.at_scores(answer[:, h], np.array(read))
    return answer


def test_every_way_of_calibrating_does_what_its_definition_says() -> None:
    days = np.unique(PAST.as_of)
    after_210 = [days[210]]
    quarters = [days[74], days[149], days[224]]
    expected = {
        "split": naive(PAST, after_210, is_refitted=False),
        "refit": naive(PAST, after_210, is_refitted=True),
        "cross": naive(PAST, quarters, is_refitted=True),
        "none": HAR().fit(PAST).predict(ROWS),
    }
    for way, spec in SPECS.items():
        made = make_model(spec, 7).fit(PAST).predict(ROWS)
        assert made == pytest.approx(expected[way], abs=1e-12), way
    assert not np.array_equal(expected["split"], expected["refit"])


def test_no_outcome_reaches_a_model_that_is_asked_about_its_time() -> None:
    seen: list[tuple[np.datetime64, np.datetime64]] = []

    class Watching(Ewma):
        def fit(self, examples: Examples) -> Watching:
            known = ~np.isnan(examples.y)
            self.until = examples.end_at[known].max()
            return super().fit(examples)

        def predict(self, rows):  # type: ignore[no-untyped-def]
            seen.append((self.until, rows.as_of.min()))
            assert not hasattr(rows, "y")
            return super().predict(rows)

    model = Calibrated(Watching, calibration="cross", n_folds=4).fit(PAST)
    assert len(seen) == 4
    assert all(until < asked for until, asked in seen)
    assert model.model.until == PAST.as_of[-1]


@pytest.mark.parametrize("way", SPECS)
def test_fitting_twice_is_fitting_once_and_what_is_saved_comes_back(
    way: str, tmp_path: Path
) -> None:
    model = make_model(SPECS[way], 7).fit(make_examples(seed=5, n_days=300))
    model.fit(PAST)
    made = model.predict(ROWS)
    assert np.array_equal(made, make_model(SPECS[way], 7).fit(PAST).predict(ROWS))
    sha256 = save_model(model, SPECS[way], tmp_path)
    assert np.array_equal(load_model(tmp_path, sha256).predict(ROWS), made)


def test_split_keeps_its_promise_for_few_outcomes_whatever_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of n exchangeable outcomes and one more, rank p (n + 1): the error is 1 / (n + 1) at most.
    monkeypatch.setattr(conformal, "PRIOR_OUTCOMES", 0.0)
    levels = [2, 8, 14]
    below, n_runs = np.zeros(len(levels)), 120
    for seed in range(n_runs):
        past = make_examples(seed=seed, n_days=100)
        future = make_examples(seed=1000 + seed, n_days=200)
        n = int(round(100 * 0.3) - 1) * 3
        made = Calibrated(Narrow, 0.3).fit(past).predict(future)[:, 0]
        known = ~np.isnan(future.y[:, 0])
        below += (future.y[known, :1] <= made[known][:, levels]).mean(axis=0) / n_runs
    sampling_error = 3 * 0.5 / np.sqrt(n * n_runs)
    assert np.abs(below - dist.LEVELS[levels]).max() < 1 / n + sampling_error


def test_few_outcomes_move_the_scale_by_what_they_are_worth() -> None:
    raw, repaired = Narrow().fit(PAST), Calibrated(Narrow, 0.3).fit(PAST)
    wider = repaired.predict(ROWS)[:, 1, -3] / raw.predict(ROWS)[:, 1, -3]
    # 90 days of five bars each, three symbols: about 32 independent outcomes beside 50.
    assert 1.2 < np.median(wider) < 1.6
    assert metrics.average(wider) == pytest.approx(np.median(wider), rel=0.2)


def test_too_short_a_history_says_what_it_lacks() -> None:
    short = make_examples(seed=1, n_days=60)
    for spec in (ModelSpec("ewma", calibration="refit", calibration_share=0.1),):
        with pytest.raises(NotEnoughHistory, match="outcomes to calibrate on"):
            make_model(spec, 7).fit(short)


@pytest.mark.parametrize(
    "state", ["{}", '{"scores": []}', '{"scores": [[1, 2]]}', '{"scores": "x"}', '{"scores": [1]}']
)
def test_a_calibration_that_is_none_is_refused(state: str, tmp_path: Path) -> None:
    save_model(make_model(SPECS["none"], 7).fit(PAST), SPECS["none"], tmp_path)
    (tmp_path / "conformal.json").write_text(state)
    with pytest.raises((BadArtifact, KeyError, ValueError)):
        Calibrated.restored(HAR(), tmp_path)
