"""What an ONNX file holds, read from its bytes before any library is asked to trust it.

A graph of ours is numbers and arithmetic. Refused are weights in other files, operators that we do
not use (loops, subgraphs, custom ones, all that make tensors as large as they are told), functions,
and tensors that declare more values than they bring.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from candlecast.errors import BadArtifact

OPERATORS: Final = frozenset(
    {
        *("Abs", "Add", "And", "ArgMax", "Cast", "Clip", "Concat", "Constant", "Div", "Equal"),
        *("Erf", "Exp", "Flatten", "Gather", "Gelu", "Gemm", "Greater", "GreaterOrEqual"),
        *("Identity", "LSTM", "LayerNormalization", "Less", "LessOrEqual", "Log", "MatMul"),
        *("Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Softplus"),
        *("Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where"),
        *("ArrayFeatureExtractor", "LinearRegressor", "Normalizer", "Scaler"),
        *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    }
)
"""What graphs of models are made of; a new kind of model adds what it needs."""
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MAX_VALUES: Final = 2**27
EXTERNAL_KEY: Final = b"\n\x08location"
"""How the name of another file begins where a tensor says that its values are there."""
LENGTHS: Final = {1: 8, 5: 4}

# The numbers of the fields in onnx.proto.
GRAPH, OPSET, FUNCTIONS = 7, 8, 25
NODE, INITIALIZER, SPARSE_INITIALIZER, VALUE_INFOS = 1, 5, 15, (11, 12, 13)
OPERATOR, ATTRIBUTE, DOMAIN = 4, 5, 7
A_TENSOR, SUBGRAPHS, OTHER_TENSORS = 5, (6, 11), (10, 22, 23)
DIMS, EXTERNAL_DATA, DATA_LOCATION = 1, 13, 14


def check_graph(content: bytes, name: str) -> None:
    """BadArtifact when the ONNX file `name` of these bytes is more than numbers and arithmetic."""
    try:
        _check_model(memoryview(content))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BadArtifact(f"{name} is no ONNX graph of ours: {error}; train it again") from error


def _check_model(model: memoryview) -> None:
    if _all(model, FUNCTIONS):
        raise ValueError("it brings functions of its own")
    for opset in _all(model, OPSET):
        for domain in _all(opset, 1):
            _check_domain(_text(domain))
    graphs = _all(model, GRAPH)
    if len(graphs) != 1:
        raise ValueError(f"it holds {len(graphs)} graphs, not one")
    if _all(graphs[0], SPARSE_INITIALIZER):
        raise ValueError("it holds sparse tensors")
    for node in _all(graphs[0], NODE):
        _check_node(node)
    for tensor in _all(graphs[0], INITIALIZER):
        _check_tensor(tensor)
    for number in VALUE_INFOS:
        for value_info in _all(graphs[0], number):
            _check_shape(value_info)


def _check_node(node: memoryview) -> None:
    operators = [_text(value) for value in _all(node, OPERATOR)]
    domains = [_text(value) for value in _all(node, DOMAIN)]
    for domain in domains:
        _check_domain(domain)
    if len(operators) != 1 or operators[0] not in OPERATORS:
        raise ValueError(f"no model uses the operator {', '.join(operators)[:80]!r}")
    for attribute in _all(node, ATTRIBUTE):
        # Trees keep a hundred thousand numbers in attributes, each a field: these are not walked.
        if operators[0].startswith("TreeEnsemble"):
            if EXTERNAL_KEY in bytes(attribute):
                raise ValueError("its values are in another file")
        else:
            _check_attribute(attribute)


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in SUBGRAPHS or number in OTHER_TENSORS:
            raise ValueError("an attribute holds a graph, or several or sparse tensors")
        if number == A_TENSOR:
            _check_tensor(_bytes(value))


def _check_tensor(tensor: memoryview) -> None:
    dims: list[int] = []
    for number, value in _fields(tensor):
        if number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0):
            raise ValueError("its values are in another file")
        if number == DIMS:
            dims += [value] if isinstance(value, int) else _varints(value)
    _check_count(dims, 2 * len(tensor))


def _check_shape(value_info: memoryview) -> None:
    # ValueInfo.type.tensor_type.shape.dim.dim_value
    dims = []
    for kind in _all(value_info, 2):
        for tensor_type in _all(kind, 1):
            for shape in _all(tensor_type, 2):
                for dim in _all(shape, 1):
                    dims += [value for number, value in _fields(dim) if number == 1]
    _check_count([size for size in dims if isinstance(size, int)], MAX_VALUES)


def _check_count(dims: list[int], most: int) -> None:
    # A negative size is a varint of 2**63 and more.
    if len(dims) > 16 or any(size > MAX_VALUES for size in dims) or math.prod(dims) > most:
        raise ValueError(f"a tensor declares {'x'.join(map(str, dims[:16]))} values")


def _check_domain(domain: str) -> None:
    if domain not in DOMAINS:
        raise ValueError(f"no model uses operators of {domain[:80]!r}")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    # Number and value of each field of a protobuf message; a message is not looked into.
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in LENGTHS:
            length = LENGTHS[kind]
        else:
            raise ValueError(f"byte {at} is not where a field can begin")
        if number == 0 or length > end - at:
            raise ValueError("it ends too early")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"byte {at} is part of no number")


def _varints(packed: memoryview) -> list[int]:
    at, values = 0, []
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return values


def _all(message: memoryview, wanted: int) -> list[memoryview]:
    return [_bytes(value) for number, value in _fields(message) if number == wanted]


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")  # noqa: TRY004 - as all here
    return value


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")
