"""The look-ahead audit: it finds every planted leak, names it, and leaves honest code alone."""

from __future__ import annotations

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import trading_calendar
from candlecast.errors import NotEnoughHistory
from candlecast.features.compute import compute
from candlecast.labels.forward import forward_return
from candlecast.validation.causality import (
    audit,
    audit_features,
    audit_isolation,
    choose_instants,
)
from price_frames import DAILY

CLOSE = pl.col("close")
WEEK = pl.col("ts").dt.truncate("1w")


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


def weekly_close(frame):
    """A higher timeframe joined by where its bar begins: Monday knows Friday's close."""
    weeks = frame.group_by("symbol", WEEK.alias("week")).agg(CLOSE.last().alias("x"))
    return (
        frame.with_columns(week=WEEK).join(weeks, on=["symbol", "week"]).select("symbol", "ts", "x")
    )


@pytest.mark.parametrize("leak", LEAKS)
def test_every_planted_leak_is_found(leak, prices):
    findings = audit(column(LEAKS[leak]), prices)
    assert findings, leak
    assert {finding.column for finding in findings} == {"x"}


def test_a_higher_timeframe_joined_at_its_beginning_is_found(prices):
    assert audit(weekly_close, prices)


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
    assert text.startswith(f"x of {first.symbol} at {first.ts:%Y-%m-%d}")
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


def test_too_short_a_history_is_named(prices):
    with pytest.raises(NotEnoughHistory, match="4 distinct known_at, there are 2"):
        choose_instants(prices.head(2))
