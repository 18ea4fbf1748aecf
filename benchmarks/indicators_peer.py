"""The usual indicators of many symbols, as Polars expressions, against pandas-ta-classic."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars_talib as talib

from datasets import daily_prices, frame_sha256
from measure import Row, Section, Steps, interleaved, timed
from peers import PeerMissing, interpreter, run, say_missing

ROUNDS = 3
AT_MOST_SECONDS = 75.0
MOST_RATIO = 0.02  # fifty times faster
COLUMNS = ("open", "high", "low", "close", "volume")

# The same calls, in the same order, as in pandas_ta_runner.py.
CALLS = {
    "SMA 5": talib.sma(timeperiod=5),
    "SMA 20": talib.sma(timeperiod=20),
    "SMA 50": talib.sma(timeperiod=50),
    "EMA 12": talib.ema(timeperiod=12),
    "EMA 26": talib.ema(timeperiod=26),
    "MACD": talib.macd(fastperiod=12, slowperiod=26, signalperiod=9),
    "RSI 14": talib.rsi(timeperiod=14),
    "STOCH": talib.stoch(fastk_period=14, slowk_period=3, slowd_period=3),
    "WILLR 14": talib.willr(timeperiod=14),
    "CCI 20": talib.cci(timeperiod=20),
    "ADX 14": talib.adx(timeperiod=14),
    "MOM 10": talib.mom(timeperiod=10),
    "ROC 10": talib.roc(timeperiod=10),
    "BBANDS 20": talib.bbands(timeperiod=20, nbdevup=2.0, nbdevdn=2.0),
    "TRANGE": talib.trange(),
    "ATR 14": talib.atr(timeperiod=14),
    "NATR 14": talib.natr(timeperiod=14),
    "STDDEV 20": talib.stddev(timeperiod=20),
    "OBV": talib.obv(),
    "MFI 14": talib.mfi(timeperiod=14),
    "LINEARREG_SLOPE 21": talib.linearreg_slope(timeperiod=21),
}


def measure(*, is_quick: bool) -> Section:
    """Time the calls of TA-Lib as Polars expressions, beside pandas-ta-classic."""
    n_symbols, n_sessions = (20, 500) if is_quick else (500, 2_500)
    prices = daily_prices(n_symbols, n_sessions).with_columns(pl.col("segment").set_sorted())
    expressions = [call.over("segment").alias(name) for name, call in CALLS.items()]
    about = (
        f"{len(CALLS)} indicators, each computed for every symbol by itself: as the Polars "
        "expressions that our features are made of, and in pandas, by groupby. "
    )
    sides = [timed("ours", lambda: prices.select(expressions))]
    with tempfile.TemporaryDirectory(prefix="candlecast-indicators-") as folder:
        try:
            python = interpreter("pandas_ta_classic")
        except PeerMissing as missing:
            say_missing("pandas-ta-classic", missing)
            about += "PANDAS-TA-CLASSIC IS NOT INSTALLED HERE and left out. "
        else:
            path = Path(folder) / "bars.npz"
            _write(path, prices)
            version = _check_same(run(python, "pandas_ta_runner.py", str(path), "1"), prices)
            about += (
                f"That pandas-ta-classic {version} yields the same numbers is checked first; it "
                "makes one symbol's before the time counts. "
            )
            sides.append(lambda: _theirs(python, path))
        best = interleaved(1 if is_quick else ROUNDS, *sides, at_most_seconds=AT_MOST_SECONDS)
    times = best.seconds
    return Section(
        title="Indicators",
        about=f"{about}Best of {best.n_rounds}.",
        data=f"{n_symbols} symbols x {n_sessions:,} daily bars, synthetic",
        data_sha256=frame_sha256(prices),
        rows=(
            Row(
                f"{len(CALLS)} indicators",
                times["ours"],
                times.get("theirs"),
                len(prices),
                most_ratio=MOST_RATIO,
            ),
        ),
    )


def _theirs(python: Path, path: Path) -> Steps:
    yield "theirs", float(run(python, "pandas_ta_runner.py", str(path))["seconds"])


def _write(path: Path, prices: pl.DataFrame) -> None:
    columns = {name: prices[name].to_numpy() for name in COLUMNS}
    np.savez(path, lengths=prices["segment"].rle().struct.field("len").to_numpy(), **columns)


def _check_same(theirs: dict[str, Any], prices: pl.DataFrame) -> str:
    # Of the first symbol's last bar; theirs yield more columns here and there, in another order.
    first = prices.filter(pl.col("segment") == prices["segment"][0])
    ours = first.select(call.alias(name) for name, call in CALLS.items()).row(-1, named=True)
    if list(ours) != list(theirs["last"]):
        raise ValueError("the two sides make different calls")
    for name, found in ours.items():
        expected = np.atleast_1d(theirs["last"][name])
        for value in found.values() if isinstance(found, dict) else [found]:
            if not np.isclose(expected, value, rtol=1e-6).any():
                raise ValueError(f"{name} is {value} here and {expected} there")
    return str(theirs["version"])
