"""Features on trial: who computes them, over which bars, and when each is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final, NamedTuple

import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.validation.instants import choose_instants, unusual_instants

N_INSTANTS: Final = 14
N_OWN_INSTANTS: Final = 40
UNUSUAL_SHARE: Final = 0.4
"""The share of the instants that come after the largest moves and volumes."""
USUAL: Final = " usual"
"""Behind a feature's name: its mean absolute value in the symbol. No name has a space."""
MOVES: Final = "_moves"


@dataclass(frozen=True)
class Engine:
    """What computes features: over all history (`compute`) or for the newest bars (`newest`).

    Both take PRICES, names and Facts and return FEATURES. After `still_bars` bars without a move
    of the close a feature has nothing left to go by.
    """

    compute: Callable[..., pl.DataFrame]
    newest: Callable[..., pl.DataFrame]
    still_bars: int


@dataclass(frozen=True, eq=False)
class Trial:
    """Features on trial: who computes them, over which PRICES and Facts, and which they are.

    `thoroughness` is how many times as many instants are tried as usual.
    """

    engine: Engine
    prices: pl.DataFrame
    names: tuple[str, ...]
    facts: Facts
    seed: int = 0
    thoroughness: int = 1
    _parts: dict[tuple[str, ...], Trial] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def whole(self) -> pl.DataFrame:
        """The values over all history, what is usual for each, and whether its symbol moves."""
        values = self.engine.compute(self.prices, self.names, self.facts)
        usual = (
            pl.col(name).abs().mean().over("symbol").alias(name + USUAL) for name in self.names
        )
        place = pl.int_range(pl.len())
        is_move = (pl.col("close") != pl.col("close").shift()).fill_null(value=True)
        still = place - pl.when(is_move).then(place).forward_fill()
        moves = self.prices.select((still < self.engine.still_bars).over("segment").alias(MOVES))
        return values.with_columns(*usual, moves.to_series())

    def compute(self, prices: pl.DataFrame, names: Sequence[str], facts: Facts) -> pl.DataFrame:
        """What the engine computes; of all history it is not computed again."""
        if prices is self.prices and facts is self.facts and {*names} <= {*self.names}:
            return self.whole.select("symbol", "ts", "as_of", *names)
        return self.engine.compute(prices, names, facts)

    def of(self, symbols: tuple[str, ...]) -> Trial:
        """The trial of the same features where there are only these symbols."""
        if symbols not in self._parts:
            own = self.prices.filter(pl.col("symbol").is_in(symbols))
            self._parts[symbols] = replace(self, prices=own)
        return self._parts[symbols]

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The features that candlecast brings, and those of the user's own, each with its instants.

        They are tried apart, for what they are compared with decides when they are known.
        """
        found = []
        for is_own, usual in ((False, N_INSTANTS), (True, N_OWN_INSTANTS)):
            names = tuple(n for n in self.names if bool(FEATURES.get(n).origin) == is_own)
            if names:
                part = self if names == self.names else replace(self, names=names)
                found.append(Round(part, self._instants(usual * self.thoroughness), is_own))
        return tuple(found)

    def _instants(self, n_instants: int) -> list[datetime]:
        unusual = unusual_instants(self.prices, round(UNUSUAL_SHARE * n_instants))
        spread = choose_instants(self.prices, n_instants - len(unusual), seed=self.seed)
        return sorted({*unusual, *spread})


class Round(NamedTuple):
    """Features that are tried at the same instants; `is_own` says that they are the user's own."""

    trial: Trial
    instants: list[datetime]
    is_own: bool
