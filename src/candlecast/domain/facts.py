"""What is known besides prices: scored texts, indices, capitalisations, large trades."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Self

import polars as pl

from candlecast.domain.frames import CAPITALISATIONS, INDICES, LARGE_TRADES, TEXTS


@dataclass(frozen=True, eq=False)
class Facts:
    """Frames of facts, each row with the instant from which on it was known.

    `texts` are TEXTS, `indices` INDICES, `capitalisations` CAPITALISATIONS, `large_trades`
    LARGE_TRADES; a source that is absent is a frame without rows.
    """

    texts: pl.DataFrame
    indices: pl.DataFrame
    capitalisations: pl.DataFrame
    large_trades: pl.DataFrame

    @classmethod
    def none(cls) -> Self:
        """No fact at all."""
        return cls(TEXTS.empty(), INDICES.empty(), CAPITALISATIONS.empty(), LARGE_TRADES.empty())

    def known_by(self, instant: datetime) -> Self:
        """The facts that were known by then."""
        is_known = pl.col("known_at") <= instant
        return type(self)(*(getattr(self, f.name).filter(is_known) for f in fields(self)))

    @property
    def is_empty(self) -> bool:
        """Whether no source has said anything."""
        return all(getattr(self, f.name).is_empty() for f in fields(self))
