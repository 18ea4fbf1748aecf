"""Explanations: kept once beside forecasts, shown in the view, told by the API."""

from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from candlecast.api.app import create_app
from candlecast.api.explanations import Explanations
from candlecast.domain.catalog import Attentive
from candlecast.domain.examples import Rows
from candlecast.domain.sequences import Sequences
from candlecast.errors import NotFound
from candlecast.pipelines import forecast as forecasting
from candlecast.pipelines.explain import explain, of_horizon, read_current_explanations
from candlecast.store.explanations import (
    ATTENTION,
    CONTRIBUTIONS,
    read_explanations,
    write_explanations,
)
from candlecast.store.ledger import Batch, append, read_forecasts
from integration.store_rows import DAILY, day, forecasts_of, with_symbols
from markets import TENSORS, ExampleWindows
from served import SILENT, asking, seed_market


def test_what_is_kept_stays_and_is_read_by_the_predictions_id(database):
    assert write_explanations(database, ATTENTION, {1: {"a": [0.5]}, 2: {"a": []}}, day(1)) == 2
    assert write_explanations(database, ATTENTION, {1: {"a": [9]}, 3: {}}, day(2)) == 1
    assert write_explanations(database, CONTRIBUTIONS, {1: {"features": {"x": 1.5}}}, day(2)) == 1
    assert write_explanations(database, CONTRIBUTIONS, {}, day(2)) == 0
    assert read_explanations(database, [1, 2, 9]) == {
        1: {"attention": {"a": [0.5]}, "contributions": {"features": {"x": 1.5}}},
        2: {"attention": {"a": []}},
    }
    assert read_explanations(database, []) == {}


def test_the_view_of_predictions_shows_the_attention_beside_each(database):
    with_symbols(database)
    append(
        database, forecasts_of(["AAPL"], [1, 2]), Batch(DAILY, "live", "v", None, day(3), "scaled")
    )
    first, second, *_ = read_forecasts(database, DAILY, columns=("id",))["id"]
    write_explanations(database, ATTENTION, {second: {"weights": [[1.0]]}}, day(3))
    write_explanations(database, CONTRIBUTIONS, {first: {"features": {}}}, day(3))
    query = sa.text("SELECT id, attention_weights FROM ml_predictions_flat ORDER BY id")
    with database.reading() as reader:
        found = {row.id: row.attention_weights for row in reader.execute(query)}
    assert found[first] is None
    assert found[second] == '{"weights":[[1.0]]}'
    assert len(found) == len(read_forecasts(database, DAILY, columns=("id",)))


class Spoken:
    """A served model that says what it rests on; its forecasts are those of the one within."""

    def __init__(self, model):
        self.served = model

    def predict(self, rows: Rows):
        return self.served.predict(rows)

    def importances(self):
        return {}

    def contributions(self, rows: Rows):
        found = np.zeros((len(rows), len(rows.horizons), len(rows.feature_names)))
        found[:, :, 0], found[:, :, 1] = 0.1, -0.4
        return found + 0.01 * np.arange(len(rows.horizons))[None, :, None] * (found != 0)

    def attention(self, rows: Rows):
        weights = np.arange(1.0, 9.0).reshape(1, 8, 1) / 36
        return np.repeat(weights, len(rows), axis=0)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    opened = seed_market(tmp_path_factory.mktemp("reasons"))
    yield opened
    opened.close()


@pytest.fixture
def spoken(monkeypatch):
    """The champion as one that knows, and windows behind its rows."""
    load, newest = forecasting.load_model, forecasting.newest_dataset

    def with_windows(*arguments):
        dataset, features = newest(*arguments)
        rows = dataset.rows
        windows = ExampleWindows(TENSORS, np.zeros((len(rows), 8, 3)), rows.as_of)
        object.__setattr__(rows, "sequences", Sequences(windows, np.arange(len(rows))))
        return dataset, features

    monkeypatch.setattr(forecasting, "load_model", lambda *a: Spoken(load(*a)))
    monkeypatch.setattr(forecasting, "newest_dataset", with_windows)
    assert isinstance(Spoken(None), Attentive)


def test_a_model_that_knows_nothing_keeps_nothing(stores):
    assert explain(stores, ("SYN00",)) == []
    assert read_current_explanations(stores, "SYN00") == []
    with asking(create_app(stores)) as client:
        for ticker, remedy in (("SYN00", "candlecast explain SYN00"), (SILENT, "explain")):
            answer = client.get(f"/api/v1/explanations/{ticker}")
            assert answer.status_code == 404
            assert remedy in answer.json()["error"]["message"]


def test_explaining_keeps_what_the_forecasts_rest_on_and_the_api_tells_it(stores, spoken):
    found = of_horizon(explain(stores, ("SYN01",)), None)
    assert [one.horizon for one in found] == ["1D", "1W", "1M"]
    names = list(found[1].contributions)
    assert list(found[1].contributions.values()) == pytest.approx([-0.39, 0.11])
    assert found[0].attention[-1] == [pytest.approx(8 / 36, abs=1e-6)]
    assert found[0].timeframes == ("1d",)
    assert of_horizon(read_current_explanations(stores, "SYN01"), None) == found
    assert explain(stores, ("SYN01",)) == explain(stores, ("SYN01",))
    with asking(create_app(stores)) as client:
        answer = client.get("/api/v1/explanations/SYN01", params={"horizon": "1W"})
        told = Explanations.model_validate_json(answer.content, strict=True)
        (one,) = told.explanations
        assert [c.feature for c in one.contributions] == names
        assert one.attention.timeframes == ["1d"]
        assert client.get("/api/v1/explanations/SYN9").status_code == 404
    with pytest.raises(NotFound, match="1D"):
        of_horizon(found, "2D")


def test_each_live_forecast_keeps_its_attention_and_only_an_explanation_asks_for_more(
    stores, spoken
):
    forecasting.forecast(stores, symbols=("SYN02",))
    kept = read_current_explanations(stores, "SYN02")
    assert len(kept) == 3
    assert all(one.contributions is None and one.attention is not None for one in kept)
    assert all(one.as_of.astimezone(UTC) > datetime(2004, 1, 1, tzinfo=UTC) for one in kept)
