"""Seeded bars to measure on, and their hashes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
import polars as pl

from candlecast.domain.frames import BARS
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.providers.synthetic import make_market

SEED = 7
DAILY = Timeframe.parse("1d")
FIRST_MINUTE = datetime(2024, 1, 1, tzinfo=UTC)
REVISED_EVERY = 10


def minute_bars(n_symbols: int, n_bars: int) -> pl.DataFrame:
    """BARS of one minute without a pause: `n_symbols` random walks of `n_bars` each."""
    generator = np.random.default_rng(SEED)
    shape = (n_symbols, n_bars)
    close = 100 * np.exp(np.cumsum(5e-4 * generator.standard_normal(shape), axis=1))
    opened = np.concatenate([np.full((n_symbols, 1), 100.0), close[:, :-1]], axis=1)
    reach = 1 + 2e-4 * np.abs(generator.standard_normal((2, *shape)))
    high, low = np.maximum(opened, close) * reach[0], np.minimum(opened, close) / reach[1]
    values = {
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume": np.round(generator.lognormal(8, 1, shape)),
        "vwap": (high + low + close) / 3,
        "trade_count": generator.integers(1, 500, shape),
    }
    minutes = pl.Series(np.tile(np.arange(n_bars), n_symbols)) * 60_000_000
    ts = pl.lit(FIRST_MINUTE) + minutes.cast(pl.Duration("us"))
    frame = pl.DataFrame(
        {
            "symbol": np.repeat([f"BENCH{number:02d}" for number in range(n_symbols)], n_bars),
            **{name: value.ravel() for name, value in values.items()},
        }
    ).with_columns(ts.alias("ts"), source=pl.lit("benchmark"))
    return BARS.conform(frame.with_columns(known_at=pl.col("ts").dt.offset_by("1m")))


def revised(bars: pl.DataFrame) -> pl.DataFrame:
    """The same BARS, every tenth with another volume that became known a day later."""
    is_revised = pl.int_range(pl.len()) % REVISED_EVERY == 0
    later = pl.col("known_at").dt.offset_by("1d")
    return bars.with_columns(
        volume=pl.col("volume") + is_revised.cast(pl.Float64),
        known_at=pl.when(is_revised).then(later).otherwise("known_at"),
    )


def daily_bars(n_symbols: int, n_sessions: int) -> pl.DataFrame:
    """BARS of a synthetic market on the sessions of XNYS, known when they ended."""
    market = make_market(seed=SEED, n_symbols=n_symbols, n_sessions=n_sessions)
    opens = market.bars["ts"].dt.replace_time_zone(None).to_numpy()
    ends = pl.Series(trading_calendar("XNYS").close_at(opens, DAILY)).dt.replace_time_zone("UTC")
    return BARS.conform(market.bars.with_columns(known_at=ends))


def daily_prices(n_symbols: int, n_sessions: int) -> pl.DataFrame:
    """PRICES of the same market."""
    bars = daily_bars(n_symbols, n_sessions)
    return make_prices(
        bars, DAILY, dict.fromkeys(bars["symbol"].unique(), trading_calendar("XNYS"))
    )


def frame_sha256(frame: pl.DataFrame) -> str:
    """Hash of all values of `frame`, the same on every machine."""
    digest = hashlib.sha256()
    for column in frame.get_columns():
        digest.update(column.name.encode())
        plain = column.rle_id() if column.dtype == pl.String else column.to_physical()
        digest.update(np.ascontiguousarray(plain.fill_null(0).to_numpy()).tobytes())
        if column.dtype == pl.String:
            digest.update("\n".join(column.unique(maintain_order=True).cast(pl.String)).encode())
    return digest.hexdigest()


def array_sha256(*arrays: np.ndarray) -> str:
    """Hash of all values of `arrays`."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
