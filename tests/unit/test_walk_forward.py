"""Walk-forward: every row of a span is forecast by a model that knew nothing of it."""

import numpy as np
import pytest

from candlecast.domain.distribution import SCORES
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.specs import SplitSpec
from candlecast.errors import BadFrame, LeakageError, ModelError, NotEnoughHistory
from candlecast.validation.walk_forward import OutOfSample, check_known, walk_forward

START = np.datetime64("2020-01-01", "us")
BARS = np.array([1, 5])


def make(n_days=60, n_symbols=2):
    """Examples of `n_symbols` a day; the outcomes of the last days are not known yet."""
    day = np.repeat(np.arange(n_days), n_symbols)
    n = len(day)
    as_of = START + day.astype("timedelta64[D]")
    y = np.random.default_rng(3).standard_normal((n, 2)) * 0.01
    y[(day[:, None] + BARS) >= n_days] = np.nan
    return Examples(
        X=day[:, None].astype(float),
        symbol=np.tile(np.arange(n_symbols, dtype=np.int32), n_days),
        as_of=as_of,
        scale=np.full(n, 0.01),
        climatology=np.zeros((n, 2, 17)),
        feature_names=("day",),
        tickers=("A", "B")[:n_symbols],
        horizons=("1D", "1W"),
        horizon_bars=BARS,
        y=y,
        end_at=as_of[:, None] + BARS.astype("timedelta64[D]"),
        weight=np.ones(n),
    )


def whole(**fields):
    """Splits of the whole history, without a holdout."""
    return SplitSpec(holdout_share=0.0, **fields)


class Memory:
    """A model whose median is the newest day and outcome it was fitted on."""

    def __init__(self):
        self.asked = []

    def fit(self, examples):
        self.newest = examples.X.max()
        self.n_known = int((~np.isnan(examples.y)).sum())
        return self

    def predict(self, rows):
        self.asked.append(rows)
        return np.full((len(rows), 2, 1), self.newest) + SCORES

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


def fit(examples):
    return Memory().fit(examples)


def test_every_row_of_the_spans_is_forecast_once_known_outcome_or_not():
    examples = make()
    folds = walk_forward(fit, examples, whole(n_splits=5))
    rows = np.concatenate([fold.rows for fold in folds])
    np.testing.assert_array_equal(rows, np.arange(20, 120))
    assert np.isnan(examples.y[rows]).any()
    assert [fold.quantiles.shape for fold in folds] == [(20, 2, 17)] * 5


def test_each_model_knows_what_ended_before_its_span_less_the_embargo():
    examples = make()
    for fold in walk_forward(fit, examples, whole(n_splits=5, embargo_days=2)):
        start = examples.as_of[fold.rows[0]]
        assert fold.train_until == start - np.timedelta64(2, "D")
        newest = fold.quantiles[0, 0, 8]
        assert newest == examples.X[fold.rows[0], 0] - 3  # its outcome took one more day


def test_a_model_is_asked_with_rows_that_hold_no_outcome():
    models = []

    def remember(examples):
        models.append(fit(examples))
        return models[-1]

    walk_forward(remember, make(), whole(n_splits=2))
    assert [type(rows) for model in models for rows in model.asked] == [Rows, Rows]


def test_changing_the_future_changes_no_forecast_made_before_it():
    examples = make()
    folds = walk_forward(fit, examples, whole(n_splits=5))
    third = folds[2].rows[0]
    other = make()
    other.y[third:] = 99.0
    again = walk_forward(fit, other, whole(n_splits=5))
    for before, after in zip(folds[:3], again[:3], strict=True):
        np.testing.assert_array_equal(before.quantiles, after.quantiles)


def test_progress_is_told_after_each_fold():
    told = []
    walk_forward(fit, make(), whole(n_splits=3), lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_without_a_known_outcome_there_is_nothing_to_train_on():
    examples = make()
    examples.y[:30] = np.nan
    with pytest.raises(NotEnoughHistory, match=r"so split 1 .* has nothing to train on"):
        walk_forward(fit, examples, whole(n_splits=5))


def test_the_model_of_each_fold_is_handed_on():
    models = {}
    folds = walk_forward(fit, make(), whole(n_splits=3), on_model=models.__setitem__)
    assert list(models) == [1, 2, 3]
    newest = [fold.quantiles[0, 0, 8] for fold in folds]
    assert [model.newest for model in models.values()] == newest


def test_a_rolling_model_knows_the_last_days_only():
    oldest = []

    def remember(examples):
        oldest.append(examples.X.min())
        return fit(examples)

    walk_forward(remember, make(), whole(n_splits=3, test_size=10, scheme="rolling", train_size=8))
    assert oldest == [21, 31, 41]  # an embargo of one day before days 30, 40 and 50


def test_forecasts_of_the_holdout_are_told_from_the_others():
    examples = make()
    folds = walk_forward(fit, examples, SplitSpec(n_splits=3))
    made = OutOfSample.of(folds)
    np.testing.assert_array_equal(made.rows, np.arange(24, 120))
    np.testing.assert_array_equal(made.is_holdout, made.rows >= 96)
    np.testing.assert_array_equal(made.fold, (made.rows - 24) // 24 + 1)
    np.testing.assert_array_equal(made.quantiles[:24], folds[0].quantiles)


class Crossing(Memory):
    def predict(self, rows):
        return super().predict(rows)[..., ::-1]


class OneHorizon(Memory):
    def predict(self, rows):
        return super().predict(rows)[:, :1]


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (Crossing, BadFrame, "quantiles cross"),
        (
            OneHorizon,
            ModelError,
            r"OneHorizon.predict returned shape \(60, 1, 17\), not \(60, 2, 17\)",
        ),
    ],
)
def test_a_model_that_returns_no_quantiles_is_stopped(model, error, message):
    with pytest.raises(error, match=message):
        walk_forward(lambda examples: model().fit(examples), make(), whole(n_splits=1))


class Leaky(Examples):
    """Examples that forget to cut the future."""

    def known_by(self, instant):
        return self


def test_examples_that_reach_past_the_cut_stop_the_run():
    examples = make()
    leaky = Leaky(**vars(examples))
    with pytest.raises(LeakageError, match=r"training examples reach past 2020-01-30.*known_by"):
        walk_forward(fit, leaky, whole(n_splits=1))


def test_a_stamp_or_an_outcome_after_the_cut_is_a_leak_an_unknown_outcome_is_none():
    examples = make(n_days=10, n_symbols=1)
    cut = START + np.timedelta64(4, "D")
    known = examples.known_by(cut)
    assert check_known(known, cut) is known
    late_outcome = known.take(np.arange(len(known)))
    late_outcome.y[-1, 1] = 0.0
    with pytest.raises(LeakageError, match=r"1 training examples .* of A as of 2020-01-04"):
        check_known(late_outcome, cut)
    late_stamp = examples.take(np.arange(6))
    late_stamp.y[:] = np.nan
    with pytest.raises(LeakageError, match="as of 2020-01-06"):
        check_known(late_stamp, cut)
