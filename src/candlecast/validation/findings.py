"""Where two computations of the same values differ: each column's first row, and both values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import polars as pl

Unlike: TypeAlias = Callable[[str, str], pl.Expr]
"""From the names of a column and of its second computation to whether a row's values differ."""

ROW: Final = "row"
"""Stands for the column where a whole row came or went."""
THERE: Final = "there"
_IS_THERE: Final = "_is_there"
_AGAIN: Final = " again"  # with a space, which no name of a feature has


@dataclass(frozen=True)
class Finding:
    """A value that changed although nothing it may depend on did.

    `gate` is what it failed and `probe` says what was changed; `symbol` and `ts` name the first
    of the `n_rows` rows whose `column` differs, `before` the value from the whole frame, `after`
    the one computed again (None: null, or the row is gone).
    """

    gate: str
    column: str
    probe: str
    symbol: str
    ts: datetime
    before: float | str | None
    after: float | str | None
    n_rows: int

    def __str__(self) -> str:
        rows = "1 row" if self.n_rows == 1 else f"{self.n_rows} rows"
        return (
            f"{self.gate}: {self.column} of {self.symbol} at {self.ts:%Y-%m-%d %H:%M}: "
            f"{self.before} became {self.after} when {self.probe} ({rows})"
        )


@dataclass(frozen=True)
class Comparison:
    """How the rows of two computations are told apart and compared.

    `key` names the columns that identify a row, `skipped` those that are not compared, `unlike`
    says when two values differ: by default when they are not the same, bit by bit.
    """

    gate: str
    key: tuple[str, ...] = ("symbol", "ts")
    skipped: tuple[str, ...] = ()
    unlike: Unlike = lambda one, other: pl.col(one).ne_missing(pl.col(other))

    def differences(
        self, expected: pl.DataFrame, again: pl.DataFrame, probe: str, columns: Sequence[str] = ()
    ) -> list[Finding]:
        """A finding for each of `columns` (all) whose values in `again` are not the `expected`."""
        passed_over = (*self.key, *self.skipped)
        names = list(columns) or [name for name in expected.columns if name not in passed_over]
        values = again.select(*self.key, *names, pl.lit(True).alias(_IS_THERE))
        joined = expected.join(values, on=list(self.key), how="left", suffix=_AGAIN)
        is_gone = pl.col(_IS_THERE).is_null()
        differs = {name: self.unlike(name, name + _AGAIN) | is_gone for name in names}
        n_rows = joined.select(expr.sum().alias(name) for name, expr in differs.items())
        findings = []
        for name in names:
            if n := n_rows[name].item():
                row = joined.filter(differs[name]).sort("ts", "symbol").row(0, named=True)
                values_of = (row[name], row[name + _AGAIN])
                findings.append(
                    Finding(self.gate, name, probe, row["symbol"], row["ts"], *values_of, n)
                )
        return findings

    def absent(
        self, rows: pl.DataFrame, base: pl.DataFrame, probe: str, *, is_new: bool
    ) -> list[Finding]:
        """A finding when some of `rows` are not in `base`: `is_new` ones, or ones that are gone."""
        missing = rows.join(base, on=list(self.key), how="anti").sort("ts", "symbol")
        if missing.is_empty():
            return []
        symbol, ts = missing.select("symbol", "ts").row(0)
        before, after = (None, THERE) if is_new else (THERE, None)
        return [Finding(self.gate, ROW, probe, symbol, ts, before, after, len(missing))]
