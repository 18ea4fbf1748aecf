"""Run by pandas-ta-classic's own Python: its indicators, symbol by symbol, on one core, as JSON."""

import json
import sys
from time import perf_counter
from typing import Any

import numpy as np
import pandas_ta_classic as ta


def indicators(bars: Any) -> dict[str, Any]:
    """The indicators of one symbol, by the names of TA-Lib's functions."""
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
    return {
        "SMA 5": ta.sma(close, length=5),
        "SMA 20": ta.sma(close, length=20),
        "SMA 50": ta.sma(close, length=50),
        "EMA 12": ta.ema(close, length=12),
        "EMA 26": ta.ema(close, length=26),
        "MACD": ta.macd(close, fast=12, slow=26, signal=9),
        "RSI 14": ta.rsi(close, length=14),
        "STOCH": ta.stoch(high, low, close, k=14, d=3, smooth_k=3),
        "WILLR 14": ta.willr(high, low, close, length=14),
        "CCI 20": ta.cci(high, low, close, length=20),
        "ADX 14": ta.adx(high, low, close, length=14),
        "MOM 10": ta.mom(close, length=10),
        "ROC 10": ta.roc(close, length=10),
        "BBANDS 20": ta.bbands(close, length=20, std=2),
        "TRANGE": ta.true_range(high, low, close),
        "ATR 14": ta.atr(high, low, close, length=14),
        "NATR 14": ta.natr(high, low, close, length=14),
        "STDDEV 20": ta.stdev(close, length=20, ddof=0),
        "OBV": ta.obv(close, volume),
        "MFI 14": ta.mfi(high, low, close, volume, length=14),
        "LINEARREG_SLOPE 21": ta.linreg(close, length=21, slope=True),
    }


def main() -> None:
    """Arguments: a file with columns and `lengths` of symbols, and how many of them (or all)."""
    from pandas import DataFrame

    arrays = np.load(sys.argv[1])
    names = ("open", "high", "low", "close", "volume")
    frame = DataFrame({name: arrays[name] for name in names})
    lengths = arrays["lengths"][: int(sys.argv[2]) if len(sys.argv) > 2 else None]
    frame = frame.head(lengths.sum())
    symbols = np.repeat(np.arange(len(lengths)), lengths)
    indicators(frame.head(lengths[0]))  # what is imported or compiled at the first call
    started_at = perf_counter()
    made = [indicators(part) for _, part in frame.groupby(symbols)]
    seconds = perf_counter() - started_at
    last = {name: np.asarray(values)[-1].tolist() for name, values in made[0].items()}
    print(json.dumps({"seconds": seconds, "last": last, "version": ta.version}))


if __name__ == "__main__":
    main()
