"""ONNX files: how every learnt model is served, without the library that learnt it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray
from candlecast.errors import BadArtifact
from candlecast.models.onnx_wire import check_graph

if TYPE_CHECKING:
    import onnxruntime

PARITY_TOLERANCE: Final = 1e-4


class OnnxFile:
    """A graph and its session, on one thread; BadArtifact when the file is no sound graph."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised
        self.content = path.read_bytes()
        check_graph(self.content, path.name)
        try:
            self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                self.content, options, providers=["CPUExecutionProvider"]
            )
        except _problems() as error:
            raise BadArtifact(f"{path.name} is no ONNX graph; run `candlecast train`") from error

    def run(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for `inputs`, given in the order of the graph's own.

        BadArtifact when the graph does not take or compute them.
        """
        names = (node.name for node in self._session.get_inputs())
        try:
            given = dict(zip(names, inputs, strict=True))
            outputs: list[NDArray[Any]] = self._session.run(None, given)
        except _problems(ValueError) as error:
            raise BadArtifact(f"an ONNX graph does not take its inputs: {error}") from error
        return outputs


class OnnxRegressor:
    """A regressor of one number from an ONNX file of one input and one output."""

    def __init__(self, file: OnnxFile) -> None:
        self._file = file

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions, computed in float32."""
        (found, *_) = self._file.run(np.ascontiguousarray(X, dtype=np.float32))
        return np.asarray(found[:, 0], dtype=float)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the file again as NAME.onnx."""
        (folder / f"{name}.onnx").write_bytes(self._file.content)
        return {"onnx": f"{name}.onnx"}


def _problems(*others: type[Exception]) -> tuple[type[Exception], ...]:
    # All that ONNX Runtime raises about a graph, and `others`.
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return (
        *(errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf),
        *(errors.NoSuchFile, errors.NotImplemented, errors.RuntimeException, errors.EPFail),
        *others,
    )


def check_parity(name: str, exported: FloatArray, expected: FloatArray) -> float:
    """The largest relative gap of an exported model to the trained one; BadArtifact when they do
    not agree to `PARITY_TOLERANCE`.
    """
    gap = float(np.max(np.abs(exported - expected) / (np.abs(expected) + 1e-3)))
    if not gap <= PARITY_TOLERANCE:
        raise BadArtifact(
            f"the ONNX form of {name} is off by {gap:.2g} (allowed {PARITY_TOLERANCE}); "
            "are all features scale-free?"
        )
    return gap
