"""Columns made of facts besides prices: what was known of a symbol when its bar was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from candlecast.domain.facts import Facts

FACT_INPUTS: Final[dict[str, Callable[[pl.DataFrame, Facts], pl.Series]]] = {}
"""What a feature may name beside the columns of PRICES and `INPUTS`: a value a row of PRICES."""


def with_fact_inputs(prices: pl.DataFrame, facts: Facts, names: Sequence[str]) -> pl.DataFrame:
    """`prices` with the columns `names`: as known at each row's `known_at`, null where absent."""
    return prices.with_columns(FACT_INPUTS[name](prices, facts).alias(name) for name in names)
