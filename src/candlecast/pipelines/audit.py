"""Do features pass the gates on the bars and facts we hold?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.domain.market import Timeframe
from candlecast.features.compute import compute, newest
from candlecast.features.inputs import STILL_BARS
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.universe import Market, read_market, with_facts
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols
from candlecast.validation.findings import Finding
from candlecast.validation.gates import GATES, run_gates, unseen, untested_warm_up
from candlecast.validation.trial import Engine, Trial

ENGINE: Final = Engine(compute, newest, STILL_BARS)
MOST_READ: Final = 64
MOST_SYMBOLS: Final = 8
MOST_BARS: Final = 1500
MOST_PASSED: Final = 64
ALL_BARS_THOROUGHNESS: Final = 3
"""Where every bar is used, so many times as many instants are tried."""


@dataclass(frozen=True)
class GateReport:
    """The features that were on trial, over which symbols and bars, and what was found.

    `untested` names the features for which there was too little history for the warm-up gate,
    `unseen` those without any value, for lack of history or of facts: no gate has tried them.
    """

    names: tuple[str, ...]
    symbols: tuple[str, ...]
    n_bars: int
    findings: tuple[Finding, ...]
    untested: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The features with findings."""
        return tuple(sorted({f.column for f in self.findings} & {*self.names}))

    @property
    def untried(self) -> tuple[str, ...]:
        """The features that passed a gate only because there was nothing to try them on."""
        return tuple(name for name in self.names if name in {*self.untested, *self.unseen})


def audit_features(
    stores: Stores,
    timeframe: str,
    symbols: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    *,
    is_sampled: bool = True,
    progress: Progress = silent,
) -> GateReport:
    """The gates on the features `names` (every one when empty) over stored bars of `symbols`.

    A sample is few symbols, those with gaps among them, and their last bars: enough to find what
    is wrong in code. Without it every symbol and bar is used, which takes accordingly.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        FEATURES.get(name)
    chosen = symbols or tuple(symbol.ticker for symbol in read_symbols(stores.database))
    market = read_market(
        stores, Timeframe.parse(timeframe), spread(chosen) if is_sampled else symbols, None
    )
    return check_market(
        stores, market, names or FEATURES.names(), is_sampled=is_sampled, progress=progress
    )


def check_market(
    stores: Stores,
    market: Market,
    names: tuple[str, ...],
    *,
    is_sampled: bool = True,
    progress: Progress = silent,
) -> GateReport:
    """The gates on the features `names` over the prices of `market` and the facts known then.

    What has passed in this process is not tried again on the same bars and facts, as long as no
    definition of any feature has changed.
    """
    prices = sample(market.prices) if is_sampled else market.prices
    tried = replace(market, prices=prices)
    if tried.facts is None:
        tried = with_facts(stores, tried, names)
    definitions = tuple(FEATURES.get(name) for name in FEATURES.names())
    asked = (ENGINE, definitions, names, is_sampled, tried.sha256())
    if asked in _PASSED:
        progress("gates", len(GATES), len(GATES))
        return _PASSED[asked]
    facts = tried.facts or Facts.none()
    thoroughness = 1 if is_sampled else ALL_BARS_THOROUGHNESS
    trial = Trial(ENGINE, prices, names, facts, thoroughness=thoroughness)
    findings = run_gates(trial, lambda done, total: progress("gates", done, total))
    untried = (untested_warm_up(trial), unseen(trial))
    report = GateReport(names, tried.tickers, len(prices), tuple(findings), *untried)
    if not findings:
        while len(_PASSED) >= MOST_PASSED:
            _PASSED.pop(next(iter(_PASSED)), None)
        _PASSED[asked] = report
    return report


_PASSED: Final[dict[tuple[object, ...], GateReport]] = {}


def sample(prices: pl.DataFrame) -> pl.DataFrame:
    """The last `MOST_BARS` of at most `MOST_SYMBOLS`: the most broken ones, then the longest."""
    symbols = prices.group_by("symbol").agg(
        pl.col("segment").n_unique().alias("n_segments"), pl.len().alias("n_bars")
    )
    broken = symbols.filter(pl.col("n_segments") > 1).sort(
        "n_segments", "symbol", descending=[True, False]
    )
    broken = broken.head(MOST_SYMBOLS // 2)
    rest = symbols.join(broken, on="symbol", how="anti")
    longest = rest.sort("n_bars", "symbol", descending=[True, False])
    chosen = [*broken["symbol"], *longest["symbol"].head(MOST_SYMBOLS - len(broken))]
    from_end = pl.int_range(pl.len()).reverse().over("symbol")
    return prices.filter(pl.col("symbol").is_in(chosen) & (from_end < MOST_BARS))


def spread(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """At most `MOST_READ` of `symbols`, evenly spread, so that a large universe is not read."""
    if len(symbols) <= MOST_READ:
        return symbols
    places = np.linspace(0, len(symbols) - 1, MOST_READ).astype(int)
    return tuple(symbols[place] for place in places)
