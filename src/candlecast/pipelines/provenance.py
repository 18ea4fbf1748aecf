"""What a result was made by and holds: hashes over code, the user's own included, and over rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.domain.catalog import Feature
from candlecast.domain.described import content_hash
from candlecast.domain.examples import Examples
from candlecast.domain.history import History
from candlecast.domain.market import TradingCalendar
from candlecast.domain.sequences import Sequences
from candlecast.features.plan import Plan
from candlecast.features.timeframes import Windows
from candlecast.features.timelines import Timeline

MAKERS: Final = (
    *("domain", "features", "labels", "scorers"),
    *("pipelines/dataset.py", "pipelines/demands.py", "pipelines/label.py"),
    *("pipelines/score.py", "pipelines/sequences.py", "pipelines/tensors.py"),
    "pipelines/universe.py",
    *("store/first_facts.py", "store/segments.py"),
)
"""Parts of the package whose code decides what a feature or an example is."""
SOURCES: Final = frozenset({".py", ".csv", ".json", ".txt"})
LIBRARIES: Final = ("candlecast", "exchange-calendars", "numpy", "polars", "polars-talib")
"""Arithmetic and calendars come from these; another version may give other digits."""


@cache
def package_code() -> str:
    """Hash over the package's own code that makes features and examples, and its libraries."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in LIBRARIES:
        digest.update(f"{name} {_installed(name)}\n".encode())
    for part in MAKERS:
        place = root / part
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        for path in files:
            if path.suffix in SOURCES and path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def features_code(names: Sequence[str]) -> str:
    """Hash over what decides the values of the features `names`: code, expressions, own files."""
    plan = Plan.of(names)
    entries = sorted((*plan.symbol, *plan.universe, *plan.market), key=lambda entry: entry.name)
    described = [list(_description(entry)) for entry in entries]
    return content_hash([package_code(), described, [str(e) for e in plan.input_expressions()]])


def has_facts(names: Sequence[str]) -> bool:
    """Whether any of the features `names` is made of more than prices."""
    plan = Plan.of(names)
    entries = (*plan.symbol, *plan.universe, *plan.market)
    return bool(plan.fact_inputs) or any(entry.table != "ohlcv" for entry in entries)


def rows_sha256(examples: Examples) -> str:
    """Hash of all that a model is fitted on: names, and the bytes of every array."""
    digest = hashlib.sha256()
    for part in _parts(examples):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    # Names of what a value is made of, and the bytes of its arrays.
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str} {value.shape}\n".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, Windows):
        for part in (value.spec, *value.timelines):
            yield from _parts(part)
    elif isinstance(value, Examples | History | Sequences | Timeline):
        for field in fields(value):
            yield f"{field.name} ".encode()
            yield from _parts(getattr(value, field.name))
    elif (
        isinstance(value, tuple)
        and value
        and all(isinstance(item, TradingCalendar) for item in value)
    ):
        yield f"{[calendar.name for calendar in value]!r}\n".encode()
    else:
        yield f"{value!r}\n".encode()


def _description(entry: Feature) -> Iterator[str]:
    yield entry.name
    yield str(entry.expression())
    yield f"{entry.warmup_bars} {entry.settling_bars} {entry.scope}"
    if entry.origin:
        try:
            yield hashlib.sha256(Path(entry.origin).read_bytes()).hexdigest()
        except OSError:  # typed into a shell: there is no file, but there is its code
            code = entry.expression.__code__
            yield hashlib.sha256(code.co_code + repr(code.co_consts).encode()).hexdigest()


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
