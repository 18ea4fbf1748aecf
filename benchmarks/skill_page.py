"""What was measured of skill, as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rendering import machine, table
from skill_scores import LEVELS, NETWORKS, REFERENCES, SIMPLER
from skill_sets import MARKETS, Market, spec_of

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
GOALS_NOTE = (
    f"The goals are held against the experiment `{DEFAULT}`. What was not measured, or of another "
    "spec than the file has now, is missed."
)
MOST_GAP = 0.01
MOST_P = 0.01
REACHED, MISSED = "reached", "**missed**"
NOT_MEASURED = "not measured"


def page(known: Mapping[str, Any], written_at: datetime) -> str:
    """The goals first, then a table for each market and horizon."""
    parts = [
        "# Skill",
        f"<!-- written by `{COMMAND}`; edits are lost -->",
        INTRODUCTION,
        f"To reproduce: `{COMMAND}`",
        "## Goals",
        GOALS_NOTE,
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
    for name, market in MARKETS.items():
        told = known.get(name, {}).get(DEFAULT, {})
        is_current = told.get("spec_id") == spec_of(DEFAULT, market).id
        for horizon in market.horizons:
            own = told.get("horizons", {}).get(horizon) if is_current else None
            yield from _goals_of(market, horizon, own)
    yield _goal(("M6", "20 sessions"), "mean RPS of months 1 to 3", *_of_m6(known.get("m6")))


def _of_m6(told: Mapping[str, Any] | None) -> tuple[str, str, bool]:
    if told is None:
        return "", NOT_MEASURED, False
    return f"≤ {told['goal']}", f"{told['mean_rps']:.5f}", told["mean_rps"] <= told["goal"]


def _goals_of(
    market: Market, horizon: str, own: Mapping[str, Any] | None
) -> Iterator[tuple[str, ...]]:
    where, floor = (market.title, horizon), market.floors[horizon]
    wanted = f"≥ {floor:.1%}"
    if own is None:
        yield _goal(where, "everything", f"CRPS skill {wanted} and more", NOT_MEASURED, False)
        return
    yield _goal(where, "CRPS skill", wanted, f"{own['skill']:.2%}", own["skill"] >= floor)
    for reference in REFERENCES[1:]:
        told = own["against"].get(reference)
        yield _goal(where, f"better than {reference}", f"p < {MOST_P}", *_better(told))
    for level, covered in own["coverage"].items():
        yield _coverage_goal(market, where, float(level), covered)
    if market.is_exact:
        gap, year, level = max(_year_gaps(own))
        measured = f"{gap * 100:.2f} pp at most ({year}, {float(level):.0%})"
        yield _goal(where, "coverage in every year", "± 3 pp", measured, gap <= 3 * MOST_GAP)


def _better(told: Mapping[str, Any] | None) -> tuple[str, bool]:
    if told is None:
        return NOT_MEASURED, False
    p_value = told["p_value"]
    return _compared(told), told["skill"] > 0 and p_value is not None and p_value < MOST_P


def _coverage_goal(
    market: Market, where: tuple[str, str], level: float, covered: Mapping[str, Any]
) -> tuple[str, ...]:
    is_kept = abs(covered["share"] - level) <= MOST_GAP
    wanted, measured = f"{level:.0%} ± 1 pp", f"{covered['share']:.2%}"
    if not market.is_exact and covered["interval"] is not None:
        low, high = covered["interval"]
        is_kept = is_kept or low <= level <= high
        wanted += " or in its 99 % interval"
        measured += f" ({low:.1%} … {high:.1%})"
    return _goal(where, "coverage", wanted, measured, is_kept)


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
        rows = (
            _row(_called(name, told, market), told, horizon)
            for name, told in sorted(made.items())
            if horizon in told["horizons"]
        )
        yield table(_HEADER, rows)
    yield from _networks(market, made)
    yield from _by_year(market, made)


_HEADER = (
    *("experiment", "CRPS", "skill (95 %)"),
    *(f"against {reference}" for reference in REFERENCES[1:]),
    *(f"{level:.0%}" for level in LEVELS),
    *("hit rate", "verdict", "seconds", "measured"),
)


def _called(name: str, told: Mapping[str, Any], market: Market) -> str:
    return name if told["spec_id"] == spec_of(name, market).id else f"{name} (of an older spec)"


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
    return f"{told['skill']:+.2%} ({_tested(told['p_value'])})"


def _tested(p_value: float | None) -> str:
    if p_value is None:
        return "no test"
    return f"p {p_value:.2g}" if p_value > 0 else "p < 1e-300"


def _networks(market: Market, made: Mapping[str, Any]) -> Iterator[str]:
    # Whoever pays for a network wants to know whether less would have done.
    rows = [
        _beside_simpler(name, horizon, made[name]["horizons"][horizon]["against"])
        for name in NETWORKS
        for horizon in market.horizons
        if horizon in made.get(name, {}).get("horizons", {})
    ]
    if rows:
        yield "Networks beside a linear model and gradient trees:"
        names = (f"against {name}" for name in SIMPLER)
        yield table(("network", "horizon", *names, "verdict"), rows)


def _beside_simpler(name: str, horizon: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    told = [found.get(simpler) for simpler in SIMPLER]
    is_better = all(is_proven for _, is_proven in map(_better, told))
    verdict = "better than both" if is_better else "no better than both: use the simpler ones"
    return (name, horizon, *map(_compared, told), verdict)


def _by_year(market: Market, made: Mapping[str, Any]) -> Iterator[str]:
    if DEFAULT not in made:
        return
    for horizon in market.horizons:
        years = made[DEFAULT]["horizons"].get(horizon, {}).get("years", {})
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
