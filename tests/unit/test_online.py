"""Online learning: batch by batch is the same as all at once, and nothing is learnt twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast import metrics
from candlecast.domain.catalog import Updatable
from candlecast.domain.examples import Examples
from candlecast.errors import BadArtifact, InvalidSpec, NotFitted
from candlecast.models.artifact import read_json, write_json
from candlecast.models.linear import Linear
from candlecast.models.online import EDGES, Online
from markets import make_examples

EXAMPLES = make_examples(seed=21, n_days=180, volatility_signal=0.5)
ROWS = make_examples(seed=22, n_days=50).without_outcomes()


def known(examples: Examples, day: int) -> Examples:
    return examples.known_by(np.unique(examples.as_of)[day])


def settled_between(examples: Examples, first: int, last: int) -> Examples:
    """What became known after day `first` and by day `last`: outcomes, each of them once."""
    earlier = np.unique(examples.as_of)[first]
    later = known(examples, last)
    y = np.where(later.end_at > earlier, later.y, np.nan)
    return replace(later, y=y).take(~np.isnan(y).all(axis=1))


@settings(deadline=None, max_examples=6)
@given(
    cuts=st.lists(st.integers(20, 170), min_size=1, max_size=3, unique=True).map(sorted),
    half_life=st.sampled_from([0.0, 90.0]),
)
def test_updates_give_the_same_digits_as_one_fit_on_all(cuts: list[int], half_life: float) -> None:
    whole = Online(half_life_days=half_life).fit(known(EXAMPLES, 175))
    model = Online(half_life_days=half_life).fit(known(EXAMPLES, cuts[0]))
    for first, last in zip(cuts, [*cuts[1:], 175], strict=True):
        model.update(settled_between(EXAMPLES, first, last))
    np.testing.assert_array_equal(model.predict(ROWS), whole.predict(ROWS))


def test_an_outcome_that_comes_again_is_not_learnt_again() -> None:
    once = Online().fit(known(EXAMPLES, 120))
    twice = Online().fit(known(EXAMPLES, 120)).update(known(EXAMPLES, 120))
    np.testing.assert_array_equal(twice.predict(ROWS), once.predict(ROWS))
    # So all that is known may be given: only what is later counts.
    once.update(settled_between(EXAMPLES, 120, 175))
    twice.update(known(EXAMPLES, 175))
    np.testing.assert_array_equal(twice.predict(ROWS), once.predict(ROWS))


@pytest.mark.parametrize("half_life", [0.0, 90.0])
def test_no_outcome_is_lost_where_those_of_one_symbol_come_later(half_life: float) -> None:
    # Each closes at its own hour, and the first has holidays before its horizons end.
    hours = EXAMPLES.symbol * np.timedelta64(1, "h")
    waits = np.where(EXAMPLES.symbol == 0, np.timedelta64(4, "D"), np.timedelta64(0, "D"))
    as_of, end_at = EXAMPLES.as_of + hours, EXAMPLES.end_at + (hours + waits)[:, None]
    examples = replace(EXAMPLES, as_of=as_of, end_at=end_at)
    instants = np.unique(EXAMPLES.as_of) + np.timedelta64(12, "h")
    model = Online(half_life_days=half_life).fit(examples.known_by(instants[40]))
    for instant in instants[41:]:
        model.update(examples.known_by(instant))
    whole = Online(half_life_days=half_life).fit(examples.known_by(instants[-1]))
    for own, all_at_once in zip(model._states, whole._states, strict=True):
        assert own.n_seen == pytest.approx(all_at_once.n_seen, rel=1e-9)
        assert own.learnt_until == all_at_once.learnt_until
    np.testing.assert_allclose(model.predict(ROWS), whole.predict(ROWS), rtol=0.05, atol=1e-3)


def test_saved_and_loaded_it_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    model = Online(half_life_days=300.0).fit(known(EXAMPLES, 150))
    model.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
    loaded = Online.load(tmp_path)
    assert isinstance(loaded, Updatable)
    for one in (model, loaded):
        one.update(known(EXAMPLES, 175))
    np.testing.assert_array_equal(loaded.predict(ROWS), model.predict(ROWS))


def test_it_comes_close_to_a_linear_model_that_is_fitted_again_on_all() -> None:
    examples = make_examples(seed=31, n_days=700, volatility_signal=0.5)
    past, later = known(examples, 550), examples.take(examples.as_of > examples.as_of[3 * 550])
    online, linear = Online().fit(past).predict(later), Linear().fit(past).predict(later)

    def loss(quantiles: np.ndarray) -> float:
        return metrics.average(metrics.crps(quantiles[:, 0], later.y[:, 0]))

    reference = metrics.average(metrics.crps(later.climatology[:, 0], later.y[:, 0]))
    skills = {name: 1 - loss(q) / reference for name, q in {"on": online, "off": linear}.items()}
    assert skills["off"] > 0.03
    assert skills["on"] > 0.9 * skills["off"]


def test_it_forgets_by_its_half_life() -> None:
    # The market doubles its volatility: who forgets follows, who does not lags behind.
    calm = make_examples(seed=41, n_days=360)
    wild = replace(calm, y=np.where(calm.as_of[:, None] > calm.as_of[900], 2 * calm.y, calm.y))
    width = {}
    for half_life in (0.0, 20.0):
        quantiles = Online(half_life_days=half_life).fit(wild).predict(ROWS)
        width[half_life] = float((quantiles[..., 11] - quantiles[..., 5]).mean())
    assert width[20.0] > 1.25 * width[0.0]


def test_a_broken_bar_cannot_blow_a_forecast_up() -> None:
    model = Online().fit(known(EXAMPLES, 175))
    is_first = np.arange(ROWS.X.shape[1]) == 0
    broken, extreme = (replace(ROWS, X=np.where(is_first, x, ROWS.X)) for x in (1e9, 8.0))
    np.testing.assert_array_equal(model.predict(broken), model.predict(extreme))
    spoilt = replace(EXAMPLES, X=EXAMPLES.X.copy(), y=EXAMPLES.y.copy())
    spoilt.X[300, :], spoilt.y[301] = -1e12, 1e6
    healthy, hurt = model.predict(ROWS), Online().fit(known(spoilt, 175)).predict(ROWS)
    assert np.abs(np.log(hurt[..., -1] / healthy[..., -1])).max() < 0.7


def test_bins_of_residuals_are_fine_where_the_quantiles_lie() -> None:
    widths = np.diff(EDGES)
    assert widths[np.abs(EDGES[:-1]) < 4].max() < 0.04


def test_misuse_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFitted, match="fit"):
        Online().update(EXAMPLES)
    with pytest.raises(InvalidSpec, match="half_life_days"):
        Online(half_life_days=-1.0)
    model = Online().fit(EXAMPLES)
    with pytest.raises(InvalidSpec, match="horizons"):
        model.update(replace(EXAMPLES, horizons=("1D", "1M")))
    model.save(tmp_path)
    state = read_json(tmp_path / "model.json")
    write_json(tmp_path / "model.json", state | {"feature_names": ["har_1"]})
    with pytest.raises(BadArtifact, match="shape"):
        Online.load(tmp_path)
    for own in state["states"]:
        own["learnt_until"] = "2020-01-01"
    write_json(tmp_path / "model.json", state)
    with pytest.raises(BadArtifact, match="by ticker"):
        Online.load(tmp_path)
