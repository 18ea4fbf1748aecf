"""The shape of residuals: tails by row, what a symbol adds, and how little is believed of few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from candlecast import metrics
from candlecast.domain.distribution import LEVELS
from candlecast.models.boosting import LightGbm
from candlecast.models.evidence import date_blocks
from candlecast.models.linear import Linear
from candlecast.models.shape import GAUSSIAN_SHAPE, Shape, ShapeInputs
from markets import make_examples


def fitted(residual, rows, horizon=0):
    inputs = ShapeInputs(rows.X, np.ones(len(rows)), rows.climatology[:, horizon])
    return Shape.fitted(inputs, residual, rows, horizon), inputs


def known(seed, n_days=2500):
    rows = make_examples(seed=seed, n_days=n_days)
    return rows.take(~np.isnan(rows.y).any(axis=1))


def test_a_symbol_that_moves_rarely_but_far_gets_its_own_quantiles_and_a_stranger_none() -> None:
    rows, rng = known(1, 4000), np.random.default_rng(2)
    residual = rng.standard_normal(len(rows))
    rare = rows.symbol == 0
    residual[rare] *= 3 * (rng.random(rare.sum()) < 0.1)
    shape, inputs = fitted(residual, rows)
    found = shape.quantiles(inputs, rows)
    middle = found[:, 10] - found[:, 6]
    assert np.median(middle[rare]) < 0.6 * np.median(middle[~rare])
    strangers = replace(rows, tickers=("XXX", "YYY", "ZZZ"))
    apart = shape.quantiles(inputs, strangers)
    middle = apart[:, 10] - apart[:, 6]
    assert np.median(middle[rare]) == pytest.approx(np.median(middle[~rare]), rel=0.05)


def test_rows_with_heavy_tails_get_them() -> None:
    rows, rng = known(1, 6000), np.random.default_rng(3)
    heavy = rows.X[:, 3] > 0
    residual = np.where(heavy, rng.standard_t(2.5, len(rows)), rng.standard_normal(len(rows)))
    shape, inputs = fitted(residual, rows)
    found = shape.quantiles(inputs, rows)
    ratio = (found[:, -1] - found[:, 0]) / (found[:, 11] - found[:, 5])
    assert np.median(ratio[heavy]) > 1.15 * np.median(ratio[~heavy])


def test_few_outcomes_leave_the_shape_near_the_gaussian() -> None:
    residual = np.random.default_rng(4).exponential(1.0, 5000)
    apart = [np.abs(Shape.pooled(residual, n).bins[0] - GAUSSIAN_SHAPE).max() for n in (5, 5000)]
    assert apart[0] < 0.15 * apart[1]


def test_the_state_of_a_shape_makes_it_again() -> None:
    rows = known(1, 600)
    shape, inputs = fitted(np.random.default_rng(5).standard_normal(len(rows)), rows)
    again = Shape.from_state(shape.state())
    np.testing.assert_array_equal(again.quantiles(inputs, rows), shape.quantiles(inputs, rows))
    assert shape.quantiles(inputs, rows).shape == (len(rows), len(LEVELS))


def test_a_noisy_outcome_is_helped_by_the_way_the_price_went() -> None:
    # The same market twice; in one of them the variance of each bar is known beside its return.
    examples = make_examples(seed=6, n_days=1500, volatility_signal=0.5)
    history = examples.history
    assert history is not None
    true = np.exp(0.5 * examples.X[:, 0] - 0.25)[:, None] * examples.horizon_scale()
    by_day = (true[:, 0] ** 2).reshape(-1, 3)
    variances = np.vstack([np.full(3, np.nan), by_day[:-1]]).T.reshape(-1)
    helped = replace(examples, history=replace(history, variances=variances))
    spreads = helped.spreads()
    is_known = ~np.isnan(examples.y[:, 0])
    np.testing.assert_allclose(
        spreads[is_known, 0] * examples.scale[is_known], true[is_known, 0], rtol=1e-6
    )
    assert np.isnan(spreads[~is_known, 0]).all()
    errors = []
    for given in (examples, helped):
        scale = LightGbm(n_estimators=40, n_jobs=1).fit(given)._scales[0].predict(given.X)
        errors.append(np.std(np.log(scale) - 0.5 * examples.X[:, 0]))
    assert errors[1] < 0.95 * errors[0]


def test_where_other_bars_made_the_outcome_the_way_is_unknown() -> None:
    examples = make_examples(seed=6, n_days=60)
    history = examples.history
    assert history is not None
    examples = replace(examples, history=replace(history, variances=history.returns**2))
    examples.y[30, 0] += 0.001
    spreads = examples.spreads()
    assert np.isnan(spreads[30, 0])
    assert not np.isnan(spreads[31:100, 0]).any()
    assert np.isnan(make_examples(seed=6, n_days=60).spreads()).all()


@pytest.mark.parametrize("make", [Linear, lambda: LightGbm(n_estimators=20, n_jobs=1)])
def test_what_features_add_sums_up_to_the_log_of_the_scale(make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    examples = make_examples(seed=1, n_days=800, volatility_signal=0.5)
    model = make().fit(examples)
    model.save(tmp_path)
    loaded = type(model).load(tmp_path)
    rows = examples.take(np.arange(40))
    for each in (model, loaded):
        added = each.contributions(rows)
        assert added.shape == (40, 2, 5)
        base = np.log(each._scales[0].predict(rows.X)) - added[:, 0].sum(axis=1)
        np.testing.assert_allclose(base, base[0], atol=1e-5)
        shares = each.importances()
        assert sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=shares.__getitem__) == "har_1"


def test_trees_that_tell_nothing_of_later_outcomes_are_not_grown() -> None:
    examples = make_examples(seed=1, n_days=800, volatility_signal=0.0)
    grown = []
    for rounds in (0, 5):
        model = LightGbm(n_estimators=60, early_stopping_rounds=rounds, n_jobs=1).fit(examples)
        grown.append(model._scales[0].trees._booster.num_trees())  # type: ignore[attr-defined]
    assert grown[0] == 60
    assert grown[1] < 30


def learnt_from(monkeypatch, examples):  # type: ignore[no-untyped-def]
    """The rows that the shapes of a flexible model are learnt from, by horizon."""
    found, fit = [], Shape.fitted

    def spy(inputs, residual, rows, horizon):  # type: ignore[no-untyped-def]
        found.append(rows)
        return fit(inputs, residual, rows, horizon)

    monkeypatch.setattr(Shape, "fitted", spy)
    LightGbm(n_estimators=3, n_jobs=1).fit(examples)
    return found


@pytest.mark.parametrize("n_bars", [21, 120, 126, 168])
def test_a_shape_is_learnt_from_most_rows_and_never_from_those_its_scale_saw(
    n_bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = replace(make_examples(seed=1, n_days=1400), horizon_bars=np.array([1, n_bars]))
    daily, longer = learnt_from(monkeypatch, examples)
    n_known = (~np.isnan(examples.y)).sum(axis=0)
    assert 0.98 < len(daily) / n_known[0] < 1
    assert 0.7 < len(longer) / n_known[1] < 0.9
    # Every second block by the others, and no outcome of theirs ends in the next.
    day = (longer.as_of - examples.as_of[0]) // np.timedelta64(1, "D")
    length = max(126, 4 * n_bars)
    assert (day % length + n_bars < length).all()


def test_where_history_is_short_the_shape_is_that_of_the_rows_after_those_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = make_examples(seed=1, n_days=120)
    cut = np.unique(examples.as_of)[int(115 * 0.7)]
    for rows in learnt_from(monkeypatch, examples):
        assert len(rows) > 90
        assert (rows.as_of > cut).all()


def test_blocks_are_of_dates_whenever_exchanges_close() -> None:
    examples = make_examples(seed=1, n_days=300)
    hours = np.array([-15, 0, 3])[examples.symbol] * np.timedelta64(1, "h")
    apart = replace(examples, as_of=examples.as_of + hours)
    for horizon in (0, 1):
        for ours, theirs in zip(
            date_blocks(apart, horizon), date_blocks(examples, horizon), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_trees_that_fit_their_rows_closely_still_know_how_wide_the_future_is() -> None:
    past, future = make_examples(seed=1, n_days=1200), make_examples(seed=2, n_days=1200)
    model = LightGbm(lambda_l2=0.0, min_data_in_leaf=10, n_jobs=1).fit(past)
    pits = metrics.pit(model.predict(future)[:, 0], future.y[:, 0])
    assert metrics.coverage(pits, 0.9) == pytest.approx(0.9, abs=0.025)
