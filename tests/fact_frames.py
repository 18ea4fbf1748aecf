"""Facts beside prices for tests: texts, indices, capitalisations and large trades, seeded."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from candlecast.domain.facts import Facts
from candlecast.domain.frames import CAPITALISATIONS, INDICES, LARGE_TRADES, TEXTS

COINS = ("BTC-USD", "ETH-USD", "SOL-USD")
SHARES = (0.02, 0.4, 0.7, 0.99, 1.0)
"""Where in a bar the minutes lie whose large trades were counted; the last one lies behind it."""


def seeded_facts(prices: pl.DataFrame, seed: int = 0) -> Facts:
    """What sources told beside `prices`: about its symbols, three coins, and the market.

    Some texts name nobody, some several; some facts are known late, and some days say nothing.
    """
    rng = np.random.default_rng(seed)
    first, last = prices["known_at"].min(), prices["known_at"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    symbols = prices["symbol"].unique().sort().to_list()
    return Facts.of(
        texts=_texts(rng, first, last, symbols),
        indices=_indices(rng, first, last),
        capitalisations=_capitalisations(rng, first, last),
        large_trades=_large_trades(rng, prices),
    )


def _texts(
    rng: np.random.Generator, first: datetime, last: datetime, symbols: list[str]
) -> pl.DataFrame:
    n_days = (last - first).days + 30
    names = [*symbols, *COINS]
    n = int(n_days * len(names) * 0.4)
    micros = rng.integers(0, n_days * 86_400_000_000, n)
    quiet = (micros // 86_400_000_000) % 90 < 10
    n_named = rng.choice([0, 1, 1, 1, 2, 3], n)
    frame = pl.DataFrame(
        {
            "id": [f"{i:06d}" for i in range(n)],
            "kind": rng.choice(["news", "post"], n),
            "symbols": [rng.choice(names, k, replace=False).tolist() for k in n_named],
            "weight": np.round(np.exp(rng.normal(0, 1, n)), 3) + 0.001,
            "score": np.where(rng.random(n) < 0.3, 0.0, np.tanh(rng.normal(0.05, 0.5, n))),
            "known_at": pl.Series(micros).cast(pl.Duration("us")) + (first - timedelta(days=30)),
        },
        schema_overrides={"symbols": pl.List(pl.String)},
    )
    return TEXTS.conform(frame.filter(~pl.Series(quiet)).with_columns(pl.col("score").round(4)))


def _days(first: datetime, last: datetime) -> pl.Series:
    start = first.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=5)
    return pl.datetime_range(start, last, "1d", eager=True, time_unit="us", time_zone="UTC")


def _indices(rng: np.random.Generator, first: datetime, last: datetime) -> pl.DataFrame:
    days = _days(first, last)
    late = pl.Series(np.where(rng.random(len(days)) < 0.05, 40, 6)) * timedelta(hours=1)
    frame = pl.DataFrame(
        {
            "name": "fear_greed",
            "ts": days,
            "value": rng.integers(0, 101, len(days)).astype(float),
            "source": "test",
            "known_at": days + late,
        }
    )
    is_told = pl.Series(rng.random(len(days)) > 0.1) & (pl.int_range(pl.len()) % 70 > 5)
    return INDICES.conform(frame.filter(is_told))


def _capitalisations(rng: np.random.Generator, first: datetime, last: datetime) -> pl.DataFrame:
    days = _days(first, last)
    frames = [
        pl.DataFrame(
            {
                "asset": asset,
                "ts": days,
                "value": size * np.exp(np.cumsum(rng.normal(0, 0.02, len(days)))),
                "source": "test",
                "known_at": days + timedelta(hours=1),
            }
        )
        for asset, size in zip((*COINS, "TOTAL"), (1e12, 4e11, 5e10, 3e12), strict=True)
    ]
    is_told = (pl.col("ts") - days[0]).dt.total_days() % 90 > 12
    return CAPITALISATIONS.conform(pl.concat(frames).filter(is_told))


def _large_trades(rng: np.random.Generator, prices: pl.DataFrame) -> pl.DataFrame:
    length = (pl.col("close_at") - pl.col("ts")).dt.total_microseconds()
    minutes = pl.concat(
        prices.select(
            "symbol",
            (pl.col("ts") + pl.duration(microseconds=(length * share).cast(pl.Int64)))
            .dt.truncate("1m")
            .alias("ts"),
        )
        for share in SHARES
    ).unique()
    day = pl.col("ts").dt.epoch("d")
    is_told = pl.Series(rng.random(len(minutes)) > 0.1) & ((day - day.min()) % 60 < 52)
    minutes = minutes.sort("symbol", "ts").filter(is_told)
    n = len(minutes)
    volume = rng.exponential(1e4, n)
    delay = pl.Series(rng.choice([65, 3_000, 400_000], n, p=[0.8, 0.15, 0.05]))
    return LARGE_TRADES.conform(
        minutes.with_columns(
            n_trades=pl.lit(20),
            volume=pl.Series(volume),
            n_large=pl.lit(1),
            large_volume=pl.Series(volume * rng.random(n)),
            threshold=pl.lit(1e5),
            source=pl.lit("test"),
            known_at=pl.col("ts") + delay * timedelta(seconds=1),
        )
    )
