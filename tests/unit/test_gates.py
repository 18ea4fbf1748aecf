"""The gates: each names the feature, symbol, bar and values of what it is there to find."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.domain.facts import Facts
from candlecast.features.compute import compute, newest
from candlecast.validation.gates import (
    GATES,
    Engine,
    Trial,
    check_causality,
    check_parity,
    check_scale,
    check_warm_up,
    needed_bars,
    run_gates,
    untested_warm_up,
)
from price_frames import daily_prices

ENGINE = Engine(compute, newest)
LONG = daily_prices(seed=4, n_symbols=3, n_sessions=900)
CLOSE = pl.col("close")
RETURN = CLOSE.log().diff()


@pytest.fixture
def enter(monkeypatch):
    """Enter a feature for one test: enter(name, expression, warmup_bars, …) -> a trial of it."""

    def entered(name, expression, warmup_bars=0, *, prices=LONG, **options):
        monkeypatch.setitem(
            FEATURES._entries, name, Feature(name, lambda: expression, warmup_bars, **options)
        )
        return Trial(ENGINE, prices, (name,), Facts.none())

    return entered


LEAKS = {
    "centred window": (CLOSE / CLOSE.rolling_mean(21, center=True), 20),
    "whole-sample normalisation": ((RETURN - RETURN.mean()) / RETURN.std(), 1),
    "backfill": (
        CLOSE / pl.when(pl.col("ts").dt.weekday() == 3).then(CLOSE).backward_fill(),
        0,
    ),
    "negative shift": (CLOSE.shift(-5) / CLOSE, 0),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_feature_that_leaks_is_named_with_its_first_bar(enter, leak):
    expression, warmup_bars = LEAKS[leak]
    trial = enter("leaky", expression, warmup_bars)
    findings = check_causality(trial)
    assert {(f.gate, f.column) for f in findings} == {("causality", "leaky")}
    first = findings[0]
    own = trial.whole.filter((pl.col("symbol") == first.symbol) & (pl.col("ts") == first.ts))
    assert own["leaky"].item() == first.before != first.after
    assert first.symbol in str(first)
    assert f"{first.ts:%Y-%m-%d}" in str(first)


def test_parity_finds_what_needs_more_bars_than_it_says(enter):
    slow = RETURN.ewm_mean(alpha=0.01, ignore_nulls=True)
    trial = enter("slow", slow, 20, settling_bars=20)
    findings = check_parity(trial)
    assert [(f.gate, f.column) for f in findings] == [("parity", "slow")]
    assert "for the newest bars of" in findings[0].probe
    assert findings[0].before != findings[0].after
    assert check_parity(enter("slow", RETURN.ewm_mean(alpha=0.1), 20, settling_bars=300)) == []


def test_parity_finds_a_serving_path_of_its_own(enter):
    trial = enter("mean_5", CLOSE / CLOSE.rolling_mean(5), 4)

    def careless(prices, names, facts):
        return newest(prices, names, facts).with_columns(pl.col("mean_5") * 1.0001)

    def forgetful(prices, names, facts):
        return newest(prices, names, facts).filter(pl.col("symbol") != "SYN00")

    def rounding(prices, names, facts):
        return newest(prices, names, facts).with_columns(pl.col("mean_5") * (1 + 1e-9))

    found = {
        serve: check_parity(replace(trial, engine=Engine(compute, serve)))
        for serve in (careless, forgetful, rounding)
    }
    assert [f.column for f in found[careless]] == ["mean_5"]
    assert {(f.column, f.symbol, f.after) for f in found[forgetful]} == {
        *[("as_of", "SYN00", None), ("mean_5", "SYN00", None)]
    }
    assert found[rounding] == []


def test_warm_up_finds_what_never_forgets_its_start(enter):
    trial = enter("on_balance", pl.col("volume").cum_sum(), 0, is_input=False)
    findings = check_warm_up(trial)
    assert [(f.gate, f.column) for f in findings] == [("warm-up", "on_balance")]
    assert findings[0].before > findings[0].after, "less was added up"
    forgets = enter("on_balance", pl.col("volume").rolling_sum(20), 19, is_input=False)
    assert check_warm_up(forgets) == []


def test_warm_up_finds_a_settling_that_is_too_short(enter):
    average = RETURN.abs().ewm_mean(alpha=0.02, ignore_nulls=True)
    assert check_warm_up(enter("average", average, 20, settling_bars=100))
    assert check_warm_up(enter("average", average, 20, settling_bars=690)) == []


def test_warm_up_finds_values_that_come_too_early(enter):
    trial = enter("mean_9", CLOSE.rolling_mean(9, min_samples=1), 8, is_input=False)

    def eager(prices, names, facts):
        values = CLOSE.rolling_mean(9, min_samples=1).over("segment").alias("mean_9")
        return compute(prices, names, facts).with_columns(prices.select(values).to_series())

    first, *_ = check_warm_up(replace(trial, engine=Engine(eager, newest)))
    assert (first.column, first.before) == ("mean_9", None)
    assert first.ts == LONG["ts"].min()
    assert "its warm-up of 8 bars had not passed" in str(first)


def test_scale_finds_a_level_that_calls_itself_an_input(enter):
    trial = enter("distance", CLOSE - CLOSE.rolling_mean(20), 19)
    (finding,) = check_scale(trial)
    assert (finding.gate, finding.column) == ("scale", "distance")
    assert finding.after == pytest.approx(1024 * finding.before)
    assert check_scale(enter("distance", CLOSE - CLOSE.shift(), 1, is_input=False)) == []
    assert check_scale(enter("distance", CLOSE / CLOSE.rolling_mean(20), 19)) == []


def test_a_feature_that_compares_waits_for_all_it_compares(enter):
    parts = enter("part", RETURN.ewm_mean(alpha=0.1, ignore_nulls=True), 20)
    trial = enter("rank_of_part", pl.col("part").rank() / pl.len(), 20, scope="universe")
    assert needed_bars("part") == 320
    assert needed_bars("rank_of_part") == 320
    assert run_gates(trial) == []
    assert run_gates(parts) == []


@pytest.mark.parametrize("n_bars", [9, 200])
def test_a_feature_that_looks_back_over_comparisons_says_how_far(enter, n_bars):
    enter("part", RETURN.rolling_mean(5), 5, settling_bars=0)
    enter("rank_of_part", pl.col("part").rank() / pl.len(), 5, scope="universe")
    mean = pl.col("rank_of_part").rolling_mean(n_bars, min_samples=1)
    trial = enter("mean_rank", mean, 8, scope="market", settling_bars=0)
    assert needed_bars("mean_rank") == 13
    found = [(f.gate, f.column) for f in check_warm_up(trial)]
    assert found == ([("warm-up", "mean_rank")] if n_bars > 9 else [])


def test_all_gates_are_run_and_told_of(enter):
    told = []
    trial = enter("leaky", CLOSE.shift(-1) - CLOSE, 0)
    findings = run_gates(trial, lambda done, total: told.append((done, total)))
    assert told == [(done, len(GATES)) for done in range(1, len(GATES) + 1)]
    assert {finding.gate for finding in findings} == {"causality", "parity", "scale"}
    assert [str(f) for f in run_gates(trial)] == [str(f) for f in findings]


def test_what_the_history_is_too_short_for_is_said(enter, prices):
    trial = enter("long_memory", CLOSE / CLOSE.rolling_mean(400), 399, prices=prices)
    assert untested_warm_up(trial) == ("long_memory",)
    assert untested_warm_up(enter("short", RETURN, 1, settling_bars=0, prices=prices)) == ()
