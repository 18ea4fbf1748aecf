"""Forecasts say whether their bars were traded, also those stored before they said so."""

import orjson
import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.api.app import create_app
from candlecast.store.bars import read_bars, write_bars
from pipeline_rows import DAILY
from served import NOW, asking, seed_market


@pytest.fixture
def stores(tmp_path):
    """The seeded market, whose stored forecasts do not say what bars they are made of."""
    opened = seed_market(tmp_path)
    with opened.database.transaction() as connection:
        query = sa.text("SELECT symbol_id, timeframe, horizon, details FROM ml_forecasts")
        for row in connection.execute(query).mappings().all():
            details = orjson.loads(row["details"])
            del details["is_simulated"]
            change = sa.text(
                "UPDATE ml_forecasts SET details = :details WHERE symbol_id = :symbol_id "
                "AND timeframe = :timeframe AND horizon = :horizon"
            )
            connection.execute(change, {**row, "details": orjson.dumps(details).decode()})
    yield opened
    opened.close()


def marks(client):
    answer = client.get("/api/v1/forecasts").json()["forecasts"]
    assert len(answer) == 9
    return {row["symbol"]: row["is_simulated"] for row in answer}


def test_an_old_forecast_of_bars_that_were_never_traded_is_marked(stores):
    with asking(create_app(stores)) as client:
        assert marks(client) == {"SYN00": True, "SYN01": True, "SYN02": True}
        summary = client.get("/api/v1/chart/SYN01").json()["ml_summary"]
        assert [h["is_simulated"] for h in summary["horizons"]] == [True] * 3


def test_an_old_forecast_of_a_symbol_with_a_traded_bar_is_not(stores):
    own = read_bars(stores.database, DAILY, symbols=["SYN01"]).tail(1)
    real = own.with_columns(
        close=pl.col("close") * 1.001, high=pl.col("high") * 1.01, source=pl.lit("files"),
        known_at=pl.lit(NOW).cast(own.schema["known_at"]) + pl.duration(seconds=1),
    )  # fmt: skip
    write_bars(stores.database, DAILY, real)
    with asking(create_app(stores)) as client:
        assert marks(client) == {"SYN00": True, "SYN01": False, "SYN02": True}
