"""Slow twins of the labels: bar by bar, from the definitions alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri

from candlecast.domain.distribution import LEVELS
from candlecast.domain.market import Horizon, Timeframe, TradingCalendar


class Market:
    """PRICES as rows of each symbol, and what can be told of a horizon from one of them."""

    def __init__(
        self, prices: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar, horizon: str
    ) -> None:
        self.timeframe, self.calendar = timeframe, calendar
        self.horizon = Horizon.parse(horizon)
        self.n_bars = self.horizon.bars(timeframe, calendar)
        rows = prices.rows(named=True)
        self.symbols = {
            s: [r for r in rows if r["symbol"] == s] for s in dict.fromkeys(prices["symbol"])
        }
        self.rows = rows

    @cached_property
    def volatility(self) -> dict[tuple[str, datetime], float]:
        """Forecast of one bar's volatility, by symbol and ts, of bars that came in time."""
        found = {}
        for symbol, rows in self.symbols.items():
            in_time = [
                row
                for place, row in enumerate(rows)
                if all(later["known_at"] >= row["known_at"] for later in rows[place + 1 :])
            ]
            for segment in dict.fromkeys(row["segment"] for row in in_time):
                own = [row for row in in_time if row["segment"] == segment]
                squares = [math.log(b["close"] / a["close"]) ** 2 for a, b in pairwise(own)]
                for n, row in enumerate(own):
                    if n < 60:
                        continue
                    recent = squares[:n][::-1]
                    decay = [0.94**k for k in range(n)]
                    short = sum(w * x for w, x in zip(decay, recent, strict=True)) / sum(decay)
                    variance = 0.8 * short + 0.2 * sum(recent[:252]) / len(recent[:252])
                    if variance > 1e-12:
                        found[symbol, row["ts"]] = math.sqrt(variance)
        return found

    def unit(self, row: dict) -> float | None:
        """The volatility over the horizon."""
        one = self.volatility.get((row["symbol"], row["ts"]))
        return None if one is None else one * math.sqrt(self.n_bars)

    def due_at(self, row: dict) -> datetime:
        """When the horizon ends by the calendar."""
        closed = np.array([row["close_at"].replace(tzinfo=None)], "M8[us]")
        (due,) = self.calendar.advance(closed, self.horizon)
        return due.astype(object).replace(tzinfo=UTC)

    def path(self, row: dict) -> list[dict]:
        """The bars after `row` within the horizon."""
        due = self.due_at(row)
        return [
            other
            for other in self.symbols[row["symbol"]]
            if other["ts"] > row["ts"] and other["close_at"] <= due
        ]

    def outcome(self, row: dict) -> tuple[dict | None, datetime]:
        """The bar whose close ends the horizon, if it is known, and when that was known."""
        due = self.due_at(row)
        path, known = self.path(row), max(due, row["known_at"])
        if self.timeframe.is_daily:
            wanted = row["session"] + self.horizon.sessions(self.calendar)
            last = next((other for other in path if other["session"] == wanted), None)
            return last, known if last is None else max(known, last["known_at"])
        last = (path or [row])[-1]
        session = int(
            np.searchsorted(self.calendar.closes, np.datetime64(due.replace(tzinfo=None)))
        )
        later = [r for r in self.symbols[row["symbol"]] if r["ts"] > last["ts"]]
        if last["session"] != session or (last["close_at"] < due and not later):
            return None, known
        known = max(known, last["known_at"])
        if last["close_at"] < due:
            known = max(known, min(other["known_at"] for other in later))
        return last, known

    def is_whole(self, row: dict, path: list[dict]) -> bool:
        """Whether every session between `row` and the end of `path` has a bar."""
        sessions = {row["session"], *(other["session"] for other in path)}
        return len(sessions) == max(sessions) - min(sessions) + 1

    def past_terciles(self, row: dict, returns: list[tuple[str, float, datetime]]):
        """The terciles of the symbol's own `returns` (symbol, value, known) known at `row`."""
        known = [value for s, value, at in returns if s == row["symbol"] and at <= row["known_at"]]
        if len(known) < 100:
            return None
        levels = np.quantile(known, LEVELS, method="median_unbiased")
        return [float(np.interp(ndtri(p), ndtri(LEVELS), levels)) for p in (1 / 3, 2 / 3)]


def confidence(distance: float | None) -> float | None:
    """The share of a normal distribution within `distance` standard deviations."""
    return None if distance is None else math.erf(distance / math.sqrt(2))


def barrier_twin(market: Market, row: dict, upper: float, lower: float):
    """Value, when known, and distance of one bar's triple barrier, walked bar by bar."""
    unit, (last, seen_at) = market.unit(row), market.outcome(row)
    path = market.path(row)
    latest = max([seen_at, *(bar["known_at"] for bar in path)])
    if unit is None:
        return None, latest, None
    above = math.log(row["close"]) + upper * unit
    below = math.log(row["close"]) - lower * unit
    peak, trough = -math.inf, math.inf
    for place, bar in enumerate(path):
        o, h, low = (math.log(bar[name]) for name in ("open", "high", "low"))
        walked = path[: place + 1]
        seen = max([row["known_at"], *(other["known_at"] for other in walked)])
        is_up, is_down = h >= above, low <= below
        if is_up or is_down:
            if not market.is_whole(row, walked):
                return None, latest, None
            if is_up and is_down:
                if o >= above:
                    return 1.0, seen, (min(trough, o) - below) / unit
                if o <= below:
                    return -1.0, seen, (above - max(peak, o)) / unit
                return 0.0, seen, 0.0
            if is_up:
                return 1.0, seen, (min(trough, low) - below) / unit
            return -1.0, seen, (above - max(peak, h)) / unit
        peak, trough = max(peak, h), min(trough, low)
    walked = path if last is not None else None
    if walked is None or not market.is_whole(row, walked):
        return None, latest, None
    distance = min(upper, lower) if not path else min(above - peak, trough - below) / unit
    return 0.0, latest, distance


def forward_twin(market: Market, row: dict, *, is_simple: bool = False, is_scaled: bool = False):
    """Value, when known, and distance of one bar's forward return."""
    unit, (last, seen_at) = market.unit(row), market.outcome(row)
    if last is None or (is_scaled and unit is None):
        return None, seen_at, None
    ratio = last["close"] / row["close"]
    value = ratio - 1 if is_simple else math.log(ratio)
    distance = None if unit is None else abs(math.log(ratio)) / unit
    return (value / unit if is_scaled else value), seen_at, distance


def direction_twin(market: Market, row: dict, bounds: tuple[float, float] | None):
    """The same of one bar's class of return between two `bounds`."""
    unit, (last, seen_at) = market.unit(row), market.outcome(row)
    if last is None or bounds is None:
        return None, seen_at, None
    value = math.log(last["close"] / row["close"])
    distance = min(abs(value - bound) for bound in bounds)
    return (
        _side(value, bounds),
        seen_at,
        None if unit is None else distance / unit,
    )


def realised_twin(market: Market, row: dict):
    """The same of one bar's realised volatility."""
    unit, (last, seen_at) = market.unit(row), market.outcome(row)
    path = market.path(row)
    if last is None or not market.is_whole(row, path):
        return None, seen_at, None
    closes = [row["close"], *(bar["close"] for bar in path)]
    squares = [math.log(b / a) ** 2 for a, b in pairwise(closes)]
    value = math.sqrt(sum(squares))
    distance = math.inf if value == 0 else None
    if unit is not None and value > 0:
        distance = abs(math.log2(value / unit))
    known = max([seen_at, *(bar["known_at"] for bar in path)])
    return value, known, None if unit is None else distance


def regime_twin(market: Market, row: dict, threshold: float):
    """The same of one bar's regime."""
    sigma, (last, seen_at) = market.unit(row), market.outcome(row)
    path = market.path(row)
    if last is None or not market.is_whole(row, path):
        return None, seen_at, None
    known = max([seen_at, *(bar["known_at"] for bar in path)])
    if sigma is None:
        return None, known, None
    sigma /= math.sqrt(market.n_bars)
    heights = [math.log(bar["close"] / row["close"]) for bar in path] or [0.0]
    # The mean of h partial sums: the first step is in all of them, the last in one.
    h = len(heights)
    deviation = sigma * math.sqrt(sum(k * k for k in range(1, h + 1))) / h
    z = sum(heights) / h / deviation
    return _side(z, (-threshold, threshold)), known, min(abs(z - threshold), abs(z + threshold))


def rotation_twin(market: Market, row: dict, leader: str, threshold: float):
    """The same of one bar's market: the leader against the others of its `ts`."""
    _, own_seen = market.outcome(row)
    same = [other for other in market.rows if other["ts"] == row["ts"]]
    used = [(r, *market.outcome(r)) for r in same]
    used = [(r, last, at) for r, last, at in used if last is not None]
    returns = {r["symbol"]: math.log(last["close"] / r["close"]) for r, last, _ in used}
    ahead = next((r for r, *_ in used if r["symbol"] == leader), None)
    unit = None if ahead is None else market.unit(ahead)
    others = [value for symbol, value in returns.items() if symbol != leader]
    if unit is None or not others:
        return None, own_seen, None
    excess = (returns[leader] - sum(others) / len(others)) / unit
    known = max([row["known_at"], *(at for *_, at in used)])
    distance = min(abs(excess - threshold), abs(excess + threshold))
    return _side(excess, (-threshold, threshold)), known, distance


def _side(value: float, bounds: tuple[float, float]) -> float:
    return 1.0 if value > bounds[1] else -1.0 if value < bounds[0] else 0.0


def assert_same(labels: pl.DataFrame, market: Market, twin) -> None:
    """Every value, instant and confidence of one horizon is what `twin` says of its bar."""
    assert len(labels) == len(market.rows)
    assert labels["horizon_bars"].unique().to_list() == [market.n_bars]
    for found, row in zip(labels.iter_rows(named=True), market.rows, strict=True):
        assert (found["symbol"], found["ts"]) == (row["symbol"], row["ts"])
        value, known, distance = twin(row)
        where = f"{row['symbol']} at {row['ts']}"
        assert found["value"] == _near(value), where
        assert found["end_at"] == known, where
        assert found["confidence"] == _near(confidence(distance)), where


def _near(value: float | None):
    return None if value is None else pytest.approx(value, rel=1e-8, abs=1e-10)
