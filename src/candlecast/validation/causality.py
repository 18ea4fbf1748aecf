"""The look-ahead audit: does cutting the future change the past?

1. Compute on the whole frame.
2. For each of several instants, compute again on what was known by then (the cut), and on a
   frame whose later rows are nonsense (the perturbation).
3. Every row stamped by that instant must come out the same, bit by bit.
4. For features of one symbol, nonsense in another symbol must change nothing either.

`audit_build` asks the same of a whole pipeline, which reads its data itself: built as of two
instants, the rows of the earlier one are the same. That finds a corrected bar as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.facts import Facts
from candlecast.errors import InvalidSpec
from candlecast.validation.findings import Comparison, Finding
from candlecast.validation.instants import choose_instants

Compute: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]
FactCompute: TypeAlias = Callable[[pl.DataFrame, Facts], pl.DataFrame]
FeatureCompute: TypeAlias = Callable[..., pl.DataFrame]
"""Like `features.compute.compute`: PRICES, names and Facts to FEATURES."""
Build: TypeAlias = Callable[[datetime], pl.DataFrame]

CAUSALITY: Final = "causality"
ISOLATION: Final = "isolation"
CUT_OFF: Final = "cut off"
NONSENSE: Final = "nonsense"


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
    told = (frame, Facts.none(), tuple(instants) or choose_instants(frame, seed=seed))
    comparison = Comparison(CAUSALITY, tuple(key), (stamp,))
    return _audit(lambda known, _: compute(known), told, comparison, stamp=stamp, seed=seed)


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
    comparison = Comparison(ISOLATION, tuple(key), ("as_of",))
    return comparison.differences(others, compute(changed), f"{symbol} was nonsense")


def audit_features(  # noqa: PLR0913 - what is tried, and how
    compute: FeatureCompute,
    prices: pl.DataFrame,
    names: Sequence[str],
    instants: Sequence[datetime] = (),
    *,
    facts: Facts | None = None,
    seed: int = 0,
    is_alternating: bool = False,
) -> list[Finding]:
    """The findings for the features `names` over PRICES: look-ahead, and leaks between symbols.

    `compute` is `features.compute.compute`. Features that compare symbols may see them, so only
    the others are tested for isolation. `facts` are cut and changed with the bars. At each instant
    the future is cut off and made nonsense, or in turn one of the two when it `is_alternating`.
    """
    known = facts or Facts.none()
    told = (prices, known, tuple(instants) or choose_instants(prices, seed=seed))
    findings = _audit(
        lambda frame, given: compute(frame, names, given),
        told,
        Comparison(CAUSALITY, skipped=("as_of",)),
        stamp="as_of",
        seed=seed,
        is_alternating=is_alternating,
    )
    alone = [name for name in names if FEATURES.get(name).scope == "symbol"]
    symbols = prices["symbol"].unique(maintain_order=True)
    if alone and len(symbols) > 1:
        middle = str(symbols[len(symbols) // 2])
        findings += audit_isolation(
            lambda frame: compute(frame, alone, known), prices, middle, seed=seed
        )
    return findings


def audit_build(
    build: Build,
    instants: Sequence[datetime],
    *,
    key: Sequence[str] = ("symbol", "ts"),
    stamp: str = "as_of",
) -> list[Finding]:
    """Where what `build` made as of one of `instants` is not what it makes as of the last one.

    `build` reads, computes and returns rows unique by `key`, with symbol, ts and `stamp`. Rows
    stamped by the earlier instant must be the same, and be there in both: a bar corrected since,
    a statistic over all rows, a universe of survivors change them. A finding's `before` is the
    value as it was built first; a column has at most one finding.
    """
    *earlier, latest = sorted({*instants})
    if not earlier:
        raise InvalidSpec("an audit of a build needs two instants or more; name an earlier one")
    comparison = Comparison(CAUSALITY, tuple(key), (stamp,))
    late = build(latest)
    first: dict[str, Finding] = {}
    for instant in earlier:
        early = build(instant)
        probe = f"built as of {latest:%Y-%m-%d %H:%M} instead of {instant:%Y-%m-%d %H:%M}"
        came = late.filter(pl.col(stamp) <= instant)
        went = early.filter(pl.col(stamp) <= instant)
        found = comparison.differences(early.join(came, on=list(key), how="semi"), late, probe)
        found += comparison.absent(came, early, probe, is_new=True)
        found += comparison.absent(went, late, probe, is_new=False)
        for finding in found:
            first.setdefault(finding.column, finding)
    return list(first.values())


def _audit(
    compute: FactCompute,
    told: tuple[pl.DataFrame, Facts, Sequence[datetime]],
    comparison: Comparison,
    *,
    stamp: str,
    seed: int,
    is_alternating: bool = False,
) -> list[Finding]:
    frame, facts, instants = told
    rng = np.random.default_rng(seed)
    whole = _stamped(compute(frame, facts), frame, stamp)
    first: dict[tuple[str, str], Finding] = {}
    for place, instant in enumerate(sorted(instants)):
        past = whole.filter(pl.col(stamp) <= instant)
        kinds = [CUT_OFF, NONSENSE]
        for kind in kinds[place % 2 : place % 2 + 1] if is_alternating else kinds:
            bars, given = _probe(kind, frame, facts, instant, rng)
            what = "bars" if facts.is_empty else "bars and facts"
            probe = f"{what} known after {instant:%Y-%m-%d %H:%M} were {kind}"
            again = _stamped(compute(bars, given), bars, stamp)
            found = comparison.differences(past, again, probe)
            known = again.filter(pl.col(stamp) <= instant)
            found += comparison.absent(known, whole, probe, is_new=True)
            for finding in found:
                first.setdefault((finding.column, kind), finding)
    return [first[name] for name in sorted(first)]


def _probe(
    kind: str, frame: pl.DataFrame, facts: Facts, instant: datetime, rng: np.random.Generator
) -> tuple[pl.DataFrame, Facts]:
    is_later = pl.col("known_at") > instant
    if kind == CUT_OFF:
        return frame.filter(~is_later), facts.known_by(instant)
    return _nonsense(frame, is_later, rng), _nonsense_facts(facts, is_later, rng)


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
    return _replaced(frame, where, values)


def _nonsense_facts(facts: Facts, where: pl.Expr, rng: np.random.Generator) -> Facts:
    # Other scores, weights and amounts, and texts that speak of other symbols.
    texts, traded = facts.texts, facts.large_trades
    symbols = texts["symbols"].gather(rng.permutation(len(texts)))
    others = {
        "symbols": symbols,
        "score": rng.uniform(-1.0, 1.0, len(texts)),
        "weight": texts["weight"].to_numpy() * np.exp(rng.normal(0.0, 0.5, len(texts))),
    }
    volumes = (traded["volume"].to_numpy() + 1.0) * np.exp(rng.normal(0.0, 0.5, len(traded)))
    amounts = {"volume": volumes, "large_volume": volumes * rng.uniform(0.0, 1.0, len(traded))}
    return Facts(
        texts=_replaced(texts, where, others),
        indices=_other_values(facts.indices, where, rng),
        capitalisations=_other_values(facts.capitalisations, where, rng),
        large_trades=_replaced(traded, where, amounts),
    )


def _other_values(frame: pl.DataFrame, where: pl.Expr, rng: np.random.Generator) -> pl.DataFrame:
    noise = np.exp(rng.normal(0.0, 0.5, len(frame)))
    return _replaced(frame, where, {"value": frame["value"].to_numpy() * noise})


def _replaced(frame: pl.DataFrame, where: pl.Expr, values: Mapping[str, Any]) -> pl.DataFrame:
    return frame.with_columns(
        pl.when(where).then(pl.Series(name, column)).otherwise(name).alias(name)
        for name, column in values.items()
    )
