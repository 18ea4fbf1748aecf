"""The page of skill calls a goal reached only where what the file says now was measured so."""

import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("measure", "rendering", "datasets", "skill_scores", "skill_sets", "skill_page")
AT = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
EXACT, LENIENT = "us_daily", "b3_daily"


@pytest.fixture
def bench(monkeypatch):
    """The modules that write the page, as the scripts of benchmarks/ import them."""
    monkeypatch.syspath_prepend(FOLDER)
    try:
        yield {name: import_module(name) for name in MODULES}
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)


def told(skill=0.05, p_value=0.001, better=0.01, gap=0.0, interval=None, year_gap=0.0):
    """What was measured of one horizon."""
    levels = (0.5, 0.8, 0.9, 0.95)
    covered = {
        f"{level:g}": {
            "share": level - gap,
            "interval": None if interval is None else [level + interval[0], level + interval[1]],
        }
        for level in levels
    }
    reference = {"skill": better, "p_value": p_value}
    return {
        "crps": 0.01,
        "skill": skill,
        "skill_interval": None,
        "against": dict.fromkeys(("ewma", "har", "garch"), reference),
        "coverage": covered,
        "years": {"2020": {"skill": 0.0, "coverage": {f"{v:g}": v - year_gap for v in levels}}},
        "hit_rate": 0.5,
        "verdict": "no skill",
        "floor": 0.0,
    }


def goals(bench, name, spec_id=None, **measured):
    """The verdicts on the first horizon of a market: what, in which words, by what is asked."""
    page, market = bench["skill_page"], bench["skill_sets"].MARKETS[name]
    own = told(**measured)
    experiment = {
        "spec_id": spec_id or bench["skill_sets"].spec_of("default", market).id,
        "seconds": 1.0,
        "measured_at": "2024",
        "horizons": dict.fromkeys(market.horizons, own),
    }
    known = {name: {"data": {"file": market.file, "sha256": "abc"}, "default": experiment}}
    lines = page.page(known, AT).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    asked = (market.title, market.horizons[0])
    return {row[2]: row[5] for row in rows if tuple(row[:2]) == asked and len(row) == 6}, rows


def test_all_is_reached_where_all_was_measured_well(bench):
    found, _ = goals(bench, EXACT)
    assert set(found) == {
        *("CRPS skill", "better than ewma", "better than har", "better than garch"),
        *("coverage", "coverage in every year"),
    }
    assert set(found.values()) == {"reached"}


@pytest.mark.parametrize(
    ("what", "measured"),
    [
        ("CRPS skill", {"skill": 0.0449}),
        ("better than har", {"p_value": 0.01}),
        ("better than har", {"p_value": None}),
        ("better than har", {"better": -0.01}),
        ("coverage", {"gap": 0.0101}),
        ("coverage", {"gap": -0.0101}),
        ("coverage in every year", {"year_gap": 0.0301}),
        ("coverage in every year", {"year_gap": -0.0301}),
    ],
)
def test_what_falls_short_is_missed_and_nothing_else_is(bench, what, measured):
    found, _ = goals(bench, EXACT, **measured)
    missed = {name for name, verdict in found.items() if verdict == "**missed**"}
    alike = {name for name in found if name.startswith(what.rpartition(" ")[0] or what)}
    assert what in missed
    assert missed <= (alike if what.startswith("better") else {what})


def test_an_interval_around_coverage_counts_only_where_the_market_says_so(bench):
    wide = {"gap": 0.02, "interval": (-0.03, 0.01)}
    assert goals(bench, LENIENT, **wide)[0]["coverage"] == "reached"
    assert goals(bench, EXACT, **wide)[0]["coverage"] == "**missed**"
    narrow = {"gap": 0.02, "interval": (-0.03, -0.01)}
    assert goals(bench, LENIENT, **narrow)[0]["coverage"] == "**missed**"


def test_what_was_measured_of_another_spec_reaches_nothing_and_says_whose_it_is(bench):
    found, rows = goals(bench, EXACT, spec_id="of-another-time")
    assert found == {"everything": "**missed**"}
    assert any(row[0] == "default (of an older spec)" for row in rows)


def test_every_market_and_horizon_has_its_goals_though_nothing_was_measured(bench):
    markets = bench["skill_sets"].MARKETS
    lines = bench["skill_page"].page({}, AT).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    missed = {tuple(row[:2]) for row in rows if row[-1] == "**missed**"}
    asked = {(market.title, horizon) for market in markets.values() for horizon in market.horizons}
    assert missed == asked | {("M6", "20 sessions")}
    assert not [row for row in rows if row[-1] == "reached"]


def test_references_are_compared_on_the_same_dates_only(bench):
    against = bench["skill_scores"].against
    dates = np.arange("2020-01-01", "2020-12-01", dtype="datetime64[D]")
    losses = np.random.default_rng(1).random(len(dates)) + 1
    found = against((dates, 0.9 * losses), (dates, losses), 1)
    assert found["skill"] == pytest.approx(0.1)
    assert found["p_value"] < 1e-6
    with pytest.raises(ValueError, match="other dates"):
        against((dates, losses), (dates + 1, losses), 1)


@pytest.mark.parametrize(
    ("linear", "trees", "verdict"),
    [
        ((0.01, 0.001), (0.01, 0.002), "better than both"),
        ((0.01, 0.001), (0.01, 0.02), "no better than both"),
        ((0.01, 0.001), (-0.01, 0.001), "no better than both"),
        ((0.01, 0.001), None, "no better than both"),
    ],
)
def test_a_network_that_does_not_beat_what_is_simpler_is_reported_as_such(
    bench, linear, trees, verdict
):
    market = bench["skill_sets"].MARKETS[LENIENT]
    found = {"linear": linear, "lightgbm": trees}
    found = {n: {"skill": t[0], "p_value": t[1]} for n, t in found.items() if t is not None}
    own = told() | {"against": found}
    lstm = {"spec_id": "any", "seconds": 1.0, "measured_at": "2024", "horizons": {"1D": own}}
    known = {LENIENT: {"data": {"file": market.file, "sha256": "0"}, "lstm": lstm}}
    page = bench["skill_page"].page(known, AT)
    (line,) = (line for line in page.splitlines() if line.startswith("| lstm | 1D |"))
    assert line.split(" | ")[-1].startswith(verdict)
    without = bench["skill_page"].page({LENIENT: {"data": {"file": "", "sha256": "0"}}}, AT)
    assert "Networks beside" not in without
