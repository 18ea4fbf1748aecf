"""The newest bars of a feature set: as many as a value depends on, and one row of values each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

import polars as pl

from candlecast.domain.catalog import SETTLING_BARS, Feature
from candlecast.domain.facts import Facts
from candlecast.domain.frames import INSTANT
from candlecast.features.ends import Ends
from candlecast.features.evaluation import (
    AGE,
    AS_OF,
    compare,
    expression_of,
    usable,
    values_of,
    with_age,
    with_compared,
)
from candlecast.features.fact_inputs import with_fact_inputs
from candlecast.features.inputs import FRAME_INPUTS, INPUT_BARS, INPUTS
from candlecast.features.plan import Plan

MAX_WINDOWS: Final = 1 << 20
STEPS: Final = (2, 40, 72, 136, 264)
"""What looks back about as far is evaluated together, on as many bars as it needs."""
WHOLE_BARS: Final = 1 + SETTLING_BARS
"""What an input may look back, beyond the warm-up of the features that name it."""
_PLACE: Final = "_place"  # counted from the newest row of a window


def cut_windows(prices: pl.DataFrame, targets: pl.Series, n_bars: int) -> pl.DataFrame:
    """The bars within `n_bars` up to one of the `targets` (instants): usually each symbol's last.

    Where a symbol's newest bar is older, the others' bars of that time are needed to compare with,
    so a segment can have several windows; each becomes a segment of its own.
    """
    is_target = pl.col("ts").is_in(targets.implode())
    following = pl.when(is_target).then(pl.col(AGE)).backward_fill().over("segment")
    number = (pl.col(AGE).diff() > 1).fill_null(False).cum_sum().over("segment")
    return (
        with_age(prices)
        .filter(following - pl.col(AGE) < n_bars)
        .with_columns((pl.col("segment") * MAX_WINDOWS + number).alias("segment"))
        .select(prices.columns)
    )


def market_rows(
    prices: pl.DataFrame, windows: pl.DataFrame, plan: Plan, n_before: int
) -> pl.DataFrame:
    """The rows of `prices` that the market features of the last rows of `windows` depend on, and
    `n_before` bars before them.

    They are cut by time: where one symbol has few bars, its look back spans many of the others.
    """
    place = pl.int_range(pl.len()).reverse().over("segment")
    start = pl.lit(windows.filter(place < plan.market_bars)["ts"].min(), INSTANT)
    first = pl.when(pl.col("ts") >= start).then(AGE).min().over("segment")
    kept = with_age(prices).filter(pl.col(AGE) >= first - n_before)
    return kept.select(prices.columns)


def last_rows(
    windows: pl.DataFrame, targets: Iterable[datetime], plan: Plan, facts: Facts
) -> pl.DataFrame:
    """FEATURES of the rows of `windows` at the instants `targets`, but for the market features.

    Every feature is an aggregate of as many bars as it depends on, not the end of a column.
    """
    frame = with_age(with_fact_inputs(windows, facts, plan.fact_inputs))
    frame = _with_named_inputs(frame, plan.symbol)
    return pl.concat(_rows_at(target, frame, plan) for target in targets)


def market_values(wide: pl.DataFrame, targets: Iterable[datetime], plan: Plan) -> pl.DataFrame:
    """The market features of the rows at `targets`, and their `as_of`.

    `wide` are `market_rows` with `as_of` and the features that market features name.
    """
    frame = _with_named_inputs(with_age(wide), plan.market)
    rows = []
    for target in targets:
        own = _until(target, frame)
        last = _with_ends(own.filter(pl.col(_PLACE) == 0), own, plan.market)
        seen = own.filter(pl.col(_PLACE) < plan.market_bars)
        latest = seen.group_by("segment", maintain_order=True).agg(pl.col(AS_OF).max())
        rows.append(last.with_columns(latest[AS_OF]))
    return pl.concat(rows).select("symbol", "ts", AS_OF, *(entry.name for entry in plan.market))


def _with_named_inputs(frame: pl.DataFrame, entries: tuple[Feature, ...]) -> pl.DataFrame:
    named = sorted(_taken_apart(entries).named)
    inputs = [INPUTS[name]().alias(name) for name in named if name in INPUTS]
    whole = [FRAME_INPUTS[name].compute(frame).alias(name) for name in named if name not in INPUTS]
    return frame.with_columns(*values_of(frame, inputs, "segment"), *whole)


def _rows_at(target: datetime, frame: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    own = _until(target, frame)
    last = _with_frame_inputs(own, plan).filter(pl.col(_PLACE) == 0)
    last = _with_ends(last, own, plan.symbol)
    if plan.universe:
        last = with_compared(last, plan.universe, compare(last, plan.names_of_universe))
    else:
        last = last.with_columns(pl.col("known_at").alias(AS_OF))
    return last


def _with_frame_inputs(frame: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    # For the last rows only: the others may lack bars that they depend on.
    if not plan.frame_inputs:
        return frame
    n_bars = max(FRAME_INPUTS[name].n_bars for name in plan.frame_inputs)
    tails = frame.filter(pl.col(_PLACE) < n_bars)
    return tails.with_columns(
        FRAME_INPUTS[name].compute(tails).alias(name) for name in plan.frame_inputs
    )


def _until(target: datetime, frame: pl.DataFrame) -> pl.DataFrame:
    # The segments that have a bar of that instant, up to it, with each row's place.
    until = frame.filter(pl.col("ts") <= target)
    until = until.filter((pl.col("ts").last() == target).over("segment"))
    return until.with_columns(pl.int_range(pl.len()).reverse().over("segment").alias(_PLACE))


def _with_ends(
    last: pl.DataFrame, frame: pl.DataFrame, entries: tuple[Feature, ...]
) -> pl.DataFrame:
    # `last` with the features `entries` of the last row of each segment of `frame`.
    apart = _taken_apart(entries)
    for step, leaves in apart.steps:
        tails = frame.filter(pl.col(_PLACE) < step)
        grouped = tails.group_by("segment", maintain_order=True).agg(leaves)
        last = last.with_columns(grouped.drop("segment").get_columns())
    return last.with_columns(apart.features).with_columns(usable(entry) for entry in entries)


class _Apart(NamedTuple):
    # Features made of leaves, the leaves by how many bars they need, the inputs that these name.
    features: list[pl.Expr]
    steps: list[tuple[int, list[pl.Expr]]]
    named: frozenset[str]


@lru_cache(maxsize=16)
def _taken_apart(entries: tuple[Feature, ...]) -> _Apart:
    whole = WHOLE_BARS + max((entry.warmup_bars for entry in entries), default=0)
    named = _ends(entries, INPUTS, whole)[0].named
    # What has to be a column is no leaf of its own besides.
    others = {name: make for name, make in INPUTS.items() if name not in named}
    ends, features = _ends(entries, others, whole)
    steps: dict[int, list[pl.Expr]] = {}
    for n_bars, leaf in ends.leaves():
        step = next((step for step in STEPS if n_bars <= step), whole)
        steps.setdefault(step, []).append(leaf)
    return _Apart(features, sorted(steps.items(), key=lambda pair: pair[0]), frozenset(named))


def _ends(
    entries: tuple[Feature, ...], inputs: Mapping[str, Callable[[], pl.Expr]], n_bars: int
) -> tuple[Ends, list[pl.Expr]]:
    ends = Ends(inputs, n_bars, FRAME_INPUTS.keys(), INPUT_BARS)
    return ends, [ends.add(expression_of(e), 1 + e.warmup_bars + e.settling_bars) for e in entries]
