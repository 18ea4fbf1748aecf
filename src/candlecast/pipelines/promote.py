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


def promote(
    stores: Stores, version: str, market: Market | None = None, progress: Progress = silent
) -> ModelVersion:
    """Make `version` the one that serves its timeframe; one that serves already stays.

    Its features have to pass the gates on what it was trained on (`market`, read when it is not
    given); the registered version stays as it is when they do not.

    Raises
    ------
    Conflict : a gate failed, named with feature, bar and values; or the version is retired.
    NotFound : no such version, or a feature of it is not known here.
    """
    known = stores.registry.get(version)
    if known.is_active:
        return known
    spec = ExperimentSpec.from_mapping(orjson.loads(known.spec))
    check_code(spec.features)
    report = check_gates(stores, spec, market, known.training_until, progress=progress)
    if report.findings:
        raise Conflict(_refusal(version, report))
    stores.registry.activate(version)
    return replace(known, is_active=True)


def check_gates(
    stores: Stores,
    spec: ExperimentSpec,
    market: Market | None = None,
    as_of: datetime | None = None,
    *,
    progress: Progress = silent,
) -> GateReport:
    """The gates on the features of `spec` over a sample of what was known of them at `as_of`."""
    names = feature_names(spec.features)
    market = market or read_market(
        stores,
        Timeframe.parse(spec.timeframe),
        spread(spec.symbols),
        as_of,
        is_simulation_allowed=spec.allow_simulated,
    )
    return check_market(stores, market, names, progress=progress)


def _refusal(version: str, report: GateReport) -> str:
    own = sorted({FEATURES.get(name).origin for name in report.failed} - {""})
    files = "".join(f" --feature-file {path}" for path in own)
    names = ",".join(report.failed)
    return (
        f"model {version} is registered but may not serve: {len(report.findings)} values of its "
        f"features changed that must not, first {report.findings[0]}; see them with `candlecast "
        f"audit --features {names}{files}`, mend the feature, and train again"
    )
