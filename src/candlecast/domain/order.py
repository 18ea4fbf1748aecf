"""Rows in order: each one held against the one before it, in one query."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def ascends(columns: Sequence[str], *, strictly: bool) -> pl.Expr:
    """Whether each row stands behind the one before it by `columns`, or beside it where not
    `strictly`; null for the first row, and where a key that decides is null.
    """
    follows: pl.Expr = pl.lit(not strictly)
    for name in reversed(columns):
        step = pl.col(name)
        follows = (step > step.shift()) | ((step == step.shift()) & follows)
    return follows
