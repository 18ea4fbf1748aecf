"""Coarser bars are what a loop over the finer ones makes of them, bucket by bucket."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import BARS
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.domain.resample import open_bars, resample, resample_all

MINUTE = timedelta(minutes=1)
LATER = datetime(2039, 1, 1, tzinfo=UTC)
DAYS = {  # a half-day, both changes of the clock, plain days beside them
    "XNYS": [(2020, 11, 25), (2020, 11, 27), (2021, 3, 12), (2021, 3, 15), (2021, 11, 5)],
    "BVMF": [(2021, 2, 17), (2021, 3, 12), (2021, 11, 5), (2021, 11, 8)],
    "24/7": [(2021, 3, 13), (2021, 3, 14), (2020, 11, 27)],
}
TARGETS = {
    "1m": ["5m", "10m", "15m", "30m", "1h", "4h", "1d"],
    "5m": ["10m", "15m", "30m", "1h", "4h", "1d"],
    "10m": ["30m", "1h", "4h", "1d"],
    "1h": ["4h", "1d"],
}
SOURCES = ("alpha", "beta", "synthetic", "synthetic@1m", "mixed", "simulated")


@cache
def session(name: str, day: tuple[int, int, int]) -> tuple[datetime, datetime, datetime]:
    """Date, open and close of the session, from the library of calendars itself."""
    midnight = datetime(*day, tzinfo=UTC)
    if name == "24/7":
        return midnight, midnight, midnight + timedelta(days=1)
    import exchange_calendars as xcals

    row = xcals.get_calendar(name, start="2020-01-01", end="2022-12-31").schedule.loc[
        date(*day).isoformat()
    ]
    return midnight, row["open"].to_pydatetime(), row["close"].to_pydatetime()


@st.composite
def markets(draw, finest=("1m", "5m", "10m", "1h")):
    """Bars of a few symbols, thin or dense, in and around sessions; their timeframe, calendars."""
    source = Timeframe.parse(draw(st.sampled_from(finest)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    calendars, rows = {}, []
    for ticker in draw(st.sampled_from([("AAA",), ("AAA", "BBB"), ("AAA", "BBB", "CCC")])):
        name = draw(st.sampled_from(sorted(DAYS)))
        calendars[ticker] = name
        step = timedelta(minutes=source.minutes)
        for day in sorted(draw(st.lists(st.sampled_from(DAYS[name]), max_size=3, unique=True))):
            _, opens, closes = session(name, day)
            n_bars = math.ceil((closes - opens) / step)
            margin = 0 if name == "24/7" else 3
            numbers = draw(
                st.one_of(
                    st.sets(st.integers(-margin, n_bars - 1 + margin), max_size=12),
                    st.integers(0, n_bars - 1).map(lambda first: range(first, first + 25)),
                )
            )
            ts = [opens + number * step for number in sorted(numbers) if number < n_bars + margin]
            rows += [component(rng, ticker, at, step) for at in ts]
    return BARS.conform(pl.DataFrame(rows, schema=BARS.columns)), source, calendars


def component(rng, ticker, ts, step):
    """A bar with coarse numbers, so that ties, zeros and absences are frequent."""

    def absent(value, share):
        return None if rng.random() < share else value

    low, high, vwap, adjusted = np.sort(rng.integers(1, 40, 4)) / 4
    return {
        "symbol": ticker,
        "ts": ts,
        "open": rng.choice([low, high]),
        "high": high,
        "low": low,
        "close": rng.choice([low, high]),
        "volume": float(rng.choice([0, 0, 1, 3, 700])),
        "adj_close": absent(adjusted, 0.5),
        "vwap": absent(vwap, 0.1),
        "trade_count": absent(int(rng.integers(0, 9)), 0.1),
        "source": str(rng.choice(SOURCES)) if rng.random() < 0.1 else SOURCES[0],
        "known_at": ts + step + int(rng.choice([0, 0, 0, 0, 2, 7, 300, 5000])) * MINUTE,
    }


def by_hand(bars, source, target, calendars, delay):
    """Each bucket's bar, when it had ended, when its newest component was known."""
    found = []
    for ticker, name in calendars.items():
        own = [row for row in bars.iter_rows(named=True) if row["symbol"] == ticker]
        for day in DAYS[name]:
            midnight, opens, closes = session(name, day)
            start = opens
            while start < closes:
                length = timedelta(minutes=target.minutes)
                end = closes if target.is_daily else min(closes, start + length)
                parts = [row for row in own if start <= row["ts"] < end]
                if parts:
                    reach = min(closes, parts[-1]["ts"] + timedelta(minutes=source.minutes))
                    ended_at = end if reach == end else end + delay
                    ts = midnight if target.is_daily else start
                    newest = max(part["known_at"] for part in parts)
                    found.append((united(parts, ts, max(ended_at, newest)), ended_at, newest))
                start = end
    return sorted(found, key=lambda bucket: (bucket[0]["symbol"], bucket[0]["ts"]))


def united(parts, ts, known_at):
    traded = [part for part in parts if part["volume"] > 0]
    vwap = None
    if traded and all(part["vwap"] is not None for part in traded):
        money = math.fsum(part["vwap"] * part["volume"] for part in traded)
        vwap = money / sum(part["volume"] for part in traded)
    counts = [part["trade_count"] for part in parts]
    factors = [p["adj_close"] / p["close"] for p in parts if p["adj_close"] is not None]
    return {
        "symbol": parts[0]["symbol"],
        "ts": ts,
        "open": parts[0]["open"],
        "high": max(part["high"] for part in parts),
        "low": min(part["low"] for part in parts),
        "close": parts[-1]["close"],
        "volume": sum(part["volume"] for part in parts),
        "adj_close": factors[-1] * parts[-1]["close"] if factors else None,
        "vwap": vwap,
        "trade_count": None if None in counts else sum(counts),
        "source": united_source({part["source"] for part in parts}),
        "known_at": known_at,
    }


def united_source(sources):
    if len(sources) == 1:
        return sources.pop()
    is_simulated = any(name.split("@")[0] in ("synthetic", "simulated") for name in sources)
    return "simulated" if is_simulated else "mixed"


def assert_same(frame, rows):
    BARS.check(frame)
    expected = BARS.conform(pl.DataFrame(rows, schema=BARS.columns))
    exact = [name for name in BARS.columns if name not in ("vwap", "adj_close")]
    assert frame.select(exact).rows() == expected.select(exact).rows()
    for name in ("vwap", "adj_close"):
        made, known = (part[name].fill_null(math.nan).to_list() for part in (frame, expected))
        assert made == pytest.approx(known, rel=1e-12, nan_ok=True)


@settings(max_examples=50)
@given(markets(), st.data())
def test_every_coarser_bar_is_what_a_loop_over_its_components_makes(market, data):
    bars, source, names = market
    target = Timeframe.parse(data.draw(st.sampled_from(TARGETS[source.name])))
    delay = data.draw(st.sampled_from([timedelta(0), 16 * MINUTE]))
    calendars = {ticker: trading_calendar(name) for ticker, name in names.items()}
    buckets = by_hand(bars, source, target, names, delay)
    instants = [LATER, *(ended_at for _, ended_at, _ in buckets)]
    as_of = data.draw(st.sampled_from(instants)) - data.draw(st.sampled_from([0, 1])) * MINUTE
    closed = [row for row, ended_at, _ in buckets if ended_at <= as_of]
    made = resample(bars, source, target, calendars, as_of=as_of, delay=delay)
    assert_same(made, closed)
    newest = {row["symbol"]: (row, ended_at, known_at) for row, ended_at, known_at in buckets}
    forming = [{**row, "known_at": at} for row, ended_at, at in newest.values() if ended_at > as_of]
    shown = open_bars(bars, source, target, calendars, as_of=as_of, delay=delay)
    assert_same(shown, forming)


@settings(max_examples=50)
@given(markets(finest=("1m", "5m", "10m")), st.sampled_from([timedelta(0), 16 * MINUTE]))
def test_a_chain_of_steps_ends_where_one_step_from_the_finest_does(market, delay):
    bars, source, names = market
    calendars = {ticker: trading_calendar(name) for ticker, name in names.items()}
    whole = resample_all(bars, source, calendars, as_of=LATER, delay=delay)
    assert [target.name for target in whole] == TARGETS[source.name]
    for target, frame in whole.items():
        direct = resample(bars, source, target, calendars, as_of=LATER, delay=delay)
        assert_same(frame, direct.rows(named=True))


@settings(max_examples=50)
@given(markets(finest=("1m", "5m")), st.data())
def test_what_was_told_at_an_instant_can_be_told_again_whatever_came_later(market, data):
    bars, source, names = market
    if bars.is_empty():
        return
    calendars = {ticker: trading_calendar(name) for ticker, name in names.items()}
    target = Timeframe.parse(data.draw(st.sampled_from(TARGETS[source.name])))
    instants = sorted({*bars["known_at"]})
    as_of = data.draw(st.sampled_from(instants))

    def told(known):
        return resample(known, source, target, calendars, as_of=as_of)

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    is_corrected = pl.Series(rng.random(len(bars)) < 0.3)
    later = bars.filter(is_corrected).with_columns(
        pl.col("high") + 1, known_at=pl.max_horizontal(pl.col("known_at"), as_of) + MINUTE
    )
    versions = pl.concat([bars, later])
    then = bars.filter(pl.col("known_at") <= as_of)
    again = versions.filter(pl.col("known_at") <= as_of).sort("known_at")
    newest = again.unique(["symbol", "ts"], keep="last").sort("symbol", "ts")
    assert told(then).equals(told(newest))
    assert (told(then)["known_at"] <= as_of).all()
