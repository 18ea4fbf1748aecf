"""Which features earn their place, judged on the years before the holdout alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from candlecast.domain.specs import ExperimentSpec
from candlecast.models.conformal import make_model
from candlecast.models.selection import Selection, select_features
from candlecast.pipelines.dataset import make_training_set, read_training_market, weighted
from candlecast.pipelines.demands import check_trainable, resolved
from candlecast.pipelines.progress import Progress, silent
from candlecast.pipelines.promote import refuse_leaks
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
    check_trainable(spec)
    make_model(spec.model, spec.seed)  # an unknown kind or parameter is told before the work
    market = read_training_market(stores, spec, as_of)
    named = resolved(spec, market)
    refuse_leaks(stores, named, market, progress)
    progress("features and labels", 0, 1)
    training = make_training_set(named, market)
    progress("features and labels", 1, 1)
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
