"""The HTTP API over real stores: shapes, values, errors, bounds."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.api import chart, market, operations, predict, quality, report, responses
from candlecast.api.app import create_app
from candlecast.domain.market import FixedClock, SystemClock
from candlecast.errors import DatabaseBusy, RateLimited
from candlecast.pipelines.answer import DISCLAIMER
from candlecast.pipelines.report import ReportQuery, make_report
from served import NOW, SILENT, asking, at, seed_market

OPENAPI = Path(__file__).resolve().parents[2] / "dashboard" / "src" / "api" / "openapi.json"
MODELS = {
    "/healthz": operations.Health,
    "/api/v1/symbols": market.Symbols,
    "/api/v1/chart/SYN00": chart.Chart,
    f"/api/v1/chart/{SILENT}": chart.Chart,
    "/api/v1/chart/SYN00?timeframe=5m": chart.Chart,
    "/api/v1/forecasts": predict.Forecasts,
    "/api/v1/forecasts?symbol=SYN01&horizon=1W": predict.Forecasts,
    "/api/v1/quality?symbol=SYN00": quality.Quality,
    "/api/v1/report": report.Report,
    "/api/v1/report?symbol=SYN00&symbol=SYN01&horizon=1D&by_symbol=false": report.Report,
    f"/api/v1/report?symbol={SILENT}": report.Report,
    "/api/v1/ml/disclaimer": predict.Disclaimer,
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    opened = seed_market(tmp_path_factory.mktemp("api"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(stores):
    with asking(create_app(stores)) as opened:
        yield opened


def get(client, path, **parameters):
    response = client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def error_of(response):
    body = responses.ErrorBody.model_validate_json(response.content, strict=True)
    return response.status_code, body.error


# --- shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODELS)
def test_an_answer_has_exactly_the_documented_shape(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    MODELS[path].model_validate_json(response.content, strict=True)


def test_the_description_names_the_shape_of_every_answer_and_error(client):
    described = client.get("/api/v1/openapi.json").json()
    assert len(described["paths"]) == 9
    for path, item in described["paths"].items():
        ((method, operation),) = item.items()
        assert method == ("post" if path == "/api/v1/ranks" else "get")
        answers = operation["responses"]
        assert "$ref" in answers["200"]["content"]["application/json"]["schema"], path
        for status in ("404", "422", "503"):
            schema = answers[status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorBody"}


def test_the_dashboard_was_generated_from_this_description(client):
    """When this fails: npm run generate in dashboard/."""
    committed = json.loads(OPENAPI.read_text(encoding="utf-8"))
    assert committed == client.get("/api/v1/openapi.json").json()


# --- values ---------------------------------------------------------------------------------


def test_symbols_tell_how_much_is_known_of_each(client):
    found = {s["symbol"]: s for s in get(client, "/api/v1/symbols")["symbols"]}
    assert list(found) == [SILENT, "SYN00", "SYN01", "SYN02"]
    assert found["SYN00"]["n_bars"] == 1200
    assert found["SYN00"]["last_ts"] == "2004-10-12T00:00:00Z"
    empty = found[SILENT]
    assert (empty["n_bars"], empty["last_close"], empty["first_ts"]) == (0, None, None)


def test_a_chart_holds_the_newest_bars_and_ends_at_the_last_close(client):
    extents = {s["symbol"]: s for s in get(client, "/api/v1/symbols")["symbols"]}
    drawn = get(client, "/api/v1/chart/SYN01", limit=250)
    times = [bar["time"] for bar in drawn["bars"]]
    assert len(times) == 250
    assert times == sorted(set(times))
    assert drawn["bars"][-1]["close"] == pytest.approx(extents["SYN01"]["last_close"], rel=1e-12)
    assert all(bar["low"] <= min(bar["open"], bar["close"]) for bar in drawn["bars"])
    assert drawn["is_clock_fixed"] is True


def test_a_chart_shows_no_bar_that_is_not_known_yet(stores):
    earlier = at(stores, FixedClock(NOW - timedelta(days=1)))
    with asking(create_app(earlier)) as client:
        drawn = get(client, "/api/v1/chart/SYN00", limit=1)
    assert drawn["bars"][0]["time"] < int((NOW - timedelta(days=1)).timestamp())
    assert drawn["now"] == "2004-10-11T20:00:00Z"


def test_the_shortest_horizon_speaks_for_all(client):
    summary = get(client, "/api/v1/chart/SYN00")["ml_summary"]
    assert [h["horizon"] for h in summary["horizons"]] == ["1D", "1W", "1M"]
    shortest = summary["horizons"][0]
    assert summary["overall_label"] == shortest["label"]
    assert summary["confidence"] == shortest["confidence"]
    assert summary["threshold_rule"] == shortest["threshold"]["rule"] == "scaled"
    assert summary["disclaimer"] == DISCLAIMER


def test_a_forecast_continues_the_bars_and_says_where_it_comes_from(client):
    drawn = get(client, "/api/v1/chart/SYN02")
    last = drawn["bars"][-1]
    for forecast, n_steps in zip(drawn["ml_summary"]["horizons"], (1, 5, 21), strict=True):
        times = [point["ts"] for point in forecast["points"]]
        assert len(times) == n_steps
        assert [last["time"], *times] == sorted({last["time"], *times})
        assert forecast["last_close"] == pytest.approx(last["close"])
        assert forecast["confidence"] == forecast["probabilities"][forecast["label"]]
        assert sum(forecast["probabilities"].values()) == pytest.approx(1)
        assert forecast["predicted_price"] == pytest.approx(forecast["points"][-1]["value"])
        assert (forecast["as_of"], forecast["age_seconds"]) == ("2004-10-12T20:00:00Z", 0)
        assert forecast["model_version"].startswith("ewma-20041012-")


def test_bands_lie_within_each_other_around_the_median(client):
    for forecast in get(client, "/api/v1/forecasts")["forecasts"]:
        levels = {band["level"]: band["points"] for band in forecast["bands"]}
        assert sorted(levels) == [0.5, 0.8, 0.95]
        assert levels[forecast["level"]] == forecast["points"]
        for narrow, middle, wide in zip(levels[0.5], levels[0.8], levels[0.95], strict=True):
            edges = [wide["lower"], middle["lower"], narrow["lower"], narrow["value"]]
            edges += [narrow["upper"], middle["upper"], wide["upper"]]
            assert edges == sorted(edges)


def test_forecasts_are_those_of_the_charts(client):
    asked = get(client, "/api/v1/forecasts", symbol="SYN01")["forecasts"]
    drawn = get(client, "/api/v1/chart/SYN01")["ml_summary"]["horizons"]
    assert asked == [{**forecast, "symbol": "SYN01"} for forecast in drawn]
    everything = get(client, "/api/v1/forecasts")["forecasts"]
    assert [f for f in everything if f["symbol"] == "SYN01"] == asked
    assert len(everything) == 9


def test_a_horizon_is_known_by_any_of_its_names(client):
    for name in ("1D", "1d"):
        found = get(client, "/api/v1/forecasts", horizon=name)["forecasts"]
        assert {f["horizon"] for f in found} == {"1D"}
        assert [f["symbol"] for f in found] == ["SYN00", "SYN01", "SYN02"]


def test_a_forecast_grows_old_and_stale(stores):
    at_next_close = FixedClock(NOW + timedelta(days=1))
    after_it = FixedClock(NOW + timedelta(days=1, seconds=1))
    for clock, state in ((at_next_close, "fresh"), (after_it, "stale")):
        with asking(create_app(at(stores, clock))) as client:
            answers = get(client, "/api/v1/forecasts")
        assert {f["state"] for f in answers["forecasts"]} == {state}
        age = (clock.now() - NOW).total_seconds()
        assert {f["age_seconds"] for f in answers["forecasts"]} == {age}


def test_a_running_clock_is_no_fixed_one(stores):
    with asking(create_app(at(stores, SystemClock()))) as client:
        drawn = get(client, "/api/v1/chart/SYN00")
    assert drawn["is_clock_fixed"] is False


def test_a_symbol_without_bars_or_forecast_is_empty_but_no_error(client):
    drawn = get(client, f"/api/v1/chart/{SILENT}")
    assert (drawn["bars"], drawn["ml_summary"]) == ([], None)
    assert get(client, "/api/v1/forecasts", symbol=SILENT)["forecasts"] == []


def test_forecasts_of_daily_bars_are_not_drawn_over_minutes(client):
    assert get(client, "/api/v1/chart/SYN00", timeframe="5m")["ml_summary"] is None


def test_a_report_is_what_the_pipeline_says(client, stores):
    asked = get(client, "/api/v1/report", symbol="SYN00", horizon="1D")
    made = make_report(stores, ReportQuery(symbols=("SYN00",), horizon="1D"))
    assert asked == json.loads(json.dumps(made))
    assert "walk_forward" in asked["origins"]
    assert asked["n_settled"] > 300


def test_a_report_can_be_narrowed_to_a_time(client):
    whole = get(client, "/api/v1/report", horizon="1D", by_symbol=False)
    part = get(client, "/api/v1/report", horizon="1D", by_symbol=False, start="2004-01-01")
    assert 0 < part["n_settled"] < whole["n_settled"]
    assert part["start"] >= "2004-01-01"
    assert whole["symbols"] == {}


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "kind", "says"),
    [
        ("/api/v1/chart/SYN0", 404, "NotFound", "did you mean SYN0"),
        ("/api/v1/chart/syn01", 404, "NotFound", "SYN01"),
        ("/api/v1/forecasts?symbol=SYN", 404, "NotFound", "SYN00"),
        ("/api/v1/report?symbol=SYN9", 404, "NotFound", "SYN0"),
        ("/api/v1/chart/SYN00?timeframe=1w", 404, "NotFound", "did you mean 1"),
        ("/api/v1/symbols?timeframe=day", 404, "NotFound", "1d"),
        ("/api/v1/forecasts?horizon=2D", 404, "NotFound", "did you mean 1D"),
        ("/api/v1/forecasts?horizon=soon", 422, "InvalidSpec", "use 1D, 1W, 1M"),
        ("/api/v1/report?horizon=0D", 422, "InvalidSpec", "use 1D, 1W, 1M"),
        ("/api/v1/report?start=2004-02-01&end=2004-01-01", 422, "InvalidSpec", "swap them"),
        ("/api/v1/report?start=yesterday", 422, "InvalidSpec", "start"),
        ("/api/v1/report?start=0001-01-01T00:00:00%2B14:00", 422, "InvalidSpec", "the year"),
        ("/api/v1/report?end=9999-12-31T23:00:00-14:00", 422, "InvalidSpec", "the year"),
        ("/api/v1/report?origin=dream", 422, "InvalidSpec", "origin"),
        ("/api/v1/report?horizn=1D", 422, "InvalidSpec", "horizn"),
        ("/api/v1/report?" + "&".join(["symbol=A"] * 201), 422, "InvalidSpec", "symbol"),
        ("/api/v1/chart/SYN00?limit=0", 422, "InvalidSpec", "limit"),
        ("/api/v1/chart/SYN00?limit=5001", 422, "InvalidSpec", "limit"),
        ("/api/v1/chart/SYN00?limit=many", 422, "InvalidSpec", "limit"),
        ("/api/v1/chart/" + "A" * 33, 422, "InvalidSpec", "symbol"),
        ("/api/v1/chart/BTC%2FUSDT", 404, "NotFound", "BTC/USDT"),
        ("/api/v1/nothing", 404, "NotFound", "/api/v1/nothing"),
    ],
)
def test_bad_input_is_named_with_its_remedy(client, path, status, kind, says):
    found, error = error_of(client.get(path))
    assert (found, error.kind, error.is_retryable) == (status, kind, False)
    assert says in error.message


def test_nothing_can_be_written(client):
    status, error = error_of(client.post("/api/v1/forecasts"))
    assert (status, error.kind) == (405, "HTTPError")


texts = st.text(max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(["chart/SYN00", "forecasts", "report", "symbols"]),
    query=st.dictionaries(
        st.sampled_from(
            ["symbol", "horizon", "timeframe", "limit", "start", "end", "origin", "by_symbol"]
        ),
        st.one_of(texts, st.integers().map(str), st.dates().map(str), st.datetimes().map(str)),
        max_size=4,
    ),
)
def test_no_query_makes_the_service_fail(client, path, query):
    response = client.get(f"/api/v1/{path}", params=query)
    assert response.status_code in {200, 404, 422}
    if response.status_code != 200:
        error_of(response)


@given(symbol=st.text(min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_symbol_makes_the_service_fail(client, symbol):
    response = client.get("/api/v1/forecasts", params={"symbol": symbol})
    assert error_of(response)[0] in {404, 422}


# --- failures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "status", "retry_after"),
    [
        (DatabaseBusy("another process holds the database"), 503, "1"),
        (RateLimited("wait a while", retry_after_seconds=12.4), 503, "12"),
    ],
)
def test_what_may_pass_says_when_to_try_again(client, monkeypatch, raised, status, retry_after):
    def fail(_):
        raise raised

    monkeypatch.setattr(market, "read_symbols", fail)
    response = client.get("/api/v1/symbols")
    found, error = error_of(response)
    assert (found, error.is_retryable) == (status, True)
    assert response.headers["retry-after"] == retry_after


def test_an_unforeseen_failure_tells_the_reader_nothing_of_the_inside(client, monkeypatch):
    def fail(_):
        raise ZeroDivisionError("postgresql://user:secret@host/name")

    monkeypatch.setattr(market, "read_symbols", fail)
    status, error = error_of(client.get("/api/v1/symbols"))
    assert (status, error.kind) == (500, "CandlecastError")
    assert "secret" not in error.message
