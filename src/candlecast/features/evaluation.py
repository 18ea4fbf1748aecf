"""Expressions over groups of rows: within segments, and across the symbols of each ts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from candlecast.domain.catalog import FEATURES, Feature

AGE: Final = "_age"
"""The row's place in its segment."""
AS_OF: Final = "as_of"
_MARKET: Final = "_market"  # a number for each ts, and one for its late symbols


def with_age(prices: pl.DataFrame) -> pl.DataFrame:
    """`prices` with `AGE`, and known to be sorted by segment where they are.

    Segments ascend unless late bars are kept apart from them.
    """
    if prices["segment"].is_sorted():
        prices = prices.with_columns(pl.col("segment").set_sorted())
    return prices.with_columns(pl.int_range(pl.len()).over("segment").alias(AGE))


def expression_of(entry: Feature) -> pl.Expr:
    """The feature's expression under its name."""
    return entry.expression().cast(pl.Float64).alias(entry.name)


def values_of(frame: pl.DataFrame, expressions: list[pl.Expr], group: str) -> list[pl.Series]:
    """The expressions over each group.

    Of groups that lie together the values are only strung together, not put back row by row.
    """
    if frame[group].flags["SORTED_ASC"] and len(frame):
        strung = (each.over(group, mapping_strategy="explode") for each in expressions)
        try:
            found = frame.select(strung)
        except pl.exceptions.ShapeError:
            found = frame.head(0)
        if len(found) == len(frame):
            return found.get_columns()
        # One of them is one number a group, which stands beside each row of it.
    return frame.select(each.over(group) for each in expressions).get_columns()


def with_features(frame: pl.DataFrame, entries: Sequence[Feature]) -> pl.DataFrame:
    """`frame` with the features `entries`, each over its segment; null where not usable."""
    # In two steps, because a value that a condition names as well would be computed twice.
    values = values_of(frame, [expression_of(entry) for entry in entries], "segment")
    return frame.with_columns(values).with_columns(usable(entry) for entry in entries)


def usable(entry: Feature) -> pl.Expr:
    """The column of a feature where it is warm and a finite number, else null."""
    is_usable = (pl.col(AGE) >= entry.warmup_bars) & pl.col(entry.name).is_finite()
    return pl.when(is_usable).then(entry.name).alias(entry.name)


def compare(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The universe features `names` of `rows`, which are those of all symbols, and their `as_of`.

    `rows` have symbol, ts, known_at, close_at and the symbol features that are compared.
    """
    frame = rows.with_columns(_market())
    values = values_of(frame, [expression_of(FEATURES.get(name)) for name in names], _MARKET)
    finite = (pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in names)
    as_of = pl.col("known_at").max().over(_MARKET).alias(AS_OF)
    return frame.with_columns(values).select("symbol", "ts", as_of, *finite)


def with_compared(
    frame: pl.DataFrame, entries: Sequence[Feature], compared: pl.DataFrame
) -> pl.DataFrame:
    """`frame` with `as_of` and the universe features `entries` that `compare` returned."""
    key = ["symbol", "ts"]
    wanted = compared.select(*key, AS_OF, *(entry.name for entry in entries))
    if wanted.select(key).equals(frame.select(key)):
        joined = frame.with_columns(wanted.drop(key).get_columns())
    else:
        joined = frame.join(wanted, on=key, how="left", maintain_order="left")
    return joined.with_columns(usable(entry) for entry in entries)


def _market() -> pl.Expr:
    first = pl.col("known_at").min().over("ts")
    is_late = pl.col("known_at") > first + (pl.col("close_at") - pl.col("ts"))
    return (pl.col("ts").to_physical() + is_late.cast(pl.Int64)).alias(_MARKET)
