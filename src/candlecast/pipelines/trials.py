"""Count what was tried: each spec once for each question that it was meant to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from candlecast.domain.described import content_hash, to_mapping
from candlecast.domain.specs import ExperimentSpec
from candlecast.store.stores import Stores
from candlecast.store.trials import TrialRecord, write_trial


def study_of(spec: ExperimentSpec) -> str:
    """The question that `spec` tries to answer: which returns of which symbols.

    Models, features, parameters, weights, seeds and splits are choices; every choice that is
    tried on the same question is one more chance to be lucky.
    """
    labels = spec.labels
    asked = [spec.timeframe, sorted(spec.symbols), spec.allow_simulated]
    return content_hash([*asked, labels.kind, labels.horizons, labels.parameters])


def note_trial(
    stores: Stores, spec: ExperimentSpec, score: float | None, details: Mapping[str, Any]
) -> bool:
    """Count `spec`, with its symbols named, as tried; whether it had not been before."""
    trial = TrialRecord(
        study=study_of(spec),
        spec_id=spec.id,
        spec=orjson.dumps(to_mapping(spec), option=orjson.OPT_SORT_KEYS).decode(),
        kind=spec.model.kind,
        score=score,
        details=orjson.dumps(dict(details), option=orjson.OPT_SORT_KEYS).decode(),
        created_at=stores.clock.now(),
    )
    return write_trial(stores.database, trial)


def overall_skill(report: Mapping[str, Any]) -> float | None:
    """The CRPS skill over climatology of a report, None where nothing of it is settled."""
    overall = report.get("overall")
    return None if overall is None else float(overall["crps_skill_vs_climatology"])
