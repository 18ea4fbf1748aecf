"""How much of what a network says is believed: only what it proved on rows it was not fitted on.

A forecast starts from the shape that the training targets have, whatever the row. The network's
spread replaces it by as much as that helped on later rows, and its location counts only where it
was clearly right there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from candlecast.domain.distribution import LEVELS, SCORES, FloatArray
from candlecast.domain.examples import Examples
from candlecast.errors import FitFailed
from candlecast.metrics import pinball
from candlecast.models.evidence import proven_slope, shrunk_drift

MIN_EXAMPLES: Final = 40
SHAPE_PRIOR: Final = 50.0
"""Independent outcomes that the Gaussian shape is worth beside the training targets' own."""
TRUSTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Belief:
    """What stands before the network, and how far the network may move it; one for each horizon.

    Attributes
    ----------
    drift : (n_horizons,) expected target
    shape : (n_horizons, 17) quantiles of the targets about their mean
    location_trust : (n_horizons,) in [0, 1], what the network's location counts
    spread_trust : (n_horizons,) in [0, 1], what its spread counts beside `shape`
    """

    drift: FloatArray
    shape: FloatArray
    location_trust: FloatArray
    spread_trust: FloatArray

    def quantiles(self, location: FloatArray, spread: FloatArray) -> FloatArray:
        """(n_rows, n_horizons, 17) of the target."""
        trust = self.spread_trust[:, None]
        centre = self.drift + self.location_trust * location
        return np.asarray(centre[..., None] + (1 - trust) * self.shape + trust * spread)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: values.tolist() for name, values in asdict(self).items()}

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Belief:
        """What `to_mapping` gave."""
        return cls(**{name: np.array(value, dtype=float) for name, value in values.items()})


def prior_belief(examples: Examples) -> Belief:
    """Before the network is believed: shrunk drift and the shape of the targets.

    FitFailed for a horizon with fewer than 40 examples.
    """
    targets = examples.targets()
    drifts, shapes = [], []
    for horizon, name in enumerate(examples.horizons):
        known = ~np.isnan(targets[:, horizon])
        if known.sum() < MIN_EXAMPLES:
            raise FitFailed(
                f"horizon {name} has {known.sum()} examples and needs {MIN_EXAMPLES}; ingest "
                "more history or ask for fewer splits"
            )
        target = targets[known, horizon]
        weight = examples.weight[known]
        n_effective = examples.n_effective(horizon)
        mean, square = (float(np.average(target**power, weights=weight)) for power in (1, 2))
        outcomes = weight * (n_effective / weight.sum())
        drifts.append(shrunk_drift(target, outcomes, int(examples.horizon_bars[horizon])))
        trust = n_effective / (n_effective + SHAPE_PRIOR)
        own = np.quantile(target - mean, LEVELS)
        shapes.append(trust * own + (1 - trust) * np.sqrt(square) * SCORES)
    nothing = np.zeros(len(drifts))
    return Belief(np.array(drifts), np.array(shapes), nothing, nothing)


def proven_belief(
    prior: Belief, location: FloatArray, spread: FloatArray, later: Examples
) -> Belief:
    """`prior` with what the network's answers to `later` examples, unknown to it, have proved."""
    targets, dates = later.targets(), later.dates()
    n_horizons = targets.shape[1]
    found = np.zeros((2, n_horizons))
    for horizon in range(n_horizons):
        known = ~np.isnan(targets[:, horizon])
        if known.sum() < MIN_EXAMPLES:
            continue
        target = targets[known, horizon] - prior.drift[horizon]
        found[0, horizon] = proven_slope(
            location[known, horizon], target, dates[known], int(later.horizon_bars[horizon])
        )
        centred = (target - found[0, horizon] * location[known, horizon])[:, None]
        weight = later.weight[known]
        losses = [
            np.average(
                pinball((1 - trust) * prior.shape[horizon] + trust * spread[known, horizon],
                        centred[:, 0]),
                weights=weight,
            )
            for trust in TRUSTS
        ]  # fmt: skip
        found[1, horizon] = TRUSTS[int(np.argmin(losses))]
    return Belief(prior.drift, prior.shape, found[0], found[1])
