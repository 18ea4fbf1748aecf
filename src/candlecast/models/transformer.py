"""Transformer: attention over the bars of each timeframe and over the timeframes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.catalog import MODELS
from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Rows
from candlecast.domain.market import Timeframe
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
    linear,
    matrix,
    zeros,
)
from candlecast.models.network_windows import shown_features

N_STEPS: Final = 60
COARSER: Final = ("5m", "15m", "1h", "1d")
"""Beside the timeframe that is forecast from stand those of these that are coarser."""
MAX_WARMUP_BARS: Final = 66
"""Features that need longer are unknown for most of a year of days."""
MASKED: Final = 1e9
"""Taken from the score of what is not there; its share is 0 then."""
LONGEST_WAVE: Final = 10_000.0


@dataclass(frozen=True)
class Attention:
    """Multi-head attention with its feed-forward part, each added to what it was given.

    Normalised before each part (Xiong et al. 2020). All tensors are (n, length, width).
    """

    n_length: int
    n_width: int
    n_heads: int
    dropout: float

    def weights(self, rng: np.random.Generator, name: str) -> Weights:
        """Of one layer, beginning with `name`."""
        width, inner = self.n_width, 2 * self.n_width
        found = {f"{name}.{part}.weight": matrix(rng, width, width) for part in ("key", "value")}
        found |= {f"{name}.query.weight": matrix(rng, width, width)}
        found |= {f"{name}.out.weight": matrix(rng, width, width)}
        found |= {f"{name}.wide.weight": matrix(rng, width, inner)}
        found |= {f"{name}.narrow.weight": matrix(rng, inner, width)}
        found[f"{name}.out.bias"] = zeros(width)
        found |= {f"{name}.wide.bias": zeros(inner), f"{name}.narrow.bias": zeros(width)}
        for part in ("first", "second"):
            found[f"{name}.{part}.scale"], found[f"{name}.{part}.offset"] = (
                zeros(width) + 1,
                zeros(width),
            )
        return found

    def readout_weights(self, rng: np.random.Generator, name: str) -> Weights:
        """Of a readout: what it looks for, and what it takes."""
        width = self.n_width
        found = {f"{name}.{part}.weight": matrix(rng, width, width) for part in ("key", "value")}
        found[f"{name}.query"] = matrix(rng, self.n_heads, 1, width // self.n_heads)
        found[f"{name}.norm.scale"], found[f"{name}.norm.offset"] = zeros(width) + 1, zeros(width)
        return found

    def layer(self, ops: Operations, x: Tensor, bias: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """What becomes of `x`, and (n, length, length) attention, averaged over the heads."""
        normed = self._normed(ops, x, f"{name}.first")
        query = self._split(ops, normed, f"{name}.query")
        mixed, shares = self._attend(ops, query, normed, bias, name)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, self.n_length, self.n_width))
        x = ops.add(x, ops.dropout(linear(ops, mixed, f"{name}.out"), self.dropout))
        wide = linear(ops, self._normed(ops, x, f"{name}.second"), f"{name}.wide")
        narrow = linear(ops, ops.elementwise("relu", wide), f"{name}.narrow")
        return ops.add(x, ops.dropout(narrow, self.dropout)), ops.mean(shares, 1)

    def readout(self, ops: Operations, x: Tensor, bias: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """(n, width) of what a learnt query looks for, and (n, 1, length) where it looked."""
        normed = self._normed(ops, x, f"{name}.norm")
        mixed, shares = self._attend(ops, ops.weight(f"{name}.query"), normed, bias, name)
        return ops.reshape(mixed, (-1, self.n_width)), ops.mean(shares, 1)

    def _attend(
        self, ops: Operations, query: Tensor, x: Tensor, bias: Tensor, name: str
    ) -> tuple[Tensor, Tensor]:
        # (n, heads, queries, width of a head) and (n, heads, queries, length).
        key = self._split(ops, x, f"{name}.key")
        value = self._split(ops, x, f"{name}.value")
        query = ops.scaled(query, float(1 / np.sqrt(self.n_width // self.n_heads)))
        product = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        shares = ops.softmax(ops.add(product, bias))
        return ops.matmul(shares, value), shares

    def _split(self, ops: Operations, x: Tensor, name: str) -> Tensor:
        # (n, heads, length, width of a head)
        x = ops.matmul(x, ops.weight(f"{name}.weight"))
        parts = (-1, self.n_length, self.n_heads, self.n_width // self.n_heads)
        return ops.transpose(ops.reshape(x, parts), (0, 2, 1, 3))

    def _normed(self, ops: Operations, x: Tensor, name: str) -> Tensor:
        return ops.layer_norm(x, ops.weight(f"{name}.scale"), ops.weight(f"{name}.offset"))


@MODELS.register("transformer")
class Transformer(SequenceNetwork):
    """Attention over the last bars of each timeframe, then over the timeframes.

    Parameters
    ----------
    seed : int, for weights, order of rows and dropout.
    n_width, n_heads, n_layers, dropout : of the encoder that all timeframes share; one more layer
        stands over the timeframes.
    learning_rate, weight_decay, batch_size, n_epochs, max_rows, max_batches,
    max_validation_rows, patience, device, n_jobs : as for the LSTM.

    Notes
    -----
    Bars are told apart by their place before the newest (sinusoids), timeframes by their own
    projection and by how old their newest bar is. Heads give the distribution, and in training
    also the class (terciles in units of volatility). `attention` is followed through all layers
    (attention rollout), half of each being what it is added to. The newest features of the finest
    timeframe also reach the heads directly, so that attention is free for what they do not tell.
    See `SequenceNetwork`.

    References
    ----------
    Vaswani et al. (2017), "Attention is all you need", NeurIPS 30; Abnar and Zuidema (2020),
    "Quantifying attention flow in transformers", ACL, eq. 1, for the attention that is told.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "n_width": {"choices": [16, 32, 64]},
        "n_layers": {"low": 1, "high": 3},
        "dropout": {"low": 0.0, "high": 0.4},
        "learning_rate": {"low": 0.0005, "high": 0.01, "log": True},
        "weight_decay": {"low": 0.005, "high": 0.2, "log": True},
    }

    def __init__(  # noqa: PLR0913 - one argument a parameter of the model
        self,
        *,
        seed: int = 7,
        n_width: int = 32,
        n_heads: int = 2,
        n_layers: int = 1,
        dropout: float = 0.1,
        learning_rate: float = 0.002,
        weight_decay: float = 0.05,
        batch_size: int = 256,
        n_epochs: int = 4,
        max_rows: int = 60_000,
        max_batches: int = 300,
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
        if min(n_width, n_heads, n_layers) < 1 or n_width % n_heads or not 0 <= dropout < 1:
            raise ValueError(
                "n_width is a multiple of n_heads, both and n_layers are at least 1, and dropout "
                "lies in [0, 1)"
            )
        self._n_layers, self._dropout = n_layers, dropout
        self._n_width, self._n_heads = n_width, n_heads

    @classmethod
    def default_tensors(cls, timeframe: str, features: tuple[str, ...]) -> TensorSpec:
        """The last 60 bars of `timeframe` and of 5m, 15m, 1h and 1d where they are coarser."""
        own = Timeframe.parse(timeframe)
        coarser = tuple(name for name in COARSER if Timeframe.parse(name) > own)
        most = MAX_WARMUP_BARS if coarser else None
        shown = shown_features(features, max_warmup_bars=most)
        return TensorSpec((own.name, *coarser), shown, N_STEPS)

    def attention(self, rows: Rows) -> FloatArray:
        """(n_rows, n_steps, n_timeframes) shares that sum to 1 in each row, newest step last.

        0 where masked, and for a row without any bar.
        """
        _, _, found = self._run(rows)
        assert found is not None
        total = found.sum(axis=(1, 2), keepdims=True)
        return np.asarray(np.divide(found, total, out=np.zeros_like(found), where=total > 0))

    def make_weights(self, rng: np.random.Generator, sizes: Sizes) -> Weights:
        """Projections, encoder, readouts, the layer over the timeframes, and the heads."""
        within, across = self._parts(sizes)
        width = self._n_width
        weights = {
            "bars.weight": matrix(rng, sizes.n_timeframes, sizes.n_features, width),
            "bars.bias": zeros(sizes.n_timeframes, 1, width),
            "age.weight": matrix(rng, sizes.n_timeframes, 2, width),
        }
        for layer in range(self._n_layers):
            weights |= within.weights(rng, f"within.{layer}")
        weights |= within.readout_weights(rng, "bar")
        if sizes.n_timeframes > 1:
            weights |= across.weights(rng, "across") | across.readout_weights(rng, "timeframe")
        return weights | head_weights(width + sizes.n_features, sizes.n_horizons)

    def make_constants(self, sizes: Sizes) -> Weights:
        """Where a bar stands before the newest."""
        return {"places": _places(sizes.n_steps, self._n_width)}

    def trunk(self, ops: Operations, inputs: Inputs, sizes: Sizes) -> tuple[Tensor, Tensor | None]:
        """What the readouts found and where, and beside it the newest bar."""
        found, shares = self._attended(ops, inputs, sizes)
        newest = ops.select(ops.select(inputs.values, 2, 0), 1, sizes.n_steps - 1)
        return ops.concat([found, newest], 1), shares

    def _attended(self, ops: Operations, inputs: Inputs, sizes: Sizes) -> tuple[Tensor, Tensor]:
        # (batch, width), and (batch, steps, timeframes) of where it comes from.
        within, across = self._parts(sizes)
        steps, timeframes, width = sizes.n_steps, sizes.n_timeframes, self._n_width
        x, mask = self._embedded(ops, inputs, sizes)
        bias = ops.reshape(ops.scaled(mask, MASKED, -MASKED), (-1, 1, 1, steps))
        flows = []
        for layer in range(self._n_layers):
            x, shares = within.layer(ops, x, bias, f"within.{layer}")
            flows.append(shares)
        found, looked = within.readout(ops, x, bias, "bar")
        looked = ops.reshape(_followed(ops, looked, flows), (-1, timeframes, steps))
        if timeframes == 1:
            return found, ops.transpose(looked, (0, 2, 1))
        has_bars = ops.elementwise("tanh", ops.scaled(ops.mean(mask, 2), MASKED))
        bias = ops.reshape(ops.scaled(has_bars, MASKED, -MASKED), (-1, 1, 1, timeframes))
        tokens = ops.reshape(found, (-1, timeframes, width))
        tokens, shares = across.layer(ops, tokens, bias, "across")
        found, chosen = across.readout(ops, tokens, bias, "timeframe")
        chosen = ops.reshape(_followed(ops, chosen, [shares]), (-1, timeframes, 1))
        return found, ops.transpose(ops.multiply(looked, chosen), (0, 2, 1))

    def _embedded(self, ops: Operations, inputs: Inputs, sizes: Sizes) -> tuple[Tensor, Tensor]:
        # (batch * timeframes, steps, width), and the mask as (batch, timeframes, steps).
        values = ops.transpose(inputs.values, (0, 2, 1, 3))
        age = ops.reshape(inputs.age, (-1, sizes.n_timeframes, 1, 2))
        aged = ops.add(ops.matmul(age, ops.weight("age.weight")), ops.weight("bars.bias"))
        told = ops.add(aged, ops.weight("places"))
        bars = ops.add(ops.matmul(values, ops.weight("bars.weight")), told)
        x = ops.reshape(bars, (-1, sizes.n_steps, self._n_width))
        return x, ops.transpose(inputs.mask, (0, 2, 1))

    def _parts(self, sizes: Sizes) -> tuple[Attention, Attention]:
        shared = (self._n_width, self._n_heads, self._dropout)
        return Attention(sizes.n_steps, *shared), Attention(sizes.n_timeframes, *shared)


def _followed(ops: Operations, looked: Tensor, flows: list[Tensor]) -> Tensor:
    # (n, 1, length): from what the readout looked at back through the layers to the bars.
    for shares in reversed(flows):
        looked = ops.scaled(ops.add(looked, ops.matmul(looked, shares)), 0.5)
    return looked


def _places(n_steps: int, n_width: int) -> NDArray[np.float32]:
    # Vaswani et al. (2017), section 3.5, counted from the newest bar back.
    back = np.arange(n_steps - 1, -1, -1)[:, None]
    wave = back / LONGEST_WAVE ** (2 * (np.arange(n_width) // 2) / n_width)
    return np.where(np.arange(n_width) % 2 == 0, np.sin(wave), np.cos(wave)).astype(np.float32)
