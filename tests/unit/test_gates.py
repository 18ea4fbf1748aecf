"""The gates: each names the feature, symbol, bar and values of what it is there to find."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.domain.facts import Facts
from candlecast.features.compute import compute, newest
from candlecast.features.inputs import STILL_BARS
from candlecast.validation.gates import (
    GATES,
    check_causality,
    check_parity,
    check_scale,
    check_warm_up,
    needed_bars,
    run_gates,
    unseen,
    untested_warm_up,
)
from candlecast.validation.trial import Engine, Trial
from price_frames import daily_prices

ENGINE = Engine(compute, newest, STILL_BARS)
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


RARE = {
    "on Fridays": pl.col("ts").dt.weekday() == 5,
    "after large moves": RETURN.abs() > 4 * RETURN.rolling_std(60).shift(),
    "after large volumes": pl.col("volume") > 2.5 * pl.col("volume").rolling_mean(60).shift(),
}


@pytest.mark.parametrize("when", RARE)
@pytest.mark.parametrize("origin", ["", "mine.py"])
def test_a_look_ahead_that_is_rare_is_found(enter, when, origin):
    ahead = pl.when(RARE[when]).then(RETURN.shift(-1)).otherwise(0.0)
    trial = enter("rarely_ahead", ahead, 61, origin=origin)
    n_cases = LONG.select(RARE[when].fill_null(value=False).over("segment")).to_series().sum()
    assert 5 < n_cases < len(LONG) / 4, "else it is not rare"
    assert {f.column for f in check_causality(trial)} == {"rarely_ahead"}


def test_own_features_are_tried_at_more_instants_and_on_every_weekday(enter):
    own = enter("own", RETURN, 1, origin="mine.py")
    both = replace(own, names=("own", "return_1"))
    ((_, ours, _), (_, theirs, is_own)) = both.rounds
    assert is_own
    assert 12 <= len(ours) <= 20
    assert 35 <= len(theirs) <= 40
    for instants in (ours, theirs):
        assert {instant.weekday() for instant in instants} == {0, 1, 2, 3, 4}
    ((_, more, _),) = replace(own, thoroughness=3).rounds
    assert len(more) > 2.5 * len(theirs)


def test_parity_tries_the_symbols_that_are_served_together(enter):
    days = LONG["ts"].unique().sort()
    stops = {"SYN00": days[150], "SYN01": days[200]}
    prices = LONG.filter(pl.col("ts") <= pl.col("symbol").replace_strict(stops, default=days[-1]))

    def together_only(prices, names, facts):
        # Goes wrong where all symbols have a newest bar of one ts.
        values = newest(prices, names, facts)
        is_one = prices.group_by("symbol").agg(pl.col("ts").last())["ts"].n_unique() == 1
        return values.with_columns(pl.col(names) * (1.0001 if is_one else 1.0))

    trial = enter("mean_5", CLOSE / CLOSE.rolling_mean(5), 4, prices=prices)
    engine = Engine(compute, together_only, STILL_BARS)
    assert [f.column for f in check_parity(replace(trial, engine=engine))] == ["mean_5"]
    assert check_parity(trial) == []


def test_those_served_together_are_compared_among_themselves(enter):
    days = LONG["ts"].unique().sort()
    prices = LONG.filter((pl.col("symbol") != "SYN00") | (pl.col("ts") <= days[400]))
    enter("part", RETURN.rolling_mean(5), 5, settling_bars=0)
    trial = enter(
        "rank_of_part", pl.col("part").rank() / pl.len(), 5, scope="universe", prices=prices
    )
    assert check_parity(trial) == []


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
        serve: check_parity(replace(trial, engine=Engine(compute, serve, STILL_BARS)))
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


def test_a_feature_without_any_value_is_said_to_be_unseen(enter):
    trial = enter("never", pl.lit(None, pl.Float64), 0)
    assert run_gates(trial) == []
    assert unseen(trial) == ("never",)
    assert unseen(enter("once", RETURN, 1)) == ()
    facts = replace(trial, names=("news_sentiment_score", "return_1"))
    assert unseen(facts) == ("news_sentiment_score",)


def test_a_feature_of_one_symbol_is_known_before_what_is_compared(enter):
    late = pl.when(pl.col("symbol") == "SYN01").then(timedelta(hours=1)).otherwise(timedelta())
    prices = LONG.with_columns(pl.col("known_at") + late)
    trial = enter("own", RETURN, 1, prices=prices, origin="mine.py")
    both = replace(trial, names=("own", "market_return_1"))
    assert not both.whole["as_of"].equals(trial.whole["as_of"]), "else no bar is late"
    assert check_parity(both) == []


def test_what_ends_like_a_column_of_the_gates_is_a_feature_like_any_other(enter):
    enter("move", RETURN, 1)
    enter("move_usual", RETURN * 2, 1)
    trial = enter("move_again", RETURN * 3, 1)
    assert run_gates(replace(trial, names=("move", "move_usual", "move_again"))) == []
