"""What was measured of skill, as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rendering import machine, table
from skill_scores import LEVELS, REFERENCES
from skill_sets import MARKETS, Market

COMMAND = "make bench-skill"
DEFAULT = "default"
INTRODUCTION = (
    "How good forecasts are that were made out of sample: walk-forward through real markets, each "
    "span forecast by a model that was fitted on what had been known before it, the newest fifth "
    "of the instants kept as a holdout that no choice has looked at. Skill is the share of the "
    "climatology's CRPS that is saved, the climatology being the symbol's own past; intervals come "
    "from a bootstrap of blocks of dates, p-values from Diebold-Mariano tests on losses averaged "
    "by date. A goal that is missed is listed like one that is reached."
)
COVERAGE_NOTE = (
    "Coverage is reached where it is within 1 percentage point of the nominal level, or the "
    "nominal level lies within the 99 % interval of the coverage by blocks of dates."
)
MOST_GAP = 0.01
MOST_P = 0.01
REACHED, MISSED = "reached", "**missed**"


def page(known: Mapping[str, Any], written_at: datetime) -> str:
    """The goals first, then a table for each market and horizon."""
    parts = [
        "# Skill",
        f"<!-- written by `{COMMAND}`; edits are lost -->",
        INTRODUCTION,
        COVERAGE_NOTE,
        f"To reproduce: `{COMMAND}`",
        "## Goals",
        table(("market", "horizon", "what", "goal", "measured", "verdict"), _goals(known)),
    ]
    for name, market in MARKETS.items():
        if name in known:
            parts += _market(market, known[name])
    if "m6" in known:
        parts += _m6(known["m6"])
    parts += ["## Measured on", table(("what", "which"), machine(written_at).items())]
    return "\n\n".join(parts) + "\n"


def _goals(known: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    # Those of the default experiment.
    for name, market in MARKETS.items():
        for horizon, own in known.get(name, {}).get(DEFAULT, {}).get("horizons", {}).items():
            yield from _goals_of(market, horizon, own)
    if "m6" in known:
        m6 = known["m6"]
        yield _goal(
            ("M6", "20 sessions"),
            "mean RPS of months 1 to 3",
            f"≤ {m6['goal']}",
            f"{m6['mean_rps']:.5f}",
            m6["mean_rps"] <= m6["goal"],
        )


def _goals_of(market: Market, horizon: str, own: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    where, floor = (market.title, horizon), own["floor"]
    is_reached = own["skill"] >= floor
    yield _goal(where, "CRPS skill", f"≥ {floor:.1%}", f"{own['skill']:.2%}", is_reached)
    for reference, told in own["against"].items():
        if reference != "climatology":
            p_value = told["p_value"]
            measured = _compared(told)
            is_better = told["skill"] > 0 and p_value is not None and p_value < MOST_P
            yield _goal(where, f"better than {reference}", f"p < {MOST_P}", measured, is_better)
    for level, covered in own["coverage"].items():
        gap = abs(covered["share"] - float(level))
        low, high = covered["interval"] or (1.0, 0.0)
        is_kept = gap <= MOST_GAP or low <= float(level) <= high
        goal = f"{float(level):.0%} ± 1 pp"
        yield _goal(where, "coverage", goal, f"{covered['share']:.2%}", is_kept)
    worst = max(_year_gaps(own), default=None)
    if worst is not None and market.start is not None:
        told = f"{worst[0] * 100:.2f} pp ({worst[1]}, {float(worst[2]):.0%})"
        yield _goal(where, "coverage in every year", "± 3 pp", told, worst[0] <= 3 * MOST_GAP)


def _goal(
    where: tuple[str, str], what: str, goal: str, measured: str, is_reached: bool
) -> tuple[str, ...]:
    return (*where, what, goal, measured, REACHED if is_reached else MISSED)


def _year_gaps(own: Mapping[str, Any]) -> Iterator[tuple[float, str, str]]:
    for year, told in own["years"].items():
        for level, share in told["coverage"].items():
            yield abs(share - float(level)), year, level


def _market(market: Market, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {market.title}"
    data = f"Data: {market.file}, sha256 `{found['data']['sha256']}`; {market.timeframe} bars."
    yield f"{market.about} {data}".strip()
    made = {name: told for name, told in found.items() if name != "data"}
    for horizon in market.horizons:
        yield f"### {horizon}"
        yield table(_HEADER, (_row(name, told, horizon) for name, told in sorted(made.items())))
    yield from _by_year(market, made)


_HEADER = (
    *("experiment", "CRPS", "skill (95 %)"),
    *(f"against {reference}" for reference in REFERENCES[1:]),
    *(f"{level:.0%}" for level in LEVELS),
    *("hit rate", "verdict", "seconds", "measured"),
)


def _row(name: str, told: Mapping[str, Any], horizon: str) -> tuple[str, ...]:
    own = told["horizons"][horizon]
    interval = own["skill_interval"]
    spread = "" if interval is None else f" ({interval[0]:+.1%} … {interval[1]:+.1%})"
    return (
        name,
        f"{own['crps']:.6f}",
        f"{own['skill']:+.2%}{spread}",
        *(_compared(own["against"].get(reference)) for reference in REFERENCES[1:]),
        *(f"{own['coverage'][f'{level:g}']['share']:.1%}" for level in LEVELS),
        f"{own['hit_rate']:.1%}",
        own["verdict"],
        f"{told['seconds']:.0f}",
        told["measured_at"],
    )


def _compared(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    p_value = told["p_value"]
    return f"{told['skill']:+.2%} ({'no test' if p_value is None else f'p {p_value:.2g}'})"


def _by_year(market: Market, made: Mapping[str, Any]) -> Iterator[str]:
    if DEFAULT not in made:
        return
    for horizon in market.horizons:
        years = made[DEFAULT]["horizons"][horizon]["years"]
        rows = (
            (year, f"{told['skill']:+.2%}", *(f"{told['coverage'][f'{v:g}']:.1%}" for v in LEVELS))
            for year, told in years.items()
        )
        yield f"By year, {horizon}, experiment {DEFAULT}:"
        yield table(("year", "skill", *(f"{level:.0%}" for level in LEVELS)), rows)


def _m6(told: Mapping[str, Any]) -> Iterator[str]:
    yield "## M6: ranks of a hundred assets, months 1 to 3"
    yield told["about"]
    yield table(told["header"], (tuple(map(str, row)) for row in told["rows"]))
