"""Bars as arrays, a session of a symbol after the other, and back to frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.buckets import Integers, Stretches, find_stretches
from candlecast.domain.frames import BARS, INSTANT
from candlecast.domain.market import Timeframe, TradingCalendar
from candlecast.domain.sources import is_simulated

Values: TypeAlias = dict[str, NDArray[Any]]

MIXED: Final = "mixed"
"""The source of a bar whose components come from several, all of them real."""
SIMULATED: Final = "simulated"
"""The same, where at least one of them is simulated."""
SURE: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, eq=False)
class BarArrays:
    """Bars of one timeframe, `n_rows` of them in each stretch.

    `values` holds open, high, low, close, volume, ts and known_at (microseconds since 1970), and
    where the bars have them: `factor` (adj_close over close, NaN where unknown), `money` (vwap
    times volume), trade_count, what lacks them, and `source`, an index into `sources`. `end_at`
    are the ends of the buckets; None for bars as given.
    """

    timeframe: Timeframe
    values: Values
    stretches: Stretches
    n_rows: Integers
    sources: list[str]
    end_at: Integers | None = None

    def spread(self, column: NDArray[Any]) -> NDArray[Any]:
        """A value for each row from one for each stretch."""
        return np.repeat(column, self.n_rows)


def arrays_of(
    bars: pl.DataFrame, source: Timeframe, calendars: Mapping[str, TradingCalendar]
) -> BarArrays:
    """The arrays of BARS (at least one)."""
    values: Values = {name: bars[name].to_numpy() for name in SURE}
    for name in ("ts", "known_at"):
        values[name] = bars[name].to_physical().to_numpy()
    n_absent = {name: bars[name].null_count() for name in BARS.nullable}
    if n_absent["adj_close"] < len(bars):
        values["factor"] = bars["adj_close"].to_numpy() / values["close"]
    if n_absent["vwap"] < len(bars):
        values["money"] = bars["vwap"].fill_null(0.0).to_numpy() * values["volume"]
        if n_absent["vwap"]:
            values["lacks_vwap"] = bars["vwap"].is_null().to_numpy() & (values["volume"] > 0)
    if n_absent["trade_count"] < len(bars):
        values["trade_count"] = bars["trade_count"].fill_null(0).to_numpy()
        if n_absent["trade_count"]:
            values["lacks_count"] = bars["trade_count"].is_null().to_numpy()
    names = _source_names(bars["source"])
    if len(names) > 1:
        # As many comparisons as there are names are quicker than one look-up in a table of them.
        values["source"] = np.zeros(len(bars), dtype=np.int16)
        for code, name in enumerate(names):
            values["source"] += np.int16(code) * (bars["source"] == name).to_numpy()
    stretches = find_stretches(bars, calendars)
    return BarArrays(source, values, stretches, stretches.n_rows, names)


def _source_names(sources: pl.Series) -> list[str]:
    # Real ones, mixed ones, simulated ones, and what a mixture with those is called at last.
    if (sources == sources[0]).all():
        return [sources[0]]
    names = pl.DataFrame({"name": sources.unique().sort()})
    told = names.with_columns(simulated=is_simulated(pl.col("name"))).sort("simulated", "name")
    real = told.filter(~pl.col("simulated") & (pl.col("name") != MIXED))["name"]
    never = told.filter(pl.col("simulated") & (pl.col("name") != SIMULATED))["name"]
    return [*real, MIXED, *never, SIMULATED]


def bars_of(arrays: BarArrays, is_wanted: NDArray[np.bool_], known_at: Integers) -> pl.DataFrame:
    """BARS of those rows that are wanted, stamped with these `known_at`."""
    values, n = arrays.values, len(known_at)
    columns: dict[str, pl.Series] = {name: pl.Series(values[name]) for name in SURE}
    ts = arrays.spread(arrays.stretches.day) if arrays.timeframe.is_daily else values["ts"]
    symbol = arrays.spread(arrays.stretches.symbol)
    columns["symbol"] = pl.Series(arrays.stretches.tickers).gather(symbol)
    columns["ts"], columns["known_at"] = (pl.Series(c).cast(INSTANT) for c in (ts, known_at))
    if "factor" in values:
        columns["adj_close"] = pl.Series(values["factor"] * values["close"], nan_to_null=True)
    if "money" in values:
        is_known = values["volume"] > 0
        if "lacks_vwap" in values:
            is_known &= ~values["lacks_vwap"]
        vwap = np.full(n, np.nan)
        np.divide(values["money"], values["volume"], out=vwap, where=is_known)
        columns["vwap"] = pl.Series(vwap, nan_to_null=True)
    if "trade_count" in values:
        columns["trade_count"] = pl.Series(values["trade_count"])
        if "lacks_count" in values:
            columns["trade_count"] = columns["trade_count"].set(
                pl.Series(values["lacks_count"]), None
            )
    codes = values.get("source", np.zeros(n, dtype=np.int16))
    columns["source"] = pl.Series(arrays.sources).gather(codes)
    absent = {
        name: pl.Series([None], dtype=BARS.columns[name]).new_from_index(0, n)
        for name in BARS.nullable - columns.keys()
    }
    frame = pl.DataFrame({name: (columns | absent)[name] for name in BARS.columns})
    return frame if is_wanted.all() else frame.filter(pl.Series(is_wanted))
