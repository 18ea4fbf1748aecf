"""Ensembles: mixtures and averages of given weights, and what members they take."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain import distribution as dist
from candlecast.domain.mixture import mixture_quantiles
from candlecast.domain.specs import ModelSpec
from candlecast.errors import BadArtifact, InvalidSpec, NotFitted
from candlecast.models.artifact import make_base_model, read_json, write_json
from candlecast.models.ensemble import Averaging, Voting
from markets import make_examples

TWO = (ModelSpec("har"), ModelSpec("ewma"))


def quantiles_of(seed: int, n_rows: int = 50, n_members: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pieces = np.abs(rng.standard_normal((n_rows, n_members, 17))) * 0.01
    return np.cumsum(pieces, axis=-1) + 0.03 * rng.standard_normal((n_rows, n_members, 1))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n_members=st.integers(1, 4), spread=st.floats(0.0, 1.0))
def test_a_mixtures_distribution_function_is_the_average_of_the_members(
    seed: int, n_members: int, spread: float
) -> None:
    quantiles = quantiles_of(seed, 20, n_members) * np.exp(spread * np.arange(n_members))[:, None]
    weights = np.random.default_rng(seed).dirichlet(np.ones(n_members), size=20)
    mixed = dist.check_quantiles(mixture_quantiles(quantiles, weights))
    functions = dist.probability_below(quantiles[:, :, None], mixed[:, None])
    average = (weights[:, :, None] * functions).sum(axis=1)
    np.testing.assert_allclose(average, np.tile(dist.LEVELS, (20, 1)), atol=1e-9)


def test_a_mixture_of_the_same_forecast_is_that_forecast() -> None:
    one = quantiles_of(3)[:, :1]
    mixed = mixture_quantiles(np.repeat(one, 3, axis=1), np.array([0.2, 0.5, 0.3]))
    np.testing.assert_allclose(mixed, one[:, 0], rtol=1e-12, atol=1e-15)


def test_a_mixture_keeps_a_jump_that_a_member_has() -> None:
    # Half a symbol that stands still, half a Gaussian: the generalised inverse by brute force.
    still = np.zeros(17)
    still[:4], still[-4:] = [-0.04, -0.03, -0.02, -0.01], [0.01, 0.02, 0.03, 0.04]
    both = np.stack([still, 0.02 * dist.SCORES])[None]
    grid = np.linspace(-0.1, 0.1, 400_001)
    function = dist.probability_below(both[0][:, None], grid[None]).mean(axis=0)
    expected = grid[np.searchsorted(function, dist.LEVELS)]
    mixed = mixture_quantiles(both, np.array([0.5, 0.5]))[0]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    assert (mixed == 0).sum() >= 3


def test_votes_average_class_probabilities_and_averages_average_widths() -> None:
    examples = make_examples(seed=3, n_days=200)
    members = tuple(partial(make_base_model, spec, 7) for spec in TWO)
    rows = examples.without_outcomes()
    own = [make().fit(examples).predict(rows) for make in members]
    voted = Voting(members=members).fit(examples).predict(rows)
    averaged = Averaging(members=members, weights="3,1").fit(examples).predict(rows)
    edge = 0.5 * rows.horizon_scale()
    classes = [dist.class_probabilities(q, -edge, edge) for q in own]
    expected = (classes[0] + classes[1]) / 2
    np.testing.assert_allclose(
        dist.class_probabilities(voted, -edge, edge), expected, rtol=0, atol=0.006
    )
    np.testing.assert_allclose(averaged, 0.75 * own[0] + 0.25 * own[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("weights", ["1", "1,1,1", "1,-1", "0,0", "a,b", "nan,1", "inf,1"])
def test_weights_that_make_no_sense_are_refused(weights: str) -> None:
    with pytest.raises(InvalidSpec, match="weights"):
        make_base_model(ModelSpec("voting", {"weights": weights}, members=TWO), 7)


def test_what_a_member_cannot_take_is_told_before_the_work() -> None:
    with pytest.raises(InvalidSpec, match="members"):
        make_base_model(ModelSpec("voting"), 7)
    with pytest.raises(InvalidSpec, match="17 members"):
        make_base_model(ModelSpec("averaging", members=(ModelSpec("ewma"),) * 17), 7)


def test_ensembles_of_ensembles_come_back_from_their_files(tmp_path: Path) -> None:
    examples = make_examples(seed=5, n_days=200)
    inner = ModelSpec("averaging", {"weights": "2,1"}, members=TWO)
    spec = ModelSpec("voting", members=(inner, ModelSpec("climatology")))
    model = make_base_model(spec, 7).fit(examples)
    model.save(tmp_path)
    loaded = Voting.load(tmp_path)
    assert (tmp_path / "member_0" / "member_1" / "model.json").is_file()
    np.testing.assert_array_equal(loaded.predict(examples), model.predict(examples))
    with pytest.raises(NotFitted, match="no members"):
        loaded.fit(examples)
    state = read_json(tmp_path / "model.json")
    write_json(tmp_path / "model.json", state | {"kinds": ["har", "../har"]})
    with pytest.raises(BadArtifact, match="cannot load"):
        Voting.load(tmp_path)
    for weights in ([0.5, 0.5], [[0.5, 0.6]], [[1.5, -0.5]], [[1.0]], [[float("nan"), 1.0]]):
        (tmp_path / "model.json").write_text(json.dumps(state | {"weights": weights}))
        with pytest.raises(BadArtifact):
            Voting.load(tmp_path)


class Knowing:
    """A model that says what its forecasts rest on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, examples):
        return self

    def predict(self, rows):
        return rows.climatology

    def importances(self):
        return {self.name: 0.5, "noise": 0.5}

    def contributions(self, rows):
        shown = np.array([float(name == self.name) for name in rows.feature_names])
        return np.tile(shown, (len(rows), len(rows.horizons), 1))


def test_explanations_are_the_weighted_average_of_the_members_that_have_any() -> None:
    examples = make_examples(seed=5, n_days=60)
    climatology = partial(make_base_model, ModelSpec("climatology"), 7)
    members = (lambda: Knowing("har_1"), lambda: Knowing("signal"), climatology)
    model = Averaging(weights="2,1,1", members=members).fit(examples)
    assert model.importances() == pytest.approx({"har_1": 1 / 3, "signal": 1 / 6, "noise": 0.5})
    shown = model.contributions(examples)
    assert shown.shape == (len(examples), 2, 5)
    np.testing.assert_allclose(shown[0, 0], [0.5, 0.0, 0.0, 0.0, 0.25])
