"""Features of prices against the same TA-Lib calls made bare, and against a twin in NumPy."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import talib

from candlecast.domain.catalog import FEATURES
from candlecast.features.compute import compute, newest, standard_set
from candlecast.features.evaluation import values_of
from candlecast.features.inputs import INPUTS
from candlecast.features.plan import Plan
from datasets import SEED, daily_prices, frame_sha256
from measure import Row, Section, interleaved, timed
from twin import NAMES as TWINS
from twin import column, matrices, twin

ROUNDS = 7
AT_MOST_SECONDS = 120.0
MOST_RATIO = 2.0
MOST_RATIO_WITH_GAPS = 3.5
MOST_RATIO_OF_TWIN = 3.0
MOST_SECONDS_NEWEST = 0.1
N_SEGMENTS = 3_600
PARITY = 1e-9

# Each TA-Lib call of the catalogue: the shared input or the feature that makes it, the function
# and its parameters.
BARE: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "adx_index": (talib.ADX, (14,)),
    "average_range": (talib.ATR, (14,)),
    "cci_index": (talib.CCI, (20,)),
    "deviation_20": (talib.STDDEV, (20, 1.0)),
    "ema_12": (talib.EMA, (12,)),
    "ema_26": (talib.EMA, (26,)),
    "ema_distance_20": (talib.EMA, (20,)),
    "macd_line": (talib.MACD, (12, 26, 9)),
    "mean_20": (talib.SMA, (20,)),
    "mean_50": (talib.SMA, (50,)),
    "mfi_index": (talib.MFI, (14,)),
    "momentum_10": (talib.MOM, (10,)),
    "on_balance_volume": (talib.OBV, ()),
    "rate_of_change_10": (talib.ROCP, (10,)),
    "rsi_index": (talib.RSI, (14,)),
    "simple_return_1": (talib.ROCP, (1,)),
    "simple_return_5": (talib.ROCP, (5,)),
    "simple_return_20": (talib.ROCP, (20,)),
    "sma_5": (talib.SMA, (5,)),
    "stochastic_k": (talib.STOCH, (14, 3, 0, 3, 0)),
    "trend_slope_21": (talib.LINEARREG_SLOPE, (21,)),
    "volume_ratio_20": (talib.SMA, (20,)),
    "williams_percent": (talib.WILLR, (14,)),
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
    """Time the TA-Lib calls, the features of the twin, and all features of prices."""
    n_symbols, n_sessions = (50, 500) if is_quick else (500, 2_500)
    prices = daily_prices(n_symbols, n_sessions)
    gappy = with_gaps(prices, N_SEGMENTS // (10 if is_quick else 1))
    calls = ta_lib_calls()
    frame, broken = (p.with_columns(pl.col("segment").set_sorted()) for p in (prices, gappy))
    expressions = [call.ours.alias(call.name) for call in calls]
    work = list(_bare_work(frame, calls))
    _check_same(frame, calls, work)
    fields = matrices(prices, n_symbols)
    _check_twin(prices, fields)
    best = interleaved(
        2 if is_quick else ROUNDS,
        timed("calls", lambda: values_of(frame, expressions, "segment")),
        timed("bare", lambda: [call.bare(arrays) for call, arrays in work]),
        timed("calls with gaps", lambda: values_of(broken, expressions, "segment")),
        timed("rest", lambda: compute(prices, list(TWINS))),
        timed("twin", lambda: twin(fields)),
        timed("inputs", lambda: compute(prices, standard_set())),
        timed("all", lambda: compute(prices, of_prices())),
        at_most_seconds=AT_MOST_SECONDS,
    )
    n, times = len(prices), best.seconds
    return Section(
        title="Features",
        about=(
            f"The catalogue makes {len(calls)} calls of TA-Lib, as Polars expressions over each "
            "segment. The peer makes the same calls, with the same parameters and inputs, from the "
            "package TA-Lib on numpy arrays, symbol by symbol, without gaps; that both yield the "
            f"same numbers is checked first. With gaps the bars fall into "
            f"{gappy['segment'].n_unique():,} segments. The rest: {len(TWINS)} features without "
            "TA-Lib, finished and null while warming up; the peer is NumPy on matrices of time x "
            "symbol, which has neither gaps nor warm-up, and yields the same numbers (checked). "
            f"Inputs are the {len(standard_set())} features that models see, all are the "
            f"{len(of_prices())} of prices. Best of {best.n_rounds}."
        ),
        data=f"{n_symbols} symbols x {n_sessions:,} daily bars, synthetic",
        data_sha256=frame_sha256(prices),
        rows=(
            Row("TA-Lib calls", times["calls"], times["bare"], n, most_ratio=MOST_RATIO),
            Row(
                "TA-Lib calls, with gaps",
                times["calls with gaps"],
                times["bare"],
                n,
                most_ratio=MOST_RATIO_WITH_GAPS,
            ),
            Row("the rest", times["rest"], times["twin"], n, most_ratio=MOST_RATIO_OF_TWIN),
            Row("all inputs of models", times["inputs"], None, n),
            Row("all features of prices", times["all"], None, n),
        ),
    )


def measure_newest(*, is_quick: bool) -> Section:
    """Time the features of one new bar of each symbol, from windows in memory."""
    n_symbols = 50 if is_quick else 500
    n_bars = Plan.of(of_prices()).window_bars + 5
    windows = daily_prices(n_symbols, n_bars)
    best = interleaved(
        3 if is_quick else 15,
        timed("all", lambda: newest(windows, of_prices())),
        timed("inputs", lambda: newest(windows, standard_set())),
        timed("history", lambda: compute(windows, of_prices())),
        at_most_seconds=AT_MOST_SECONDS,
    )
    times = best.seconds
    return Section(
        title="Features of the newest bar",
        about=(
            f"One new bar of each of {n_symbols} symbols, with windows of {n_bars} bars in memory: "
            "from PRICES to the row of values a symbol. The peer is `compute` over the same "
            f"windows, the way that full history takes. Best of {best.n_rounds}."
        ),
        data=f"{n_symbols} symbols x {n_bars} daily bars, synthetic",
        data_sha256=frame_sha256(windows),
        rows=(
            Row(
                f"all {len(of_prices())} features of prices",
                times["all"],
                times["history"],
                n_symbols,
                most_seconds=MOST_SECONDS_NEWEST,
            ),
            Row(f"the {len(standard_set())} inputs of models", times["inputs"], None, n_symbols),
        ),
    )


def of_prices() -> list[str]:
    """All features that are made of prices alone."""
    return [name for name in FEATURES.names() if FEATURES.get(name).table == "ohlcv"]


def with_gaps(prices: pl.DataFrame, n_segments: int) -> pl.DataFrame:
    """The same bars, cut at random places into so many segments."""
    generator = np.random.default_rng(SEED)
    n_cuts = max(n_segments - prices["segment"].n_unique(), 0)
    is_cut = np.zeros(len(prices), dtype=bool)
    is_cut[generator.choice(np.arange(1, len(prices)), n_cuts, replace=False)] = True
    is_new = is_cut | (np.diff(prices["segment"].to_numpy(), prepend=-1) != 0)
    return prices.with_columns(pl.Series("segment", np.cumsum(is_new)))


def ta_lib_calls() -> list[Call]:
    """The TA-Lib calls of the catalogue that need nothing but columns of prices.

    A call whose outputs are picked apart stands several times in expressions, but is one.
    """
    found: dict[str, Call] = {}
    expressions = {name: make() for name, make in INPUTS.items()}
    expressions |= {name: FEATURES.get(name).expression() for name in of_prices()}
    for name, expression in expressions.items():
        for node in _plugins(_tree(expression)):
            inputs = tuple(_expression(part) for part in node["Function"]["input"])
            named = {root for part in inputs for root in part.meta.root_names()}
            if named <= {"open", "high", "low", "close", "volume"}:
                found.setdefault(json.dumps(node), Call(name, _expression(node), inputs))
    if differing := {call.name for call in found.values()} ^ BARE.keys():
        raise ValueError(f"BARE and the catalogue differ by {sorted(differing)}")
    return list(found.values())


def _tree(expression: pl.Expr) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the format is that of this version
        return json.loads(expression.meta.serialize(format="json"))


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")


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


def _check_twin(prices: pl.DataFrame, fields: dict[str, Any]) -> None:
    ours, theirs = compute(prices, list(TWINS)), twin(fields)
    for name in TWINS:
        values, expected = ours[name].to_numpy(), column(theirs[name])
        is_warm = ~np.isnan(values)
        # Of equal values the twin ranks one before the other, ours alike.
        tolerance = 2 / fields["close"].shape[1] if "rank" in name else PARITY
        np.testing.assert_allclose(values[is_warm], expected[is_warm], PARITY, tolerance)
