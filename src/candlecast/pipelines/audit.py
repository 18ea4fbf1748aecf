"""Does any feature look ahead on the bars we hold?"""

from __future__ import annotations

from dataclasses import dataclass

from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import Timeframe
from candlecast.features.compute import compute
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.universe import read_market
from candlecast.store.stores import Stores
from candlecast.validation import causality


@dataclass(frozen=True)
class AuditRun:
    """The features that were audited, and every value that the future changed."""

    names: tuple[str, ...]
    findings: tuple[causality.Finding, ...]


def audit_features(
    stores: Stores, timeframe: str, symbols: tuple[str, ...], progress: Progress = silent
) -> AuditRun:
    """Cut and change the future of stored bars and compute every feature again."""
    market = read_market(stores, Timeframe.parse(timeframe), symbols, None)
    names = FEATURES.names()
    progress("audit", 0, 1)
    findings = causality.audit_features(compute, market.prices, names)
    progress("audit", 1, 1)
    return AuditRun(names, tuple(findings))
