"""What a source says anew: corrections, restated adjustments, healed gaps; on both databases."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import QUANTILES
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.train import train
from candlecast.pipelines.universe import read_market
from candlecast.store import ledger
from candlecast.store.bars import read_bars
from pipeline_rows import (
    DAILY,
    HAR,
    LATER,
    all_rows,
    changes,
    closing,
    opened,
    put,
    sample_bars,
)

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
DAYS = BARS["ts"].unique().sort()
MONDAY = LATER + timedelta(days=7)
IBM = pl.col("symbol") == "IBM"


def changed(bars, condition, **values):
    return bars.with_columns(
        pl.when(condition).then(value).otherwise(name).alias(name) for name, value in values.items()
    )


def stored(stores, **chosen):
    return read_bars(stores.database, DAILY, **chosen)


def test_a_corrected_bar_is_known_from_when_it_was_seen_and_training_keeps_the_first(
    database_url, tmp_path
):
    day = DAYS[-200]
    is_it = IBM & (pl.col("ts") == day)
    close, adjusted = BARS.filter(is_it).select("close", "adj_close").row(0)
    wrong = {"close": pl.lit(close * 0.99), "adj_close": pl.lit(adjusted * 0.99)}
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS)
        first = stored(stores)
        trained = train(stores, HAR).version.version
    with opened(database_url, tmp_path, MONDAY) as stores:
        written = put(stores, changed(BARS, is_it, **wrong)).written
        assert (written.inserted, written.revised, written.unchanged) == (0, 1, len(BARS) - 1)
        newest = stored(stores).filter(is_it)
        assert newest["close"].item() == pytest.approx(close * 0.99)
        assert newest["known_at"].item() == MONDAY
        assert stored(stores, as_of=MONDAY - timedelta(seconds=1)).equals(first)
        assert stored(stores, is_first_version=True).equals(first)
        assert not train(stores, HAR).is_new
        assert train(stores, HAR).version.version == trained
        market = read_market(stores, DAILY, ("IBM",), None, is_newest=True)
        seen = market.prices.filter(pl.col("ts") == day)
        assert seen["close"].item() == pytest.approx(adjusted * 0.99)


def test_a_correction_changes_no_forecast_that_was_made_before(database_url, tmp_path):
    is_last = IBM & (pl.col("ts") == DAYS[-1])
    close = BARS.filter(is_last)["close"].item() * 0.95
    friday = closing(DAYS[-1])
    with opened(database_url, tmp_path, friday) as stores:
        put(stores, BARS)
        train(stores, HAR)
        first = forecast(stores)
        assert (first.origin, first.n_new) == ("live", 9)
        before = ledger.read_forecasts(stores.database, DAILY)
        shown = ledger.read_current(stores.database)
    saturday = friday + timedelta(hours=20)
    with opened(database_url, tmp_path, saturday) as stores:
        adjusted = pl.col("adj_close") * 0.95
        low = pl.min_horizontal("low", pl.lit(close))
        put(stores, changed(BARS, is_last, close=pl.lit(close), low=low, adj_close=adjusted))
        assert stored(stores).filter(is_last)["close"].item() == close
        again = forecast(stores)
        assert (again.origin, again.n_new, again.as_of) == ("live", 0, saturday)
        assert again.forecasts["q500"].equals(first.forecasts["q500"])
        assert ledger.read_forecasts(stores.database, DAILY).equals(before)
        assert ledger.read_current(stores.database).equals(shown)


def test_a_restated_basis_of_adjusted_closes_is_no_revision_and_no_return(database_url, tmp_path):
    restated = BARS.with_columns(pl.col("adj_close") * 0.98)
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS.filter(pl.col("ts") < DAYS[-5]))
        n_before = len(stored(stores))
        written = put(stores, restated).written
        assert (written.inserted, written.revised, written.unchanged) == (15, 0, n_before)
        market = read_market(stores, DAILY, (), None)
        truth = BARS.select("symbol", "ts", ret=pl.col("adj_close").log().diff().over("symbol"))
        returns = market.prices.select(
            "symbol", "ts", found=pl.col("close").log().diff().over("symbol")
        ).join(truth, on=["symbol", "ts"])
        gap = (returns["found"] - returns["ret"]).drop_nulls().abs().max()
        assert gap < 1e-9


def test_a_restated_basis_is_taken_over_by_symbols_that_are_new_only(database_url, tmp_path):
    restated = BARS.with_columns(pl.col("adj_close") * 0.98)
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS.filter(~IBM))
        assert put(stores, restated).written.revised == 0
        adjusted = stored(stores, symbols=["IBM"])["adj_close"]
        assert np.allclose(adjusted, restated.filter(IBM)["adj_close"], rtol=1e-12)


def test_a_healed_gap_is_known_late_and_no_part_of_what_was_known_before(database_url, tmp_path):
    hole = DAYS[-260:-258].to_list()
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS.filter(~(IBM & pl.col("ts").is_in(hole))))
        first = train(stores, HAR)
        forecast(stores)
        before = all_rows(database_url)
        walked = ledger.read_forecasts(stores.database, DAILY)
    with opened(database_url, tmp_path, MONDAY) as stores:
        written = put(stores, BARS).written
        assert (written.inserted, written.revised) == (2, 0)
        late = stored(stores).filter(IBM & pl.col("ts").is_in(hole))
        assert set(late["known_at"]) == {MONDAY}
        assert len(stored(stores, as_of=MONDAY - timedelta(seconds=1))) == len(BARS) - 2
        # Learnt with what was known at the time, every earlier row comes out as it did.
        evaluate(stores, HAR)
        rows = ledger.read_forecasts(stores.database, DAILY, origins=["walk_forward"])
        again = rows.filter(pl.col("run_id") != first.version.training_set_id)
        key = ["symbol", "ts", "horizon"]
        value = [*QUANTILES, "as_of", "lower", "upper", "prob_up"]
        old = walked.filter(pl.col("origin") == "walk_forward").select(*key, *value)
        kept = old.join(again.select(key), on=key, how="semi")
        assert len(kept) == len(old)
        assert again.select(*key, *value).join(old.select(key), on=key, how="semi").equals(kept)
        after = all_rows(database_url)
        kept_tables = before.keys() - {"bar_reads"}  # until when they were used moves on
        gone = [row for name in kept_tables for row in {*before[name]} - {*after[name]}]
        assert gone == []


def test_a_source_that_repeats_itself_writes_nothing(database_url, tmp_path):
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS)
    before = all_rows(database_url)
    with opened(database_url, tmp_path, MONDAY) as stores:
        written = put(stores, BARS).written
        assert (written.inserted, written.revised, written.unchanged) == (0, 0, len(BARS))
    assert changes(before, all_rows(database_url)) == {}
