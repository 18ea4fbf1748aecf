"""What every model of the catalogue promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import check_quantiles
from candlecast.domain.specs import ModelSpec
from candlecast.models.conformal import Calibrated, load_model, make_model, save_model
from markets import make_examples

SMALL = {"lightgbm": {"n_estimators": 10}}
every_model = pytest.mark.parametrize("kind", MODELS.names())


def spec_of(kind: str) -> ModelSpec:
    return ModelSpec(kind=kind, parameters=SMALL.get(kind, {}))


@pytest.fixture(scope="module")
def fitted() -> dict[str, Calibrated]:
    examples = make_examples(seed=11)
    return {kind: make_model(spec_of(kind), 7).fit(examples) for kind in MODELS.names()}


def test_the_first_set_is_there() -> None:
    assert set(MODELS.names()) >= {"climatology", "ewma", "har", "linear", "lightgbm"}


@every_model
def test_it_says_what_it_is(kind: str) -> None:
    assert MODELS.describe(kind).endswith(".")


@every_model
def test_quantiles_have_the_agreed_shape_and_never_cross(
    kind: str, fitted: dict[str, Calibrated]
) -> None:
    rows = make_examples(seed=12).without_outcomes()
    assert check_quantiles(fitted[kind].predict(rows)).shape == (len(rows), 2, 17)


@every_model
def test_one_row_is_answered_like_many(kind: str, fitted: dict[str, Calibrated]) -> None:
    rows = make_examples(seed=12).without_outcomes()
    together = fitted[kind].predict(rows)[17]
    alone = fitted[kind].predict(rows.take(np.array([17])))[0]
    np.testing.assert_allclose(alone, together, rtol=1e-12)


@every_model
def test_the_order_of_the_features_does_not_matter(
    kind: str, fitted: dict[str, Calibrated]
) -> None:
    from dataclasses import replace

    rows = make_examples(seed=12).without_outcomes()
    turned = replace(rows, X=rows.X[:, ::-1], feature_names=rows.feature_names[::-1])
    np.testing.assert_array_equal(fitted[kind].predict(turned), fitted[kind].predict(rows))


@every_model
def test_a_missing_feature_of_a_young_symbol_still_gets_a_forecast(
    kind: str, fitted: dict[str, Calibrated]
) -> None:
    rows = make_examples(seed=12).without_outcomes()
    rows.X[::2, 1:] = np.nan
    check_quantiles(fitted[kind].predict(rows))


@every_model
def test_twice_the_volatility_gives_twice_the_width(
    kind: str, fitted: dict[str, Calibrated]
) -> None:
    from dataclasses import replace

    rows = make_examples(seed=12).without_outcomes()
    wider = replace(rows, scale=rows.scale * 2, climatology=rows.climatology * 2)
    np.testing.assert_allclose(
        fitted[kind].predict(wider), 2 * fitted[kind].predict(rows), rtol=1e-9
    )


@every_model
def test_the_same_seed_gives_the_same_model_and_nothing_given_is_changed(kind: str) -> None:
    examples = make_examples(seed=11)
    before = examples.X.copy(), examples.y.copy(), examples.climatology.copy()
    rows = make_examples(seed=12).without_outcomes()
    first = make_model(spec_of(kind), 3).fit(examples).predict(rows)
    second = make_model(spec_of(kind), 3).fit(examples).predict(rows)
    np.testing.assert_array_equal(first, second)
    for kept, now in zip(before, (examples.X, examples.y, examples.climatology), strict=True):
        np.testing.assert_array_equal(kept, now)


@every_model
def test_fitting_again_forgets_the_first_fit(kind: str) -> None:
    rows = make_examples(seed=12).without_outcomes()
    fresh = make_model(spec_of(kind), 3).fit(make_examples(seed=11)).predict(rows)
    model = make_model(spec_of(kind), 3).fit(make_examples(seed=13))
    np.testing.assert_array_equal(model.fit(make_examples(seed=11)).predict(rows), fresh)


@every_model
def test_what_is_saved_comes_back(kind: str, fitted: dict[str, Calibrated], tmp_path: Path) -> None:
    rows = make_examples(seed=12).without_outcomes()
    sha256 = save_model(fitted[kind], spec_of(kind), tmp_path)
    loaded = load_model(tmp_path, sha256)
    np.testing.assert_allclose(
        loaded.predict(rows), fitted[kind].predict(rows), rtol=1e-5, atol=1e-8
    )


@every_model
def test_outcomes_that_are_not_known_yet_do_not_reach_it(kind: str) -> None:
    # The same past with another future: fitted on what was known, the models are the same.
    cut = np.datetime64("2016-01-15T21:00", "us")
    examples, other = make_examples(seed=11), make_examples(seed=11)
    other.y[other.end_at > cut] = 9.9
    rows = make_examples(seed=12).without_outcomes()
    ours = make_model(spec_of(kind), 3).fit(examples.known_by(cut)).predict(rows)
    theirs = make_model(spec_of(kind), 3).fit(other.known_by(cut)).predict(rows)
    np.testing.assert_array_equal(ours, theirs)
