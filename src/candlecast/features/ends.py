"""The last value of an expression in each group, without the column before it.

`pl.col("close").rolling_mean(21).last()` computes every mean of a group to keep one. Here such an
expression is taken apart. Its leaves are aggregates of a group's last bars, such as the mean of 21;
what is made of them, row by row, is computed once for all groups. Equal leaves are computed once.
What is not known to be taken apart is a leaf as a whole, so the value is always the expression's.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import polars as pl

Node: TypeAlias = dict[str, Any]

ROW_BY_ROW: Final = {
    *("Abs", "Clip", "Coalesce", "Exp", "FillNan", "FillNull", "Log", "Log1p", "MaxHorizontal"),
    *("MinHorizontal", "Negate", "Round", "Sign", "StructExpr", "TemporalExpr", "Trigonometry"),
    *("Pow.Generic", "Pow.Sqrt", "Boolean.IsFinite", "Boolean.IsInfinite", "Boolean.IsNan"),
    *("Boolean.IsNotNan", "Boolean.IsNull", "Boolean.IsNotNull", "Boolean.Not"),
    *("Boolean.AnyHorizontal", "Boolean.AllHorizontal"),
}
"""Functions whose value depends on their row alone."""
PARTS: Final = {
    "BinaryExpr": ("left", "right"),
    "Ternary": ("predicate", "truthy", "falsy"),
    "Cast": ("expr",),
}
NOTHING: Final[Node] = {"Literal": {"Scalar": {"Null": "Null"}}}


class Ends:
    """Expressions taken apart, for groups of rows whose last one is asked for.

    `inputs` are columns that expressions may name, as expressions of `n_bars` at most, or of as
    many as `input_bars` says; `named` are those of them that have to be there as columns, for the
    leaves name them. Columns of `given` stand beside the last rows already.
    """

    def __init__(
        self,
        inputs: Mapping[str, Callable[[], pl.Expr]],
        n_bars: int,
        given: Collection[str] = (),
        input_bars: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._input_bars = input_bars
        self._given = given
        self.named: set[str] = set()
        self._inputs = inputs
        self._n_bars = n_bars
        self._names: dict[str, str] = {}
        self._leaves: dict[str, tuple[pl.Expr, int]] = {}

    def add(self, expression: pl.Expr, n_bars: int) -> pl.Expr:
        """What `expression` is in the last row, made of `leaves`; it depends on `n_bars`."""
        node = _node(expression)
        if node is not None:
            return _expression(self._last(node, 0, n_bars))
        name = expression.meta.output_name()
        return pl.col(self._whole(name, expression.last(), n_bars)).alias(name)

    def leaves(self) -> Iterator[tuple[int, pl.Expr]]:
        """The aggregates of each group, and on how many of its last bars each depends."""
        for name, (leaf, n_bars) in self._leaves.items():
            yield n_bars, leaf.alias(name)

    def _last(self, node: Any, back: int, n_bars: int) -> Node:
        # The node's value `back` rows before the last one.
        kind, inner = _unpacked(node)
        if kind == "Literal":
            return node  # type: ignore[no-any-return]
        if kind == "Column":
            return self._of_column(node, inner, back)
        if kind == "Alias":
            return {kind: [self._last(inner[0], back, n_bars), inner[1]]}
        if kind in PARTS:
            parts = {part: self._last(inner[part], back, n_bars) for part in PARTS[kind]}
            return {kind: {**inner, **parts}}
        if kind == "Function":
            return self._of_function(node, inner, back, n_bars)
        return self._leaf(_at(node, back), n_bars)

    def _of_column(self, node: Node, name: str, back: int) -> Node:
        if name in self._given and back == 0:
            return node
        if name not in self._inputs:
            return self._leaf(_at(node, back), back + 1)
        expression = self._inputs[name]()
        n_bars = back + self._input_bars.get(name, self._n_bars)
        inner = _node(expression)
        if inner is not None:
            return self._last(inner, back, n_bars)
        value = expression.last() if back == 0 else expression.slice(-(back + 1), 1).first()
        return {"Column": self._whole(f"{name} {back}", value, n_bars)}

    def _of_function(self, node: Node, inner: Node, back: int, n_bars: int) -> Node:
        name, details = _named(inner["function"])
        inputs = inner["input"]
        if name in ROW_BY_ROW:
            return {"Function": {**inner, "input": [self._last(i, back, n_bars) for i in inputs]}}
        n_before = _whole(inputs[1]) if len(inputs) == 2 else None
        if name == "Shift" and n_before is not None and n_before >= 0:
            return self._before(inputs[0], back + n_before, n_bars)
        if name == "Diff" and n_before is not None and n_before >= 0 and _is_flat(inputs[0]):
            # As Diff, which widens numbers without a sign, over as many rows as it looks at.
            reach = back + n_before + 1
            rows = _slice(inputs[0], -reach, n_before + 1)
            return self._leaf(_at({"Function": {**inner, "input": [rows, inputs[1]]}}, 0), reach)
        if name == "RollingExpr" and (found := self._of_rolling(inputs[0], details, back)):
            return found
        return self._leaf(_at(node, back), n_bars)

    def _before(self, node: Node, back: int, n_bars: int) -> Node:
        # The value of an earlier row, and null where there is none: whatever fills nulls fills
        # those of rows, not rows that are missing.
        value = self._last(node, back, n_bars)
        if _unpacked(node)[0] == "Column" and node["Column"] not in self._inputs:
            return value
        n_rows: Node = {"Column": self._whole(f"rows {back}", pl.len(), back + 1)}
        is_there = _compared(n_rows, "Gt", _number(back))
        return {"Ternary": {"predicate": is_there, "truthy": value, "falsy": NOTHING}}

    def _of_rolling(self, rolled: Node, details: Node, back: int) -> Node | None:
        # A window over rows that can be computed alone, and lie some rows back.
        options, function = details["options"], details["function"]
        aggregate = AGGREGATES.get(function) if isinstance(function, str) else None
        if aggregate is None:
            return None
        kind, inner = _unpacked(rolled)
        if kind == "Function" and _named(inner["function"])[0] == "Shift":
            moved = _whole(inner["input"][1])
            if moved is None or moved < 0:
                return None
            rolled, back = inner["input"][0], back + moved
        if options["weights"] or options["center"] or not _is_flat(rolled):
            return None
        reach = options["window_size"] + back
        window = _slice(rolled, -reach, options["window_size"])
        count = self._leaf({"Agg": {"Count": {"input": window, "include_nulls": False}}}, reach)
        is_enough = _compared(count, "GtEq", _number(options["min_periods"]))
        value = self._leaf(aggregate(window, options), reach)
        return {"Ternary": {"predicate": is_enough, "truthy": value, "falsy": NOTHING}}

    def _leaf(self, node: Node, n_bars: int) -> Node:
        return {"Column": self._whole(json.dumps(node), _expression(node), n_bars)}

    def _whole(self, key: str, leaf: pl.Expr, n_bars: int) -> str:
        # The name of a leaf that is evaluated as it stands.
        name = self._names.setdefault(key, f"_leaf_{len(self._names)}")
        known = self._leaves.get(name, (leaf, 0))[1]
        self._leaves[name] = (leaf, max(n_bars, known))
        self.named |= {*leaf.meta.root_names()} & {*self._inputs, *self._given}
        return name


def _moments(name: str) -> Callable[[Node, Node], Node]:
    return lambda window, options: {"Agg": {name: [window, options["fn_params"]["Var"]["ddof"]]}}


def _extreme(name: str) -> Callable[[Node, Node], Node]:
    return lambda window, _: {"Agg": {name: {"input": window, "propagate_nans": False}}}


AGGREGATES: Final[dict[str, Callable[[Node, Node], Node]]] = {
    "Mean": lambda window, _: {"Agg": {"Mean": window}},
    "Sum": lambda window, _: {"Agg": {"Sum": window}},
    "Min": _extreme("Min"),
    "Max": _extreme("Max"),
    "Std": _moments("Std"),
    "Var": _moments("Var"),
}


def _node(expression: pl.Expr) -> Node | None:
    # None where parts cannot be evaluated apart from each other: functions of Python, and places
    # in the group, which are counted from where the rows begin that an aggregate is given.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the format is that of this version
        text = expression.meta.serialize(format="json")
    if "AnonymousFunction" in text or '"Len"' in text:
        return None
    node: Node = json.loads(text)
    return node


def _expression(node: Node) -> pl.Expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")


def _unpacked(node: Any) -> tuple[str, Any]:
    if isinstance(node, dict) and len(node) == 1:
        return next(iter(node.items()))
    return "", None


def _named(function: Any) -> tuple[str, Any]:
    # {"Pow": "Sqrt"} is Pow.Sqrt, {"Clip": {...}} is Clip.
    name, details = _unpacked(function) if isinstance(function, dict) else (str(function), None)
    return (f"{name}.{details}" if name in {"Pow", "Boolean"} else name), details


def _is_flat(node: Any) -> bool:
    # Whether each row's value is made of that row alone.
    kind, inner = _unpacked(node)
    if kind in PARTS:
        return all(_is_flat(inner[part]) for part in PARTS[kind])
    if kind == "Alias":
        return _is_flat(inner[0])
    if kind == "Function":
        return _named(inner["function"])[0] in ROW_BY_ROW and all(map(_is_flat, inner["input"]))
    return kind in {"Column", "Literal"}


def _whole(node: Any) -> int | None:
    kind, inner = _unpacked(node)
    value = inner.get("Dyn", {}).get("Int") if kind == "Literal" else None
    return value if isinstance(value, int) else None


def _number(value: int) -> Node:
    return {"Literal": {"Dyn": {"Int": value}}}


def _compared(left: Node, operator: str, right: Node) -> Node:
    return {"BinaryExpr": {"left": left, "op": operator, "right": right}}


def _slice(node: Node, offset: int, length: int) -> Node:
    return {"Slice": {"input": node, "offset": _number(offset), "length": _number(length)}}


def _at(node: Node, back: int) -> Node:
    if back == 0:
        return {"Agg": {"Last": node}}
    return {"Agg": {"First": _slice(node, -(back + 1), 1)}}
