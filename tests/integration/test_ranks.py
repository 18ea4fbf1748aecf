"""Ranks of stored forecasts, from the pipeline, the API and the command line."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.api import ranks, responses
from candlecast.api.app import create_app
from candlecast.api.sizes import MAX_BODY_BYTES
from candlecast.domain.described import content_hash
from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import FixedClock
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFound
from candlecast.models import joint
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.rank import RankQuery, n_scenarios, rank, read_residuals
from candlecast.store import ledger
from command_line import call
from pipeline_rows import DAILY, all_rows, changes, put
from served import NOW, SILENT, asking, at, seed_market

HALVES = {"SYN00": 0.5, "SYN02": 0.5}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def stores(home):
    opened = seed_market(home)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(stores):
    with asking(create_app(stores)) as opened:
        yield opened


def by_symbol(told):
    return {row["symbol"]: row for row in told["ranks"]}


# --- the pipeline ---------------------------------------------------------------------------


def test_ranks_add_up_and_say_what_they_were_made_of(stores):
    told = rank(stores, RankQuery())
    found = np.array([row["probabilities"] for row in told["ranks"]])
    assert list(by_symbol(told)) == ["SYN00", "SYN01", "SYN02"]
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found.sum(axis=0), 3 / 5)
    for row in told["ranks"]:
        assert row["expected_rank"] == pytest.approx(row["probabilities"] @ np.arange(1, 6))
    assert (told["as_of"], told["horizon"]) == ("2004-10-12T20:00:00Z", "1M")
    assert told["model_version"].startswith("ewma-20041012-")
    assert told["is_in_sample"] is False
    assert told["portfolio"] is None
    assert told["left_out"] == {}
    assert told["simulated"] == ["SYN00", "SYN01", "SYN02"]


def test_the_widest_forecast_is_the_likeliest_at_both_ends(stores):
    rows = ledger.read_forecasts(stores.database, DAILY, horizon="1M", origins=["live"])
    widest = rows.sort("yhat_std")["symbol"].to_list()[-1]
    ends = {
        symbol: row["probabilities"][0] + row["probabilities"][4]
        for symbol, row in by_symbol(rank(stores, RankQuery())).items()
    }
    assert max(ends, key=ends.__getitem__) == widest


def test_ranks_know_no_direction_unless_they_are_asked_to(stores):
    plain, drifted = (rank(stores, RankQuery(horizon="1M", has_drift=d)) for d in (False, True))
    rows = ledger.read_forecasts(stores.database, DAILY, horizon="1M", origins=["live"])
    lean = dict(rows.select("symbol", pl.col("q500").sign()).iter_rows())
    assert {*lean.values()} == {1.0}
    widest = max(plain["ranks"], key=lambda row: row["probabilities"][0])["symbol"]
    for symbol, row in by_symbol(plain).items():
        assert row["expected_rank"] == pytest.approx(3, abs=0.05), symbol
    gained = by_symbol(drifted)[widest]["expected_rank"] - by_symbol(plain)[widest]["expected_rank"]
    assert gained > 0.01
    held = RankQuery(weights=HALVES)
    assert (
        rank(stores, replace(held, has_drift=True))["portfolio"] == rank(stores, held)["portfolio"]
    )


def test_the_same_stores_give_the_same_answer_and_stay_as_they_are(stores, home):
    url = f"sqlite:///{home / 'candlecast.db'}"
    before = all_rows(url)
    first = rank(stores, RankQuery(weights=HALVES))
    assert rank(stores, RankQuery(weights=HALVES)) == first
    assert changes(before, all_rows(url)) == {}


def test_a_portfolio_of_one_symbol_is_its_forecast(stores):
    told = rank(stores, RankQuery(horizon="1W", weights={"SYN01": 1.0}))["portfolio"]
    rows = ledger.read_forecasts(
        stores.database, DAILY, symbols=["SYN01"], horizon="1W", origins=["live"]
    )
    wanted = np.expm1(rows.select(QUANTILES).to_numpy()[0])
    np.testing.assert_allclose(list(told["quantiles"].values()), wanted, atol=2e-4)
    assert told["value_at_risk_95"] == pytest.approx(-told["quantiles"]["q050"])
    assert told["expected_shortfall_95"] > told["value_at_risk_95"] > 0
    assert told["weights"] == {"SYN01": 1.0}


def test_a_mixed_portfolio_risks_less_than_its_parts(stores):
    def risk(weights):
        return rank(stores, RankQuery(weights=weights))["portfolio"]["value_at_risk_95"]

    parts = [weight * risk({ticker: 1.0}) for ticker, weight in HALVES.items()]
    assert 0 < risk(HALVES) < sum(parts)


def test_symbols_without_a_forecast_that_stands_are_named(stores):
    told = rank(stores, RankQuery(symbols=("SYN00", "SYN01", SILENT)))
    assert list(by_symbol(told)) == ["SYN00", "SYN01"]
    assert "has made no forecast of it" in told["left_out"][SILENT]


def test_a_forecast_much_older_than_the_others_is_left_out(stores):
    later = at(stores, FixedClock(NOW + timedelta(days=15)))
    bars = stores.mirror.read(DAILY, symbols=["SYN00", "SYN01"])
    newest = bars.group_by("symbol").agg(pl.all().last())
    ahead = [
        newest.with_columns(pl.col("ts") + timedelta(days=days)).drop("known_at")
        for days in (0, 1, 2, 3, 6, 7, 8, 9, 10, 13, 14)
    ]
    put(later, pl.concat(ahead).sort("symbol", "ts"))
    before = rank(later, RankQuery(as_of=NOW))
    forecast(later)
    told = rank(later, RankQuery())
    assert list(by_symbol(told)) == ["SYN00", "SYN01"]
    assert "too old beside" in told["left_out"]["SYN02"]
    assert rank(later, RankQuery(as_of=NOW)) == before
    with pytest.raises(NotEnoughHistory, match="SYN02"):
        rank(later, RankQuery(symbols=("SYN01", "SYN02"), horizon="1D"))


def test_what_was_known_then_decides(stores):
    then = NOW - timedelta(days=30)
    with pytest.raises(NotFound, match=r"candlecast forecast --model ewma.* --as-of"):
        rank(stores, RankQuery(as_of=then))
    forecast(stores, as_of=then)
    told = rank(stores, RankQuery(as_of=then))
    assert told["as_of"] <= then.isoformat()
    assert told["is_in_sample"] is True
    assert by_symbol(told)["SYN00"]["as_of"] <= then.isoformat()


@pytest.mark.parametrize("n_symbols", [2, 3, 244, 245, 500, 999, 1000])
def test_the_work_of_a_ranking_is_bounded_and_no_less_than_that(n_symbols):
    n = n_scenarios(n_symbols)
    assert n & (n - 1) == 0
    assert n * n_symbols <= 4_000_000
    assert n == joint.N_SCENARIOS or 2 * n * n_symbols > 4_000_000


def test_residuals_are_returns_over_the_volatility_known_before(stores):
    tickers = ["SYN01", "SYN00"]
    found = read_residuals(stores, DAILY, tickers, NOW)
    earlier = read_residuals(stores, DAILY, tickers, NOW - timedelta(days=14))
    assert found.shape == (504, 2)
    np.testing.assert_allclose(found[-20:-10], earlier[-10:])
    assert np.nanstd(found) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("query", "error", "remedy"),
    [
        ({"symbols": ("SYN0",)}, NotFound, "SYN00"),
        ({"horizon": "2M"}, NotFound, "1M"),
        ({"horizon": "soon"}, InvalidSpec, "1W"),
        ({"version": "ewma-1"}, NotFound, "ewma-2004"),
        ({"timeframe": "5m"}, NotFound, "candlecast train"),
        ({"symbols": ("SYN00",)}, NotEnoughHistory, "at least 2"),
        ({"weights": {"SILENT": 1.0}}, InvalidSpec, "not among"),
        ({"weights": {"SYN00": float("nan")}}, InvalidSpec, "share of the capital"),
        ({"weights": {"SYN00": 11.0}}, InvalidSpec, "share of the capital"),
        ({"symbols": ("SYN00",) * 1001}, InvalidSpec, "at most 1000"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_a_remedy(stores, query, error, remedy):
    with pytest.raises(error, match=remedy):
        rank(stores, RankQuery(**query))


# --- the API --------------------------------------------------------------------------------


def test_the_api_answers_what_the_pipeline_does_in_the_documented_shape(client, stores):
    request = {"symbols": ["SYN00", "SYN02"], "horizon": "1M", "weights": HALVES}
    response = client.post("/api/v1/ranks", json=request)
    assert response.status_code == 200, response.text
    ranks.Ranks.model_validate_json(response.content, strict=True)
    query = RankQuery(symbols=("SYN00", "SYN02"), weights=HALVES)
    assert response.json() == json.loads(json.dumps(rank(stores, query)))


def test_one_ranking_is_made_at_a_time_and_others_are_asked_to_come_back(client, monkeypatch):
    monkeypatch.setattr(ranks, "MAX_WAIT_SECONDS", 0.01)
    with ranks.TURN:
        response = client.post("/api/v1/ranks", json={})
    body = responses.ErrorBody.model_validate_json(response.content, strict=True)
    assert response.status_code == 503
    assert body.error.is_retryable
    assert "ask again" in body.error.message
    assert response.headers["Retry-After"] == "1"
    for asked, status in (({"horizon": "1Y"}, 422), ({}, 200)):
        assert client.post("/api/v1/ranks", json=asked).status_code == status


def test_a_request_may_leave_everything_out(client):
    told = client.post("/api/v1/ranks", json={}).json()
    assert len(told["ranks"]) == 3


@pytest.mark.parametrize(
    ("request_", "status", "remedy"),
    [
        ({"symbols": ["SYN0"]}, 404, "SYN00"),
        ({"horizon": "1Y"}, 422, "1W"),
        ({"symbols": ["SYN00"]}, 422, "at least 2"),
        ({"symbols": ["X"] * 1001}, 422, "1000"),
        ({"symbols": ["X" * 33]}, 422, "32"),
        ({"weights": {"SYN00": 1e9}}, 422, "10"),
        ({"weights": {"SYN00": "much"}}, 422, "number"),
        ({"as_of": "0001-01-01T00:00:00+14:00"}, 422, "1900"),
        ({"model": "ewma-1"}, 404, "ewma-2004"),
        ({"seed": 1}, 422, "not permitted"),
        ([], 422, "dictionary"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(client, request_, status, remedy):
    response = client.post("/api/v1/ranks", json=request_)
    body = responses.ErrorBody.model_validate_json(response.content, strict=True)
    assert response.status_code == status
    assert remedy in body.error.message


def test_a_request_that_is_too_large_is_refused_before_it_is_read(client):
    big = b" " * (MAX_BODY_BYTES + 1)
    for content in (big, (big[i : i + 999] for i in range(0, len(big), 999))):
        response = client.post("/api/v1/ranks", content=content)
        assert response.status_code == 413
        assert "256 KiB" in response.json()["error"]["message"]
    fits = b" " * (MAX_BODY_BYTES - 2) + b"{}"
    headers = {"content-type": "application/json"}
    assert client.post("/api/v1/ranks", content=fits, headers=headers).status_code == 200


# --- the command ----------------------------------------------------------------------------


@pytest.fixture
def _at_home(stores, home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CANDLECAST_HOME", str(home))


@pytest.mark.usefixtures("_at_home")
def test_the_command_tells_the_same_and_draws_a_table(stores):
    shares = [f"--weight={ticker}={share}" for ticker, share in HALVES.items()]
    asked = ("rank", "--symbols", "SYN00,SYN01,SYN02", "--as-of", NOW.isoformat(), *shares)
    answer = call(*asked, "--json")
    assert answer.code == 0, answer.err
    tickers = ("SYN00", "SYN01", "SYN02")
    assert answer.json() == rank(stores, RankQuery(symbols=tickers, weights=HALVES, as_of=NOW))
    drawn = call(*asked)
    assert drawn.code == 0
    assert all(text in drawn.out for text in (*tickers, "expected shortfall", "lowest 20 %"))


@pytest.mark.usefixtures("_at_home")
def test_the_command_names_who_was_left_out_and_ends_with_one():
    answer = call("rank", "--symbols", f"SYN00,SYN01,{SILENT}", "--as-of", NOW.isoformat())
    assert answer.code == 1
    assert f"{SILENT}: this model has made no forecast of it" in answer.err


@pytest.mark.usefixtures("_at_home")
def test_a_share_that_is_no_number_is_refused_in_one_line():
    answer = call("rank", "--weight", "SYN00=half")
    assert answer.code == 2
    assert "--weight takes a share such as AAPL=0.5" in answer.err


def test_the_seed_follows_from_what_is_ranked(stores):
    names = ("version", "1M", "2004", ["A", "B"])
    assert content_hash(list(names)) != content_hash([*names[:3], ["A", "C"]])
    first, second = (
        rank(stores, RankQuery(symbols=symbols))["ranks"][0]["probabilities"]
        for symbols in (("SYN00", "SYN01"), ("SYN00", "SYN02"))
    )
    assert first != second
