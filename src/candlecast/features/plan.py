"""What has to be computed for a feature set: features, and what they name in turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import polars as pl

from candlecast.domain.catalog import FEATURES, SETTLING_BARS, Feature, Scope
from candlecast.domain.frames import PRICES
from candlecast.errors import InvalidSpec
from candlecast.features.fact_inputs import FACT_INPUTS
from candlecast.features.inputs import FRAME_INPUTS, INPUTS

TABLES: Final = (INPUTS, FRAME_INPUTS, FACT_INPUTS)
"""What features may name that is no feature."""
VISIBLE: Final[dict[Scope, tuple[tuple[Scope, ...], frozenset[str]]]] = {
    "symbol": ((), frozenset().union(*TABLES)),
    "universe": (("symbol",), frozenset()),
    "market": (("symbol", "universe"), frozenset(INPUTS)),
}
"""Of which scopes a feature of each scope may name features, and which other columns."""


@dataclass(frozen=True)
class Plan:
    """What has to be computed for `names`, with what they name in turn."""

    names: tuple[str, ...]
    inputs: tuple[str, ...]
    frame_inputs: tuple[str, ...]
    fact_inputs: tuple[str, ...]
    symbol: tuple[Feature, ...]
    universe: tuple[Feature, ...]
    market: tuple[Feature, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Plan:
        """Resolved; InvalidSpec where a feature names what does not exist."""
        wanted = {name: FEATURES.get(name) for name in names}
        every = dict(wanted)
        for scope in ("market", "universe", "symbol"):
            for entry in [entry for entry in every.values() if entry.scope == scope]:
                every |= {name: FEATURES.get(name) for name in named_features(entry)}
        scopes = {
            scope: tuple(entry for entry in every.values() if entry.scope == scope)
            for scope in ("symbol", "universe", "market")
        }
        named = {name for entry in every.values() for name in named_columns(entry)}
        inputs, of_frames, of_facts = (tuple(sorted(named & {*table})) for table in TABLES)
        return cls(tuple(wanted), inputs, of_frames, of_facts, *scopes.values())

    @property
    def names_of_universe(self) -> tuple[str, ...]:
        """The universe features, in the order of evaluation."""
        return tuple(entry.name for entry in self.universe)

    @property
    def market_parts(self) -> tuple[str, ...]:
        """The features that the market features name."""
        return tuple(dict.fromkeys(n for entry in self.market for n in named_features(entry)))

    @property
    def market_bars(self) -> int:
        """How many bars a market feature depends on, its own included."""
        return 1 + max((e.warmup_bars + e.settling_bars for e in self.market), default=0)

    @property
    def bars_before_market(self) -> int:
        """How many bars come before those that market features see: what these depend on."""
        parts = Plan.of(self.market_parts)
        if parts.inputs or any(named_columns(entry) & {*INPUTS} for entry in self.market):
            return self.window_bars
        return max((e.warmup_bars + e.settling_bars for e in parts.symbol), default=0)

    @property
    def window_bars(self) -> int:
        """How many bars a value depends on, its own included, but for the market features."""
        own = max((entry.warmup_bars for entry in (*self.symbol, *self.universe)), default=0)
        return max(1 + SETTLING_BARS + own, self.market_bars)

    def input_expressions(self) -> list[pl.Expr]:
        """The shared columns that the features name."""
        return [INPUTS[name]().alias(name) for name in self.inputs]


@lru_cache(maxsize=1024)
def named_columns(entry: Feature) -> frozenset[str]:
    """What the expression names, less the columns that every PRICES frame has."""
    return frozenset(entry.expression().meta.root_names()) - {*PRICES.columns}


def named_features(entry: Feature) -> list[str]:
    """The features that a feature names; InvalidSpec where it names what it cannot see."""
    named = named_columns(entry)
    features = {name for name in named if all(name not in table for table in TABLES)}
    scopes, columns = VISIBLE[entry.scope]
    known = {name for name in features if name in FEATURES and FEATURES.get(name).scope in scopes}
    if unseen := (features - known) | (named - features - columns):
        raise InvalidSpec(
            f"feature {entry.name!r} of scope {entry.scope} names {sorted(unseen)}, which do not "
            "exist or which it cannot see: a symbol feature names prices and inputs, a universe "
            "feature symbol features, a market feature prices, inputs made of them, symbol and "
            "universe features"
        )
    return sorted(features)
