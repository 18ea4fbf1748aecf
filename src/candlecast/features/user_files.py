"""Features of the user's own: Python files that enter them, run once, and what their code was.

Such a file imports ``feature`` from candlecast and decorates functions with it, as the modules of
this package do. What it enters is known to the whole process; a model trained on it keeps the
hash of its file, so that other code under the same name is noticed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final

import polars as pl

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.domain.facts import Facts
from candlecast.domain.frames import PRICES
from candlecast.errors import Conflict, InvalidSpec
from candlecast.features.compute import compute
from candlecast.features.fact_inputs import FACT_INPUTS
from candlecast.features.inputs import INPUTS
from candlecast.features.plan import Plan

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
N_TRIED_BARS: Final = 8


@dataclass(frozen=True)
class LoadedFeatures:
    """The features that some files enter, sorted, and the hash of what the files say."""

    names: tuple[str, ...]
    code_sha256: str


@dataclass(frozen=True)
class _File:
    sha256: str
    names: tuple[str, ...]
    is_whole: bool = True


_FILES: Final[dict[Path, _File]] = {}


def load_feature_files(paths: Iterable[Path]) -> LoadedFeatures:
    """Run each file once and enter its features; a file that was run already is left alone.

    Raises
    ------
    InvalidSpec : a file cannot be read or run, enters nothing, takes a name twice, or enters what
        cannot be evaluated; the message names file and line.
    Conflict : a file has changed since this process ran it.
    """
    files = [_loaded(path.expanduser().resolve()) for path in paths]
    names = sorted({name for file in files for name in file.names})
    return LoadedFeatures(tuple(names), _joined(file.sha256 for file in files))


def code_of(names: Iterable[str]) -> str | None:
    """The hash of the files that define any of `names`, or what they compare; None: all ours.

    InvalidSpec for a feature that no file keeps, such as one entered in a notebook.
    """
    hashes = [_sha256_of(entry) for entry in _with_compared(names) if entry.origin]
    return _joined(hashes) if hashes else None


def _sha256_of(entry: Feature) -> str:
    # Of the file as it was run; one that was imported by other means is read now.
    path = Path(entry.origin)
    if path in _FILES:
        return _FILES[path].sha256
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    raise InvalidSpec(
        f"feature {entry.name!r} was entered in {entry.origin}, whose code cannot be kept with a "
        "model; write it into a file and name that with --feature-file, CANDLECAST_FEATURE_FILES "
        "or load_feature_files"
    )


def _with_compared(names: Iterable[str]) -> list[Feature]:
    plan = Plan.of(names)
    named = [FEATURES.get(name) for name in plan.names]
    return [*named, *plan.symbol, *plan.universe, *plan.market]


def _joined(hashes: Iterable[str]) -> str:
    # Whichever order the files are named in, and wherever they lie.
    return hashlib.sha256("".join(sorted({*hashes})).encode()).hexdigest()


def _loaded(path: Path) -> _File:
    try:
        code = path.read_bytes()
    except OSError as error:
        raise InvalidSpec(
            f"cannot read the feature file {path}: {error.strerror}; name a Python file"
        ) from error
    sha256 = hashlib.sha256(code).hexdigest()
    known = _FILES.get(path)
    if known is None:
        return _run(path, code, sha256)
    if known.sha256 != sha256 or not known.is_whole:
        what = (
            "has changed since this process ran it" if known.is_whole else "failed to load before"
        )
        raise Conflict(f"{path} {what}; start candlecast (or the notebook's kernel) anew")
    return known


def _run(path: Path, code: bytes, sha256: str) -> _File:
    before = {*FEATURES.names()}
    _FILES[path] = _File(sha256, (), is_whole=False)
    spec = importlib.util.spec_from_loader(f"user_features_{sha256[:16]}", None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[spec.name] = module  # dataclasses and type hints look themselves up there
    with _Explained(path):
        exec(compile(code, str(path), "exec"), vars(module))  # noqa: S102 - the user's own code
    names = tuple(name for name in FEATURES.names() if name not in before)
    if not names:
        raise InvalidSpec(f"{path} enters no feature; decorate a function with @feature(…)")
    for name in names:
        _check(path, name)
    _FILES[path] = _File(sha256, names)
    return _FILES[path]


def _check(path: Path, name: str) -> None:
    # What every feature promises, tried on a few bars: it can be named, stored and evaluated.
    if not NAME.fullmatch(name):
        raise InvalidSpec(
            f"{_place(name)}: {name!r} cannot name a feature; use a-z, 0-9 and _, at most 63"
        )
    if name in {*PRICES.columns, *INPUTS, *FACT_INPUTS, "as_of"}:
        raise InvalidSpec(f"{_place(name)}: {name!r} names a column of the prices; rename it")
    with _Explained(path, name):
        if not isinstance(FEATURES.get(name).expression(), pl.Expr):
            raise TypeError("its function returns no Polars expression")
        compute(_few_prices(), (name,), Facts.none())


def _place(name: str) -> str:
    code = inspect.unwrap(FEATURES.get(name).expression).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


class _Explained:
    # Whatever a user's file raises becomes an error that names the file and the line.

    def __init__(self, path: Path, feature: str = "") -> None:
        self._path, self._feature = path, feature

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception):
            return
        lines = [at.lineno for at in traceback.extract_tb(trace) if at.filename == str(self._path)]
        place = f"{self._path}:{lines[-1]}" if lines else str(self._path)
        if isinstance(error, SyntaxError):
            place = f"{self._path}:{error.lineno}"
        elif not lines and self._feature:
            place = _place(self._feature)
        said = str(error).partition("\n")[0] or "no reason given"
        subject = f"feature {self._feature!r} cannot be evaluated: " if self._feature else ""
        kind_named = "" if isinstance(error, InvalidSpec) else f"{type(error).__name__}: "
        raise InvalidSpec(f"{place}: {subject}{kind_named}{said}{_remedy(error)}") from error


def _remedy(error: Exception) -> str:
    if isinstance(error, pl.exceptions.ColumnNotFoundError):
        return f"; there are {', '.join([*PRICES.columns, *INPUTS, *FACT_INPUTS])}"
    if not isinstance(error, InvalidSpec):
        return "; mend the file"
    taken = [n for n in FEATURES.names() if f"{n!r} is registered twice" in str(error)]
    return f"; the other stands in {_place(taken[0])}" if taken else ""


def _few_prices() -> pl.DataFrame:
    # Two symbols over a few days, enough to evaluate an expression on.
    first = datetime(2020, 1, 6, tzinfo=UTC)
    days = [first + timedelta(days=day) for day in range(N_TRIED_BARS)]
    frames = []
    for segment, symbol in enumerate(("A", "B")):
        close = pl.Series([100.0 + day + segment for day in range(N_TRIED_BARS)])
        frame = pl.DataFrame({"ts": days, "close": close}).with_columns(
            symbol=pl.lit(symbol), open=close - 0.5, high=close + 1.0, low=close - 1.0,
            volume=close * 1e4, factor=pl.lit(1.0), session=pl.int_range(pl.len()),
            segment=pl.lit(segment), close_at=pl.col("ts") + timedelta(hours=21),
            known_at=pl.col("ts") + timedelta(hours=21),
        )  # fmt: skip
        frames.append(frame)
    return PRICES.conform(pl.concat(frames))
