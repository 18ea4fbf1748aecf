"""The story of one bar: read, learnt from, forecast, shown, waited for, scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from candlecast.api.app import create_app
from candlecast.pipelines.forecast import forecast
from command_line import Answer, call
from pipeline_rows import closing, opened, sample_bars
from served import asking

SYMBOLS = ("AAPL", "IBM", "MSFT")
BARS = sample_bars(*SYMBOLS, n_sessions=900)
DAYS = BARS["ts"].unique().sort()
N_LATER = 22
TODAY = DAYS[-N_LATER - 1]
TREES = ("--n-splits", "2", "--set", "n_estimators=5")


def tell(url: str, folder: Path) -> None:
    """Live it through on the database at `url`, by shell and HTTP, in `folder`."""
    home = folder / "var"
    BARS.filter(pl.col("ts") <= TODAY).write_csv(folder / "known.csv")
    BARS.write_csv(folder / "later.csv")

    done("ingest", "files", "known.csv")
    version = done("train", *TREES).json()
    with opened(url, home, closing(TODAY)) as stores, asking(create_app(stores)) as client:
        made = forecast(stores)
        assert (made.origin, made.is_in_sample, made.n_new) == ("live", False, 9)
        charts = {symbol: ask(client, f"/api/v1/chart/{symbol}") for symbol in SYMBOLS}
        assert ask(client, "/api/v1/report", origin="live")["n_forecasts"] == 9
        assert ask(client, "/api/v1/report", origin="live")["overall"] is None
    for symbol, chart in charts.items():
        check_chart(chart, symbol, made.forecasts, version["version"])

    assert done("ingest", "files", "later.csv").json()["inserted"] == 3 * N_LATER
    before = done("report").json()
    settled = done("settle").json()
    assert settled["n_waiting"] == 0
    after = done("report").json()
    assert after["n_settled"] == after["n_forecasts"] == before["n_forecasts"]
    report = done("report", "--origin", "live").json()
    assert (report["n_settled"], report["model_versions"]) == (9, [version["version"]])
    check_scores(report, made.forecasts, charts)

    with opened(url, home, closing(DAYS[-1])) as stores, asking(create_app(stores)) as client:
        assert ask(client, "/api/v1/report", origin="live") == report
        chart = ask(client, "/api/v1/chart/IBM")
        assert chart["ml_summary"]["state"] == "stale"
        assert chart["bars"][-1]["time"] == DAYS[-1].timestamp()
        assert forecast(stores).n_new == 9
        chart = ask(client, "/api/v1/chart/IBM")
        assert chart["ml_summary"]["state"] == "fresh"
        assert chart["ml_summary"]["horizons"][0]["points"][0]["ts"] > DAYS[-1].timestamp()
    assert done("report", "--origin", "live").json()["n_forecasts"] == 18


def check_chart(chart: Any, symbol: str, made: pl.DataFrame, version: str) -> None:
    """The page shows exactly the forecast that was made, on the sessions to come."""
    assert chart["bars"][-1]["time"] == TODAY.timestamp()
    summary = chart["ml_summary"]
    assert (summary["model_version"], summary["state"]) == (version, "fresh")
    own = {row["horizon"]: row for row in made.filter(symbol=symbol).to_dicts()}
    sessions = [day.timestamp() for day in DAYS[-N_LATER:]]
    for horizon in summary["horizons"]:
        row = own[horizon["horizon"]]
        points = horizon["points"]
        assert [point["ts"] for point in points] == sessions[: row["horizon_bars"]]
        assert all(point["lower"] < point["value"] < point["upper"] for point in points)
        assert (horizon["label"], horizon["prob_up"]) == (row["label"], row["prob_up"])
        assert horizon["last_close"] == row["last_close"]
        assert horizon["last_close"] == pytest.approx(chart["bars"][-1]["close"], rel=1e-12)


def check_scores(report: Any, made: pl.DataFrame, charts: Any) -> None:
    """The hit rate and coverage are those of the bars that came."""
    rows = BARS.select("symbol", "ts", "adj_close").iter_rows()
    closes = {(symbol, ts): close for symbol, ts, close in rows}
    hits, inside = [], []
    for row in made.to_dicts():
        end = DAYS[-N_LATER - 1 + row["horizon_bars"]]
        growth = closes[row["symbol"], end] / closes[row["symbol"], TODAY]
        hits.append((row["prob_up"] > 0.5) == (growth > 1))
        horizons = charts[row["symbol"]]["ml_summary"]["horizons"]
        last = next(h["points"][-1] for h in horizons if h["horizon"] == row["horizon"])
        inside.append(last["lower"] <= row["last_close"] * growth <= last["upper"])
    assert report["overall"]["hit_rate"] == sum(hits) / 9
    assert report["overall"]["coverage"]["0.8"] == sum(inside) / 9


def done(*arguments: str) -> Answer:
    """A command that has to succeed, answered in JSON."""
    answer = call(*arguments, "--json")
    assert answer.code == 0, answer.err
    return answer


def ask(client: httpx.Client, path: str, **parameters: str) -> Any:
    """What the API answers."""
    response = client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()
