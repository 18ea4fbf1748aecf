"""The look-ahead audit: it finds every planted leak, names it, and leaves honest code alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.domain.frames import PRICES
from candlecast.domain.market import trading_calendar
from candlecast.errors import InvalidSpec
from candlecast.features.compute import compute
from candlecast.labels.forward import forward_return
from candlecast.validation.causality import (
    audit,
    audit_build,
    audit_features,
    audit_isolation,
)
from candlecast.validation.instants import choose_instants
from fact_frames import seeded_facts
from price_frames import DAILY

CLOSE = pl.col("close")
WEEK = pl.col("ts").dt.truncate("1w")
START = datetime(2020, 1, 6, tzinfo=UTC)


def column(expression):
    """A computation that yields one column, of each symbol."""
    return lambda frame: frame.select("symbol", "ts", x=expression.over("symbol"))


LEAKS = {
    "centred window": CLOSE.rolling_mean(5, center=True),
    "whole-sample z-score": (CLOSE - CLOSE.mean()) / CLOSE.std(),
    "backfill": pl.when(pl.col("ts").dt.weekday() == 3).then(CLOSE).backward_fill(),
    "negative shift": CLOSE.shift(-1) / CLOSE,
    "global minimum and maximum": (CLOSE - CLOSE.min()) / (CLOSE.max() - CLOSE.min()),
    "interpolation": pl.when(pl.col("ts").dt.weekday() == 3).then(CLOSE).interpolate(),
    "reversed average": CLOSE.reverse().ewm_mean(alpha=0.1).reverse(),
    "rank in all history": CLOSE.rank(),
    "zero-phase filter": CLOSE.ewm_mean(alpha=0.5).reverse().ewm_mean(alpha=0.5).reverse(),
}


def unshifted_week(frame):
    """A higher timeframe joined by the week a day lies in: Monday knows Friday's close."""
    weeks = frame.group_by("symbol", WEEK.alias("week")).agg(CLOSE.last().alias("x"))
    return (
        frame.with_columns(week=WEEK).join(weeks, on=["symbol", "week"]).select("symbol", "ts", "x")
    )


def shifted_week(frame):
    """The same done right: the last week that had ended."""
    weeks = frame.group_by("symbol", WEEK.alias("week")).agg(CLOSE.last().alias("x"))
    ended = weeks.with_columns(pl.col("week").dt.offset_by("1w")).sort("week")
    joined = frame.sort("ts").join_asof(
        ended, left_on="ts", right_on="week", by="symbol", check_sortedness=False
    )
    return joined.select("symbol", "ts", "x").sort("symbol", "ts")


def resampled(label):
    """Bars of five minutes, named by one of their ends, and joined to the minutes up to it."""

    def compute(frame):
        coarse = frame.group_by_dynamic(
            "ts", every="5m", group_by="symbol", label=label, closed="left"
        ).agg(x=CLOSE.last() / CLOSE.first())
        coarse = (
            coarse.with_columns(pl.col("ts").dt.offset_by("-1m")) if label == "right" else coarse
        )
        return frame.select("symbol", "ts").join_asof(
            coarse, on="ts", by="symbol", check_sortedness=False
        )

    return compute


@pytest.mark.parametrize("leak", LEAKS)
def test_every_planted_leak_is_found(leak, prices):
    findings = audit(column(LEAKS[leak]), prices)
    assert findings, leak
    assert {finding.column for finding in findings} == {"x"}


def test_a_higher_timeframe_that_is_not_shifted_is_found(prices):
    (cut, nonsense) = audit(unshifted_week, prices)
    assert cut.column == nonsense.column == "x"
    assert cut.ts.weekday() < 4
    assert audit(shifted_week, prices) == []


def test_a_resample_that_is_labelled_left_is_found():
    minutes = minute_prices()
    (first, _) = audit(resampled("left"), minutes)
    assert first.ts.minute % 5 < 4, "the bucket of this bar had not ended"
    # A bar stamped with its open is known when it closes: the right label is a minute earlier.
    assert audit(resampled("right"), minutes) == []


def minute_prices():
    """One-minute PRICES of two symbols that trade all day and night."""
    rng = np.random.default_rng(3)
    first = datetime(2021, 3, 1, tzinfo=UTC)
    frames = []
    for segment, symbol in enumerate(("BTC-USD", "ETH-USD")):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 400)))
        ts = pl.datetime_range(first, first + timedelta(minutes=399), "1m", eager=True)
        frame = pl.DataFrame({"ts": ts, "open": close, "close": close}).with_columns(
            symbol=pl.lit(symbol), high=CLOSE * 1.001, low=CLOSE * 0.999, volume=pl.lit(5.0),
            factor=pl.lit(1.0), session=pl.lit(0), segment=pl.lit(segment),
            close_at=pl.col("ts") + timedelta(minutes=1),
            known_at=pl.col("ts") + timedelta(minutes=1),
        )  # fmt: skip
        frames.append(frame)
    return PRICES.conform(pl.concat(frames))


@pytest.mark.parametrize(
    "expression",
    [
        CLOSE.rolling_mean(5),
        CLOSE.shift(3).forward_fill(),
        CLOSE.ewm_mean(alpha=0.1),
        CLOSE.cum_max(),
    ],
)
def test_what_looks_back_only_is_left_alone(expression, prices):
    assert audit(column(expression), prices) == []


def test_the_shipped_features_are_clean(prices, nasty):
    assert audit_features(compute, prices, FEATURES.names()) == []
    assert audit_features(compute, nasty, FEATURES.names()) == []


def test_a_finding_names_column_symbol_bar_and_both_values(prices):
    instants = choose_instants(prices, 3)
    findings = audit(column(LEAKS["negative shift"]), prices, instants)
    assert [finding.probe.split()[-1] for finding in findings] == ["off", "nonsense"]
    first = findings[0]
    rows = prices.filter((pl.col("symbol") == first.symbol) & (pl.col("known_at") <= instants[0]))
    assert first.ts == rows["ts"][-1]
    assert isinstance(first.before, float)
    assert first.after is None
    assert first.n_rows == 4
    text = str(first)
    assert text.startswith(f"causality: x of {first.symbol} at {first.ts:%Y-%m-%d}")
    assert f"became None when bars known after {instants[0]:%Y-%m-%d %H:%M} were cut off" in text


def test_rows_that_vanish_with_the_future_are_found(prices):
    def keeps_the_living(frame):
        last = frame["ts"].max()
        living = frame.group_by("symbol").agg(CLOSE.last(), pl.col("ts").last())
        names = living.filter(pl.col("ts") == last)["symbol"]
        return frame.filter(~pl.col("symbol").is_in(names.implode())).select(
            "symbol", "ts", x=CLOSE
        )

    assert audit(keeps_the_living, prices)


def test_a_stamp_that_comes_too_early_is_found(prices):
    def early(frame):
        values = compute(frame, ["return_1"])
        return values.with_columns(pl.col("as_of").shift(1).over("symbol"))

    assert audit(early, prices)


def test_what_reaches_over_to_another_symbol_is_found(prices):
    def beyond(frame):
        return frame.select("symbol", "ts", x=CLOSE.rolling_mean(5))

    findings = audit_isolation(beyond, prices, "SYN01")
    assert [finding.symbol for finding in findings] == ["SYN02"]
    assert findings[0].gate == "isolation"
    assert findings[0].ts == prices.filter(pl.col("symbol") == "SYN02")["ts"][0]
    assert audit_isolation(column(CLOSE.rolling_mean(5)), prices, "SYN01") == []


def test_features_of_the_universe_may_see_other_symbols(prices):
    names = ["market_return_1", "return_rank_21"]
    assert audit_features(compute, prices, names) == []
    assert audit_isolation(lambda frame: compute(frame, names), prices, "SYN01")


def test_labels_are_clean_at_the_moment_their_outcome_is_known(prices):
    calendars = dict.fromkeys(prices["symbol"].unique(), trading_calendar("XNYS"))

    def labelled(frame):
        return forward_return(frame, timeframe=DAILY, horizons=["1D", "1M"], calendars=calendars)

    assert audit(labelled, prices, key=("symbol", "ts", "horizon"), stamp="end_at") == []
    # The label is a look-ahead by design: stamped with its bar it must be found.
    assert audit(
        lambda frame: labelled(frame).drop("end_at"), prices, key=("symbol", "ts", "horizon")
    )


def with_fact(name, strategy):
    """A computation over prices that joins a column of facts by time, in some direction."""

    def compute(prices, names, facts):
        told = getattr(facts, name).select("known_at", x=facts_value(name)).sort("known_at")
        joined = prices.sort("known_at").join_asof(told, on="known_at", strategy=strategy)
        return joined.select("symbol", "ts", "x").sort("symbol", "ts")

    return compute


def facts_value(name):
    return pl.col("score" if name == "texts" else "value")


@pytest.mark.parametrize("name", ["texts", "indices"])
def test_facts_are_cut_and_changed_like_bars(name, prices):
    facts = seeded_facts(prices)
    leaks = audit_features(with_fact(name, "nearest"), prices, ["return_1"], facts=facts)
    assert {finding.column for finding in leaks} == {"x"}
    assert "bars and facts known after" in leaks[0].probe
    assert audit_features(with_fact(name, "backward"), prices, [], facts=facts) == []


def standardised(fit_until):
    """A pipeline: examples known by an instant, scaled by what is known by `fit_until` of it."""

    def build(prices, as_of):
        known = prices.filter(pl.col("known_at") <= as_of)
        rows = compute(known, ["return_5"]).drop_nulls()
        edges = rows["as_of"].unique().sort()[::100]
        folds = []
        for start, stop in zip(edges[1:], [*edges[2:], None], strict=True):
            learnt = rows.filter(pl.col("as_of") <= fit_until(start, as_of))["return_5"]
            is_test = pl.col("as_of") >= start
            test = rows.filter(is_test if stop is None else is_test & (pl.col("as_of") < stop))
            scaled = (pl.col("return_5") - learnt.mean()) / learnt.std()
            folds.append(test.with_columns(scaled.alias("return_5")))
        return pl.concat(folds).sort("symbol", "ts")

    return build


def test_a_scaler_fitted_over_folds_is_found(prices):
    instants = choose_instants(prices, 3)
    leak = standardised(lambda start, as_of: as_of)
    (finding,) = audit_build(lambda as_of: leak(prices, as_of), instants)
    assert (finding.gate, finding.column) == ("causality", "return_5")
    assert finding.before != finding.after
    assert f"built as of {instants[-1]:%Y-%m-%d %H:%M} instead of" in str(finding)
    honest = standardised(lambda start, as_of: start - timedelta(microseconds=1))
    assert audit_build(lambda as_of: honest(prices, as_of), instants) == []


def test_a_universe_of_survivors_is_found(prices):
    def survivors(as_of):
        known = prices.filter(pl.col("known_at") <= as_of)
        rows = compute(known, ["return_5"])
        alive = pl.col("ts").max().over("symbol") == pl.col("ts").max()
        return rows.filter(alive)

    died = prices.group_by("symbol").agg(pl.col("known_at").max())["known_at"].min()
    instants = [died - timedelta(days=30), prices["known_at"].max()]
    (finding,) = audit_build(survivors, instants)
    assert (finding.column, finding.symbol) == ("row", "SYN03")
    assert (finding.before, finding.after) == ("there", None)


def test_rows_that_come_up_later_under_an_early_stamp_are_found(prices):
    def stamped_early(as_of):
        known = prices.filter(pl.col("known_at") <= as_of)
        return known.select("symbol", "ts", "close", as_of=pl.col("known_at") - timedelta(days=9))

    findings = audit_build(stamped_early, choose_instants(prices, 2))
    assert [(f.column, f.before, f.after) for f in findings] == [("row", None, "there")]


def test_a_build_is_audited_at_two_instants_at_least(prices):
    with pytest.raises(InvalidSpec, match="two instants"):
        audit_build(lambda as_of: prices, [prices["known_at"][5]])


def test_in_turn_the_future_is_cut_off_and_made_nonsense(prices):
    probed = []

    def watched(frame, names, facts):
        probed.append(len(frame) < len(prices))
        return compute(frame, names, facts)

    instants = choose_instants(prices, 4)
    names = ["market_return_1"]
    assert audit_features(watched, prices, names, instants, is_alternating=True) == []
    assert probed == [False, True, False, True, False]
