"""Was a live forecast made of what the store knew then? Its features, computed once more.

1. Take the live forecasts since an instant, run by run: one model, one moment of creation.
2. Read the market once a run, as known at that moment, without bars newer than those served.
3. Compute each served feature and compare the values. Rows that came while a run was reading may
   be missing in it, so where values differ the instants shortly before are tried as well.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import DataError, NotFound
from candlecast.features.compute import newest
from candlecast.pipelines.universe import Market, read_market, with_facts
from candlecast.store import ledger
from candlecast.store.mirror import Mirror
from candlecast.store.stores import Stores

TOLERANCE: Final = 1e-9
"""Relative, and absolute: sums in another order differ by less, and it moves no forecast."""
READING: Final = timedelta(minutes=5)
"""What became known so shortly before a forecast may have come while it was being made."""
MAX_INSTANTS: Final = 8
COLUMNS: Final = (
    *("symbol", "ts", "as_of", "model_version", "created_at", "feature_hash", "features"),
)
Values: TypeAlias = dict[str, float | None]
Vectors: TypeAlias = dict[str, Values]


@dataclass(frozen=True)
class Difference:
    """A value that was served, and what the store says it should have been (None: no value)."""

    symbol: str
    ts: datetime
    created_at: datetime
    model_version: str
    feature: str
    served: float | None
    recomputed: float | None

    def __str__(self) -> str:
        return (
            f"{self.symbol} {self.ts:%Y-%m-%d %H:%M} {self.feature}: served {self.served}, "
            f"recomputed {self.recomputed} ({self.model_version}, {self.created_at:%Y-%m-%d %H:%M})"
        )


@dataclass
class SkewReport:
    """What was compared and what differs; `unchecked` names the runs or rows that could not be."""

    n_runs: int = 0
    n_vectors: int = 0
    n_values: int = 0
    differences: list[Difference] = field(default_factory=list)
    unchecked: dict[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Run:
    # The vectors that one run served: `rows` has a row a symbol, `served` its values. `universe`
    # is what it compared, empty for the oldest runs, of which nobody knows it.
    model_version: str
    created_at: datetime
    rows: pl.DataFrame
    served: Vectors
    universe: tuple[str, ...]

    @property
    def name(self) -> str:
        """Model and moment: what the run is called in a report."""
        return f"{self.model_version} {self.created_at.isoformat()}"


def measure_skew(
    stores: Stores,
    since: datetime | None = None,
    timeframe: str = "1d",
    *,
    is_rebuilt: bool = False,
) -> SkewReport:
    """Hold the features of live forecasts made since then against the store as known at the time.

    With `is_rebuilt` bars come from the database itself, by a mirror made anew: slower, and it
    sees what was written there behind our back. A vector that does not match its own hash, a
    model or feature that is gone, features that compare symbols where the run did not store which,
    and a market that cannot be read are told as `unchecked`.
    """
    if is_rebuilt:
        with tempfile.TemporaryDirectory() as folder:
            anew = replace(stores, mirror=Mirror(stores.database, Path(folder)))
            return measure_skew(anew, since, timeframe)
    report = SkewReport()
    for run in _runs(stores, since, Timeframe.parse(timeframe), report):
        try:
            found = _differences(stores, run, report)
        except (NotFound, DataError) as error:
            report.unchecked[run.name] = str(error)
            continue
        report.n_runs += 1
        report.n_vectors += len(run.served)
        report.differences += found
    return report


def _runs(
    stores: Stores, since: datetime | None, timeframe: Timeframe, report: SkewReport
) -> Iterator[_Run]:
    served = ledger.read_forecasts(
        stores.database, timeframe, origins=["live"], created_since=since, columns=COLUMNS
    ).drop_nulls("features")
    universes = ledger.read_universes(stores.database, timeframe)
    vectors = served.unique(["model_version", "created_at", "symbol", "ts"], maintain_order=True)
    runs = vectors.partition_by("model_version", "created_at", as_dict=True, maintain_order=True)
    for (model_version, created_at), rows in sorted(runs.items(), key=lambda pair: pair[0][1]):
        values: Vectors = {}
        for symbol, text, digest in rows.select("symbol", "features", "feature_hash").iter_rows():
            if hashlib.sha256(text.encode()).hexdigest()[: len(digest)] != digest:
                place = f"{symbol} in {model_version} {created_at.isoformat()}"
                report.unchecked[place] = "the served values are not those that their hash tells"
                continue
            values[symbol] = orjson.loads(text)
        universe = universes.get((model_version, created_at), ())
        yield _Run(model_version, created_at, rows, values, universe)


def _differences(stores: Stores, run: _Run, report: SkewReport) -> list[Difference]:
    names = sorted({name for values in run.served.values() for name in values})
    gone = [name for name in names if name not in FEATURES]
    if gone:
        report.unchecked[f"{run.name}: {', '.join(gone)}"] = "these features exist no longer"
    alone = {name for name in names if name not in gone and FEATURES.get(name).scope == "symbol"}
    compared = [name for name in names if name not in gone and name not in alone]
    if compared and not run.universe:
        place = f"{run.name}: {', '.join(compared)}"
        report.unchecked[place] = "which symbols these were compared with was not stored"
    kept = [name for name in names if name in alone or (name in compared and run.universe)]
    report.n_values += sum(name in kept for values in run.served.values() for name in values)
    market = _market(stores, run, run.created_at, kept)
    best = _compared(run, market, kept)
    for instant in _instants_before(stores, market, run.created_at) if best else ():
        other = _compared(run, _market(stores, run, instant, kept), kept)
        best = min(best, other, key=len)
        if not best:
            break
    return best


def _market(stores: Stores, run: _Run, as_of: datetime, names: list[str]) -> Market:
    # What the forecast read, less the bars that came in after it.
    version = stores.registry.get(run.model_version)
    spec = ExperimentSpec.from_mapping(orjson.loads(version.spec))
    universe = run.universe or tuple(sorted({*spec.symbols, *run.served}))
    market = read_market(
        stores,
        Timeframe.parse(spec.timeframe),
        universe,
        as_of,
        is_newest=True,
        is_simulation_allowed=spec.allow_simulated,
    )
    last = run.rows.select("symbol", last="ts")
    prices = market.prices.join(last, on="symbol", how="left", maintain_order="left")
    until = pl.col("last").fill_null(last["last"].max())
    served = replace(market, prices=prices.filter(pl.col("ts") <= until).drop("last"))
    return with_facts(stores, served, names)


def _instants_before(stores: Stores, market: Market, created_at: datetime) -> list[datetime]:
    # Just before each of the moments, shortly before the forecast, at which something came.
    read = stores.mirror.read(market.timeframe, symbols=market.tickers, as_of=created_at)
    came = {*read["known_at"].filter(read["known_at"] >= created_at - READING), market.as_of}
    recent = sorted((at for at in came if at >= created_at - READING), reverse=True)
    return [at - timedelta(microseconds=1) for at in recent[:MAX_INSTANTS]]


def _compared(run: _Run, market: Market, names: list[str]) -> list[Difference]:
    computed = newest(market.prices, names, market.facts)
    rows = {row["symbol"]: row for row in computed.iter_rows(named=True)}
    found = []
    for symbol, ts in run.rows.select("symbol", "ts").iter_rows():
        row = rows.get(symbol, {})
        is_same_bar = row.get("ts") == ts
        for name in names:
            served = run.served.get(symbol, {})
            if name not in served:
                continue
            again = row[name] if is_same_bar else None
            if not _is_same(served[name], again):
                what = (symbol, ts, run.created_at, run.model_version, name)
                found.append(Difference(*what, served[name], again))
    return found


def _is_same(served: float | None, again: float | None) -> bool:
    if served is None or again is None:
        return served is again
    return math.isclose(served, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
