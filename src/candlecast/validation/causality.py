"""The look-ahead audit: does cutting the future change the past?

1. Compute on the whole frame.
2. For each of several instants, compute again on what was known by then (the cut), and on a
   frame whose later rows are nonsense (the perturbation).
3. Every row stamped by that instant must come out the same, bit by bit.
4. For features of one symbol, nonsense in another symbol must change nothing either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.errors import NotEnoughHistory

Compute: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]
FeatureCompute: TypeAlias = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]

N_INSTANTS: Final = 6
_IS_THERE: Final = "_is_there"
_AGAIN: Final = "_again"


@dataclass(frozen=True)
class Finding:
    """A value that changed although nothing it may depend on did.

    `probe` says what was changed; `symbol` and `ts` name the first of the `n_rows` rows whose
    `column` differs, `before` the value from the whole frame, `after` the one computed again
    (None: null, or the row is gone).
    """

    column: str
    probe: str
    symbol: str
    ts: datetime
    before: float | str | None
    after: float | str | None
    n_rows: int

    def __str__(self) -> str:
        return (
            f"{self.column} of {self.symbol} at {self.ts:%Y-%m-%d %H:%M}: {self.before} became "
            f"{self.after} when {self.probe} ({self.n_rows} rows)"
        )


def audit(
    compute: Compute,
    frame: pl.DataFrame,
    instants: Sequence[datetime] = (),
    *,
    key: Sequence[str] = ("symbol", "ts"),
    stamp: str = "as_of",
    seed: int = 0,
) -> list[Finding]:
    """Where `compute` used what was not known: empty when it looks ahead nowhere.

    `frame` has the columns symbol, ts, known_at and values; `compute` returns rows unique by
    `key` with a column `stamp`, when the row could have been known (the `known_at` of `frame`
    when it returns none). Without `instants` some are chosen among the known_at. A column has
    at most one finding for each of cut and perturbation: the first.
    """
    rng = np.random.default_rng(seed)
    whole = _stamped(compute(frame), frame, stamp)
    first: dict[tuple[str, str], Finding] = {}
    for instant in sorted(instants or choose_instants(frame)):
        past = whole.filter(pl.col(stamp) <= instant)
        is_later = pl.col("known_at") > instant
        probes = {"cut off": frame.filter(~is_later), "nonsense": _nonsense(frame, is_later, rng)}
        for kind, changed in probes.items():
            probe = f"bars known after {instant:%Y-%m-%d %H:%M} were {kind}"
            for finding in _differences(past, compute(changed), key, stamp, probe):
                first.setdefault((finding.column, kind), finding)
    return [first[name] for name in sorted(first)]


def audit_isolation(
    compute: Compute,
    frame: pl.DataFrame,
    symbol: str,
    *,
    key: Sequence[str] = ("symbol", "ts"),
    seed: int = 0,
) -> list[Finding]:
    """Where `compute` lets the values of `symbol` touch those of another symbol."""
    is_other = pl.col("symbol") != symbol
    changed = _nonsense(frame, ~is_other, np.random.default_rng(seed))
    others = compute(frame).filter(is_other)
    probe = f"{symbol} was nonsense"
    return _differences(others, compute(changed), key, "as_of", probe)


def audit_features(
    compute: FeatureCompute,
    prices: pl.DataFrame,
    names: Sequence[str],
    instants: Sequence[datetime] = (),
    *,
    seed: int = 0,
) -> list[Finding]:
    """The findings for the features `names` over PRICES: look-ahead, and leaks between symbols.

    `compute` is `features.compute.compute`. Features of scope ``universe`` may see other
    symbols, so only the others are tested for isolation.
    """
    findings = audit(lambda frame: compute(frame, names), prices, instants, seed=seed)
    alone = [name for name in names if FEATURES.get(name).scope == "symbol"]
    symbols = prices["symbol"].unique(maintain_order=True)
    if alone and len(symbols) > 1:
        middle = str(symbols[len(symbols) // 2])
        findings += audit_isolation(lambda frame: compute(frame, alone), prices, middle, seed=seed)
    return findings


def choose_instants(frame: pl.DataFrame, n_instants: int = N_INSTANTS) -> list[datetime]:
    """`n_instants` of the known_at of `frame`, spread over its later three quarters."""
    known = frame["known_at"].unique().sort()
    if len(known) < 4:
        raise NotEnoughHistory(f"an audit needs 4 distinct known_at, there are {len(known)}")
    places = np.linspace(len(known) // 4, len(known) - 2, n_instants).astype(int)
    return [known[int(place)] for place in np.unique(places)]


def _stamped(result: pl.DataFrame, frame: pl.DataFrame, stamp: str) -> pl.DataFrame:
    if stamp in result.columns:
        return result
    known = frame.select("symbol", "ts", pl.col("known_at").alias(stamp))
    return result.join(known, on=["symbol", "ts"], how="left", maintain_order="left")


def _nonsense(frame: pl.DataFrame, where: pl.Expr, rng: np.random.Generator) -> pl.DataFrame:
    # Positive prices with low <= open, close <= high, and volumes, all unlike the true ones.
    noise = np.exp(rng.normal(0.0, 0.5, (5, len(frame))))
    opens, closes = (frame[name].to_numpy() * noise[i] for i, name in enumerate(("open", "close")))
    values = {
        "open": opens,
        "high": np.maximum(opens, closes) * np.maximum(noise[2], 1 / noise[2]),
        "low": np.minimum(opens, closes) * np.minimum(noise[3], 1 / noise[3]),
        "close": closes,
        "volume": (frame["volume"].to_numpy() + 1.0) * noise[4] * 3.0,
    }
    return frame.with_columns(
        pl.when(where).then(pl.Series(name, column)).otherwise(name).alias(name)
        for name, column in values.items()
    )


def _differences(
    expected: pl.DataFrame, again: pl.DataFrame, key: Sequence[str], stamp: str, probe: str
) -> list[Finding]:
    columns = [name for name in expected.columns if name not in (*key, stamp)]
    values = again.select(*key, *columns, pl.lit(True).alias(_IS_THERE))
    joined = expected.join(values, on=list(key), how="left", suffix=_AGAIN).sort("ts", "symbol")
    findings = []
    for name in columns:
        is_gone = pl.col(_IS_THERE).is_null()
        rows = joined.filter(pl.col(name).ne_missing(pl.col(name + _AGAIN)) | is_gone)
        if len(rows):
            row = rows.row(0, named=True)
            change = (row["symbol"], row["ts"], row[name], row[name + _AGAIN])
            findings.append(Finding(name, probe, *change, n_rows=len(rows)))
    return findings
