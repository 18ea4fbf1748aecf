"""What every run of an experiment begins with: the market that is known, gates that it passed."""

from __future__ import annotations

from datetime import datetime

from candlecast.domain.specs import ExperimentSpec
from candlecast.models.conformal import make_model
from candlecast.pipelines.audit import GateReport
from candlecast.pipelines.dataset import TrainingSet, make_training_set, read_training_market
from candlecast.pipelines.demands import check_trainable, resolved
from candlecast.pipelines.progress import Progress
from candlecast.pipelines.promote import refuse_leaks
from candlecast.pipelines.universe import Market
from candlecast.store.stores import Stores


def read_experiment(
    stores: Stores, spec: ExperimentSpec, as_of: datetime | None
) -> tuple[ExperimentSpec, Market]:
    """`spec` with all that it stands for by name, and the market that was known at `as_of`.

    What cannot be trained, an unknown kind or parameter among it, is refused before the reading.
    """
    check_trainable(spec)
    make_model(spec.model, spec.seed)
    market = read_training_market(stores, spec, as_of)
    return resolved(spec, market), market


def make_gated_set(
    stores: Stores, spec: ExperimentSpec, market: Market, progress: Progress
) -> tuple[TrainingSet, GateReport]:
    """The training set of `spec`, and what the gates said; Conflict names a feature that fails."""
    passed = refuse_leaks(stores, spec, market, progress)
    progress("features and labels", 0, 1)
    training = make_training_set(spec, market)
    progress("features and labels", 1, 1)
    return training, passed
