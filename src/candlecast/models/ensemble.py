"""Ensembles of given weights: one distribution out of those of several models.

Voting mixes the members' distributions: the distribution function is the weighted average of
theirs, and so is the probability of every class; where members disagree the mixture is wider than
each. Averaging takes the weighted average of their quantiles: as wide as the members on average.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from candlecast.domain.catalog import MODELS, Attributed, Model
from candlecast.domain.distribution import FloatArray, uncrossed
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.mixture import mixture_quantiles
from candlecast.errors import BadArtifact, InvalidSpec, NotFitted
from candlecast.models.artifact import read_json, write_json

Members = tuple[Callable[[], Model], ...]
MAX_MEMBERS: Final = 16


class Ensemble(ABC):
    """Members and their weight at each horizon; what every kind of ensemble shares.

    Parameters
    ----------
    seed : int, noted down; the members are made with their own.
    members : functions that make a fresh model each.

    Notes
    -----
    Members get all rows with all they carry (features, history, sequences), so any model can be
    one. Shapes, units and NaN policy are those of the members. Saved as model.json with each
    member in a folder of its own, ``member_0`` and so on.

    Raises
    ------
    NotFitted when asked before `fit`; InvalidSpec for more than 16 members; BadArtifact when what
    was saved names a kind that is not known here. What the members raise is passed on.
    """

    def __init__(self, *, seed: int = 7, members: Members = ()) -> None:
        if len(members) > MAX_MEMBERS:
            raise InvalidSpec(f"{len(members)} members; an ensemble takes {MAX_MEMBERS} at most")
        self.seed = seed
        self.models: tuple[Model, ...] = ()
        self.weights: FloatArray = np.empty((0, 0))  # (n_horizons, n_members), rows sum to 1
        self._make_members = members

    @abstractmethod
    def fit_weights(self, examples: Examples) -> FloatArray:
        """(n_horizons, n_members): what each member counts, not negative, summing to 1."""

    @abstractmethod
    def combined(self, quantiles: FloatArray) -> FloatArray:
        """(n_rows, n_horizons, 17) from the members' (n_rows, n_horizons, n_members, 17)."""

    def fit(self, examples: Examples) -> Self:
        """Settle the weights, and fit every member on all examples."""
        if not self._make_members:
            raise NotFitted(
                "the ensemble has no members to fit; a loaded one answers only: make it from its "
                "spec, with [[model.members]]"
            )
        self.weights = self.fit_weights(examples)
        self.models = tuple(make().fit(examples) for make in self._make_members)
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return."""
        if not self.models:
            raise NotFitted("the ensemble is not fitted; call fit(examples) first")
        return uncrossed(self.combined(np.stack([m.predict(rows) for m in self.models], axis=2)))

    def importances(self) -> dict[str, float]:
        """The members' shares, weighted as the members are; those that know none are left out."""
        total: dict[str, float] = {}
        for weight, model in self._attributed(self.weights.mean(axis=0)):
            for name, share in model.importances().items():
                total[name] = total.get(name, 0.0) + float(weight) * share
        known = sum(total.values())
        return {name: share / known for name, share in total.items()} if known > 0 else {}

    def contributions(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, n_features): the weighted average of the members' own; those that
        know none add nothing.
        """
        result = np.zeros((len(rows), len(rows.horizons), len(rows.feature_names)))
        for weight, model in self._attributed(self.weights.T):
            result += weight[:, None] * model.contributions(rows)
        return result

    def save(self, folder: Path) -> None:
        """Write model.json, and each member into a folder of its own."""
        if not self.models:
            raise NotFitted("the ensemble is not fitted; call fit(examples) first")
        for number, model in enumerate(self.models):
            place = folder / f"member_{number}"
            place.mkdir()
            model.save(place)
        kinds = [_kind_of(model) for model in self.models]
        state = {"kinds": kinds, "weights": self.weights.tolist(), "seed": self.seed}
        write_json(folder / "model.json", state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder / "model.json")
        kinds = state["kinds"]
        if not 0 < len(kinds) <= MAX_MEMBERS or any(kind not in MODELS for kind in kinds):
            raise BadArtifact(f"{folder.name} has members {kinds}, which this program cannot load")
        ensemble = cls(seed=state["seed"])
        ensemble.weights = weights = np.array(state["weights"], dtype=float)
        is_sound = weights.ndim == 2 and weights.shape[1] == len(kinds) and (weights >= 0).all()
        if not is_sound or np.abs(weights.sum(axis=1) - 1).max(initial=0.0) > 1e-6:
            raise BadArtifact(
                f"{folder.name} gives no weights to its members; run `candlecast train`"
            )
        ensemble.models = tuple(
            MODELS.get(kind).load(folder / f"member_{number}")  # type: ignore[attr-defined]
            for number, kind in enumerate(kinds)
        )
        return ensemble

    def _attributed(self, weights: FloatArray) -> list[tuple[Any, Attributed]]:
        pairs = zip(weights, self.models, strict=True)
        return [(weight, model) for weight, model in pairs if isinstance(model, Attributed)]


class WeightedEnsemble(Ensemble):
    """An ensemble whose weights are given, the same for all horizons."""

    def __init__(self, *, seed: int = 7, weights: str = "", members: Members = ()) -> None:
        super().__init__(seed=seed, members=members)
        self._given = parsed_weights(weights, len(members))

    def fit_weights(self, examples: Examples) -> FloatArray:
        """The given ones."""
        return np.tile(self._given, (len(examples.horizons), 1))


@MODELS.register("voting")
class Voting(WeightedEnsemble):
    """Soft vote: the mixture of the members' distributions.

    Parameters
    ----------
    weights : str, a number for each member with commas, such as ``2,1``; equal when empty.
    seed, members : as in `Ensemble`, which tells shapes and errors.

    References
    ----------
    Stone (1961), The opinion pool, Annals of Mathematical Statistics 32(4): the linear pool.
    """

    def combined(self, quantiles: FloatArray) -> FloatArray:
        """Quantiles of the mixture."""
        return mixture_quantiles(quantiles, self.weights)


@MODELS.register("averaging")
class Averaging(WeightedEnsemble):
    """The weighted average of the members' quantiles.

    Parameters
    ----------
    weights : str, a number for each member with commas, such as ``2,1``; equal when empty.
    seed, members : as in `Ensemble`, which tells shapes and errors.

    References
    ----------
    Lichtendahl, Grushka-Cockayne and Winkler (2013), Is it better to average probabilities or
    quantiles?, Management Science 59(7).
    """

    def combined(self, quantiles: FloatArray) -> FloatArray:
        """The average at each level."""
        return averaged(quantiles, self.weights)


def averaged(quantiles: FloatArray, weights: FloatArray) -> FloatArray:
    """(n_rows, n_horizons, 17): `weights` (n_horizons, n_members) times the members' quantiles."""
    return np.asarray((quantiles * weights[..., None]).sum(axis=2))


def parsed_weights(text: str, n_members: int) -> FloatArray:
    """(n_members,) from numbers with commas, scaled to sum to 1; equal when `text` is empty."""
    if not text:
        return np.full(n_members, 1 / max(n_members, 1))
    try:
        given = np.array([float(part) for part in text.split(",")])
    except ValueError as error:
        raise InvalidSpec(f"weights {text!r}: write numbers with commas, such as 2,1") from error
    is_sound = bool((given >= 0).all()) and 0 < float(given.sum()) < math.inf
    if len(given) != n_members or not is_sound:
        raise InvalidSpec(
            f"weights {text!r}: give {n_members} numbers, one a member, none negative, not all 0"
        )
    return np.asarray(given / given.sum())


def _kind_of(model: Model) -> str:
    for name in MODELS.names():
        if MODELS.get(name) is type(model):
            return name
    raise BadArtifact(f"{type(model).__name__} is not in the catalogue; register it to save it")
