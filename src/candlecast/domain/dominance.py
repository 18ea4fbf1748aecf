"""What share of all crypto capital is in one coin."""

from __future__ import annotations

from typing import Final

import polars as pl

from candlecast.domain.frames import CAPITALISATIONS, INDICES

TOTAL: Final = "TOTAL"
"""The asset that stands for the whole market."""


def compute_dominance(capitalisations: pl.DataFrame, asset: str = "BTC-USD") -> pl.DataFrame:
    """INDICES named e.g. ``btc_dominance``: `asset` over TOTAL, in (0, 1], where both are known.

    Only values of the same `ts` are compared; a share is known when the later of its two parts
    is. What would be above one cannot be true and is left out.
    """
    known = CAPITALISATIONS.check(capitalisations)
    total = known.filter(pl.col("asset") == TOTAL).select("ts", "value", "known_at")
    both = known.filter(pl.col("asset") == asset).join(total, on="ts", suffix="_total")
    share = both.filter(pl.col("value").is_between(0, pl.col("value_total"), closed="right"))
    return INDICES.conform(
        share.select(
            name=pl.lit(f"{asset.partition('-')[0].lower()}_dominance"),
            ts="ts",
            value=pl.col("value") / pl.col("value_total"),
            source="source",
            known_at=pl.max_horizontal("known_at", "known_at_total"),
        )
    )
