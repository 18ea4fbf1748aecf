"""Nothing is known before its time: not by a feature, a model, a forecast or a score."""

from dataclasses import replace
from datetime import datetime, time, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from candlecast.domain.frames import QUANTILES
from candlecast.domain.specs import FeatureSpec, ModelSpec, SplitSpec
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.materialize import Span, materialize_features
from candlecast.pipelines.settle import settle
from candlecast.pipelines.train import train
from candlecast.store import ledger
from candlecast.store.features import read_features
from pipeline_rows import DAILY, HAR, LATER, opened, put, sample_bars

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
DAYS = BARS["ts"].unique().sort()
N_WITHHELD = 120
LAST = DAYS[-N_WITHHELD - 1]
THEN = datetime.combine(LAST, time.max, LAST.tzinfo)
KNOWN = BARS.filter(pl.col("ts") <= LAST)
TREES = replace(HAR, features=FeatureSpec(), model=ModelSpec("lightgbm", {"n_estimators": 5}))
OUTCOME = ("realised", "pinball", "crps", "crps_climatology", "pit", "n_past", "is_hit")


def ledger_of(stores, *columns, **chosen):
    rows = ledger.read_forecasts(stores.database, DAILY, **chosen)
    return rows.select("symbol", "as_of", "ts", "horizon", *columns)


@pytest.fixture
def both(tmp_path):
    """Stores that hold all bars, and stores from which every bar after `LAST` is withheld."""
    whole, cut = (f"sqlite:///{tmp_path / name}.db" for name in ("whole", "cut"))
    with opened(whole, tmp_path / "whole") as all_bars, opened(cut, tmp_path / "cut", THEN) as past:
        put(all_bars, BARS)
        put(past, KNOWN)
        yield all_bars, past


@pytest.mark.parametrize("spec", [HAR, TREES], ids=["har", "lightgbm"])
def test_withholding_every_later_bar_changes_no_bit_of_a_model_or_a_forecast(both, spec):
    runs = [train(stores, spec, as_of=THEN) for stores in both]
    assert runs[0].version.version == runs[1].version.version
    assert runs[0].version.artifact_sha256 == runs[1].version.artifact_sha256
    whole, past = (forecast(stores, as_of=THEN) for stores in both)
    assert (whole.origin, past.origin) == ("simulated", "live")
    columns = (*QUANTILES, "end_at", "last_close", "lower", "upper", "prob_up", "features")
    stored = [
        ledger_of(stores, *columns, origins=[run.origin])
        for stores, run in zip(both, (whole, past), strict=True)
    ]
    assert stored[0].equals(stored[1])
    assert set(stored[0]["ts"]) == {LAST}
    assert len(stored[0]) == 9


def test_a_forecast_without_as_of_is_that_of_the_newest_bar(both):
    _, past = both
    train(past, HAR)
    assert forecast(past).forecasts.equals(forecast(past, as_of=THEN).forecasts)


def test_asking_for_one_symbol_changes_nothing_about_its_forecast(both):
    _, past = both
    train(past, TREES)
    alone = forecast(past, symbols=("IBM",)).forecasts
    assert alone.equals(forecast(past).forecasts.filter(pl.col("symbol") == "IBM"))


def test_an_instant_that_has_not_come_is_now(both):
    whole, _ = both
    ahead = LATER + timedelta(days=3650)
    first, again = train(whole, HAR), train(whole, HAR, as_of=ahead)
    assert not again.is_new
    assert again.version == first.version
    assert forecast(whole, as_of=ahead).forecasts.equals(forecast(whole).forecasts)
    assert settle(whole, as_of=ahead).n_settled == 0
    stamps = ledger.read_forecasts(whole.database, DAILY, columns=("settled_at",))
    assert stamps["settled_at"].max() <= LATER


def test_withholding_every_later_bar_changes_no_feature(both):
    features = []
    for stores in both:
        materialize_features(stores, "1d", Span())
        features.append(read_features(stores.database, DAILY))
    assert features[0].filter(pl.col("ts") <= LAST).equals(features[1])


def test_withholding_every_later_bar_changes_no_walk_forward_row_before(both):
    # Spans are counted from the newest bar: as many fewer of them as bars are withheld.
    size = N_WITHHELD // 2
    for stores, n_splits in zip(both, (5, 3), strict=True):
        splits = SplitSpec(n_splits=n_splits, test_size=size, holdout_share=0.0)
        evaluate(stores, replace(TREES, splits=splits))
    whole, past = (ledger_of(stores, *QUANTILES, "lower", "upper", "fold") for stores in both)
    shared = whole.filter(pl.col("ts") <= LAST)
    assert shared.equals(past)
    assert set(shared["fold"]) == {1, 2, 3}
    assert shared["ts"].n_unique() == 3 * size


def test_scores_of_outcomes_known_by_then_do_not_change_with_later_bars(both):
    for stores in both:
        evaluate(stores, HAR, as_of=THEN)
    whole, past = (
        ledger_of(stores, *OUTCOME, settled_only=True).sort("symbol", "ts", "horizon")
        for stores in both
    )
    key = ["symbol", "ts", "horizon"]
    # Sums of arrays of another length may round their last bit differently.
    assert_frame_equal(whole.join(past, on=key, how="semi"), past, rel_tol=0, abs_tol=1e-15)
    newer = whole.join(past, on=key, how="anti")
    assert newer.group_by("horizon").len().sort("horizon").rows() == [
        ("1D", 3), ("1M", 63), ("1W", 15)
    ]  # fmt: skip
