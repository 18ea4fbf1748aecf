"""Windows reach models the same way in training, when a set is rebuilt, and for a forecast."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import polars as pl
import pytest

from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.specs import (
    ExperimentSpec,
    FeatureSpec,
    LabelSpec,
    ModelSpec,
    SplitSpec,
    TensorSpec,
)
from candlecast.errors import InvalidSpec, NotEnoughHistory
from candlecast.pipelines.dataset import make_training_set, newest_dataset, read_training_market
from candlecast.pipelines.demands import resolved, windows_of
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.sequences import with_sequences, with_timeframes
from candlecast.pipelines.tensors import make_windows
from candlecast.pipelines.train import train
from candlecast.pipelines.training_sets import note_training_set, rebuild_training_set
from candlecast.pipelines.universe import read_market
from candlecast.store.bars import write_bars, write_symbols
from pipeline_rows import at, opened
from tensor_markets import TRADED, bar_opens, bars_at, utc

HOUR = Timeframe.parse("1h")
FEATURES = ("har_1", "return_1", "rsi_14", "market_volatility_1")
WINDOWS = TensorSpec(("1h", "4h", "1d"), ("return_1", "market_volatility_1"), n_steps=6)
QUICK = {"n_width": 8, "n_heads": 2, "n_epochs": 1, "max_batches": 4, "max_validation_rows": 200}
SPEC = ExperimentSpec(
    timeframe="1h",
    min_bars=200,
    features=FeatureSpec(FEATURES),
    labels=LabelSpec(horizons=("1h", "4h")),
    splits=SplitSpec(n_splits=1, holdout_share=0.0),
    model=ModelSpec("transformer", QUICK, calibration="none", tensors=WINDOWS),
)
N_SESSIONS = {"1h": 90, "4h": 110, "1d": 200}
NOW = datetime(2022, 6, 1, 12, 30, tzinfo=UTC)
TICKERS = ("AAA", "ZZZ")


def bars_of(ticker, name, seed):
    days = int(N_SESSIONS[name] * 365 / 252)
    opens = bar_opens(
        Timeframe.parse(name), TRADED[ticker], NOW.replace(hour=0) - timedelta(days=days), 300
    )
    rng = np.random.default_rng(seed)
    bars = bars_at(rng, ticker, Timeframe.parse(name), opens)
    return bars.filter(pl.col("known_at") <= NOW)


@pytest.fixture(scope="module")
def bars():
    pairs = [(ticker, name) for ticker in TICKERS for name in N_SESSIONS]
    return {pair: bars_of(*pair, seed) for seed, pair in enumerate(pairs)}


@pytest.fixture
def stores(tmp_path, bars):
    with opened(f"sqlite:///{tmp_path}/bars.db", tmp_path, NOW) as found:
        write_symbols(found.database, [Symbol(t, calendar=TRADED[t]) for t in TICKERS])
        for (_, name), frame in bars.items():
            write_bars(found.database, Timeframe.parse(name), frame)
        yield found


def tensors_of(sequences):
    return sequences.tensors(np.arange(len(sequences)))


def assert_same(one, other):
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(other, name))


def test_rows_carry_the_windows_that_the_store_has_of_them(stores):
    market = read_training_market(stores, SPEC, None)
    training = make_training_set(resolved(SPEC, market), market)
    expected = make_windows(stores, WINDOWS).windows.at(training.keys.select("symbol", "as_of"))
    found = tensors_of(training.examples.sequences)
    assert_same(found, expected.take(np.arange(len(training.keys))))
    assert found.mask[-1].all()
    newest = found.values[:, -1, 0, 0]
    np.testing.assert_array_equal(newest, training.rows.column("return_1").astype(np.float32))


def test_a_training_set_made_for_another_model_can_be_given_windows(stores):
    plain = replace(SPEC, model=ModelSpec("linear"))
    market = read_training_market(stores, SPEC, None)
    wanted = make_training_set(resolved(SPEC, market), market)
    other = read_training_market(stores, plain, None)
    without = make_training_set(resolved(plain, other), other)
    assert without.rows.sequences is None
    given = with_sequences(stores, replace(without, spec=wanted.spec))
    assert given.set_id == wanted.set_id
    assert_same(tensors_of(given.rows.sequences), tensors_of(wanted.rows.sequences))
    assert with_sequences(stores, replace(given, spec=without.spec)).set_id == without.set_id


def test_the_spec_that_is_kept_names_the_windows_of_each_member(stores):
    market = read_market(stores, HOUR, (), None)
    assert windows_of(replace(SPEC, model=ModelSpec("linear"))) is None
    plain = resolved(replace(SPEC, model=ModelSpec("lstm")), market)
    assert plain.model.tensors == TensorSpec(("1h",), FEATURES, 60)
    members = (ModelSpec("linear"), SPEC.model, ModelSpec("lstm"))
    spec = resolved(replace(SPEC, model=ModelSpec("linear", members=members)), market)
    assert [member.tensors for member in spec.model.members] == [None, WINDOWS, plain.model.tensors]


def test_members_that_look_at_windows_look_at_the_same_ones():
    # Rows carry one kind of windows: with those of both, neither would be trained on its own.
    own, other = SPEC.model, ModelSpec("lstm")
    averaging = ModelSpec("averaging", members=(ModelSpec("linear"), own, other))
    with pytest.raises(InvalidSpec, match=r"6 steps of 1h, 4h, 1d .* \[model.members.tensors\]"):
        windows_of(replace(SPEC, model=averaging))
    same = replace(averaging, members=(ModelSpec("linear"), own, replace(other, tensors=WINDOWS)))
    assert windows_of(replace(SPEC, model=same)) == WINDOWS


def test_windows_of_what_is_no_feature_of_the_experiment_are_refused():
    unknown = replace(WINDOWS, features=("return_1", "har_5"))
    with pytest.raises(InvalidSpec, match="show har_5"):
        windows_of(replace(SPEC, model=replace(SPEC.model, tensors=unknown)))
    with pytest.raises(InvalidSpec, match="linear looks at no windows"):
        windows_of(replace(SPEC, model=ModelSpec("linear", tensors=WINDOWS)))


def test_a_timeframe_without_bars_is_told_with_the_remedy(stores):
    wider = replace(WINDOWS, timeframes=("15m", "1h"))
    spec = replace(SPEC, model=replace(SPEC.model, tensors=wider))
    with pytest.raises(NotEnoughHistory, match=r"no 15m bars .* derived when finer ones"):
        read_training_market(stores, spec, None)


def test_an_hour_and_a_day_that_have_not_ended_or_come_later_change_nothing(stores, bars):
    market = read_training_market(stores, SPEC, None)
    training = make_training_set(resolved(SPEC, market), market)
    cut = utc(2022, 5, 25) + timedelta(hours=17)
    earlier = read_training_market(at(stores, cut), SPEC, None)
    known = make_training_set(resolved(SPEC, earlier), earlier)
    n_known = len(known.keys)
    assert known.keys.equals(training.keys[:n_known])
    then, now = tensors_of(known.examples.sequences), tensors_of(training.examples.sequences)
    for name, values in vars(then).items():
        np.testing.assert_array_equal(values, getattr(now, name)[:n_known])
    days = bars["AAA", "1d"].filter(pl.col("known_at") <= cut)
    assert (
        earlier.beside[1].prices.filter(pl.col("symbol") == "AAA")["ts"].max() == days["ts"].max()
    )


def test_for_a_forecast_the_newest_row_has_the_windows_that_training_gives_it(stores):
    market = read_training_market(stores, SPEC, None)
    spec = resolved(SPEC, market)
    training = make_training_set(spec, market)
    live = read_market(stores, HOUR, (), None, is_newest=True)
    live = with_timeframes(stores, live, spec, is_newest=True)
    dataset, _ = newest_dataset(spec, live)
    keys = training.keys.with_row_index("row").select("symbol", "as_of", "row")
    places = dataset.keys.join(keys, on=["symbol", "as_of"])["row"].to_numpy()
    assert len(places) == len(TICKERS)
    expected = training.examples.sequences.tensors(places)
    assert_same(tensors_of(dataset.rows.sequences), expected)
    timeline = dataset.rows.sequences.source.timelines[0]
    assert len(timeline.as_of) == len(TICKERS) * WINDOWS.n_steps


def test_a_set_with_windows_is_rebuilt_whatever_is_added_to_any_timeframe(stores, bars):
    manifest, made = note_training_set(stores, SPEC)
    assert orjson.loads(manifest.spec)["model"]["tensors"]["n_steps"] == WINDOWS.n_steps
    older = bars["AAA", "1d"].head(20).with_columns(pl.col("ts", "known_at").dt.offset_by("-364d"))
    later = at(stores, NOW + timedelta(days=3))
    write_bars(later.database, Timeframe.parse("1d"), older)
    again = rebuild_training_set(later, manifest.set_id)
    assert_same(tensors_of(again.examples.sequences), tensors_of(made.examples.sequences))
    assert note_training_set(later, SPEC)[0].set_id != manifest.set_id


def test_a_network_is_trained_registered_and_forecasts_from_what_it_was_shown(stores):
    run = train(stores, SPEC)
    assert run.version.kind == "transformer"
    made = forecast(stores, timeframe="1h")
    assert sorted(made.forecasts["symbol"].unique()) == list(TICKERS)
    assert made.failures == {}
    again = forecast(stores, timeframe="1h")
    assert again.n_new == 0
