"""Specs as TOML: the text that `ExperimentSpec.from_toml` reads back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from candlecast.domain.described import Spec, to_mapping


def as_toml(spec: Spec) -> str:
    """`spec` with every setting that has a value, tables after the plain ones."""
    return "\n".join(_lines(to_mapping(spec), "")).strip() + "\n"


def table_as_toml(name: str, values: Mapping[str, Any]) -> str:
    """One table of that name."""
    return "\n".join([f"[{name}]", *_lines(values, name)]).strip() + "\n"


def _lines(values: Mapping[str, Any], place: str) -> Iterator[str]:
    tables = {}
    for name, value in values.items():
        if isinstance(value, Mapping) or (_is_tables(value)):
            tables[name] = value
        elif value is not None:
            yield f"{_key(name)} = {_value(value)}"
    for name, value in tables.items():
        path = f"{place}.{_key(name)}" if place else _key(name)
        is_list = isinstance(value, list)
        for one in value if is_list else [value]:
            yield ""
            yield f"[[{path}]]" if is_list else f"[{path}]"
            yield from _lines(one, path)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _key(name: str) -> str:
    is_bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if is_bare else _plain(name)


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return _plain(value)


def _plain(value: Any) -> str:
    # A text, number or flag of JSON is one of TOML; DEL is the one character that it escapes more.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
