"""The instants at which an audit looks: all over time, the week and the day, and the unusual."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.errors import NotEnoughHistory
from candlecast.validation.instants import choose_instants, unusual_instants

CLOSE = pl.col("close")
START = datetime(2020, 1, 6, tzinfo=UTC)


def test_too_short_a_history_is_named(prices):
    with pytest.raises(NotEnoughHistory, match="4 distinct known_at, there are 2; ingest more"):
        choose_instants(prices.head(2))


def test_instants_are_chosen_at_random_and_again_the_same(prices):
    first = choose_instants(prices)
    assert choose_instants(prices) == first == sorted({*first})
    assert choose_instants(prices, seed=1) != first
    known = prices["known_at"].unique().sort()
    assert known[len(known) // 4] <= first[0] < first[-1] < known[-1]


def test_instants_are_spread_over_weekdays_and_hours():
    minutes = pl.DataFrame(
        {"known_at": pl.datetime_range(START, START + timedelta(minutes=400), "1m", eager=True)}
    )
    hours = [instant.hour for instant in choose_instants(minutes, 12)]
    assert max(map(hours.count, hours)) - min(map(hours.count, {*hours})) <= 2
    days = pl.DataFrame({"known_at": daily_stamps()})
    weekdays = [instant.weekday() for instant in choose_instants(days, 25)]
    assert sorted(weekdays) == sorted([0, 1, 2, 3, 4] * 5)


def daily_stamps():
    days = pl.datetime_range(START, START + timedelta(days=500), "1d", eager=True)
    return days.filter(days.dt.weekday() < 6)


def test_unusual_instants_are_those_of_the_largest_moves_and_volumes_of_each_symbol(prices):
    days = prices["ts"].unique().sort()
    is_jump = (pl.col("symbol") == "SYN01") & (pl.col("ts") >= days[300])
    is_rush = (pl.col("symbol") == "SYN02") & (pl.col("ts") == days[310])
    moved = prices.with_columns(
        pl.when(is_jump).then(CLOSE * 1.5).otherwise(CLOSE).alias("close"),
        pl.when(is_rush).then(pl.col("volume") * 99).otherwise("volume").alias("volume"),
    )
    instants = unusual_instants(moved, 10)
    assert len(instants) == len({*instants}) == 10
    assert instants == sorted(instants)
    known = {row["ts"]: row["known_at"] for row in moved.iter_rows(named=True)}
    assert {known[days[300]], known[days[310]]} <= {*instants}
    assert max(instants) < moved["known_at"].max(), "nothing can be cut off after the last"
