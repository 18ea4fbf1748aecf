"""What a spec is: frozen, held against its annotations, named by the hash of what it says."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from candlecast.errors import InvalidSpec, NotFound

Parameter = int | float | str | bool


def content_hash(value: object) -> str:
    """First 16 hex digits of the SHA-256 of `value` as canonical JSON; 1 and 1.0 are the same."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_finite(parameters: Mapping[str, Parameter]) -> None:
    """InvalidSpec names the parameter that is no finite number."""
    for name, value in parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidSpec(f"parameter {name} is {value}; give a finite number")


@dataclass(frozen=True)
class Spec:
    """A frozen description; two that say the same have the same `id`."""

    @property
    def id(self) -> str:
        """Content hash of all fields."""
        return content_hash(asdict(self))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Built from plain values as TOML gives them; InvalidSpec or NotFound names the culprit."""
        hints = get_type_hints(cls)
        for name in values:
            if name not in hints:
                raise NotFound.among(f"setting of {cls.__name__}", name, hints)
        return cls(
            **{name: _build(f"{cls.__name__}.{name}", hints[name], values[name]) for name in values}
        )


def check_parameters(
    kind: str,
    factory: Callable[..., Any],
    parameters: Mapping[str, Any],
    hidden: Collection[str] = (),
) -> None:
    """NotFound for a parameter that `factory`, called `kind`, does not take or that is `hidden`;
    InvalidSpec for a number, text or flag where it takes another of these.
    """
    known = [name for name in inspect.signature(factory).parameters if name not in hidden]
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    for name, value in parameters.items():
        if name not in known:
            raise NotFound.among(f"parameter of {kind}", name, known)
        wanted: Any = hints.get(name)
        is_whole = wanted is float and type(value) is int
        if wanted in get_args(Parameter) and not is_whole and not _fits(wanted, value):
            raise InvalidSpec(f"{name} of {kind} is {value!r}, which is no {wanted.__name__}")


def to_mapping(spec: Spec) -> dict[str, Any]:
    """`spec` as plain values, ready for JSON; `from_mapping` reads it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return plain


def _build(name: str, hint: Any, value: Any) -> Any:
    if described := _spec_class(hint):
        if isinstance(value, Mapping):
            return described.from_mapping(value)
    elif get_origin(hint) is tuple and (described := _spec_class(get_args(hint)[0])):
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            return tuple(described.from_mapping(item) for item in value)
    elif hint is float and type(value) is int:
        return float(value)
    elif get_origin(hint) is tuple and isinstance(value, list):
        value = tuple(value)
    if not _fits(hint, value):
        wanted = getattr(hint, "__name__", hint) if get_origin(hint) is None else hint
        raise InvalidSpec(f"{name} is {value!r}, which is no {wanted}")
    return value


def _spec_class(hint: Any) -> type[Spec] | None:
    # The spec that `hint` stands for, also where it may be None.
    for option in get_args(hint) if get_origin(hint) in {UnionType, Union} else (hint,):
        if isinstance(option, type) and issubclass(option, Spec):
            return option
    return None


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(arguments[0], item) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(Parameter, v) for v in value.values())
    if origin in {UnionType, Union}:
        return any(_fits(argument, value) for argument in arguments)
    return type(value) is hint


def canonical(value: Any) -> Any:
    """`value` as JSON knows it: tuples are lists, and a whole number is written as one."""
    if isinstance(value, Mapping):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
