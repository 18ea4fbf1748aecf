"""Let a model version serve, once its features have passed the gates."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import orjson

from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import Conflict
from candlecast.features.chosen import check_code
from candlecast.pipelines.audit import GateReport, check_market, spread
from candlecast.pipelines.demands import feature_names
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.universe import Market, read_market
from candlecast.store.registry import ModelVersion
from candlecast.store.stores import Stores
from candlecast.validation.gates import trial_bars


def promote(
    stores: Stores,
    version: str,
    market: Market | None = None,
    progress: Progress = silent,
    *,
    passed: GateReport | None = None,
) -> ModelVersion:
    """Make `version` the one that serves its timeframe; one that serves already stays.

    Its features have to pass the gates on what it was trained on (`market`, read when it is not
    given), unless `passed` says that they just have; the registered version stays as it is when
    they do not.

    Raises
    ------
    Conflict : a gate failed, named with feature, bar and values; a feature of the user's own could
        not be tried, for lack of history or facts; or the version is retired.
    NotFound : no such version, or a feature of it is not known here.
    """
    known = stores.registry.get(version)
    if known.is_active:
        return known
    spec = ExperimentSpec.from_mapping(orjson.loads(known.spec))
    check_code(spec.features)
    report = passed or check_gates(stores, spec, market, known.training_until, progress=progress)
    _refuse(f"model {version} is registered but may not serve", report)
    stores.registry.activate(version)
    return replace(known, is_active=True)


def refuse_leaks(
    stores: Stores, spec: ExperimentSpec, market: Market, progress: Progress = silent
) -> GateReport:
    """Conflict where a feature of `spec` fails a gate, or one of the user's own could not be tried:
    before anything is made with it.
    """
    report = check_gates(stores, spec, market, progress=progress)
    _refuse("nothing was trained or stored", report)
    return report


def check_gates(
    stores: Stores,
    spec: ExperimentSpec,
    market: Market | None = None,
    as_of: datetime | None = None,
    *,
    progress: Progress = silent,
) -> GateReport:
    """The gates on the features of `spec` over a sample of what was known of them at `as_of`.

    Through `progress` it tells of those that there was too little to try on.
    """
    names = feature_names(spec.features)
    market = market or read_market(
        stores,
        Timeframe.parse(spec.timeframe),
        spread(spec.symbols),
        as_of,
        is_simulation_allowed=spec.allow_simulated,
    )
    report = check_market(stores, market, names, progress=progress)
    if report.untried:
        step = f"too little history, or no facts, to try {', '.join(report.untried)}"
        progress(step, len(report.untried), len(names))
    return report


def _refuse(state: str, report: GateReport) -> None:
    own = tuple(name for name in report.untried if FEATURES.get(name).origin)
    if report.findings:
        raise Conflict(
            f"{state}: {len(report.findings)} values of its features changed that must not, first "
            f"{report.findings[0]}; see them with `{_audit_of(report.failed)}`, mend the feature, "
            "and train again"
        )
    if own:
        raise Conflict(
            f"{state}, for not every gate could try its features: {_what_lacks(own, report)}; "
            f"see `{_audit_of(own)}`"
        )


def _what_lacks(names: tuple[str, ...], report: GateReport) -> str:
    told = []
    if unseen := [name for name in names if name in report.unseen]:
        told.append(f"{', '.join(unseen)} had no value in any bar: add more history, or facts")
    if short := [name for name in names if name not in report.unseen]:
        told.append(
            f"{', '.join(short)} took {max(map(trial_bars, short))} bars without a gap: add more "
            "history, or state fewer warmup_bars and settling_bars if it remembers fewer"
        )
    return "; ".join(told)


def _audit_of(names: tuple[str, ...]) -> str:
    own = sorted({FEATURES.get(name).origin for name in names} - {""})
    files = "".join(f" --feature-file {path}" for path in own)
    return f"candlecast audit --features {','.join(names)}{files}"
