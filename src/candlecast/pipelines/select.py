"""Which features earn their place, judged on the years before the holdout alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from candlecast.domain.specs import ExperimentSpec
from candlecast.models.conformal import make_model
from candlecast.models.selection import Selection, select_features
from candlecast.pipelines.dataset import weighted
from candlecast.pipelines.gated import make_gated_set, read_experiment
from candlecast.pipelines.progress import Progress, silent
from candlecast.store.stores import Stores
from candlecast.validation.splits import before_holdout, walk_forward_splits


def select(
    stores: Stores,
    spec: ExperimentSpec,
    *,
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> Selection:
    """What each feature of `spec` is worth to its model, out of sample, never on the holdout.

    Conflict names a feature that fails a gate.
    """
    named, market = read_experiment(stores, spec, as_of)
    training, _ = make_gated_set(stores, named, market, progress)
    examples = before_holdout(training.examples, spec.splits)
    splits = walk_forward_splits(examples.as_of, replace(spec.splits, holdout_share=0.0))
    progress("importances", 0, 1)
    found = select_features(
        lambda past: make_model(spec.model, spec.seed).fit(weighted(past, spec.labels)),
        examples,
        splits,
        spec.seed,
    )
    progress("importances", 1, 1)
    return found
