"""What every model of the catalogue promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.domain.catalog import MODELS, Attributed, Model
from candlecast.domain.distribution import check_quantiles
from candlecast.domain.examples import Rows
from candlecast.domain.specs import ModelSpec
from candlecast.models.artifact import make_base_model
from candlecast.models.conformal import Calibrated, load_model, make_model, save_model
from markets import make_examples
from model_specs import SPECS, small_spec

SEED = 7
FAMILIES = {"climatology", "ewma", "har", "garch", "linear", "forest", "lightgbm", "xgboost"}
LEARNING_LIBRARIES = ("torch", "sklearn", "lightgbm", "xgboost", "catboost", "river")
SERVING = """
import sys
from pathlib import Path
import numpy as np
from candlecast.models.conformal import load_model
from markets import make_examples

rows = make_examples(seed=12).without_outcomes()
for folder in sorted(Path(sys.argv[1]).iterdir()):
    np.save(folder.with_suffix(".npy"), load_model(folder).predict(rows))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
every_model = pytest.mark.parametrize("kind", MODELS.names())


class OnDemand(dict[str, Any]):
    """A model for each kind, fitted when it is first asked for."""

    def __init__(self, make: Callable[[ModelSpec, int], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: str) -> Any:
        self[kind] = self._make(small_spec(kind), SEED).fit(make_examples(seed=11))
        return self[kind]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Calibrated]:
    return OnDemand(make_model)


@pytest.fixture(scope="module")
def bare() -> dict[str, Model]:
    return OnDemand(make_base_model)


@pytest.fixture
def rows() -> Rows:
    return make_examples(seed=12).without_outcomes()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_families_are_there() -> None:
    assert set(MODELS.names()) >= {*FAMILIES, *SPECS}


@every_model
def test_it_says_what_it_is(kind: str) -> None:
    assert MODELS.describe(kind).endswith(".")


@every_model
def test_quantiles_have_the_agreed_shape_and_never_cross(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    assert check_quantiles(fitted[kind].predict(rows)).shape == (len(rows), 2, 17)


@every_model
def test_one_row_is_answered_like_many(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    together = fitted[kind].predict(rows)[17]
    alone = fitted[kind].predict(rows.take(np.array([17])))[0]
    np.testing.assert_allclose(alone, together, rtol=1e-12)


@every_model
def test_the_order_of_the_features_does_not_matter(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    turned = replace(rows, X=rows.X[:, ::-1], feature_names=rows.feature_names[::-1])
    np.testing.assert_array_equal(fitted[kind].predict(turned), fitted[kind].predict(rows))


@every_model
def test_a_missing_feature_of_a_young_symbol_still_gets_a_forecast(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    rows.X[::2, 1:] = np.nan
    check_quantiles(fitted[kind].predict(rows))


@every_model
def test_a_symbol_that_was_not_there_still_gets_a_forecast(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    unknown = replace(rows, tickers=("XXX", "YYY", "ZZZ"))
    check_quantiles(fitted[kind].predict(unknown))


@every_model
def test_twice_the_volatility_gives_twice_the_width(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    assert rows.history is not None
    wider = replace(
        rows,
        scale=rows.scale * 2,
        climatology=rows.climatology * 2,
        history=replace(rows.history, returns=rows.history.returns * 2),
    )
    np.testing.assert_allclose(
        fitted[kind].predict(wider), 2 * fitted[kind].predict(rows), rtol=1e-9
    )


@every_model
def test_bars_after_the_newest_of_a_row_do_not_reach_its_forecast(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    assert rows.history is not None
    asked = rows.take(np.arange(200 * 3))
    later = rows.history.returns.copy()
    for start, newest in zip(asked.history.start[-3:], asked.history.at[-3:], strict=True):  # type: ignore[union-attr]
        later[newest + 1 : start + 500] = 9.9
    told = replace(asked, history=replace(asked.history, returns=later))  # type: ignore[arg-type]
    np.testing.assert_array_equal(fitted[kind].predict(told), fitted[kind].predict(asked))


@every_model
def test_the_same_seed_gives_the_same_files_and_nothing_given_is_changed(
    kind: str, fitted: dict[str, Calibrated], rows: Rows, tmp_path: Path
) -> None:
    examples = make_examples(seed=11)
    before = examples.X.copy(), examples.y.copy(), examples.climatology.copy()
    second = make_model(small_spec(kind), SEED).fit(examples)
    np.testing.assert_array_equal(second.predict(rows), fitted[kind].predict(rows))
    for kept, now in zip(before, (examples.X, examples.y, examples.climatology), strict=True):
        np.testing.assert_array_equal(kept, now)
    for name, model in (("first", fitted[kind]), ("second", second)):
        (tmp_path / name).mkdir()
        save_model(model, small_spec(kind), tmp_path / name)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


@every_model
def test_fitting_again_forgets_the_first_fit(kind: str, bare: dict[str, Model], rows: Rows) -> None:
    model = make_base_model(small_spec(kind), SEED).fit(make_examples(seed=13))
    again = model.fit(make_examples(seed=11))
    np.testing.assert_array_equal(again.predict(rows), bare[kind].predict(rows))


@every_model
def test_what_is_saved_comes_back_and_can_be_saved_again(
    kind: str, fitted: dict[str, Calibrated], rows: Rows, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    loaded = load_model(first, save_model(fitted[kind], small_spec(kind), first))
    np.testing.assert_allclose(
        loaded.predict(rows), fitted[kind].predict(rows), rtol=1e-5, atol=1e-8
    )
    again = load_model(second, save_model(loaded, small_spec(kind), second))
    np.testing.assert_array_equal(again.predict(rows), loaded.predict(rows))


@every_model
def test_outcomes_that_are_not_known_yet_do_not_reach_it(kind: str, rows: Rows) -> None:
    # The same past with another future: fitted on what was known, the models are the same.
    cut = np.datetime64("2016-01-15T21:00", "us")
    examples, other = make_examples(seed=11), make_examples(seed=11)
    other.y[other.end_at > cut] = 9.9
    ours = make_base_model(small_spec(kind), SEED).fit(examples.known_by(cut)).predict(rows)
    theirs = make_base_model(small_spec(kind), SEED).fit(other.known_by(cut)).predict(rows)
    np.testing.assert_array_equal(ours, theirs)


@every_model
def test_importances_are_shares_and_contributions_have_a_value_for_each_feature(
    kind: str, fitted: dict[str, Calibrated], rows: Rows
) -> None:
    model = fitted[kind].model
    if not isinstance(model, Attributed):
        return
    shares = model.importances()
    assert set(shares) <= set(rows.feature_names)
    assert min(shares.values(), default=0) >= 0
    assert not shares or sum(shares.values()) == pytest.approx(1)
    contributions = model.contributions(rows)
    assert contributions.shape == (len(rows), 2, len(rows.feature_names))
    assert np.isfinite(contributions).all()


def test_artefacts_are_served_by_a_process_without_the_libraries_that_learn(
    fitted: dict[str, Calibrated], rows: Rows, tmp_path: Path
) -> None:
    for kind in MODELS.names():
        (tmp_path / kind).mkdir()
        save_model(fitted[kind], small_spec(kind), tmp_path / kind)
    done = subprocess.run(
        [sys.executable, "-c", SERVING, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not set(LEARNING_LIBRARIES) & set(done.stdout.split())
    for kind in MODELS.names():
        served = np.load(tmp_path / f"{kind}.npy")
        np.testing.assert_allclose(served, fitted[kind].predict(rows), rtol=1e-5, atol=1e-8)
