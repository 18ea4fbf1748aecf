"""LSTM: a network that reads the last bars one after the other and remembers what it needs."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np

from candlecast.domain.catalog import MODELS
from candlecast.domain.specs import TensorSpec
from candlecast.models.network import SequenceNetwork
from candlecast.models.network_execution import Training
from candlecast.models.network_operations import (
    Inputs,
    Operations,
    Sizes,
    Tensor,
    Weights,
    head_weights,
)
from candlecast.models.network_windows import shown_features

N_STEPS: Final = 60
FORGET_BIAS: Final = 1.0
"""At first the memory keeps what it holds (Jozefowicz et al. 2015)."""


@MODELS.register("lstm")
class Lstm(SequenceNetwork):
    """Two LSTM layers over the last 60 bars, with heads for location, scale and shape.

    Parameters
    ----------
    seed : int, for weights, order of rows and dropout.
    n_hidden, n_layers, dropout : the layers, those of one timeframe beside those of the next.
    learning_rate, weight_decay, batch_size : of AdamW.
    n_epochs, max_rows, max_batches : it is trained on a sample of at most `max_rows` rows, at most
        `n_epochs` times, in at most `max_batches` batches.
    max_validation_rows, patience : tried on so many later rows twelve times in a full training, it
        stops after `patience` tries without progress.
    device : auto, cpu or cuda.
    n_jobs : int, threads; sums of more threads differ in the last digits.

    Notes
    -----
    The newest features of the finest timeframe also reach the heads directly, so that what does
    not need a memory does not pass through one. See `SequenceNetwork` for the rest.

    References
    ----------
    Hochreiter and Schmidhuber (1997), Neural Computation 9(8); forget gates as in Gers,
    Schmidhuber and Cummins (2000), Neural Computation 12(10).
    """

    is_compilable: ClassVar[bool] = False  # each layer is one kernel of the device's library
    search_space: ClassVar[dict[str, Any]] = {
        "n_hidden": {"low": 16, "high": 96, "log": True},
        "n_layers": {"low": 1, "high": 2},
        "dropout": {"low": 0.0, "high": 0.4},
        "learning_rate": {"low": 0.0005, "high": 0.01, "log": True},
        "weight_decay": {"low": 0.005, "high": 0.2, "log": True},
    }

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_hidden: int = 50,
        n_layers: int = 2,
        dropout: float = 0.2,
        learning_rate: float = 0.002,
        weight_decay: float = 0.05,
        batch_size: int = 256,
        n_epochs: int = 4,
        max_rows: int = 60_000,
        max_batches: int = 400,
        max_validation_rows: int = 6_000,
        patience: int = 6,
        device: str = "auto",
        n_jobs: int = 1,
    ) -> None:
        super().__init__(
            Training(
                learning_rate, batch_size, n_epochs, max_rows, max_batches,
                max_validation_rows, weight_decay, patience, device, n_jobs, seed,
            )
        )  # fmt: skip
        if min(n_hidden, n_layers) < 1 or not 0 <= dropout < 1:
            raise ValueError("n_hidden and n_layers are at least 1, dropout lies in [0, 1)")
        self._n_hidden, self._n_layers, self._dropout = n_hidden, n_layers, dropout

    @classmethod
    def default_tensors(cls, timeframe: str, features: tuple[str, ...]) -> TensorSpec:
        """The last 60 bars of `timeframe` with all features made of prices."""
        return TensorSpec((timeframe,), shown_features(features), N_STEPS)

    def make_weights(self, rng: np.random.Generator, sizes: Sizes) -> Weights:
        """The layers of each timeframe, and the heads."""
        weights: Weights = {}
        bound = 1 / np.sqrt(self._n_hidden)
        n_gates = 4 * self._n_hidden
        for place in range(sizes.n_timeframes):
            n_inputs = sizes.n_features + 1
            for layer in range(self._n_layers):
                shapes = {
                    "input": (n_gates, n_inputs),
                    "hidden": (n_gates, self._n_hidden),
                    "input_bias": (n_gates,),
                    "hidden_bias": (n_gates,),
                }
                for part, shape in shapes.items():
                    drawn = rng.uniform(-bound, bound, shape).astype(np.float32)
                    weights[f"lstm.{place}.{layer}.{part}"] = drawn
                forget = slice(self._n_hidden, 2 * self._n_hidden)
                weights[f"lstm.{place}.{layer}.input_bias"][forget] = FORGET_BIAS
                n_inputs = self._n_hidden
        n_trunk = sizes.n_timeframes * (self._n_hidden + 2) + sizes.n_features
        return weights | head_weights(n_trunk, sizes.n_horizons)

    def trunk(self, ops: Operations, inputs: Inputs, sizes: Sizes) -> tuple[Tensor, Tensor | None]:
        """The newest state of each timeframe, its age, and the newest features of the finest."""
        shown = ops.reshape(inputs.mask, (-1, sizes.n_steps, sizes.n_timeframes, 1))
        steps = ops.concat([inputs.values, shown], 3)
        parts = []
        for place in range(sizes.n_timeframes):
            states = ops.select(steps, 2, place)
            for layer in range(self._n_layers):
                if layer > 0:
                    states = ops.dropout(states, self._dropout)
                states = ops.lstm(states, f"lstm.{place}.{layer}", self._n_hidden)
            parts.append(ops.dropout(ops.select(states, 1, sizes.n_steps - 1), self._dropout))
            parts.append(ops.select(inputs.age, 1, place))
        parts.append(ops.select(ops.select(inputs.values, 2, 0), 1, sizes.n_steps - 1))
        return ops.concat(parts, 1), None
