"""The gates that features pass before a model may serve: each asks what a value may depend on.

1. Causality: not on the future, nor (for features of one symbol) on other symbols; bit by bit.
2. Parity: the newest bars' values, computed alone, are those of the whole history.
3. Warm-up: how much earlier history is given does not matter, once a feature has warmed up and
   settled.
4. Scale: an input does not change when prices and volumes are counted in other units.

Values of the last three may differ by rounding: by `RELATIVE` of the larger of the two, or of
what is usual for the feature in that symbol (its mean absolute value), and by a floor: the gate's
own for inputs, which are ratios of the order of one, `LEVEL_FLOOR` for others. Parity and warm-up
leave out the bars of a symbol whose close has not moved for the engine's `still_bars`: a recursive
average of nothing is what is left of its start, at every length.

Causality and parity are asked at many instants, more for features of the user's own, which nothing
else has tried: on all weekdays, at all hours, and after the largest moves and volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.validation.causality import audit_features
from candlecast.validation.findings import Comparison, Finding, Unlike
from candlecast.validation.trial import MOVES, USUAL, Trial

RELATIVE: Final = 1e-6
INPUT_FLOOR: Final = 1e-9
LEVEL_FLOOR: Final = 1e-15
"""What subtracting returns that are all alike leaves; traded sums in a denominator are as small."""
SCALE_FLOOR: Final = 1e-6
"""Logarithms of large and of small prices round differently."""
PRICE_UNIT: Final = 1024.0
VOLUME_UNIT: Final = 1048576.0
"""About a thousand and a million, and powers of two: prices that tie go on being equal."""
N_STARTS: Final = 2
MOST_LEFT_OUT: Final = 200
"""Bars left out at the beginning of a segment to see whether they matter."""

_LEFT: Final = "_left"  # bars of the segment that are left before the row
_SINCE: Final = "_since"  # the same of every symbol that it is compared with
_SEGMENT: Final = "_segment"


def check_causality(trial: Trial) -> list[Finding]:
    """Look-ahead, and leaks between symbols."""
    findings = []
    for part, instants, is_own in trial.rounds:
        findings += audit_features(
            part.compute,
            part.prices,
            part.names,
            instants,
            facts=part.facts,
            seed=part.seed,
            is_alternating=not is_own,
        )
    return findings


def check_parity(trial: Trial) -> list[Finding]:
    """Where what is computed for the newest bars of an instant is not what history says.

    Where some symbols have no bar of the instant's newest bars, those that have are asked for
    by themselves as well: markets that are open together are served together.
    """
    first: dict[str, Finding] = {}
    for whole, instants, _ in trial.rounds:
        for instant in instants:
            for part in (whole, _current(whole, instant)):
                for finding in _parity_at(part, instant) if part is not None else ():
                    first.setdefault(finding.column, finding)
    return list(first.values())


def _current(trial: Trial, instant: datetime) -> Trial | None:
    # The symbols whose newest bar is of the ts of which most are; None where all of them are.
    last = _newest_bars(trial.prices.filter(pl.col("known_at") <= instant))
    common = last["ts"].mode().max()
    symbols = tuple(last.filter(pl.col("ts") == common)["symbol"].sort())
    return trial.of(symbols) if len(symbols) < len(last) else None


def _parity_at(trial: Trial, instant: datetime) -> list[Finding]:
    known = trial.prices.filter(pl.col("known_at") <= instant)
    expected = trial.whole.filter((pl.col("as_of") <= instant) & pl.col(MOVES))
    expected = expected.join(_newest_bars(known), on=["symbol", "ts"], how="semi")
    again = trial.engine.newest(known, trial.names, trial.facts.known_by(instant))
    probe = f"computed for the newest bars of {instant:%Y-%m-%d %H:%M} only"
    comparison = Comparison("parity", unlike=_unlike(trial.names, INPUT_FLOOR))
    return comparison.differences(expected, again, probe, ("as_of", *trial.names))


def _newest_bars(known: pl.DataFrame) -> pl.DataFrame:
    return known.group_by("symbol").agg(pl.col("ts").last())


def check_warm_up(trial: Trial) -> list[Finding]:
    """Where values depend on history beyond what a feature says."""
    rng = np.random.default_rng(trial.seed)
    first: dict[str, Finding] = {}
    for _ in range(N_STARTS):
        left = _left_after(trial.prices, rng)
        kept = trial.prices.filter(left[_LEFT] >= 0)
        again = trial.engine.compute(kept, trial.names, trial.facts)
        expected = trial.whole.with_columns(left.get_columns()).filter(
            (pl.col(_LEFT) >= 0) & pl.col(MOVES)
        )
        comparison = Comparison("warm-up", unlike=_unlike_once_settled(trial.names))
        probe = f"up to {MOST_LEFT_OUT} earlier bars were left out"
        for finding in comparison.differences(expected, again, probe, trial.names):
            first.setdefault(finding.column, finding)
    return list(first.values())


def check_scale(trial: Trial) -> list[Finding]:
    """Where an input depends on the units of price and volume."""
    inputs = tuple(name for name in trial.names if FEATURES.get(name).is_input)
    if not inputs:
        return []
    prices = (pl.col(name) * PRICE_UNIT for name in ("open", "high", "low", "close"))
    larger = trial.prices.with_columns(*prices, pl.col("volume") * VOLUME_UNIT)
    again = trial.engine.compute(larger, inputs, trial.facts)
    comparison = Comparison("scale", unlike=_unlike(inputs, SCALE_FLOOR))
    probe = f"prices were {PRICE_UNIT:.0f} times and volumes {VOLUME_UNIT:.0f} times as large"
    return comparison.differences(trial.whole, again, probe, inputs)


GATES: Final[dict[str, Callable[[Trial], list[Finding]]]] = {
    "causality": check_causality,
    "parity": check_parity,
    "warm-up": check_warm_up,
    "scale": check_scale,
}
"""Each gate's findings; a feature passes when there are none."""


def run_gates(trial: Trial, on_gate: Callable[[int, int], None] | None = None) -> list[Finding]:
    """The findings of all gates, in their order; `on_gate(done, total)` hears of progress."""
    findings = []
    for done, gate in enumerate(GATES.values(), 1):
        findings += gate(trial)
        if on_gate is not None:
            on_gate(done, len(GATES))
    return findings


def needed_bars(name: str) -> int:
    """After how many bars of a segment a value no longer depends on where the segment began."""
    entry = FEATURES.get(name)
    if entry.scope == "universe":  # a comparison at one instant remembers nothing
        return max(entry.warmup_bars, _compared_bars(entry))
    return entry.warmup_bars + entry.settling_bars + _compared_bars(entry)


def trial_bars(name: str) -> int:
    """How many bars a segment has to have for the warm-up gate to say anything of a feature."""
    return needed_bars(name) + MOST_LEFT_OUT


def untested_warm_up(trial: Trial) -> tuple[str, ...]:
    """The features that need more history than there is for the warm-up gate to say anything."""
    longest = int(trial.prices.group_by("segment").len()["len"].max() or 0)  # type: ignore[arg-type]
    return tuple(name for name in trial.names if trial_bars(name) > longest)


def unseen(trial: Trial) -> tuple[str, ...]:
    """The features that have no value in any bar, so that no gate has tried them."""
    return tuple(name for name in trial.names if not trial.whole[name].count())


def _compared_bars(entry: Feature) -> int:
    # What the features that one of several symbols names need before it can compare them.
    if entry.scope == "symbol":
        return 0
    named = (name for name in entry.expression().meta.root_names() if name in FEATURES)
    return max((needed_bars(name) for name in named), default=0)


def _unlike(names: Sequence[str], floor: float) -> Unlike:
    floors = {name: floor if FEATURES.get(name).is_input else LEVEL_FLOOR for name in names}

    def unlike(one: str, other: str) -> pl.Expr:
        if one not in floors:
            return pl.col(one).ne_missing(pl.col(other))
        either = pl.max_horizontal(pl.col(one).abs(), pl.col(other).abs(), pl.col(one + USUAL))
        allowed = RELATIVE * either + floors[one]
        is_further = ((pl.col(one) - pl.col(other)).abs() > allowed).fill_null(value=False)
        return is_further | (pl.col(one).is_null() != pl.col(other).is_null())

    return unlike


def _unlike_once_settled(names: Sequence[str]) -> Unlike:
    unlike = _unlike(names, INPUT_FLOOR)
    return lambda one, other: _is_settled(FEATURES.get(one)) & unlike(one, other)


def _is_settled(entry: Feature) -> pl.Expr:
    is_own_enough = pl.col(_LEFT) >= needed_bars(entry.name)
    if entry.scope == "symbol":
        return is_own_enough
    is_comparable = pl.col(_SINCE) >= _compared_bars(entry)
    if entry.scope == "universe":
        return is_comparable & (pl.col(_LEFT) >= entry.warmup_bars)
    # It looks back over its symbol's own bars, at each of which all had to be comparable.
    place = pl.int_range(pl.len())
    last = pl.when(~is_comparable).then(place).forward_fill().fill_null(-1)
    n_comparable = (place - last).over(_SEGMENT)
    return is_own_enough & (n_comparable > entry.warmup_bars + entry.settling_bars)


def _left_after(prices: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    # How many bars are left before each row when each segment loses some of its first ones, and
    # the same for the symbols that it is compared with: of the worst of them, and of each instant
    # since one of them lost a bar.
    numbers = prices["segment"].rank("dense").to_numpy().astype(int) - 1
    lost = rng.integers(1, MOST_LEFT_OUT + 1, len(prices))
    place = pl.int_range(pl.len()).over("segment")
    number = pl.Series(lost[numbers])
    left = prices.select("ts", (place - number).alias(_LEFT), pl.col("segment").alias(_SEGMENT))
    moments = left.group_by("ts").agg(pl.col(_LEFT).min().alias("least")).sort("ts")
    instant = pl.int_range(pl.len())
    last = pl.when(pl.col("least") < 0).then(instant).forward_fill().fill_null(-1)
    moments = moments.select("ts", pl.min_horizontal("least", instant - last).alias(_SINCE))
    return left.join(moments, on="ts", how="left", maintain_order="left").drop("ts")
