"""What was served is what the store says it should have been; where it is not, that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import orjson
import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.catalog import FEATURES
from candlecast.domain.sources import Request
from candlecast.domain.specs import FeatureSpec
from candlecast.pipelines import skew as module
from candlecast.pipelines.facts import ingest_facts
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.skew import measure_skew
from candlecast.pipelines.train import train
from candlecast.pipelines.universe import read_market
from candlecast.store import ledger
from candlecast.store.ledger_tables import ml_prediction_runs
from candlecast.store.tables import bars as bar_table
from command_line import call
from pipeline_rows import at, closing, opened, put, sample_bars
from training_rows import BARS, DAYS, SPEC, SYMBOLS, Told

FIRST = len(DAYS) - 4
IBM = pl.col("symbol") == "IBM"


def until(n_days):
    """All bars so far; those of MSFT without adjusted closes, so that actions change its prices."""
    raw = pl.when(pl.col("symbol") != "MSFT").then("adj_close").alias("adj_close")
    return BARS.with_columns(raw).filter(pl.col("ts") <= DAYS[n_days - 1])


def evening(n_days):
    """Shortly after the last of so many sessions."""
    return closing(DAYS[n_days - 1]) + timedelta(hours=1)


def corrected(bars, day, factor=0.98):
    is_it = IBM & (pl.col("ts") == day)
    names = ("open", "high", "low", "close", "adj_close")
    return bars.with_columns(pl.when(is_it).then(pl.col(n) * factor).otherwise(n) for n in names)


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path, evening(FIRST)) as opened_stores:
        put(opened_stores, until(FIRST))
        train(opened_stores, SPEC)
        assert forecast(opened_stores).origin == "live"
        yield opened_stores


def test_live_forecasts_on_a_store_that_goes_on_changing_show_no_skew(
    database_url, tmp_path, monkeypatch
):
    hole = IBM & (pl.col("ts") == DAYS[FIRST - 30])
    with opened(database_url, tmp_path, evening(FIRST)) as first:
        put(first, until(FIRST).filter(~hole))
        train(first, SPEC)
        forecast(first)
        for n_days in range(FIRST + 1, len(DAYS) + 1):
            stores = at(first, evening(n_days))
            put(stores, until(n_days).filter(~hole) if n_days < len(DAYS) - 1 else until(n_days))
            forecast(stores)
            night = at(stores, evening(n_days) + timedelta(hours=2))
            put(night, corrected(until(n_days), DAYS[n_days - 2]))
            split = {"symbol": "MSFT", "ex_date": DAYS[n_days - 3], "kind": "split", "value": 2.0}
            row = pl.DataFrame([split | {"source": "told", "known_at": DAYS[n_days - 3]}])
            ingest_facts(night, "actions", "told", Told(row), Request())
        report = measure_skew(night)
        assert report.differences == []
        assert report.unchecked == {}
        assert (report.n_runs, report.n_vectors) == (5, 5 * len(SYMBOLS))
        assert report.n_values == 5 * len(SYMBOLS) * 3
        assert measure_skew(night, is_rebuilt=True) == report
        # Held against what is known today the same forecasts would differ: all that came counts.
        monkeypatch.setattr(module, "read_market", _known_today)
        monkeypatch.setattr(module, "READING", timedelta(0))
        assert {found.symbol for found in measure_skew(night).differences} >= {"IBM", "MSFT"}


def _known_today(stores, timeframe, symbols, as_of, **options):
    return read_market(stores, timeframe, symbols, None, **options)


def test_only_forecasts_since_then_and_of_that_timeframe_are_measured(stores):
    assert measure_skew(stores, evening(FIRST)).n_vectors == len(SYMBOLS)
    assert measure_skew(stores, evening(FIRST) + timedelta(seconds=1)).n_vectors == 0
    assert measure_skew(stores, timeframe="1h").n_runs == 0


def test_the_market_of_a_run_is_read_once(stores, monkeypatch):
    reads = []

    def counted(*arguments, **options):
        reads.append(arguments)
        return read_market(*arguments, **options)

    monkeypatch.setattr(module, "read_market", counted)
    assert measure_skew(stores).n_vectors == 3
    assert len(reads) == 1


COMPARED = replace(SPEC, features=FeatureSpec((*SPEC.features.names, "market_return_1")))


def test_symbols_beside_those_of_the_model_are_no_skew(database_url, tmp_path):
    # AAPL and GOOG are forecast first; FB, later, was compared with GOOG though that stood there.
    more = sample_bars("GOOG", "FB", n_sessions=len(DAYS)).filter(pl.col("ts") <= DAYS[FIRST - 1])
    with opened(database_url, tmp_path, evening(FIRST)) as first:
        put(first, until(FIRST))
        train(first, COMPARED)
        put(first, more)
        assert forecast(first, symbols=("AAPL", "GOOG")).n_new > 0
        later = at(first, evening(FIRST) + timedelta(minutes=10))
        assert forecast(later, symbols=("GOOG", "FB")).n_new > 0
        report = measure_skew(later)
        assert (report.n_runs, report.n_vectors) == (2, 3)
        assert (report.differences, report.unchecked) == ([], {})
        # Of a run that did not store them, what compares symbols cannot be checked.
        with later.database.transaction() as connection:
            connection.execute(sa.delete(ml_prediction_runs))
        old = measure_skew(later)
        assert old.differences == []
        assert ["return_rank_21" in where for where in old.unchecked] == [True, True]
        assert {why.partition(" these")[0] for why in old.unchecked.values()} == {"which symbols"}
        assert old.n_values == 3 * 2 < report.n_values == 3 * 4


@pytest.mark.parametrize(("factor", "n_found"), [(1 + 1e-12, 0), (1.001, 3)])
def test_other_code_than_the_one_that_served_is_found_value_by_value(
    stores, monkeypatch, factor, n_found
):
    entry = FEATURES.get("har_5")
    other = replace(entry, expression=lambda: entry.expression() * factor)
    monkeypatch.setitem(FEATURES._entries, "har_5", other)
    report = measure_skew(stores)
    assert [(found.symbol, found.feature) for found in report.differences] == [
        (symbol, "har_5") for symbol in SYMBOLS[:n_found]
    ]
    for found in report.differences:
        assert found.ts == DAYS[FIRST - 1]
        assert found.recomputed == pytest.approx(found.served * factor, rel=1e-9)
        assert f"{found.symbol} {DAYS[FIRST - 1]:%Y-%m-%d} 00:00 har_5: served" in str(found)


def test_a_row_written_behind_the_back_is_found(stores):
    with stores.database.transaction() as connection:
        where = bar_table.c.ts == DAYS[FIRST - 2]
        lower = {name: bar_table.c[name] * 0.9 for name in ("close", "adj_close")}
        connection.execute(sa.update(bar_table).where(where).values(lower))
    report = measure_skew(stores, is_rebuilt=True)
    assert {found.symbol for found in report.differences} == {*SYMBOLS}
    assert {found.feature for found in report.differences} >= {"har_1", "har_5"}


def test_what_came_while_a_forecast_was_made_is_no_skew_but_what_came_before_is(stores):
    day, served_at = DAYS[FIRST - 2], evening(FIRST)
    put(at(stores, served_at - timedelta(seconds=2)), corrected(until(FIRST), day))
    assert measure_skew(stores).differences == []
    put(at(stores, served_at - timedelta(minutes=9)), corrected(until(FIRST), DAYS[FIRST - 3]))
    assert {found.symbol for found in measure_skew(stores).differences} >= {"IBM"}


def test_a_feature_or_model_that_is_gone_is_told_as_unchecked(stores, monkeypatch):
    with monkeypatch.context() as patched:
        patched.delitem(FEATURES._entries, "har_5")
        report = measure_skew(stores)
        assert report.differences == []
        assert report.n_vectors == len(SYMBOLS)
        assert report.n_values == len(SYMBOLS) * 2, "what is gone was not compared"
        [(where, why)] = report.unchecked.items()
        assert "har_5" in where
        assert "exist no longer" in why
    monkeypatch.setattr(stores.registry, "get", _unknown)
    report = measure_skew(stores)
    assert (report.n_vectors, len(report.unchecked)) == (0, 1)


def _unknown(name):
    raise module.NotFound.among("model version", name, ())


def test_values_that_are_not_those_of_their_hash_are_told(stores, monkeypatch):
    def tampered(*arguments, **options):
        rows = ledger.read_forecasts(*arguments, **options)
        wrong = pl.Series([orjson.dumps({"har_1": 0.5}).decode()] * len(rows))
        return rows.with_columns(features=pl.when(IBM).then(wrong).otherwise("features"))

    monkeypatch.setattr(module, "ledger", _Ledger(tampered))
    report = measure_skew(stores)
    assert report.differences == []
    assert ["IBM" in where for where in report.unchecked] == [True]
    assert report.n_vectors == len(SYMBOLS) - 1


@dataclass(frozen=True)
class _Ledger:
    read_forecasts: Callable[..., pl.DataFrame]
    read_universes = staticmethod(ledger.read_universes)


def test_the_command_ends_with_1_where_anything_differs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "var"))
    url = f"sqlite:///{tmp_path}/var/candlecast.db"
    with opened(url, tmp_path / "var", evening(FIRST)) as stores:
        put(stores, until(FIRST))
        train(stores, SPEC)
        forecast(stores)
    fine = call("skew", "--since", f"{evening(FIRST):%Y-%m-%d}", "--json")
    assert fine.code == 0
    assert fine.json()["n_vectors"] == len(SYMBOLS)
    assert "3 feature vectors of 1 forecast runs, 9 values compared, 0 differ" in call("skew").out
    entry = FEATURES.get("har_1")
    other = replace(entry, expression=lambda: entry.expression() + np.float64(1.0))
    monkeypatch.setitem(FEATURES._entries, "har_1", other)
    told = call("skew", "--json")
    assert told.code == 1
    assert [found["feature"] for found in told.json()["differences"]] == ["har_1"] * 3
    assert "IBM" in call("skew").out
