"""The standard features against the same TA-Lib calls made bare, symbol by symbol."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import talib
from datasets import daily_prices, frame_sha256
from measure import Row, Section, interleaved, timed

from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute, standard_set
from candlecast.features.inputs import INPUTS
from candlecast.features.volume import MONEY_UNIT

Arrays: TypeAlias = Mapping[str, np.ndarray]

PREPARED = ("high_index", "low_index", "close_index", "volume_index")
ROUNDS = 5
MOST_RATIO = 2.0

# The TA-Lib calls within the standard features: the same functions and parameters, on numpy.
BARE: dict[str, Callable[[Arrays], Any]] = {
    "adx_14": lambda a: talib.ADX(a["high_index"], a["low_index"], a["close_index"], 14),
    "atr_ratio_14": lambda a: talib.ATR(a["high"], a["low"], a["close"], 14),
    "bollinger_position_20": lambda a: talib.BBANDS(a["close_index"], 20, 2.0, 2.0),
    "bollinger_width_20": lambda a: talib.BBANDS(a["close_index"], 20, 1.0, 1.0),
    "cci_20": lambda a: talib.CCI(a["high"], a["low"], a["close"], 20),
    "ema_distance_20": lambda a: talib.EMA(a["close"], 20),
    "macd_12_26": lambda a: talib.MACD(a["close"], 12, 26, 9),
    "mfi_14": lambda a: talib.MFI(
        a["high_index"], a["low_index"], a["close_index"], a["money"], 14
    ),
    "obv_change_21": lambda a: talib.OBV(a["close"], a["volume"]),
    "rate_of_change_10": lambda a: talib.ROCP(a["close"], 10),
    "rsi_14": lambda a: talib.RSI(a["close_index"], 14),
    "sma_distance_50": lambda a: talib.SMA(a["close"], 50),
    "stochastic_14": lambda a: talib.STOCH(a["high"], a["low"], a["close"], 14, 3, 0, 3, 0),
    "trend_slope_21": lambda a: talib.LINEARREG_SLOPE(a["log_close"], 21),
    "williams_r_14": lambda a: talib.WILLR(a["high"], a["low"], a["close"], 14),
}


def measure(*, is_quick: bool) -> Section:
    """Time the TA-Lib calls, the features made of them, and the whole standard set."""
    n_symbols, n_sessions = (50, 500) if is_quick else (500, 2_500)
    prices = daily_prices(n_symbols, n_sessions)
    inputs = prices.with_columns(INPUTS[name]().over("segment").alias(name) for name in PREPARED)
    calls = ta_lib_calls()
    symbols = list(_by_symbol(inputs))
    _check_same(inputs, calls, symbols)
    expressions = [call.over("segment").alias(name) for name, call in calls.items()]
    best = interleaved(
        2 if is_quick else ROUNDS,
        timed("calls", lambda: inputs.select(expressions)),
        timed("bare", lambda: [call(arrays) for arrays in symbols for call in BARE.values()]),
        timed("features", lambda: compute(prices, list(calls))),
        timed("all", lambda: compute(prices, standard_set())),
    )
    n = len(prices)
    bare = best["bare"]
    return Section(
        title="Features",
        about=(
            f"The {len(calls)} features of the standard set that call TA-Lib. The peer makes the "
            "same calls, with the same parameters and inputs, from the package TA-Lib on numpy "
            "arrays, symbol by symbol; that both yield the same numbers is checked first. The "
            "first row is our TA-Lib calls alone. The second is the finished features: scaled by "
            "the volatility, neutral where the price stands still, null while warming up. The "
            f"third is the whole standard set, all {len(standard_set())} features. The peer's "
            "time is that of the TA-Lib calls in every row."
        ),
        data=f"{n_symbols} symbols x {n_sessions:,} daily bars, synthetic",
        data_sha256=frame_sha256(prices),
        rows=(
            Row("TA-Lib calls", best["calls"], bare, n, most_ratio=MOST_RATIO),
            Row("features made of TA-Lib calls", best["features"], bare, n),
            Row("the whole standard set", best["all"], bare, n),
        ),
    )


def ta_lib_calls() -> dict[str, pl.Expr]:
    """The one TA-Lib call within each standard feature that has one, taken out of its expression.

    A call whose outputs are picked apart stands several times in an expression, but is one.
    """
    calls = {}
    for name in standard_set():
        tree = json.loads(FEATURES.get(name).expression().meta.serialize(format="json"))
        found = {json.dumps(node) for node in _plugins(tree)}
        if len(found) > 1:
            raise ValueError(f"{name} makes {len(found)} TA-Lib calls; name each in BARE")
        for text in found:
            calls[name] = pl.Expr.deserialize(io.StringIO(text), format="json")
    if calls.keys() != BARE.keys():
        raise ValueError(f"BARE and the features differ by {sorted(calls.keys() ^ BARE.keys())}")
    return calls


def _plugins(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        function = node.get("Function")
        if isinstance(function, dict) and "FfiPlugin" in function["function"]:
            yield node
            return
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _plugins(part)


def _by_symbol(inputs: pl.DataFrame) -> Iterator[Arrays]:
    derived = inputs.with_columns(
        log_close=pl.col("close_index").log(), money=pl.col("volume_index") * MONEY_UNIT
    )
    for part in derived.partition_by("segment"):
        numbers = part.select(pl.selectors.float())
        yield {name: numbers[name].to_numpy() for name in numbers.columns}


def _check_same(inputs: pl.DataFrame, calls: Mapping[str, pl.Expr], symbols: list[Arrays]) -> None:
    # Only the first symbol: the calls are the same for all.
    first = inputs.filter(pl.col("segment") == pl.col("segment").first())
    for name, call in calls.items():
        ours = first.select(call.alias(name))[name]
        parts = ours.struct.unnest().get_columns() if ours.dtype == pl.Struct else [ours]
        bare = BARE[name](symbols[0])
        for mine, theirs in zip(parts, bare if isinstance(bare, tuple) else (bare,), strict=True):
            np.testing.assert_allclose(mine.fill_null(np.nan).to_numpy(), theirs, rtol=1e-12)
