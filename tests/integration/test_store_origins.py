"""Which symbols were never traded: the database says what a frame of their bars says."""

from datetime import UTC, datetime, timedelta

import polars as pl

from candlecast.domain.frames import BARS
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.sources import is_simulated
from candlecast.store.bars import write_bars
from candlecast.store.origins import read_simulated
from candlecast.store.symbols import write_symbols

DAILY = Timeframe.parse("1d")
DAY = datetime(2024, 5, 6, tzinfo=UTC)
SOURCES = (
    *("simulated", "simulated@1m", "synthetic", "synthetic@5m"),
    *("simulatedX", "synthetic1", "alpaca", "alpaca@1m", "files", "SIMULATED"),
)


def bars_of(sources):
    rows = [
        {"symbol": ticker, "ts": DAY + timedelta(days=day), "source": source, "known_at": DAY}
        for ticker, named in sources.items()
        for day, source in enumerate(named)
    ]
    prices = [pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close", "volume")]
    return BARS.conform(pl.DataFrame(rows).with_columns(prices))


def test_a_symbol_is_simulated_where_no_bar_of_it_was_traded(database):
    pairs = {f"P{i}{j}": (a, b) for i, a in enumerate(SOURCES) for j, b in enumerate(SOURCES)}
    write_symbols(database, [Symbol(ticker) for ticker in (*pairs, "SILENT")])
    bars = bars_of(pairs)
    write_bars(database, DAILY, bars)
    told = bars.group_by("symbol").agg(is_all=is_simulated(pl.col("source")).all())
    expected = {*told.filter("is_all")["symbol"]}
    assert len(expected) == 4 * 4
    assert read_simulated(database, DAILY) == expected
    asked = ["P00", "P04", "SILENT"]
    assert read_simulated(database, DAILY, asked) == {"P00"}
    assert read_simulated(database, Timeframe.parse("1h")) == frozenset()
