"""Tensors of several timeframes are what a plain loop over all rows makes of them, and causal."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.market import Timeframe
from candlecast.domain.specs import TensorSpec
from candlecast.features.compute import compute
from candlecast.features.timeframes import Windows
from candlecast.features.timelines import MAX_MISSED_SESSIONS, make_timeline
from candlecast.validation.causality import audit
from tensor_markets import (
    CALENDARS,
    MICROSECOND,
    NAMES,
    TRADED,
    bar_opens,
    bars_at,
    broken_bars,
    calendars_of,
    keys_at,
    prices_of,
    some_features,
    timeline_of,
    utc,
)

SHARES = {"1m": 0.005, "5m": 0.02, "15m": 0.1, "1h": 0.5, "1d": 0.9}
N_SESSIONS = 24


def aware(instant):
    return instant.astype("datetime64[us]").item().replace(tzinfo=None)


def elapsed_bars(calendar, timeframe, closed, asked):
    """Session by session: which part of each lies between the two instants."""
    closed, asked = closed.replace(tzinfo=None), asked.replace(tzinfo=None)
    near = np.abs(calendar.sessions - np.datetime64(closed.date())) < np.timedelta64(60, "D")
    n_sessions = 0.0
    for opened, ended in zip(calendar.opens[near], calendar.closes[near], strict=True):
        start, end = aware(opened), aware(ended)
        inside = min(asked, end) - max(closed, start)
        n_sessions += max(inside, timedelta(0)) / (end - start)
    return n_sessions * calendar.bars_per_session(timeframe)


def window_by_loop(everything, timeframe, symbol, asked, n_steps):
    """Values, mask and age of one row and timeframe; `everything` are rows of prices, features."""
    values, mask = np.zeros((n_steps, len(NAMES))), np.zeros(n_steps, dtype=bool)
    rows = [
        row
        for row in everything
        if row["symbol"] == symbol and row["as_of"] <= asked and row["close_at"] <= asked
    ]
    if not rows:
        return values, mask, math.nan
    newest = max(rows, key=lambda row: row["ts"])
    calendar = CALENDARS[TRADED[symbol]]
    age = elapsed_bars(calendar, timeframe, newest["close_at"], asked)
    if age > MAX_MISSED_SESSIONS * calendar.bars_per_session(timeframe) + 1 + 1e-6:
        return values, mask, age
    own = sorted(
        (row for row in rows if row["segment"] == newest["segment"]), key=lambda row: row["ts"]
    )
    for place, row in zip(range(n_steps - 1, -1, -1), reversed(own), strict=False):
        if all(row[name] is not None for name in NAMES):
            values[place], mask[place] = [row[name] for name in NAMES], True
    return values, mask, age


@st.composite
def markets(draw):
    """Prices and features by timeframe, (symbol, instant) pairs to ask for, a number of steps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = draw(st.sampled_from([("1h",), ("15m", "1d"), ("1m", "5m", "15m", "1h", "1d")]))
    share_unknown, share_waiting = draw(st.sampled_from([(0.0, 0.0), (0.1, 0.0), (0.1, 0.3)]))
    frames = {}
    for name in names:
        timeframe = Timeframe.parse(name)
        tickers = draw(st.sampled_from([("AAA", "BTC"), ("AAA", "BTC", "ZZZ"), ("BTC",)]))
        bars = broken_bars(rng, timeframe, tickers, n_sessions=N_SESSIONS, share=SHARES[name])
        prices = prices_of(bars, timeframe)
        frames[name] = (
            prices,
            some_features(rng, prices, share_unknown=share_unknown, share_waiting=share_waiting),
        )
    known = pl.concat([features["as_of"] for _, features in frames.values()]).to_list()
    chosen = [known[place] for place in rng.integers(0, len(known), 12)]
    instants = [
        *chosen,
        *(instant - MICROSECOND for instant in chosen[:6]),
        *(instant + timedelta(hours=float(rng.uniform(0, 200))) for instant in chosen),
    ]
    pairs = [(str(rng.choice([*TRADED])), instant) for instant in instants]
    return frames, pairs, draw(st.sampled_from([1, 3, 17]))


@given(market=markets())
@settings(max_examples=20, deadline=None)
def test_windows_are_those_of_a_loop_over_all_rows(market):
    frames, pairs, n_steps = market
    spec = TensorSpec(tuple(frames), NAMES, n_steps)
    lines = [timeline_of(Timeframe.parse(name), *frames[name]) for name in spec.timeframes]
    found = Windows(spec, lines, keys_at(pairs)).take(np.arange(len(pairs)))
    for place, name in enumerate(spec.timeframes):
        prices, features = frames[name]
        frame = prices.with_columns(features.drop("symbol", "ts").get_columns())
        everything = frame.rows(named=True)
        for row, (symbol, asked) in enumerate(pairs):
            values, mask, age = window_by_loop(
                everything, Timeframe.parse(name), symbol, asked, n_steps
            )
            np.testing.assert_array_equal(found.mask[row, :, place], mask)
            np.testing.assert_array_equal(found.values[row, :, place], values.astype(np.float32))
            np.testing.assert_allclose(found.age_bars[row, place], age, rtol=1e-5, atol=1e-4)


# --- causality ------------------------------------------------------------------------------

AUDITED = ("1h", "4h", "1d")
FEATURES = ("return_1", "day_of_week", "rsi_14")
SPEC = TensorSpec(AUDITED, FEATURES, n_steps=4)


def whole_bars():
    """Bars of all three timeframes, some of them late."""
    rng = np.random.default_rng(3)
    bars = {}
    for name in AUDITED:
        timeframe = Timeframe.parse(name)
        parts = [
            bars_at(
                rng,
                ticker,
                timeframe,
                bar_opens(timeframe, TRADED[ticker], utc(2021, 1, 4), n_sessions),
            )
            for ticker, n_sessions in (("AAA", 110), ("BTC", 160))
        ]
        frame = pl.concat(parts)
        late = pl.Series(rng.random(len(frame)) < 0.03)
        known_at = pl.when(late).then(pl.col("known_at").dt.offset_by("30h")).otherwise("known_at")
        bars[name] = frame.with_columns(known_at=known_at)
    return bars


BARS_OF = whole_bars()
KNOWN = BARS_OF["1h"].filter(pl.col("ts").dt.ordinal_day() > 60)["known_at"].unique().sort()
ASKED = KNOWN.gather_every(37)
KEYS = keys_at([(ticker, instant) for instant in ASKED for ticker in ("AAA", "BTC")])
INSTANTS = [ASKED[len(ASKED) * place // 5] for place in range(1, 5)]


def honest(timeframe, prices):
    features = compute(prices, FEATURES)
    return make_timeline(timeframe, prices, features, FEATURES, calendars_of(prices))


def joined_by_ts(timeframe, prices):
    """The leak: bars are seen from their opening on, as a join by ts has them."""
    early = prices.with_columns(known_at="ts", close_at="ts")
    features = compute(prices, FEATURES).with_columns(as_of="ts")
    return make_timeline(timeframe, early, features, FEATURES, calendars_of(prices))


HONEST = {
    name: honest(Timeframe.parse(name), prices_of(bars, Timeframe.parse(name)))
    for name, bars in BARS_OF.items()
}


def tensor_rows(name, bars, make):
    """All tensors as a frame, where the bars of one timeframe are those given."""
    timeframe = Timeframe.parse(name)
    lines = {**HONEST, name: make(timeframe, prices_of(bars, timeframe))}
    tensors = Windows(SPEC, [lines[n] for n in AUDITED], KEYS).take(np.arange(len(KEYS)))
    flat = np.concatenate(
        [part.reshape(len(KEYS), -1) for part in (tensors.values, tensors.mask, tensors.age_bars)],
        axis=1,
    )
    columns = {f"v{place}": flat[:, place] for place in range(flat.shape[1])}
    return KEYS.with_columns(pl.col("as_of").alias("ts")).with_columns(
        pl.Series(column, values, nan_to_null=True) for column, values in columns.items()
    )


@pytest.mark.parametrize("name", AUDITED)
def test_cutting_or_changing_the_future_of_a_timeframe_changes_no_window_before(name):
    assert audit(lambda bars: tensor_rows(name, bars, honest), BARS_OF[name], INSTANTS) == []


def test_there_is_something_in_the_windows_that_the_future_could_change():
    tensors = Windows(SPEC, [HONEST[n] for n in AUDITED], KEYS).take(np.arange(len(KEYS)))
    assert tensors.mask.mean() > 0.6
    assert (np.abs(tensors.values[..., 0]).max(axis=(0, 1)) > 0).all()


@pytest.mark.parametrize("name", AUDITED)
def test_a_join_by_ts_is_caught_looking_ahead(name):
    findings = audit(lambda bars: tensor_rows(name, bars, joined_by_ts), BARS_OF[name], INSTANTS)
    probes = {finding.probe.rpartition(" were ")[2] for finding in findings}
    assert probes == {"cut off", "nonsense"}


def days_labelled_left(hours):
    """The leak: days of hourly bars, the day in progress among them, known as it begins."""
    day = pl.col("ts").dt.truncate("1d")
    return hours.group_by("symbol", day, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
        pl.col("adj_close", "vwap", "trade_count", "source").last(),
        pl.col("ts").first().dt.truncate("1d").alias("known_at"),
    )


@pytest.mark.parametrize(("make", "is_leak"), [(honest, False), (joined_by_ts, True)])
def test_a_day_known_as_it_begins_is_still_not_seen_before_it_has_ended(make, is_leak):
    hours = BARS_OF["1h"].with_columns(
        known_at=pl.col("ts").dt.offset_by("1h")
    )  # without late ones, whose day would be over

    def tensors(bars):
        return tensor_rows("1d", days_labelled_left(bars), make)

    assert bool(audit(tensors, hours, INSTANTS)) is is_leak
