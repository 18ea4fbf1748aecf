"""The standard features against the same TA-Lib calls made bare, symbol by symbol."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import talib

from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute, standard_set
from candlecast.features.inputs import INPUTS
from datasets import daily_prices, frame_sha256
from measure import Row, Section, interleaved, timed

ROUNDS = 9
AT_MOST_SECONDS = 60.0
MOST_RATIO = 2.0

# The TA-Lib call within each standard feature that has one: the function and its parameters.
BARE: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "adx_14": (talib.ADX, (14,)),
    "atr_ratio_14": (talib.ATR, (14,)),
    "bollinger_position_20": (talib.BBANDS, (20, 2.0, 2.0)),
    "bollinger_width_20": (talib.BBANDS, (20, 1.0, 1.0)),
    "cci_20": (talib.CCI, (20,)),
    "ema_distance_20": (talib.EMA, (20,)),
    "macd_12_26": (talib.MACD, (12, 26, 9)),
    "mfi_14": (talib.MFI, (14,)),
    "obv_change_21": (talib.OBV, ()),
    "rate_of_change_10": (talib.ROCP, (10,)),
    "rsi_14": (talib.RSI, (14,)),
    "sma_distance_50": (talib.SMA, (50,)),
    "stochastic_14": (talib.STOCH, (14, 3, 0, 3, 0)),
    "trend_slope_21": (talib.LINEARREG_SLOPE, (21,)),
    "williams_r_14": (talib.WILLR, (14,)),
}


@dataclass(frozen=True)
class Call:
    """One call of TA-Lib: `ours` is the expression, `bare` repeats it for one symbol's arrays."""

    name: str
    ours: pl.Expr
    inputs: tuple[pl.Expr, ...]

    def bare(self, arrays: list[np.ndarray]) -> Any:
        """What the package TA-Lib yields, which takes high and low before close."""
        function, parameters = BARE[self.name]
        if len(arrays) >= 3:
            close, high, low, *rest = arrays
            arrays = [high, low, close, *rest]
        return function(*arrays, *parameters)


def measure(*, is_quick: bool) -> Section:
    """Time the TA-Lib calls, the features made of them, and the whole standard set."""
    n_symbols, n_sessions = (50, 500) if is_quick else (500, 2_500)
    prices = daily_prices(n_symbols, n_sessions)
    calls = ta_lib_calls()
    names = [call.name for call in calls]
    frame = _with_inputs(prices, calls)
    expressions = [call.ours.over("segment").alias(call.name) for call in calls]
    work = list(_bare_work(frame, calls))
    _check_same(frame, calls, work)
    n_rounds = 2 if is_quick else ROUNDS
    best = interleaved(
        n_rounds,
        timed("calls", lambda: frame.select(expressions)),
        timed("bare", lambda: [call.bare(arrays) for call, arrays in work]),
        timed("features", lambda: compute(prices, names)),
        timed("all", lambda: compute(prices, standard_set())),
        at_most_seconds=AT_MOST_SECONDS,
    )
    n, times = len(prices), best.seconds
    return Section(
        title="Features",
        about=(
            f"{len(calls)} features of the standard set call TA-Lib. The peer makes the same "
            "calls, with the same parameters and inputs, from the package TA-Lib on numpy arrays, "
            "symbol by symbol; that both yield the same numbers is checked first. The first row "
            "is our TA-Lib calls alone. The second is the finished features: in units of the "
            "volatility, neutral where the price stands still, null while warming up. The third "
            f"is the whole standard set of {len(standard_set())} features. The peer's time is "
            f"that of the TA-Lib calls in every row. Best of {best.n_rounds}."
        ),
        data=f"{n_symbols} symbols x {n_sessions:,} daily bars, synthetic",
        data_sha256=frame_sha256(prices),
        rows=(
            Row("TA-Lib calls", times["calls"], times["bare"], n, most_ratio=MOST_RATIO),
            Row(
                "features made of these calls",
                times["features"],
                times["bare"],
                n,
                most_ratio=MOST_RATIO,
            ),
            Row("the whole standard set", times["all"], times["bare"], n),
        ),
    )


def ta_lib_calls() -> list[Call]:
    """The TA-Lib calls of the standard features, taken out of their expressions.

    A call whose outputs are picked apart stands several times in an expression, but is one.
    """
    calls = []
    for name in standard_set():
        tree = json.loads(FEATURES.get(name).expression().meta.serialize(format="json"))
        found = {json.dumps(node): node for node in _plugins(tree)}
        if len(found) > 1:
            raise ValueError(f"{name} makes {len(found)} different TA-Lib calls; BARE has one each")
        for node in found.values():
            inputs = tuple(_expression(part) for part in node["Function"]["input"])
            calls.append(Call(name, _expression(node), inputs))
    if differing := {call.name for call in calls} ^ BARE.keys():
        raise ValueError(f"BARE and the standard features differ by {sorted(differing)}")
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


def _expression(node: Any) -> pl.Expr:
    return pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")


def _with_inputs(prices: pl.DataFrame, calls: list[Call]) -> pl.DataFrame:
    named = {name for call in calls for name in call.ours.meta.root_names()}
    inputs = (INPUTS[name]().over("segment").alias(name) for name in sorted(named & INPUTS.keys()))
    return prices.with_columns(pl.col("segment").set_sorted(), *inputs)  # as `compute` has it


def _bare_work(frame: pl.DataFrame, calls: list[Call]) -> Iterator[tuple[Call, list[np.ndarray]]]:
    # Each call with its arrays, symbol by symbol; what is not a plain column is computed before.
    computed = {
        str(part): frame.select(part.over("segment")).to_series().to_numpy()
        for call in calls
        for part in call.inputs
    }
    ends = np.cumsum(frame["segment"].rle().struct.field("len").to_numpy())
    for start, stop in zip([0, *ends], ends, strict=False):
        for call in calls:
            yield call, [computed[str(part)][start:stop] for part in call.inputs]


def _check_same(
    frame: pl.DataFrame, calls: list[Call], work: list[tuple[Call, list[np.ndarray]]]
) -> None:
    # Only the first symbol: the calls are the same for all.
    first = frame.filter(pl.col("segment") == pl.col("segment").first())
    for call, arrays in work[: len(calls)]:
        ours = first.select(call.ours.alias(call.name))[call.name]
        parts = ours.struct.unnest().get_columns() if ours.dtype == pl.Struct else [ours]
        theirs = call.bare(arrays)
        expected = theirs if isinstance(theirs, tuple) else (theirs,)
        for part, values in zip(parts, expected, strict=True):
            np.testing.assert_allclose(part.fill_null(np.nan).to_numpy(), values, rtol=1e-12)
