"""Evaluate a feature set over history, or only for the newest bars.

1. `_plan` resolves names: symbol features name columns of PRICES and `INPUTS`, universe
   features name symbol features.
2. The inputs, then the symbol features, are evaluated within each segment; what lies in the
   warm-up or is no finite number becomes null.
3. The universe features are evaluated across the symbols of each ts that were in time.

A row's `as_of` is when its bar was known or, with a universe feature, when the last bar that it
is compared with was. In time is a symbol known within a bar's length of the first one of that ts;
late ones are compared among themselves, so that one late bar does not delay the whole market.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.domain.facts import Facts
from candlecast.domain.frames import PRICES
from candlecast.errors import InvalidSpec
from candlecast.features.fact_inputs import FACT_INPUTS, with_fact_inputs
from candlecast.features.inputs import INPUTS

SETTLING_BARS: Final = 300
"""What `newest` reads beyond the warm-up: recursive averages forget their start within it."""
MAX_WINDOWS: Final = 1 << 20

_AGE: Final = "_age"  # the row's place in its segment
_MARKET: Final = "_market"  # a number for each ts, and one for its late symbols


def standard_set() -> tuple[str, ...]:
    """The names of all features of prices that a model may see, sorted."""
    entries = map(FEATURES.get, FEATURES.names())
    return tuple(entry.name for entry in entries if entry.is_input and entry.table == "ohlcv")


def compute(prices: pl.DataFrame, names: Sequence[str], facts: Facts | None = None) -> pl.DataFrame:
    """FEATURES of every row of PRICES: the features `names`, in this order.

    `facts` are what is known besides prices; each row sees what was known when its bar was.
    Warm-up is null, and so is what is made of an absent source; no value is NaN or infinite.
    NotFound names the close matches of a name.
    """
    plan = _Plan.of(names)
    inputs = (INPUTS[name]().over("segment").alias(name) for name in plan.inputs)
    frame = with_fact_inputs(prices, facts or Facts.none(), plan.fact_inputs)
    frame = _with_age(frame).with_columns(inputs)
    frame = _evaluated(frame, plan.symbol, "segment")
    as_of = pl.col("known_at")
    if plan.universe:
        frame = _evaluated(frame.with_columns(_market()), plan.universe, _MARKET)
        as_of = as_of.max().over(_MARKET)
    return frame.select("symbol", "ts", as_of.alias("as_of"), *plan.names)


def newest(prices: pl.DataFrame, names: Sequence[str], facts: Facts | None = None) -> pl.DataFrame:
    """The last row of each symbol, as `compute` gives it, from no more bars than that takes."""
    last = prices.group_by("symbol").agg(pl.col("ts").last())
    windows = _windows(prices, last["ts"].unique(), _Plan.of(names).window_bars)
    features = compute(windows, names, facts)
    return features.join(last, on=["symbol", "ts"], how="semi", maintain_order="left")


@dataclass(frozen=True)
class _Plan:
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    fact_inputs: tuple[str, ...]
    symbol: tuple[Feature, ...]
    universe: tuple[Feature, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> _Plan:
        """What has to be computed for `names`, with what they name in turn."""
        wanted = {name: FEATURES.get(name) for name in names}
        universe = {name: entry for name, entry in wanted.items() if entry.scope == "universe"}
        symbol = {name: entry for name, entry in wanted.items() if name not in universe}
        for entry in universe.values():
            symbol |= {name: FEATURES.get(name) for name in _named_by(entry, FEATURES.names())}
        allowed = {*INPUTS, *FACT_INPUTS}
        named = {name for entry in symbol.values() for name in _named_by(entry, allowed)}
        inputs, of_facts = (tuple(sorted(named & {*table})) for table in (INPUTS, FACT_INPUTS))
        return cls(
            tuple(wanted), inputs, of_facts, tuple(symbol.values()), tuple(universe.values())
        )

    @property
    def window_bars(self) -> int:
        """How many bars a value depends on, its own included."""
        warmups = (entry.warmup_bars for entry in (*self.symbol, *self.universe))
        return 1 + SETTLING_BARS + max(warmups, default=0)


def _named_by(entry: Feature, allowed: Iterable[str]) -> list[str]:
    # The columns that the expression names, less those that every PRICES frame has.
    named = set(entry.expression().meta.root_names()) - set(PRICES.columns)
    if unknown := named - set(allowed):
        raise InvalidSpec(f"feature {entry.name!r} names {sorted(unknown)}, which do not exist")
    return sorted(named)


def _evaluated(frame: pl.DataFrame, entries: Sequence[Feature], group: str) -> pl.DataFrame:
    # In two steps, because a value that a condition names as well would be computed twice.
    values = (
        entry.expression().cast(pl.Float64).over(group).alias(entry.name) for entry in entries
    )
    usable = (
        pl.when((pl.col(_AGE) >= entry.warmup_bars) & pl.col(entry.name).is_finite())
        .then(entry.name)
        .alias(entry.name)
        for entry in entries
    )
    return frame.with_columns(values).with_columns(usable)


def _with_age(prices: pl.DataFrame) -> pl.DataFrame:
    # Segments ascend unless late bars are kept apart from them.
    if prices["segment"].is_sorted():
        prices = prices.with_columns(pl.col("segment").set_sorted())
    return prices.with_columns(pl.int_range(pl.len()).over("segment").alias(_AGE))


def _market() -> pl.Expr:
    first = pl.col("known_at").min().over("ts")
    is_late = pl.col("known_at") > first + (pl.col("close_at") - pl.col("ts"))
    return (pl.col("ts").to_physical() + is_late.cast(pl.Int64)).alias(_MARKET)


def _windows(prices: pl.DataFrame, targets: pl.Series, n_bars: int) -> pl.DataFrame:
    # The bars within `n_bars` up to one of the `targets` (instants): usually every symbol's last
    # ones. Where a symbol's newest bar is older, the others' bars of that time are needed to
    # compare with, so a segment can have several windows; each becomes a segment of its own.
    is_target = pl.col("ts").is_in(targets.implode())
    following = pl.when(is_target).then(pl.col(_AGE)).backward_fill().over("segment")
    number = (pl.col(_AGE).diff() > 1).fill_null(False).cum_sum().over("segment")
    return (
        _with_age(prices)
        .filter(following - pl.col(_AGE) < n_bars)
        .with_columns((pl.col("segment") * MAX_WINDOWS + number).alias("segment"))
        .select(prices.columns)
    )
