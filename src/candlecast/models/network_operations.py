"""What networks are written in: one set of operations, done by torch or noted down as ONNX.

A network is written once, over `Operations`. In training torch carries them out and follows
their gradients; for serving the same code notes them down as a graph. So the two cannot drift
apart, and the graph does not pass through an exporter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import MEDIAN, N_LEVELS, FloatArray

Tensor: TypeAlias = Any
"""A tensor of torch, or the name of one in a graph."""
Weights: TypeAlias = dict[str, NDArray[np.float32]]

N_CLASSES: Final = 3
MAX_LOG_SCALE: Final = 3.0
MIN_GAP: Final = 1e-4
LAYER_NORM_EPSILON: Final = 1e-5


@dataclass(frozen=True)
class Sizes:
    """The lengths of a network's inputs and outputs."""

    n_steps: int
    n_timeframes: int
    n_features: int
    n_horizons: int


@dataclass(frozen=True)
class Inputs:
    """A batch: `values` (batch, steps, timeframes, features), `mask` (batch, steps, timeframes)
    1 where there is a bar, `age` (batch, timeframes, 2) its logarithm and whether there is none.
    """

    values: Tensor
    mask: Tensor
    age: Tensor


class Operations(Protocol):
    """The operations that networks are made of; indices of axes count from the front."""

    def weight(self, name: str) -> Tensor:
        """A parameter or constant of the network."""
        ...

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of the last two axes; those before broadcast."""
        ...

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """The sum; shapes broadcast."""
        ...

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """The product element by element; shapes broadcast."""
        ...

    def scaled(self, x: Tensor, factor: float, offset: float = 0.0) -> Tensor:
        """Times `factor`, plus `offset`."""
        ...

    def elementwise(self, name: str, x: Tensor) -> Tensor:
        """One of exp, relu, softplus and tanh of every element."""
        ...

    def softmax(self, x: Tensor) -> Tensor:
        """Shares along the last axis."""
        ...

    def layer_norm(self, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Normalised along the last axis."""
        ...

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Joined along an axis."""
        ...

    def select(self, x: Tensor, axis: int, index: int) -> Tensor:
        """One place along an axis, which goes."""
        ...

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Another shape; -1 is what is left."""
        ...

    def transpose(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        """The axes in another order."""
        ...

    def mean(self, x: Tensor, axis: int) -> Tensor:
        """The mean along an axis, which goes."""
        ...

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """In training a share of the elements is 0 and the others are larger by as much."""
        ...

    def lstm(self, x: Tensor, name: str, n_hidden: int) -> Tensor:
        """(batch, steps, n_hidden) states of the LSTM layer whose weights begin with `name`."""
        ...


def matrix(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Weights for the product with (..., shape[-2]): variance kept (Glorot and Bengio 2010)."""
    bound = np.sqrt(6 / (shape[-2] + shape[-1]))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def zeros(*shape: int) -> NDArray[np.float32]:
    """Weights that are nothing at first."""
    return np.zeros(shape, dtype=np.float32)


def head_weights(n_trunk: int, n_horizons: int) -> Weights:
    """The heads on a trunk of `n_trunk` numbers: at first they leave the forecast as it is."""
    widths = {"location": 1, "log_scale": 1, "gaps": N_LEVELS - 1, "classes": N_CLASSES}
    weights = {}
    for name, width in widths.items():
        weights[f"{name}.weight"] = zeros(n_trunk, n_horizons * width)
        weights[f"{name}.bias"] = zeros(n_horizons * width)
    return weights


def shape_constants(shape: FloatArray) -> Weights:
    """What turns an untrained head into `shape` (n_horizons, 17): its middle and its gaps."""
    gaps = np.maximum(np.diff(shape, axis=1), MIN_GAP)
    signs = np.zeros((N_LEVELS - 1, N_LEVELS))
    for gap in range(N_LEVELS - 1):
        if gap < MEDIAN:
            signs[gap, : gap + 1] = -1.0
        else:
            signs[gap, gap + 1 :] = 1.0
    found = {"shape.raw_gaps": np.log(np.expm1(gaps)), "shape.signs": signs}
    found["shape.middle"] = shape[:, MEDIAN, None]
    return {name: values.astype(np.float32) for name, values in found.items()}


def linear(ops: Operations, x: Tensor, name: str) -> Tensor:
    """The product with NAME.weight, and NAME.bias."""
    return ops.add(ops.matmul(x, ops.weight(f"{name}.weight")), ops.weight(f"{name}.bias"))


def distribution(ops: Operations, trunk: Tensor, n_horizons: int) -> tuple[Tensor, Tensor, Tensor]:
    """Location (batch, n_horizons), spread (batch, n_horizons, 17) and what shapes the spread.

    The spread holds quantiles about the location in units of the horizon's volatility. Each is the
    one before it and a positive gap, so they never cross; the last result are the heads' numbers
    that make the gaps other than those of the shape.
    """
    location = linear(ops, trunk, "location")
    raw = ops.reshape(linear(ops, trunk, "gaps"), (-1, n_horizons, N_LEVELS - 1))
    gaps = ops.elementwise("softplus", ops.add(raw, ops.weight("shape.raw_gaps")))
    unit = ops.add(ops.matmul(gaps, ops.weight("shape.signs")), ops.weight("shape.middle"))
    bounded = ops.elementwise(
        "tanh", ops.scaled(linear(ops, trunk, "log_scale"), 1 / MAX_LOG_SCALE)
    )
    scale = ops.elementwise("exp", ops.scaled(bounded, MAX_LOG_SCALE))
    spread = ops.multiply(unit, ops.reshape(scale, (-1, n_horizons, 1)))
    return location, spread, raw


def class_scores(ops: Operations, trunk: Tensor, n_horizons: int) -> Tensor:
    """(batch, n_horizons, 3): how much speaks for Bearish, Neutral and Bullish, as logits."""
    return ops.reshape(linear(ops, trunk, "classes"), (-1, n_horizons, N_CLASSES))


class TorchOperations:
    """The operations carried out by torch; a `generator` makes it training, with dropout.

    It is one of torch's, or ``device`` for the one that the device has.
    """

    def __init__(self, torch: Any, weights: Mapping[str, Tensor], generator: Any = None) -> None:
        self._torch, self._weights, self._generator = torch, weights, generator

    def weight(self, name: str) -> Tensor:
        """See `Operations`."""
        return self._weights[name]

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """See `Operations`."""
        return left @ right

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """See `Operations`."""
        return left + right

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """See `Operations`."""
        return left * right

    def scaled(self, x: Tensor, factor: float, offset: float = 0.0) -> Tensor:
        """See `Operations`."""
        return factor * x + offset

    def elementwise(self, name: str, x: Tensor) -> Tensor:
        """See `Operations`."""
        functional = self._torch.nn.functional
        return functional.softplus(x) if name == "softplus" else getattr(self._torch, name)(x)

    def softmax(self, x: Tensor) -> Tensor:
        """See `Operations`."""
        return self._torch.softmax(x, dim=-1)

    def layer_norm(self, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """See `Operations`."""
        normed = self._torch.nn.functional.layer_norm
        return normed(x, scale.shape, scale, offset, LAYER_NORM_EPSILON)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """See `Operations`."""
        return self._torch.cat(list(parts), dim=axis)

    def select(self, x: Tensor, axis: int, index: int) -> Tensor:
        """See `Operations`."""
        return x.select(axis, index)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Operations`."""
        return x.reshape(shape)

    def transpose(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        """See `Operations`."""
        return x.permute(order)

    def mean(self, x: Tensor, axis: int) -> Tensor:
        """See `Operations`."""
        return x.mean(dim=axis)

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """See `Operations`."""
        if self._generator is None or share == 0:
            return x
        if self._generator == "device":
            return self._torch.nn.functional.dropout(x, share)
        kept = self._torch.empty_like(x).bernoulli_(1 - share, generator=self._generator)
        return x * kept / (1 - share)

    def lstm(self, x: Tensor, name: str, n_hidden: int) -> Tensor:
        """See `Operations`."""
        parts = ("input", "hidden", "input_bias", "hidden_bias")
        weights = [self._weights[f"{name}.{part}"] for part in parts]
        start = self._torch.zeros(1, len(x), n_hidden, device=x.device)
        # layers, dropout, training, bidirectional, batch first
        options = (True, 1, 0.0, self._generator is not None, False, True)
        with self._torch.autocast(x.device.type, enabled=False):  # sums over many steps
            return self._torch.lstm(x.float(), (start, start), weights, *options)[0]
