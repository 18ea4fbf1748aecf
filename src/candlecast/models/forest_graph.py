"""A random forest of probabilities as one ONNX graph, written from its arrays.

A converter that walks through every leaf and class in Python takes ten seconds for a hundred
trees; arrays take a tenth. Thresholds are rounded down to float32, in which both libraries
compare: for float32 features that changes no decision.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray
from candlecast.errors import BadArtifact
from candlecast.models.forest_paths import ForestPaths
from candlecast.models.onnx_file import OnnxFile

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

IR_VERSION: Final = 8
OPSETS: Final = {"": 15, "ai.onnx.ml": 3}
MAX_GAP: Final = 1e-5
LEAF, BRANCH = "LEAF", "BRANCH_LEQ"


class ForestGraph:
    """The probability of each of `n_bins` classes from float32 features, by ONNX Runtime."""

    def __init__(self, file: OnnxFile, n_bins: int) -> None:
        self._file = file
        self._n_bins = n_bins

    @classmethod
    def of(cls, forest: RandomForestClassifier, n_bins: int, probe: FloatArray) -> Self:
        """The graph of a fitted `forest`; BadArtifact when the two differ on the rows `probe`."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "forest.onnx"
            path.write_bytes(_graph(forest, n_bins))
            graph = cls(OnnxFile(path), n_bins)
        forest.set_params(n_jobs=1)  # threads would add the trees up in any order
        expected = np.zeros((len(probe), n_bins))
        expected[:, forest.classes_] = forest.predict_proba(probe)
        gap = float(np.abs(graph.probabilities(probe) - expected).max())
        if not gap <= MAX_GAP:
            raise BadArtifact(
                f"the ONNX form of the forest is off by {gap:.2g} (allowed {MAX_GAP}); "
                "are all features finite?"
            )
        return graph

    def probabilities(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_bins); 0 for a bin that no training row was in."""
        (found,) = self._file.run(np.ascontiguousarray(X, dtype=np.float32))
        return found.astype(float)

    def contributions(self, X: FloatArray, worth: FloatArray) -> FloatArray:
        """(n_rows, n_features): what each feature adds to the probabilities times `worth`."""
        return ForestPaths(self._file.content, worth).contributions(X)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write NAME.onnx."""
        (folder / f"{name}.onnx").write_bytes(self._file.content)
        return {"onnx": f"{name}.onnx"}


def _graph(forest: RandomForestClassifier, n_bins: int) -> bytes:
    from onnx import TensorProto, helper

    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["probabilities"],
        domain="ai.onnx.ml",
        n_targets=n_bins,
        aggregate_function="SUM",
        post_transform="NONE",
        **_nodes(forest),
        **_leaves(forest),
    )
    numbers = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("X", numbers, [None, forest.n_features_in_])],
        [helper.make_tensor_value_info("probabilities", numbers, [None, n_bins])],
    )
    opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets)
    return bytes(model.SerializeToString(deterministic=True))


def _nodes(forest: RandomForestClassifier) -> dict[str, Any]:
    trees = [estimator.tree_ for estimator in forest.estimators_]
    left = np.concatenate([tree.children_left for tree in trees])
    is_leaf = left < 0
    threshold = np.concatenate([tree.threshold for tree in trees])
    right = np.concatenate([tree.children_right for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees])
    cover = np.concatenate([tree.weighted_n_node_samples for tree in trees])
    return {
        "nodes_treeids": _tree_ids(trees),
        "nodes_nodeids": np.concatenate([np.arange(tree.node_count) for tree in trees]),
        "nodes_featureids": np.where(is_leaf, 0, feature),
        "nodes_values": np.where(is_leaf, np.float32(0), _rounded_down(threshold)),
        "nodes_modes": np.where(is_leaf, LEAF, BRANCH).tolist(),
        "nodes_truenodeids": np.where(is_leaf, 0, left),
        "nodes_falsenodeids": np.where(is_leaf, 0, right),
        "nodes_hitrates": cover.astype(np.float32),
    }


def _leaves(forest: RandomForestClassifier) -> dict[str, Any]:
    # One entry for each leaf and each class that is in it.
    trees = [estimator.tree_ for estimator in forest.estimators_]
    value = np.concatenate([tree.value[:, 0] for tree in trees])
    is_leaf = np.concatenate([tree.children_left for tree in trees]) < 0
    row, column = np.nonzero((value > 0) & is_leaf[:, None])
    nodes = np.concatenate([np.arange(tree.node_count) for tree in trees])
    return {
        "target_treeids": _tree_ids(trees)[row],
        "target_nodeids": nodes[row],
        "target_ids": forest.classes_[column],
        "target_weights": (value[row, column] / len(trees)).astype(np.float32),
    }


def _tree_ids(trees: list[Any]) -> NDArray[np.integer]:
    return np.repeat(np.arange(len(trees)), [tree.node_count for tree in trees])


def _rounded_down(threshold: FloatArray) -> NDArray[np.float32]:
    # The largest float32 that is not above: a float32 is at most the one where it is at most both.
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
