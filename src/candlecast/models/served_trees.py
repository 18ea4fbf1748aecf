"""Trees saved twice: as ONNX to be asked, in their library's own format to be explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from candlecast.domain.distribution import FloatArray
from candlecast.models.onnx_file import OnnxFile, OnnxRegressor, check_parity
from candlecast.models.sealed import inside

if TYPE_CHECKING:
    import onnx

PARITY_ROWS: Final = 512


class Trees(Protocol):
    """A fitted ensemble of trees in its own library."""

    suffix: str

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        ...

    def importances(self) -> FloatArray:
        """(n_features,) shares of the gain; all 0 where no tree was split."""
        ...

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) Shapley values before the link is inverted."""
        ...

    def native(self) -> bytes:
        """The library's own format; the same for the same trees."""
        ...

    def as_onnx(self) -> bytes:
        """One graph from float32 features to the prediction; the same for the same trees."""
        ...


class FittedTrees:
    """Trees just fitted; `save` writes both forms, after they were found to agree.

    Attributes
    ----------
    trees : Trees
    probe : (n_probe, n_features) float32, rows on which the two forms must agree
    """

    def __init__(self, trees: Trees, probe: FloatArray) -> None:
        self.trees = trees
        self.probe = probe

    def predict(self, X: FloatArray) -> FloatArray:
        """(n_rows,) predictions."""
        return self.trees.predict(X)

    def importances(self) -> FloatArray:
        """(n_features,) shares of the gain."""
        return self.trees.importances()

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) on the scale before the link is inverted."""
        return self.trees.contributions(X)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write NAME.onnx and the native twin; BadArtifact when they do not agree."""
        native = f"{name}{self.trees.suffix}"
        (folder / native).write_bytes(self.trees.native())
        (folder / f"{name}.onnx").write_bytes(self.trees.as_onnx())
        exported = OnnxRegressor(OnnxFile(folder / f"{name}.onnx")).predict(self.probe)
        gap = check_parity(name, exported, self.predict(self.probe))
        return {"onnx": f"{name}.onnx", "native": native, "parity_gap": gap}


class LoadedTrees(OnnxRegressor):
    """Trees from an artefact, asked through ONNX Runtime; `reopen` makes the library's own form
    again, only to explain.
    """

    def __init__(
        self, folder: Path, state: dict[str, Any], reopen: Callable[[bytes], Trees]
    ) -> None:
        super().__init__(OnnxFile(inside(folder, state["onnx"])))
        self._state = state
        self._native = inside(folder, state["native"]).read_bytes()
        self._reopen = reopen

    def importances(self) -> FloatArray:
        """(n_features,) shares of the gain."""
        return self._reopen(self._native).importances()

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) on the scale before the link is inverted."""
        return self._reopen(self._native).contributions(X)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write both files again."""
        native = f"{name}{Path(self._state['native']).suffix}"
        (folder / native).write_bytes(self._native)
        return self._state | super().save(folder, name) | {"native": native}


def plain_bytes(graph: onnx.ModelProto) -> bytes:
    """The graph without what converters add at random or from the clock."""
    graph.graph.name = "trees"
    graph.producer_name = graph.producer_version = graph.doc_string = ""
    del graph.metadata_props[:]
    graph.opset_import.sort(key=lambda opset: opset.domain)
    return bytes(graph.SerializeToString(deterministic=True))
