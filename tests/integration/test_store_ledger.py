"""The ledger keeps what it was told; current forecasts move forward only; on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import Timeframe
from candlecast.errors import BadFrame, NotFound
from candlecast.store import blocks, ledger_tables
from candlecast.store.database import Database
from candlecast.store.ledger import (
    COLUMNS,
    CURRENT,
    UNSETTLED,
    Batch,
    append,
    read_current,
    read_forecasts,
    settle,
    unsettled,
    write_current,
)
from integration.store_rows import DAILY, TICKERS, day, forecasts_of, with_symbols

LIVE = Batch(DAILY, "live", "v1", None, day(100), "scaled")
WALK = Batch(DAILY, "walk_forward", "v1", "run-1", day(100), "scaled")


def outcomes_of(frame: pl.DataFrame, realised: float = 0.01) -> pl.DataFrame:
    return frame.select(
        pl.col("id").alias("prediction_id"),
        pl.lit(realised).alias("realised"),
        pl.lit(day(200)).alias("settled_at"),
        pl.lit(0.1).alias("pinball"),
        pl.lit(0.2).alias("crps"),
        pl.lit(None, pl.Float64).alias("crps_climatology"),
        pl.lit(0.5).alias("pit"),
        pl.lit(0.51).alias("prob_up_climatology"),
        pl.lit(value=True).alias("is_hit"),
    )


def current_of(symbol: str = "AAPL", horizon: str = "1D", **changes: object) -> pl.DataFrame:
    row = {
        "symbol": symbol,
        "horizon": horizon,
        "timeframe": "1d",
        "overall_label": "Neutral",
        "label": "Bullish",
        "confidence": 0.4,
        "points": '[{"ts": 1, "value": 2.0}]',
        "details": '{"a": null}',
        "model_version": "v1",
        "threshold_rule": "fixed:0.02",
        "as_of": day(10),
        "run_at": day(11),
    }
    return pl.DataFrame([row | changes])


def test_forecasts_come_back_as_they_were_appended(database: Database) -> None:
    with_symbols(database)
    forecasts = forecasts_of(TICKERS, range(5), ("1D", "1W")).with_columns(
        fold=pl.lit(2), feature_hash=pl.lit("abc"), features=pl.lit('{"rsi_14": 50.0}')
    )
    assert append(database, forecasts, WALK) == 30
    frame = read_forecasts(database, DAILY)
    assert tuple(frame.columns) == COLUMNS
    assert frame.select(forecasts.columns).equals(forecasts)
    assert frame["origin"].unique().to_list() == ["walk_forward"]
    assert frame["run_id"].unique().to_list() == ["run-1"]
    assert frame["threshold_rule"].unique().to_list() == ["scaled"]
    assert frame["created_at"].unique().to_list() == [day(100)]
    assert frame["realised"].null_count() == 30


def test_quantiles_are_stored_as_float32_and_read_as_the_same_numbers(database: Database) -> None:
    with_symbols(database)
    exact = forecasts_of(["AAPL"], [1])
    shifted = exact.with_columns(pl.col(QUANTILES) + 1e-12)
    append(database, shifted, LIVE)
    read = read_forecasts(database, DAILY, columns=QUANTILES).to_numpy()
    assert (read == shifted.select(QUANTILES).to_numpy().astype(np.float32)).all()
    assert not (read == shifted.select(QUANTILES).to_numpy()).all()


def test_appending_again_adds_nothing_and_changes_nothing(database: Database) -> None:
    with_symbols(database)
    forecasts = forecasts_of(TICKERS, range(3))
    append(database, forecasts, LIVE)
    before = read_forecasts(database, DAILY)
    other = forecasts_of(TICKERS, range(3), seed=1)
    assert append(database, other, replace(LIVE, created_at=day(300))) == 0
    assert append(database, forecasts_of(TICKERS, range(4)), LIVE) == len(TICKERS)
    assert read_forecasts(database, DAILY, end=day(2)).equals(before)


def test_origins_versions_and_runs_stand_side_by_side(database: Database) -> None:
    with_symbols(database)
    forecasts = forecasts_of(["AAPL"], [1])
    batches = [
        LIVE,
        WALK,
        replace(WALK, run_id="run-2"),
        replace(LIVE, model_version="v2"),
        replace(LIVE, timeframe=Timeframe.parse("1h")),
    ]
    assert [append(database, forecasts, batch) for batch in batches] == [1] * 5
    assert len(read_forecasts(database, DAILY)) == 4
    assert len(read_forecasts(database, DAILY, origins=["live"])) == 2
    assert len(read_forecasts(database, DAILY, origins=[])) == 0
    only = read_forecasts(database, DAILY, origins=["live"], model_version="v1")
    assert only["run_id"].to_list() == [None]


def test_a_read_keeps_to_what_is_asked(database: Database) -> None:
    with_symbols(database)
    append(database, forecasts_of(TICKERS, range(5), ("1D", "1W")), LIVE)
    frame = read_forecasts(
        database, DAILY, symbols=["MSFT"], horizon="1W", start=day(1), end=day(3)
    )
    assert frame["ts"].to_list() == [day(1), day(2), day(3)]
    assert frame["symbol"].unique().to_list() == ["MSFT"]
    assert frame["horizon"].unique().to_list() == ["1W"]
    few = read_forecasts(database, DAILY, columns=["pit", "symbol", "origin"])
    assert few.columns == ["pit", "symbol", "origin"]
    assert few["symbol"].is_sorted()
    with pytest.raises(NotFound, match="did you mean pit"):
        read_forecasts(database, DAILY, columns=["pitt"])


def test_rows_come_sorted_and_typed_even_when_there_are_none(database: Database) -> None:
    empty = read_forecasts(database, DAILY)
    assert empty.is_empty()
    with_symbols(database)
    append(database, forecasts_of(reversed(TICKERS), [3, 1, 2], ("1W", "1D")), LIVE)
    frame = read_forecasts(database, DAILY)
    assert frame.schema == empty.schema
    assert frame.equals(frame.sort("symbol", "as_of", "horizon", "id"))


@pytest.mark.parametrize(("table", "column"), [("ml_predictions", "yhat"), ("ml_outcomes", "pit")])
def test_the_ledger_refuses_to_be_changed(database: Database, table: str, column: str) -> None:
    with_symbols(database)
    append(database, forecasts_of(["AAPL"], [1]), LIVE)
    settle(database, outcomes_of(read_forecasts(database, DAILY)))
    before = read_forecasts(database, DAILY)
    overwrite = {
        "sqlite": f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        "postgresql": f"TRUNCATE {table} CASCADE",
    }[database.dialect]
    changes = [f"UPDATE {table} SET {column} = 0.5", f"DELETE FROM {table}", overwrite]
    for change in changes:
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            _execute(database, change)
    assert read_forecasts(database, DAILY).equals(before)


def _execute(database: Database, statement: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text(statement))


def test_a_forecast_is_due_once_its_outcome_is_known(database: Database) -> None:
    with_symbols(database)
    append(database, forecasts_of(TICKERS, range(5)), LIVE)
    due = unsettled(database, DAILY, due_by=day(4))
    assert tuple(due.columns) == UNSETTLED
    assert due["end_at"].max() == day(4)
    assert len(due) == 3 * len(TICKERS)
    assert settle(database, outcomes_of(due)) == len(due)
    assert unsettled(database, DAILY, due_by=day(4)).is_empty()
    assert unsettled(database, DAILY, due_by=day(4)).schema == due.schema
    assert len(unsettled(database, DAILY, due_by=day(100))) == 2 * len(TICKERS)
    assert unsettled(database, Timeframe.parse("1h"), due_by=day(100)).is_empty()


def test_an_outcome_is_written_once(database: Database) -> None:
    with_symbols(database)
    append(database, forecasts_of(TICKERS, [1, 2]), LIVE)
    due = unsettled(database, DAILY, due_by=day(100))
    assert settle(database, outcomes_of(due.head(2), 0.01)) == 2
    assert settle(database, outcomes_of(due, 0.99)) == len(due) - 2
    frame = read_forecasts(database, DAILY)
    assert sorted(frame["realised"]) == [0.01] * 2 + [0.99] * (len(due) - 2)
    assert frame["is_hit"].to_list() == [True] * len(due)
    settled = read_forecasts(database, DAILY, settled_only=True)
    assert settled.equals(frame)


def test_settling_fails_as_a_whole(database: Database) -> None:
    with_symbols(database)
    append(database, forecasts_of(TICKERS, [1]), LIVE)
    outcomes = outcomes_of(unsettled(database, DAILY, due_by=day(100)))
    unknown = outcomes.tail(1).with_columns(prediction_id=pl.lit(10**9, pl.Int64))
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        settle(database, pl.concat([outcomes, unknown]))
    assert len(unsettled(database, DAILY, due_by=day(100))) == len(TICKERS)


def test_forecasts_that_cross_or_lack_columns_are_refused(database: Database) -> None:
    with_symbols(database)
    forecasts = forecasts_of(["AAPL"], [1])
    with pytest.raises(BadFrame, match="cross"):
        append(database, forecasts.with_columns(q010=pl.lit(99.0)), LIVE)
    with pytest.raises(BadFrame, match="prob_up"):
        append(database, forecasts.drop("prob_up"), LIVE)
    with pytest.raises(NotFound, match="AAPX"):
        append(database, forecasts.with_columns(symbol=pl.lit("AAPX")), LIVE)
    assert read_forecasts(database, DAILY).is_empty()
    assert append(database, forecasts.head(0), LIVE) == 0


@pytest.mark.parametrize("min_rows", [1, 7, 10**9])
def test_the_columnar_copies_say_what_the_rows_say(
    database: Database, monkeypatch: pytest.MonkeyPatch, min_rows: int
) -> None:
    monkeypatch.setattr(blocks, "MIN_ROWS", min_rows)
    monkeypatch.setattr(blocks, "MAX_ROWS", 5)
    with_symbols(database)
    for number, batch in enumerate((LIVE, WALK, LIVE, replace(WALK, run_id="run-2"))):
        append(database, forecasts_of(TICKERS[number % 2 :], range(number + 1), seed=number), batch)
        due = unsettled(database, DAILY, due_by=day(3))
        assert (
            settle(database, outcomes_of(due.gather_every(2), number / 10)) == (len(due) + 1) // 2
        )
        for asked in ({}, {"horizon": "1D", "start": day(1), "end": day(2)}, {"origins": ["live"]}):
            for settled_only in (True, False):
                query = {**asked, "settled_only": settled_only}
                by_block = read_forecasts(database, DAILY, **query)
                by_row = read_forecasts(database, DAILY, symbols=TICKERS, **query)
                assert by_block.equals(by_row)
        still_due = unsettled(database, DAILY, due_by=day(3))
        is_open = pl.col("realised").is_null() & (pl.col("end_at") <= day(3))
        assert still_due.equals(read_forecasts(database, DAILY).filter(is_open).select(UNSETTLED))


def test_deleting_the_columnar_copies_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MIN_ROWS", 3)
    with_symbols(database)
    append(database, forecasts_of(TICKERS, range(4)), LIVE)
    before = read_forecasts(database, DAILY)
    _execute(database, "DELETE FROM ml_ledger_blocks")
    assert read_forecasts(database, DAILY).equals(before)
    append(database, forecasts_of(TICKERS, range(5)), LIVE)
    assert read_forecasts(database, DAILY, end=day(3)).equals(before)
    assert len(read_forecasts(database, DAILY)) == 5 * len(TICKERS)


def test_an_append_that_fails_leaves_neither_rows_nor_copies(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MIN_ROWS", 3)
    with_symbols(database)

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_write", fail)
        with pytest.raises(OSError, match="full"):
            append(database, forecasts_of(TICKERS, range(4)), LIVE)
    assert read_forecasts(database, DAILY).is_empty()
    assert append(database, forecasts_of(TICKERS, range(4)), LIVE) == 4 * len(TICKERS)


def test_current_forecasts_are_replaced_only_by_newer_ones(database: Database) -> None:
    with_symbols(database)
    assert write_current(database, current_of()) == 1
    assert write_current(database, current_of(as_of=day(9), label="Bearish")) == 0
    assert read_current(database)["label"].to_list() == ["Bullish"]
    newer = current_of(as_of=day(12), label="Bearish", run_at=day(13))
    assert write_current(database, newer) == 1
    row = read_current(database).row(0, named=True)
    assert (row["label"], row["as_of"], row["timeframe"]) == ("Bearish", day(12), "1d")
    assert (row["created_at"], row["updated_at"]) == (day(11), day(13))


def test_the_same_current_forecast_leaves_its_row_alone(database: Database) -> None:
    with_symbols(database)
    write_current(database, current_of())
    before = read_current(database)
    assert tuple(before.columns) == CURRENT
    assert write_current(database, current_of(run_at=day(50))) == 0
    assert read_current(database).equals(before)
    assert write_current(database, current_of(run_at=day(50), confidence=0.5)) == 1


def test_current_forecasts_are_chosen_by_symbol_and_horizon(database: Database) -> None:
    with_symbols(database)
    rows = [current_of(symbol, horizon) for symbol in TICKERS for horizon in ("1W", "1D")]
    write_current(database, pl.concat(rows))
    assert read_current(database)["symbol"].is_sorted()
    some = read_current(database, symbols=["MSFT", "AAPL"], horizons=["1W"])
    assert some.select("symbol", "horizon").rows() == [("AAPL", "1W"), ("MSFT", "1W")]
    with pytest.raises(NotFound, match="MSFX"):
        read_current(database, symbols=["MSFX"])
    with pytest.raises(BadFrame, match="details"):
        write_current(database, current_of().drop("details"))


def test_labels_outside_the_three_are_refused(database: Database) -> None:
    with_symbols(database)
    with pytest.raises(Exception, match="ck_ml_forecasts_label"):
        write_current(database, current_of(label="Maybe"))
    with pytest.raises(BadFrame, match=r"confidence 1\.5"):
        append(database, forecasts_of(["AAPL"], [1]).with_columns(confidence=pl.lit(1.5)), LIVE)
    with pytest.raises(BadFrame, match="Maybe"):
        append(database, forecasts_of(["AAPL"], [1]).with_columns(label=pl.lit("Maybe")), LIVE)
    with database.reading() as reader:
        n_sources = reader.execute(
            sa.select(sa.func.count()).select_from(ledger_tables.ml_prediction_sources)
        ).scalar()
    assert n_sources == 0


def test_the_flat_view_shows_prices_signals_and_minutes(database: Database) -> None:
    with_symbols(database)
    append(database, forecasts_of(["AAPL"], [1]).with_columns(label=pl.lit("Bearish")), LIVE)
    stored = read_forecasts(database, DAILY)
    with database.reading() as reader:
        row = reader.execute(sa.text("SELECT * FROM ml_predictions_flat")).one()
    assert (row.ticker, row.signal, row.horizon_minutes) == ("AAPL", "Bearish", 1440)
    assert row.predicted_price == pytest.approx(100 * np.exp(stored["q500"][0]))
    assert row.attention_weights is None


def test_instants_far_away_survive(database: Database) -> None:
    with_symbols(database)
    far = forecasts_of(["AAPL"], [1]).with_columns(
        end_at=pl.lit(day(1) + timedelta(days=80 * 365, microseconds=1)).cast(
            pl.Datetime("us", "UTC")
        )
    )
    append(database, far, LIVE)
    assert read_forecasts(database, DAILY)["end_at"].equals(far["end_at"])
