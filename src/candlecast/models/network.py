"""What the networks share: windows in, quantiles out; trained by torch, served by ONNX Runtime.

1. Targets are returns in units of the symbol's own forecast volatility (`Examples.targets`).
2. The network gives a location and a spread: a middle and positive gaps between the quantiles,
   scaled. At first it gives the shape of the training targets, whatever the row.
3. It is trained on the pinball loss over all levels, and on what was known before the newest part
   of the instants; there it is stopped early, and there it has to prove what it says
   (`network_proof`).
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from candlecast.domain import distribution as dist
from candlecast.domain.distribution import FloatArray, uncrossed
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.normalising import Normaliser
from candlecast.domain.specs import TensorSpec
from candlecast.domain.thresholds import TERCILES
from candlecast.errors import BadArtifact, NotFitted
from candlecast.models.artifact import read_json, write_json
from candlecast.models.network_execution import Training
from candlecast.models.network_graph import make_graph
from candlecast.models.network_operations import (
    Inputs,
    Operations,
    Sizes,
    Tensor,
    Weights,
    distribution,
    shape_constants,
)
from candlecast.models.network_proof import Belief, prior_belief, proven_belief
from candlecast.models.network_training import Rowset, Trainer, spaced
from candlecast.models.network_windows import WindowReader, has_bars, sequences_of
from candlecast.models.onnx_file import PARITY_TOLERANCE, OnnxFile

VALIDATION_SHARE: Final = 0.2
"""The newest part of the training instants stops the training and proves what was learnt."""
PARITY_ROWS: Final = 64
GRAPH, WEIGHTS, STATE = "network.onnx", "weights.safetensors", "model.json"


class SequenceNetwork(ABC):
    """A distribution by a network that looks at windows of one or more timeframes.

    Parameters
    ----------
    training : how it is trained.

    Notes
    -----
    A step whose features are not all known is masked. A row whose windows hold no bar at all is
    given the shape of the training targets about their drift. See `network` for the steps, and
    `Rows` and `Examples` for shapes and units.

    Raises
    ------
    NotFitted when asked before `fit`; InvalidSpec for rows without windows, or with others than
    those learnt from, or without torch; FitFailed when a horizon has fewer than 40 examples or
    the loss is no number.
    """

    is_compilable: ClassVar[bool] = True
    """Whether a compiler makes it faster on a GPU."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._reader: WindowReader | None = None
        self._belief: Belief | None = None
        self._graph: OnnxFile | None = None
        self._weights = b""
        self._parity_gap = 0.0

    @abstractmethod
    def make_weights(self, rng: np.random.Generator, sizes: Sizes) -> Weights:
        """All that is learnt, as it stands before; heads by `head_weights`."""

    def make_constants(self, sizes: Sizes) -> Weights:
        """What the network needs besides and does not learn; nothing by default."""
        return {}

    @abstractmethod
    def trunk(self, ops: Operations, inputs: Inputs, sizes: Sizes) -> tuple[Tensor, Tensor | None]:
        """(batch, n) numbers that the heads stand on, and (batch, steps, timeframes) attention."""

    def fit(self, examples: Examples) -> Self:
        """Train on the earlier examples, and find out on the later ones what to believe."""
        reader = WindowReader.fitted(examples)
        prior = prior_belief(examples)
        sizes = reader.sizes(len(examples.horizons))
        constants = self.make_constants(sizes) | shape_constants(prior.shape)
        weights = self.make_weights(np.random.default_rng(self._training.seed), sizes)
        examples = replace(examples, weight=examples.weight / examples.weight.mean())
        days = np.unique(examples.as_of)
        cut = days[int(len(days) * (1 - VALIDATION_SHARE))]
        early, later = examples.known_by(cut), examples.take(examples.as_of > cut)
        trainer = Trainer(
            lambda ops, inputs: self.trunk(ops, inputs, sizes),
            self._training,
            sizes.n_horizons,
            is_compilable=self.is_compilable,
        )
        bounds = dist.quantile(prior.shape, TERCILES)
        rowsets = [Rowset(part, reader, prior.drift, bounds) for part in (early, later)]
        weights = trainer.fit(weights, constants, rowsets[0], rowsets[1])
        self._reader = reader
        self._graph = _opened(make_graph(weights | constants, sizes, self._compute(sizes)))
        self._weights = _as_safetensors(weights)
        tried = later.take(spaced(len(later), self._training.max_validation_rows))
        location, spread, _ = self._run(tried)
        self._belief = proven_belief(prior, location, spread, tried)
        probe = examples.take(spaced(len(examples), PARITY_ROWS))
        self._parity_gap = self._checked(probe, trainer.answers(weights | constants, reader, probe))
        return self

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return."""
        if self._belief is None:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        location, spread, _ = self._run(rows)
        standard = self._belief.quantiles(location, spread)
        return uncrossed(standard * rows.horizon_scale()[..., None])

    def save(self, folder: Path) -> None:
        """Write the graph, the weights for those who would train on, and model.json."""
        if self._belief is None or self._reader is None or self._graph is None:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        (folder / GRAPH).write_bytes(self._graph.content)
        (folder / WEIGHTS).write_bytes(self._weights)
        spec = self._reader.spec
        state = {
            "seed": self._training.seed,
            "tensors": {
                "timeframes": list(spec.timeframes),
                "features": list(spec.features),
                "n_steps": spec.n_steps,
            },
            "normaliser": self._reader.normaliser.to_mapping(),
            "belief": self._belief.to_mapping(),
            "parity_gap": self._parity_gap,
        }
        write_json(folder / STATE, state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; torch is not needed."""
        state = read_json(folder / STATE)
        model = cls(seed=state["seed"])  # type: ignore[call-arg]
        spec = TensorSpec.from_mapping(state["tensors"])
        model._reader = WindowReader(spec, Normaliser.from_mapping(state["normaliser"]))
        model._belief = Belief.from_mapping(state["belief"])
        model._graph = OnnxFile(folder / GRAPH)
        model._weights = (folder / WEIGHTS).read_bytes()
        model._parity_gap = state["parity_gap"]
        return model

    def _compute(self, sizes: Sizes) -> Any:
        def compute(ops: Operations, inputs: Inputs) -> dict[str, Tensor]:
            trunk, attention = self.trunk(ops, inputs, sizes)
            location, spread, _ = distribution(ops, trunk, sizes.n_horizons)
            outputs = {"location": location, "spread": spread}
            return outputs if attention is None else outputs | {"attention": attention}

        return compute

    def _run(self, rows: Rows) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        # Rows without any bar are given no location, the shape itself, and no attention.
        if self._reader is None or self._graph is None:
            raise NotFitted("the model is not fitted; call fit(examples) first")
        parts, is_seen = [], []
        for place, inputs in self._reader.batches(self._reader.check(rows)):
            n = place.stop - place.start
            found = self._graph.run(inputs.values, inputs.mask, inputs.age)
            parts.append([output[:n] for output in found])
            is_seen.append(has_bars(inputs)[:n])
        location, spread, *rest = (
            np.concatenate(column).astype(float) for column in zip(*parts, strict=True)
        )
        seen = np.concatenate(is_seen)
        location[~seen] = 0.0
        if self._belief is not None:
            spread[~seen] = self._belief.shape
        if not rest:
            return location, spread, None
        rest[0][~seen] = 0.0
        return location, spread, rest[0]

    def _checked(self, probe: Rows, expected: tuple[FloatArray, FloatArray]) -> float:
        # Quantiles near zero are as exact as others: gaps count in units of volatility.
        seen = has_bars(self._reader.inputs(sequences_of(probe), np.arange(len(probe))))  # type: ignore[union-attr]
        location, spread, _ = self._run(probe)
        gaps = [
            np.abs(ours - theirs)[seen] / np.maximum(np.abs(theirs[seen]), 1.0)
            for ours, theirs in zip((location, spread), expected, strict=True)
        ]
        gap = float(max(part.max(initial=0.0) for part in gaps))
        if not gap <= PARITY_TOLERANCE:
            raise BadArtifact(
                f"the ONNX form of the network is off by {gap:.2g} (allowed {PARITY_TOLERANCE}); "
                "lower learning_rate"
            )
        return gap


def _opened(content: bytes) -> OnnxFile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GRAPH
        path.write_bytes(content)
        return OnnxFile(path)


def _as_safetensors(weights: Weights) -> bytes:
    from safetensors.numpy import save

    return bytes(save(dict(sorted(weights.items()))))
