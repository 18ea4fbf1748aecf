"""The operations of a network noted down as an ONNX graph: the same code gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import N_LEVELS
from candlecast.models.network_operations import (
    LAYER_NORM_EPSILON,
    Inputs,
    Operations,
    Sizes,
    Tensor,
)

if TYPE_CHECKING:
    import onnx

OPSET: Final = 17
IR_VERSION: Final = 8
ELEMENTWISE: Final = {"exp": "Exp", "relu": "Relu", "softplus": "Softplus", "tanh": "Tanh"}


class OnnxOperations:
    """Notes down what is done to tensors, which are names here; see `Operations`."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._constants: dict[str, NDArray[Any]] = {}
        self.nodes: list[onnx.NodeProto] = []

    def weight(self, name: str) -> Tensor:
        """A parameter or constant of the network."""
        return self._constant(name, self._weights[name])

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """MatMul."""
        return self._node("MatMul", left, right)

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """Add."""
        return self._node("Add", left, right)

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """Mul."""
        return self._node("Mul", left, right)

    def scaled(self, x: Tensor, factor: float, offset: float = 0.0) -> Tensor:
        """Mul, and Add where there is an offset."""
        scaled = self._node("Mul", x, self._scalar(factor))
        return self._node("Add", scaled, self._scalar(offset)) if offset else scaled

    def elementwise(self, name: str, x: Tensor) -> Tensor:
        """Exp, Relu, Softplus or Tanh."""
        return self._node(ELEMENTWISE[name], x)

    def softmax(self, x: Tensor) -> Tensor:
        """Softmax along the last axis."""
        return self._node("Softmax", x, axis=-1)

    def layer_norm(self, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """LayerNormalization."""
        return self._node("LayerNormalization", x, scale, offset, epsilon=LAYER_NORM_EPSILON)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Concat."""
        return self._node("Concat", *parts, axis=axis)

    def select(self, x: Tensor, axis: int, index: int) -> Tensor:
        """Gather at one place."""
        place = self._constant(f"place.{index}", np.array(index, dtype=np.int64))
        return self._node("Gather", x, place, axis=axis)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Reshape."""
        name = "shape." + "x".join(map(str, shape))
        return self._node("Reshape", x, self._constant(name, np.array(shape, dtype=np.int64)))

    def transpose(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        """Transpose."""
        return self._node("Transpose", x, perm=list(order))

    def mean(self, x: Tensor, axis: int) -> Tensor:
        """ReduceMean."""
        return self._node("ReduceMean", x, axes=[axis], keepdims=0)

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """Nothing is left out when serving."""
        return x

    def lstm(self, x: Tensor, name: str, n_hidden: int) -> Tensor:
        """LSTM, whose gates come in another order than torch's, and whose steps come first."""
        parts = ("input", "hidden", "input_bias", "hidden_bias")
        own = {part: _in_onnx_order(self._weights[f"{name}.{part}"]) for part in parts}
        bias = np.concatenate([own["input_bias"], own["hidden_bias"]])
        states = self._node(
            "LSTM",
            self.transpose(x, (1, 0, 2)),
            self._constant(f"{name}.W", own["input"][None]),
            self._constant(f"{name}.R", own["hidden"][None]),
            self._constant(f"{name}.B", bias[None]),
            hidden_size=n_hidden,
        )
        return self.transpose(self.select(states, 1, 0), (1, 0, 2))

    def initializers(self) -> list[onnx.TensorProto]:
        """The weights and constants that were asked for."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(value, name) for name, value in self._constants.items()]

    def _scalar(self, value: float) -> str:
        return self._constant(f"number.{value!r}", np.array(value, dtype=np.float32))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants.setdefault(name, np.ascontiguousarray(value).reshape(np.shape(value)))
        return name

    def _node(self, kind: str, *inputs: Tensor, **attributes: Any) -> str:
        from onnx import helper

        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def make_graph(
    weights: Mapping[str, NDArray[np.float32]],
    sizes: Sizes,
    compute: Callable[[Operations, Inputs], Mapping[str, Tensor]],
) -> bytes:
    """The ONNX file of what `compute` makes of values, mask and age, for any number of rows:
    location, spread and, where the network has any, attention.
    """
    from onnx import TensorProto, checker, helper

    steps, timeframes = sizes.n_steps, sizes.n_timeframes
    shapes: dict[str, list[str | int]] = {
        "values": ["n", steps, timeframes, sizes.n_features],
        "mask": ["n", steps, timeframes],
        "age": ["n", timeframes, 2],
    }
    results: dict[str, list[str | int]] = {
        "location": ["n", sizes.n_horizons],
        "spread": ["n", sizes.n_horizons, N_LEVELS],
        "attention": ["n", steps, timeframes],
    }
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    ops = OnnxOperations(weights)
    outputs = compute(ops, Inputs(*shapes))
    nodes = [
        *ops.nodes,
        *(helper.make_node("Identity", [tensor], [name]) for name, tensor in outputs.items()),
    ]
    told = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, results[name]) for name in outputs
    ]
    graph = helper.make_graph(nodes, "network", given, told, ops.initializers())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _in_onnx_order(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # torch: input, forget, cell, output; ONNX: input, output, forget, cell.
    entry, forget, cell, out = np.split(values, 4)
    return np.concatenate([entry, out, forget, cell])
