"""Forests over bins of returns, and trees that are saved in two forms."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.catalog import MODELS
from candlecast.domain.specs import ModelSpec
from candlecast.errors import BadArtifact, FitFailed, InvalidSpec, NotFitted
from candlecast.models import forest as forest_module
from candlecast.models.artifact import make_base_model
from candlecast.models.binned_returns import ReturnBins, Trust
from candlecast.models.boosting import BinnedInputs, LightGbm
from candlecast.models.catboost_trees import CatBoost
from candlecast.models.forest import Forest
from candlecast.models.forest_graph import ForestGraph
from candlecast.models.forest_paths import ForestPaths
from candlecast.models.xgboost_trees import XgBoost
from markets import make_examples

FEW = {"n_estimators": 20, "n_jobs": 1}
BOOSTED = {"xgboost": XgBoost, "catboost": CatBoost}
every_booster = pytest.mark.parametrize("kind", BOOSTED)


@cache
def standard_bins() -> tuple[ReturnBins, np.ndarray]:
    target = np.random.default_rng(0).standard_t(5, 20_000)
    return ReturnBins.fitted(target, np.ones(len(target)), 11, 1e6), target


def test_base_rates_give_the_distribution_of_the_training_returns() -> None:
    bins, target = standard_bins()
    quantiles = bins.quantiles(np.ones((1, 11)))[0]
    np.testing.assert_allclose(quantiles, np.quantile(target, dist.LEVELS), atol=0.02)


@given(st.lists(st.floats(1e-3, 5.0), min_size=11, max_size=11))
def test_a_forecast_has_the_probability_that_each_bin_was_given(ratios: list[float]) -> None:
    bins, _ = standard_bins()
    share = np.array(ratios) * bins.expected
    share /= share.sum()
    quantiles = bins.quantiles(np.array([ratios]))[0]
    assert (np.diff(quantiles) >= 0).all()
    # Every quantile lies in the bin in which the cumulated shares put its level.
    level_of_cut = np.cumsum(share)[:-1]
    for cut, level in zip(bins.cuts, level_of_cut, strict=True):
        assert (quantiles[level - 1e-9 > dist.LEVELS] <= cut + 1e-9).all()
        assert (quantiles[level + 1e-9 < dist.LEVELS] >= cut - 1e-9).all()


def test_returns_that_are_often_zero_leave_bins_empty_and_do_no_harm() -> None:
    examples = make_examples(seed=3)
    examples.y[::2] = np.where(np.isnan(examples.y[::2]), np.nan, 0.0)
    quantiles = Forest(**FEW).fit(examples).predict(examples.without_outcomes())
    assert np.isfinite(dist.check_quantiles(quantiles)).all()


@pytest.mark.parametrize("n_bins", [3, 15])
def test_width_and_direction_are_believed_only_where_they_are_there(n_bins: int) -> None:
    parameters = {**FEW, "n_bins": n_bins}
    for volatility_signal, edge in ((0.5, 0.0), (0.0, 0.4), (0.0, 0.0)):
        examples = make_examples(
            seed=1, n_days=1500, edge=edge, volatility_signal=volatility_signal
        )
        model = Forest(**parameters).fit(examples)
        trust = model._horizons[0][2]
        assert (trust.width > 0) == (volatility_signal > 0)
        assert (trust.direction > 0) == (edge > 0)


def test_a_random_walk_has_no_direction() -> None:
    for seed in range(8):
        examples = make_examples(seed=seed, n_days=300, volatility_signal=0.0)
        for _, _, trust in Forest(**FEW).fit(examples)._horizons:
            assert trust == Trust()


def test_a_forest_that_sees_the_volatility_is_better_than_one_that_does_not() -> None:
    past = make_examples(seed=1, n_days=1500, volatility_signal=0.5)
    future = make_examples(seed=2, n_days=500, volatility_signal=0.5)
    known = ~np.isnan(future.y[:, 0])
    quantiles = Forest(**FEW).fit(past).predict(future)[known, 0]
    plain = make_base_model(ModelSpec(kind="ewma"), 7).fit(past).predict(future)[known, 0]
    ours, theirs = (metrics.crps(q, future.y[known, 0]).mean() for q in (quantiles, plain))
    assert ours < 0.97 * theirs
    for level in (0.5, 0.8, 0.95):
        covered = metrics.coverage(metrics.pit(quantiles, future.y[known, 0]), level)
        assert covered == pytest.approx(level, abs=0.04)


def test_the_graph_decides_like_the_forest_where_float32_is_coarse() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    X = (1e6 + rng.integers(0, 40, (3000, 4)) / 16).astype(np.float32)
    forest = RandomForestClassifier(20, min_samples_leaf=5, random_state=1)
    forest.fit(X, (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > X[:, 3]))
    graph = ForestGraph.of(forest, 3, X[:100])
    np.testing.assert_allclose(graph.probabilities(X), forest.predict_proba(X), atol=1e-6)


def test_a_graph_that_does_not_agree_with_its_forest_is_refused() -> None:
    from sklearn.ensemble import RandomForestClassifier

    X = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    X[::3, 0] = np.nan  # scikit-learn learns that these go left, the graph does not
    forest = RandomForestClassifier(3, random_state=1).fit(X, (X[:, 0] > 0).astype(int))
    with pytest.raises(BadArtifact, match="finite"):
        ForestGraph.of(forest, 2, X)


def test_what_features_add_to_a_forest_sums_up_to_what_it_says() -> None:
    examples = make_examples(seed=1, n_days=1200, volatility_signal=0.5)
    model = Forest(**FEW).fit(examples)
    graph, worth = model._horizons[0][0], np.linspace(-1, 2, 11)
    X = examples.X[:3000]
    paths = ForestPaths(graph._file.content, worth)
    said = graph.probabilities(X) @ worth
    added = paths.contributions(X).sum(axis=1)
    np.testing.assert_allclose(paths.base() + added, said, atol=1e-5)
    asked = replace(examples, X=examples.X[:, ::-1], feature_names=examples.feature_names[::-1])
    found = model.contributions(asked.take(np.arange(300)))
    assert found.shape == (300, 2, 5)
    sizes = np.abs(found).mean(axis=(0, 1))
    assert np.argmax(sizes) == asked.feature_names.index("har_1")
    # The features that add to the log of the distance are those that move the width.
    quantiles = model.predict(examples.take(np.arange(300)))[:, 0]
    width = np.log((quantiles[:, -4] - quantiles[:, 3]) / examples.scale[:300])
    assert np.corrcoef(width, found[:, 0].sum(axis=1))[0, 1] > 0.95


def test_a_forest_that_would_be_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forest_module, "MAX_BYTES", 10_000)
    model = Forest(**FEW).fit(make_examples(seed=1))
    with pytest.raises(BadArtifact, match="lower n_estimators"):
        model.save(tmp_path)


def test_a_forest_says_what_is_wrong() -> None:
    with pytest.raises(InvalidSpec, match="at least 3"):
        Forest(n_bins=2)
    with pytest.raises(NotFitted):
        Forest().predict(make_examples(seed=1))
    with pytest.raises(FitFailed, match="needs 40"):
        Forest(**FEW).fit(make_examples(seed=1, n_days=10))


@every_booster
def test_contributions_and_their_base_add_up_to_the_log_of_the_scale(
    kind: str, tmp_path: Path
) -> None:
    examples = make_examples(seed=1, n_days=800)
    model = BOOSTED[kind](**FEW).fit(examples)
    model.save(tmp_path)
    loaded = BOOSTED[kind].load(tmp_path)
    X = examples.X[:50]
    for scale in (model._scales[0], loaded._scales[0]):
        base = np.log(scale.predict(X)) - scale.contributions(X).sum(axis=1)
        np.testing.assert_allclose(base, base[0], atol=1e-5)
        shares = scale.importances()
        assert shares.sum() == pytest.approx(1)
        assert np.argmax(shares) == examples.feature_names.index("har_1")


@every_booster
def test_threads_do_not_change_a_bit_of_the_files(kind: str, tmp_path: Path) -> None:
    examples = make_examples(seed=1, n_days=1500)
    files = []
    for n_jobs in (1, 2):
        folder = tmp_path / str(n_jobs)
        folder.mkdir()
        BOOSTED[kind](n_estimators=10, n_jobs=n_jobs).fit(examples).save(folder)
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]


@every_booster
def test_a_direction_that_is_there_is_found_and_one_that_is_not_is_not(kind: str) -> None:
    for edge, is_found in ((0.4, True), (0.0, False)):
        examples = make_examples(seed=1, n_days=1200, edge=edge)
        model = BOOSTED[kind](**FEW).fit(examples)
        assert (model._shrinkage[0] > 0) == is_found


def test_without_its_library_catboost_is_listed_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "catboost", None)
    assert "catboost" in MODELS.names()
    model = make_base_model(ModelSpec(kind="catboost"), 7)
    with pytest.raises(InvalidSpec, match=r"pip install 'candlecast\[catboost\]'"):
        model.fit(make_examples(seed=1))


def test_catboost_without_its_library_still_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examples = make_examples(seed=1)
    model = CatBoost(n_estimators=5, n_jobs=1).fit(examples)
    model.save(tmp_path)
    expected = model.predict(examples)
    monkeypatch.setitem(sys.modules, "catboost", None)
    loaded = CatBoost.load(tmp_path)
    np.testing.assert_allclose(loaded.predict(examples), expected, rtol=1e-5, atol=1e-8)


@given(st.data())
def test_a_part_of_binned_rows_grows_the_trees_of_the_same_rows_binned_apart(data) -> None:  # type: ignore[no-untyped-def]
    import lightgbm

    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    X, target, weight = rng.standard_normal((400, 4)), rng.random(400), rng.random(400) + 0.1
    parameters = vars(LightGbm(n_jobs=1, min_data_in_leaf=20))["_parameters"] | {
        "objective": "gamma",
        "min_data_in_leaf": 20,
    }
    whole = BinnedInputs.of(X, parameters)
    first = np.sort(rng.permutation(400)[: data.draw(st.integers(100, 400))])
    second = rng.random(len(first)) < 0.8
    part = whole.take(first).take(second)
    at = first[second]
    np.testing.assert_array_equal(part.X, X[at])
    alone = lightgbm.Dataset(
        X[at].astype(np.float32), target[at], reference=whole.binned, weight=weight[at]
    )
    grown = [
        lightgbm.train(parameters, data, 10).model_to_string()
        for data in (part.dataset(target[at], weight[at]), alone)
    ]
    assert grown[0] == grown[1]
