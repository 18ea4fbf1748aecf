"""What each feature adds to what a forest says: the steps of every path through its trees."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray

CHUNK: Final = 2048
"""Rows at a time: of each, every tree holds its place."""


class ForestPaths:
    """The trees of a graph that `ForestGraph` wrote, with a number at every node.

    `worth` (n_bins,) is what a class counts for; a node's number is the mean of it over the
    training rows that came by, and a step adds the change of that to the feature that was asked.
    What all features add, and one base, sum up to the number of the forest: probabilities times
    worth.

    References
    ----------
    Saabas (2014), Interpreting random forests; compared with Shapley values in Lundberg et al.
    (2020), Nature Machine Intelligence 2, who call it the same for trees of one split.
    """

    def __init__(self, content: bytes, worth: FloatArray) -> None:
        stored = _attributes(content)
        tree, number = stored["nodes_treeids"], stored["nodes_nodeids"]
        self._roots = np.flatnonzero(number == 0)
        first = self._roots[tree]
        self._is_leaf = stored["nodes_modes"] == b"LEAF"
        self._feature = stored["nodes_featureids"]
        self._threshold = stored["nodes_values"]
        self._left = first + stored["nodes_truenodeids"]
        self._right = first + stored["nodes_falsenodeids"]
        value = stored["target_weights"] * worth[stored["target_ids"]] * len(self._roots)
        place = self._roots[stored["target_treeids"]] + stored["target_nodeids"]
        self._value = np.bincount(place, weights=value, minlength=len(tree))
        cover = stored["nodes_hitrates"].astype(float)
        for level in range(int(number.max()), -1, -1):  # children come after their parents
            at = np.flatnonzero((number == level) & ~self._is_leaf)
            left, right = self._left[at], self._right[at]
            total = cover[left] * self._value[left] + cover[right] * self._value[right]
            self._value[at] = total / (cover[left] + cover[right])

    def base(self) -> float:
        """What the forest says before it has asked anything."""
        return float(self._value[self._roots].mean())

    def contributions(self, X: FloatArray) -> FloatArray:
        """(n_rows, n_features) what each feature adds to the base."""
        values = X.astype(np.float32)
        starts = range(0, len(values), CHUNK)
        parts = [self._of_some(values[start : start + CHUNK]) for start in starts]
        return np.concatenate(parts) if parts else np.empty(X.shape)

    def _of_some(self, values: NDArray[np.float32]) -> FloatArray:
        n_rows, n_features = values.shape
        row = np.repeat(np.arange(n_rows), len(self._roots))
        at = np.tile(self._roots, n_rows)
        added = np.zeros(n_rows * n_features)
        while len(at):
            feature = self._feature[at]
            is_left = values[row, feature] <= self._threshold[at]
            following = np.where(is_left, self._left[at], self._right[at])
            moved = ~self._is_leaf[at]
            step = (self._value[following] - self._value[at]) * moved
            added += np.bincount(row * n_features + feature, step, len(added))
            row, at = row[moved], following[moved]
        return np.asarray(added.reshape(n_rows, n_features) / len(self._roots))


def _attributes(content: bytes) -> dict[str, NDArray[Any]]:
    import onnx

    (node,) = onnx.load_from_string(content).graph.node
    return {
        attribute.name: np.array(onnx.helper.get_attribute_value(attribute))
        for attribute in node.attribute
    }
