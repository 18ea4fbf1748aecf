"""Evaluate a feature set over history, or only for the newest bars.

1. `Plan` resolves names. Symbol features name columns of PRICES, `INPUTS` and `FACT_INPUTS`;
   universe features name symbol features; market features name prices, `INPUTS` and both.
2. Symbol features are evaluated within each segment, universe features across the symbols of each
   ts that were in time, market features within each segment again.
3. What lies in the warm-up or is no finite number becomes null.

A row's `as_of` is when its bar was known or, with a universe or market feature, when the last bar
that it is compared with was. In time is a symbol known within a bar's length of the first one of
that ts; late ones are compared among themselves, so that one late bar does not delay the whole
market.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.features.evaluation import (
    AS_OF,
    compare,
    values_of,
    with_age,
    with_compared,
    with_features,
)
from candlecast.features.fact_inputs import with_fact_inputs
from candlecast.features.inputs import FRAME_INPUTS
from candlecast.features.plan import Plan, named_features
from candlecast.features.windows import cut_windows, last_rows, market_rows, market_values

MOST_TARGETS: Final = 3
"""Where the symbols' newest bars are of more instants than these, whole windows are evaluated."""


def standard_set() -> tuple[str, ...]:
    """The names of all features of prices that candlecast brings and a model may see, sorted."""
    return _inputs_of_prices(is_own=False)


def own_inputs() -> tuple[str, ...]:
    """The user's own features of prices that a model may see, sorted."""
    return _inputs_of_prices(is_own=True)


def _inputs_of_prices(*, is_own: bool) -> tuple[str, ...]:
    entries = map(FEATURES.get, FEATURES.names())
    inputs = (entry for entry in entries if entry.is_input and entry.table == "ohlcv")
    return tuple(entry.name for entry in inputs if bool(entry.origin) == is_own)


def compute(
    prices: pl.DataFrame,
    names: Sequence[str],
    facts: Facts | None = None,
    *,
    compared: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """FEATURES of every row of PRICES: the features `names`, in this order.

    `facts` are what is known besides prices; each row sees what was known when its bar was.
    Warm-up is null, and so is what is made of an absent source; no value is NaN or infinite.
    `compared` has the universe features of these rows, where `prices` are only some symbols of
    the universe: what `compare` returned for all. NotFound names the close matches of a name.
    """
    plan = Plan.of(names)
    frame = with_age(with_fact_inputs(prices, facts or Facts.none(), plan.fact_inputs))
    rolled = [FRAME_INPUTS[name].compute(frame).alias(name) for name in plan.frame_inputs]
    frame = frame.with_columns(*values_of(frame, plan.input_expressions(), "segment"), *rolled)
    frame = with_features(frame, plan.symbol)
    if plan.universe:
        found = compare(frame, plan.names_of_universe) if compared is None else compared
        frame = with_compared(frame, plan.universe, found)
    else:
        frame = frame.with_columns(pl.col("known_at").alias(AS_OF))
    if plan.market:
        frame = with_features(frame, plan.market)
        frame = frame.with_columns(pl.col(AS_OF).cum_max().over("segment"))
    return frame.select("symbol", "ts", AS_OF, *plan.names)


def members(prices: pl.DataFrame, names: Sequence[str], facts: Facts | None = None) -> pl.DataFrame:
    """What `compare` needs of each row for the universe features that `names` stand on."""
    universe = Plan.of(names).universe
    parts = dict.fromkeys(part for entry in universe for part in named_features(entry))
    values = compute(prices, list(parts), facts)
    return values.drop(AS_OF).with_columns(prices["known_at"], prices["close_at"])


def newest(prices: pl.DataFrame, names: Sequence[str], facts: Facts | None = None) -> pl.DataFrame:
    """The last row of each symbol, as `compute` gives it, from no more bars than that takes."""
    plan = Plan.of(names)
    last = prices.group_by("symbol").agg(pl.col("ts").last())
    targets = last["ts"].unique().sort()
    windows = cut_windows(prices, targets, plan.window_bars)
    if 0 < len(targets) <= MOST_TARGETS:
        features = last_rows(windows, targets, plan, facts or Facts.none())
        if plan.market:
            market = market_rows(prices, windows, plan, plan.bars_before_market)
            parts = compute(market, plan.market_parts, facts).drop("symbol", "ts")
            found = market_values(market.with_columns(parts.get_columns()), targets, plan)
            features = features.drop(AS_OF).join(found, on=["symbol", "ts"], how="left")
        features = features.select("symbol", "ts", AS_OF, *plan.names)
    else:
        if plan.market:
            windows = market_rows(prices, windows, plan, plan.window_bars)
        features = compute(windows, plan.names, facts)
    own = features.join(last, on=["symbol", "ts"], how="semi", maintain_order="left")
    return own.sort("symbol", "ts")
