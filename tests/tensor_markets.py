"""Bars of several timeframes with gaps, late bars and different calendars, and their timelines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from candlecast.domain.frames import BARS, FEATURES, INSTANT
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.domain.specs import TensorSpec
from candlecast.features.timeframes import Windows, keys_of
from candlecast.features.timelines import make_timeline

CALENDARS = {name: trading_calendar(name) for name in ("XNYS", "24/7")}
TRADED = {"AAA": "XNYS", "BTC": "24/7", "ZZZ": "XNYS"}
NAMES = ("log_close", "place")


def bar_opens(timeframe: Timeframe, calendar_name: str, first: datetime, n_sessions: int):
    """When each bar of these sessions opens, datetime64[us]."""
    calendar = CALENDARS[calendar_name]
    start = int(np.searchsorted(calendar.sessions, np.datetime64(first.date())))
    chosen = slice(start, start + n_sessions)
    if timeframe.is_daily:
        return calendar.sessions[chosen].astype("datetime64[us]")
    step = np.timedelta64(timeframe.minutes, "m")
    sessions = zip(calendar.opens[chosen], calendar.closes[chosen], strict=True)
    return np.concatenate([np.arange(opened, closed, step) for opened, closed in sessions])


def bars_at(rng, ticker: str, timeframe: Timeframe, opens) -> pl.DataFrame:
    """BARS of a random walk that open then, each known as soon as it has ended."""
    n = len(opens)
    close = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal(n)))
    opened = close * np.exp(0.005 * rng.standard_normal(n))
    ends = CALENDARS[TRADED[ticker]].close_at(opens, timeframe)
    frame = pl.DataFrame(
        {
            "ts": pl.Series(opens.astype("datetime64[us]")).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * 1.004,
            "low": np.minimum(opened, close) / 1.003,
            "close": close,
            "volume": rng.integers(1, 10_000, n).astype(np.float64),
            "known_at": pl.Series(ends).dt.replace_time_zone("UTC"),
        }
    )
    return BARS.conform(frame.with_columns(symbol=pl.lit(ticker), source=pl.lit("test")))


def broken_bars(rng, timeframe: Timeframe, tickers, *, n_sessions: int, share: float):
    """BARS of which only a `share` is there, with silent weeks, and some that came days late."""
    parts = []
    for ticker in tickers:
        opens = bar_opens(timeframe, TRADED[ticker], utc(2021, 2, 20), n_sessions)
        days = np.unique(opens.astype("datetime64[D]"))
        silent_from = int(rng.integers(0, n_sessions))
        silent = days[silent_from : silent_from + int(rng.integers(0, 12))]
        kept = (rng.random(len(opens)) < share) & ~np.isin(opens.astype("datetime64[D]"), silent)
        kept[rng.integers(0, len(opens))] = True
        bars = bars_at(rng, ticker, timeframe, opens[kept])
        is_late = rng.random(len(bars)) < 0.15
        delay = np.where(is_late, rng.integers(1, 4 * 86_400, len(bars)), 0) * 1_000_000
        late = pl.col("known_at") + pl.Series(delay).cast(pl.Duration("us"))
        parts.append(bars.with_columns(known_at=late))
    return BARS.conform(pl.concat(parts))


def prices_of(bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """PRICES of first versions."""
    return make_prices(bars, timeframe, calendars_of(bars), is_first_version=True)


def calendars_of(frame: pl.DataFrame):
    """The calendar of each symbol in a frame."""
    return {ticker: CALENDARS[TRADED[ticker]] for ticker in frame["symbol"].unique()}


def some_features(rng, prices: pl.DataFrame, *, share_unknown=0.0, share_waiting=0.0):
    """FEATURES `NAMES`: some values unknown, and some rows that wait for others of the market."""
    unknown = rng.random(len(prices)) < share_unknown
    waits = np.where(
        rng.random(len(prices)) < share_waiting, rng.integers(1, 90_000, len(prices)), 0
    )
    place = pl.int_range(pl.len()).over("symbol").cast(pl.Float64)
    frame = prices.select(
        "symbol",
        "ts",
        (pl.col("known_at") + pl.Series(waits * 1_000_000).cast(pl.Duration("us"))).alias("as_of"),
        pl.when(~pl.Series(unknown)).then(pl.col("close").log()).alias("log_close"),
        place.alias("place"),
    )
    return FEATURES.conform(frame)


def timeline_of(timeframe: Timeframe, prices: pl.DataFrame, features: pl.DataFrame):
    """The timeline of frames whose features are `NAMES`."""
    names = features.columns[3:]
    return make_timeline(timeframe, prices, features, names, calendars_of(prices))


def keys_at(pairs) -> pl.DataFrame:
    """Keys of (symbol, instant) pairs."""
    return pl.DataFrame(pairs, schema={"symbol": pl.String, "as_of": INSTANT}, orient="row")


def utc(*parts: int) -> datetime:
    """An instant in UTC."""
    return datetime(*parts, tzinfo=UTC)


MICROSECOND = timedelta(microseconds=1)
HOUR, DAY = Timeframe.parse("1h"), Timeframe.parse("1d")
MONDAY = utc(2021, 3, 1)


def bars_of(*tickers, timeframe=HOUR, n_sessions=5, seed=1):
    """Whole BARS of the sessions from `MONDAY` on."""
    rng = np.random.default_rng(seed)
    return pl.concat(
        bars_at(rng, t, timeframe, bar_opens(timeframe, TRADED[t], MONDAY, n_sessions))
        for t in tickers
    )


def line_of(bars, timeframe=HOUR, **options):
    """The timeline of BARS, with `some_features`."""
    prices = prices_of(bars, timeframe)
    features = some_features(np.random.default_rng(2), prices, **options)
    return timeline_of(timeframe, prices, features)


def many_windows(n_steps=4):
    """Windows of three symbols at each of their hours, some values unknown, some rows late."""
    line = line_of(bars_of("AAA", "BTC", "ZZZ"), share_unknown=0.1, share_waiting=0.2)
    return Windows(TensorSpec(("1h",), NAMES, n_steps), [line], keys_of(line))
