"""What a report counts, what the ledger refuses, and symbols that cannot keep up."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.market import Symbol
from candlecast.domain.specs import ModelSpec
from candlecast.errors import NotEnoughHistory, NotFound
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.report import ReportQuery, make_report
from candlecast.pipelines.settle import settle
from candlecast.pipelines.train import train
from candlecast.store import ledger
from candlecast.store.symbols import write_symbols
from pipeline_rows import DAILY, HAR, at, closing, opened, put, sample_bars

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
DAYS = BARS["ts"].unique().sort()
IBM = pl.col("symbol") == "IBM"


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as ready:
        yield ready


def renamed(bars, ticker):
    return bars.filter(IBM).with_columns(symbol=pl.lit(ticker))


def test_a_report_names_its_origins_and_leaves_simulated_forecasts_out(stores):
    put(stores, BARS.filter(pl.col("ts") <= DAYS[-40]))
    train(stores, HAR)
    assert forecast(at(stores, closing(DAYS[-40]))).origin == "live"
    put(stores, BARS)
    replay = forecast(stores, as_of=DAYS[-100] + timedelta(hours=22))
    assert (replay.origin, replay.is_in_sample) == ("simulated", True)
    assert settle(stores).n_settled > 0
    cards = {
        origins: make_report(stores, ReportQuery(origins=origins))
        for origins in [(), ("live",), ("walk_forward",), ("simulated",), ("live", "simulated")]
    }
    named = {origins: tuple(card["origins"]) for origins, card in cards.items()}
    assert named == {
        (): ("live", "walk_forward"),
        ("live",): ("live",),
        ("walk_forward",): ("walk_forward",),
        ("simulated",): ("simulated",),
        ("live", "simulated"): ("live", "simulated"),
    }
    n = {origins: card["n_settled"] for origins, card in cards.items()}
    assert n["live",] == n["simulated",] == 9
    assert n["live", "simulated"] == n["live",] + n["simulated",]
    assert n[()] == n["walk_forward",]  # which forecast the outcomes of the live ones as well


def test_a_report_without_a_word_does_not_mix_the_runs_of_several_models(stores):
    put(stores, BARS)
    own = train(stores, HAR)
    alone = make_report(stores, ReportQuery())
    evaluate(stores, replace(HAR, model=ModelSpec("climatology")))
    assert make_report(stores, ReportQuery()) == alone
    assert alone["model_versions"] == [f"har-walk-forward-{own.version.training_set_id[:8]}"]


def test_the_ledger_refuses_to_be_changed_or_emptied(database_url, tmp_path):
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS)
        evaluate(stores, replace(HAR, model=ModelSpec("climatology")))
        before = ledger.read_forecasts(stores.database, DAILY)
        for table, column in (("ml_predictions", "q500"), ("ml_outcomes", "crps")):
            for attack in (f"UPDATE {table} SET {column} = 0", f"DELETE FROM {table}"):
                with (
                    pytest.raises(sa.exc.DBAPIError, match="append-only"),
                    stores.database.transaction() as connection,
                ):
                    connection.execute(sa.text(attack))
        assert ledger.read_forecasts(stores.database, DAILY).equals(before)


def test_symbols_that_cannot_keep_up_are_named_and_stop_nobody(stores):
    young = renamed(BARS.filter(pl.col("ts") > DAYS[-60]), "YOUNG")
    prices = [pl.lit(5.0).alias(n) for n in ("open", "high", "low", "close", "adj_close")]
    flat = renamed(BARS, "FLAT").with_columns(prices)
    gone = renamed(BARS.filter(pl.col("ts") < DAYS[-90]), "GONE")
    bars = pl.concat([BARS, young, flat, gone]).sort("symbol", "ts")
    put(stores, bars)
    write_symbols(stores.database, [Symbol("SILENT")])
    tickers = ("AAPL", "FLAT", "GONE", "IBM", "MSFT", "SILENT", "YOUNG")
    first = train(stores, replace(HAR, symbols=tickers))
    assert set(first.shortfalls) == {"FLAT", "SILENT", "YOUNG"}
    assert train(stores, replace(HAR, symbols=tickers)).shortfalls == first.shortfalls
    run = forecast(stores)
    assert set(run.forecasts["symbol"]) == {"AAPL", "GONE", "IBM", "MSFT"}
    assert set(run.failures) == {"FLAT", "YOUNG"}
    assert set(forecast(stores, symbols=("SILENT", "IBM")).failures) == {"SILENT"}
    # What waits for a bar that never comes holds nothing up.
    settled = settle(stores)
    due = ledger.unsettled(stores.database, DAILY, due_by=stores.clock.now())
    assert settled.n_waiting == len(due) > 0
    assert "GONE" in set(due["symbol"])


def test_the_others_are_scored_as_if_a_symbol_that_fell_silent_were_not_there(stores):
    put(stores, BARS.filter(~(IBM & (pl.col("ts") > DAYS[-60]))))
    evaluate(stores, replace(HAR, model=ModelSpec("climatology")))
    report = make_report(stores, ReportQuery())
    n = {symbol: card["n"] for symbol, card in report["symbols"].items()}
    assert n["AAPL"] == n["MSFT"] > n["IBM"] > 0


def test_too_little_history_names_what_is_missing(stores):
    put(stores, BARS.filter(pl.col("ts") > DAYS[-200]))
    with pytest.raises(NotEnoughHistory, match="IBM: 199 of 300 bars"):
        train(stores, HAR)
    with pytest.raises(NotFound, match="candlecast train"):
        forecast(stores)
    with pytest.raises(NotEnoughHistory, match="--as-of"):
        train(stores, HAR, as_of=DAYS[0])


def test_an_unknown_model_is_told_before_the_work(stores):
    with pytest.raises(NotFound, match="lightgbm"):
        train(stores, replace(HAR, model=ModelSpec("lightgmb")))
    with pytest.raises(NotFound, match="n_estimators"):
        evaluate(stores, replace(HAR, model=ModelSpec("lightgbm", {"n_estimator": 5})))
