"""Whole pipelines on both databases: doing a thing twice is doing it once."""

from dataclasses import replace
from datetime import timedelta

from candlecast.domain.market import FixedClock
from candlecast.domain.specs import ModelSpec
from candlecast.pipelines.demo import run_demo
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.label import materialize_labels
from candlecast.pipelines.materialize import Span, materialize_features
from candlecast.pipelines.settle import settle
from candlecast.pipelines.train import train
from candlecast.providers.sample import ENDS_AT
from pipeline_rows import HAR, LATER, all_rows, changes, opened, put, sample_bars

EWMA = replace(HAR, model=ModelSpec("ewma"))
BARS = sample_bars("AAPL", "IBM", "MSFT", "FB", n_sessions=900)
PAST = BARS["ts"].unique().sort()[-60] + timedelta(days=1)

PIPELINES = {
    "ingest": lambda stores: put(stores, BARS),
    "train": lambda stores: train(stores, HAR),
    "evaluate": lambda stores: evaluate(stores, EWMA),
    "forecast": forecast,
    "forecast of the past": lambda stores: forecast(stores, as_of=PAST),
    "settle": settle,
    "features": lambda stores: materialize_features(stores, "1d", Span()),
    "labels": lambda stores: materialize_labels(stores, HAR, Span()),
}


def test_no_pipeline_changes_a_row_when_it_runs_again_however_late_and_in_any_order(
    database_url, tmp_path
):
    with opened(database_url, tmp_path) as stores:
        for run in PIPELINES.values():
            run(stores)
    before = all_rows(database_url)
    filled = {name for name, rows in before.items() if rows}
    assert filled >= {
        *("bars", "bar_changes", "bar_reads", "symbols", "ml_features_ohlcv", "ml_labels"),
        *("ml_training_sets", "ml_model_versions", "ml_predictions", "ml_outcomes", "ml_forecasts"),
    }
    with opened(database_url, tmp_path, LATER + timedelta(days=400)) as stores:
        for names in (PIPELINES, reversed(PIPELINES)):
            for name in names:
                PIPELINES[name](stores)
            assert changes(before, all_rows(database_url)) == {}


def test_the_demo_changes_nothing_when_it_runs_again(tmp_path):
    database_url = f"sqlite:///{tmp_path}/candlecast.db"
    spec = replace(EWMA, min_bars=500)
    with opened(database_url, tmp_path) as stores:
        first = run_demo(stores, spec)
        assert first.stores.clock == FixedClock(ENDS_AT)
    before = all_rows(database_url)
    with opened(database_url, tmp_path, LATER + timedelta(days=1)) as stores:
        again = run_demo(stores, spec)
    assert changes(before, all_rows(database_url)) == {}
    assert again.report == first.report
    assert again.forecasts.equals(first.forecasts)
