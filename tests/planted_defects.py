"""Defects planted into clean bars, real ones loaded, and the scores of what was found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from candlecast.domain.frames import BARS
from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from candlecast.monitoring.quality import KINDS, check_bars

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PRICES = ("open", "high", "low", "close")
EDGE = 70  # bars at both ends that are left alone, so that every defect has surroundings
Planted = list[tuple[str, datetime, datetime]]


def as_bars(
    frame: pl.DataFrame, timeframe: Timeframe, calendars: dict[str, TradingCalendar]
) -> pl.DataFrame:
    """BARS of a frame with prices and volume, each known when it ended."""
    frame = frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    parts = []
    for (ticker,), part in frame.group_by("symbol", maintain_order=True):
        ts = part["ts"].dt.replace_time_zone(None).to_numpy()
        ends = pl.Series(calendars[str(ticker)].close_at(ts, timeframe), dtype=pl.Datetime("us"))
        by_clock = pl.col("ts") + timedelta(minutes=timeframe.minutes)
        parts.append(
            part.with_columns(
                pl.col("volume").cast(pl.Float64).fill_null(0.0),
                known_at=pl.coalesce(ends.dt.replace_time_zone("UTC"), by_clock),
                source=pl.lit("files"),
            )
        )
    joined = pl.concat(parts)
    return BARS.conform(joined.select(name for name in joined.columns if name in BARS.columns))


def shared_bars(
    name: str, timeframe: Timeframe, calendar_of: Callable[[str], TradingCalendar]
) -> tuple[pl.DataFrame, dict[str, TradingCalendar]]:
    """BARS of one file of the shared data, with each ticker's calendar."""
    frame = pl.read_parquet(SHARED / name)
    if "venue" in frame.columns:
        frame = frame.filter(pl.col("venue") == "binance_usdm")
    calendars = {ticker: calendar_of(ticker) for ticker in frame["symbol"].unique().sort()}
    return as_bars(frame, timeframe, calendars), calendars


def synthetic_bars(
    rng: np.random.Generator, timeframe: Timeframe, *, n_symbols: int, n_sessions: int, pace: float
) -> tuple[pl.DataFrame, dict[str, TradingCalendar]]:
    """Bars of XNYS with fat-tailed returns; each slot has one with the probability `pace`."""
    calendar = trading_calendar("XNYS")
    first = int(np.searchsorted(calendar.sessions, np.datetime64("2015-01-02")))
    span = slice(first, first + n_sessions)
    if timeframe.is_daily:
        ts = calendar.sessions[span].astype("datetime64[us]")
    else:
        step = np.timedelta64(timeframe.minutes, "m")
        pairs = zip(calendar.opens[span], calendar.closes[span], strict=True)
        ts = np.concatenate([np.arange(a, b, step) for a, b in pairs])
    parts = []
    for number in range(n_symbols):
        own = ts[rng.random(len(ts)) < pace]
        scale = 0.012 * (timeframe.minutes / 1440) ** 0.5
        close = 100 * np.exp(np.cumsum(scale * rng.standard_t(4, len(own))))
        opened = np.concatenate([[100.0], close[:-1]]) * np.exp(
            0.3 * scale * rng.standard_normal(len(own))
        )
        wick = np.exp(0.5 * scale * np.abs(rng.standard_normal((2, len(own)))))
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [f"S{number:02}"] * len(own),
                    "ts": pl.Series(own, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
                    "open": opened,
                    "high": np.maximum(opened, close) * wick[0],
                    "low": np.minimum(opened, close) / wick[1],
                    "close": close,
                    "volume": np.round(1e5 * np.exp(0.5 * rng.standard_normal(len(own)))) + 1,
                }
            )
        )
    calendars = {f"S{number:02}": calendar for number in range(n_symbols)}
    return as_bars(pl.concat(parts), timeframe, calendars), calendars


def plant(
    bars: pl.DataFrame, kind: str, n_bars: int, size: float, rng: np.random.Generator
) -> tuple[pl.DataFrame, Planted]:
    """One defect of `kind` in each symbol, at random; where they lie."""
    parts, planted = [], []
    for (ticker,), part in bars.group_by("symbol", maintain_order=True):
        at = int(rng.integers(EDGE, len(part) - EDGE - n_bars))
        row = pl.int_range(pl.len())
        inside = row.is_between(at, at + n_bars - 1)
        sign = 1 if rng.random() < 0.5 else -1
        parts.append(_spoilt(part, kind, inside, at, size, sign))
        first, last = part["ts"][at], part["ts"][at + n_bars - 1]
        planted.append((str(ticker), first, last))
    return BARS.conform(pl.concat(parts)), planted


def _spoilt(
    part: pl.DataFrame, kind: str, inside: pl.Expr, at: int, size: float, sign: int
) -> pl.DataFrame:
    def changed(**values: pl.Expr | float) -> pl.DataFrame:
        return part.with_columns(
            pl.when(inside).then(value).otherwise(pl.col(name)).alias(name)
            for name, value in values.items()
        )

    if kind == "gap":
        return part.filter(~inside)
    if kind == "stale_price":
        frozen = part["close"][at - 1]
        return changed(**dict.fromkeys(PRICES, pl.lit(frozen)))
    if kind == "zero_volume_run":
        return changed(volume=pl.lit(0.0))
    if kind == "outlier":
        factor = (1 + size) ** sign
        far = pl.col("close") * factor
        return changed(
            close=far,
            high=pl.max_horizontal("high", far),
            low=pl.min_horizontal("low", far),
        )
    if kind == "impossible":
        return changed(high=pl.col("low") * (1 - size))
    ratio = (
        size if sign > 0 else 1 / size
    )  # new shares for old ones: earlier prices stay as they were
    before = pl.int_range(pl.len()) < at
    return part.with_columns(
        *(pl.when(before).then(pl.col(n) * ratio).otherwise(pl.col(n)).alias(n) for n in PRICES),
        volume=pl.when(before).then(pl.col("volume") / ratio).otherwise(pl.col("volume")),
        adj_close=pl.lit(None, dtype=pl.Float64),
    )


def recall(findings: pl.DataFrame, kind: str, planted: Planted) -> float:
    """Share of the planted defects that a finding of that kind touches."""
    own = findings.filter(pl.col("kind") == kind)
    found = [
        own.filter(
            pl.col("symbol") == symbol, pl.col("start") <= last, pl.col("end") >= first
        ).height
        > 0
        for symbol, first, last in planted
    ]
    return float(np.mean(found))


def n_new_elsewhere(found: pl.DataFrame, before: pl.DataFrame, kind: str, planted: Planted) -> int:
    """Findings of any kind that were not there before planting, and lie elsewhere in time."""
    new = found.join(before, on=["symbol", "start", "kind"], how="anti")
    spans = pl.DataFrame(planted, schema=["symbol", "first", "last"], orient="row")
    beside = new.join(spans, on="symbol")
    margin = timedelta(days=7)
    is_near = (pl.col("start") <= pl.col("last") + margin) & (
        pl.col("end") >= pl.col("first") - margin
    )
    return beside.filter(~is_near).height


def findings_of(
    bars: pl.DataFrame, timeframe: Timeframe, calendars: dict[str, TradingCalendar]
) -> pl.DataFrame:
    """What `check_bars` finds, judged when the newest bar was known."""
    return check_bars(bars, timeframe, calendars, as_of=bars["known_at"].max())


def per_thousand(findings: pl.DataFrame, bars: pl.DataFrame) -> dict[str, float]:
    """Findings of each kind for a thousand bars."""
    counts = dict(findings.group_by("kind").len().iter_rows())
    return {kind: 1000 * counts.get(kind, 0) / len(bars) for kind in KINDS}
