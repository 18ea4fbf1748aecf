"""Features of the user's own: Python files that enter them, run once, and what their code was.

Such a file imports ``feature`` from candlecast and decorates functions with it, as the modules of
this package do. What it enters is known to the whole process; a model trained on it keeps the
hash of its file, so that other code under the same name is noticed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
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
from candlecast.errors import Conflict, InvalidSpec, NotFound
from candlecast.features.compute import compute, newest
from candlecast.features.fact_inputs import FACT_INPUTS
from candlecast.features.inputs import FRAME_INPUTS, INPUTS
from candlecast.features.plan import Plan

TRIED_BARS: Final = (130, 90, 1)
"""How many bars the symbols have that a feature is tried on: unlike numbers, and a first bar."""
TAKEN: Final = {
    "a column of the prices, which features name": (*PRICES.columns,),
    "an input, which features name": (*INPUTS, *FRAME_INPUTS, *FACT_INPUTS),
}
"""What a feature of the user's own may not be called, and why."""
MAY_NAME: Final = {
    "symbol": "A feature of one symbol may name: {}",
    "universe": "A feature of the universe may name features of one symbol: see `candlecast "
    "features list`",
    "market": "A feature of the market may name those of `candlecast features list`, and: {}",
}


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
    # What every feature promises, tried on a few bars: it can be named, stored and evaluated, over
    # all of them and for the newest one.
    for what, taken in TAKEN.items():
        if name in taken:
            raise InvalidSpec(f"{_place(name)}: {name!r} is the name of {what}; rename the feature")
    with _Explained(path, name):
        expression = FEATURES.get(name).expression()
        if not isinstance(expression, pl.Expr):
            raise TypeError("its function returns no Polars expression")
        _check_columns(FEATURES.get(name), expression)
        for evaluate in (compute, newest):
            evaluate(_few_prices(), (name,), Facts.none())


def _check_columns(entry: Feature, expression: pl.Expr) -> None:
    # What exists but cannot be seen from the feature's scope is told when it is planned.
    columns = [*PRICES.columns, *INPUTS, *FRAME_INPUTS, *FACT_INPUTS]
    others = FEATURES.names() if entry.scope != "symbol" else ()
    for named in expression.meta.root_names():
        if named not in {*columns, *FEATURES.names()}:
            unknown = NotFound.among("column", named, {*columns, *others} - {entry.name})
            raise InvalidSpec(f"{unknown} {MAY_NAME[entry.scope].format(', '.join(columns))}")


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
        if error is None or isinstance(error, KeyboardInterrupt):
            return
        lines = [at.lineno for at in traceback.extract_tb(trace) if at.filename == str(self._path)]
        place = f"{self._path}:{lines[-1]}" if lines else str(self._path)
        if isinstance(error, SyntaxError):
            place = f"{self._path}:{error.lineno}"
        elif not lines and self._feature:
            place = _place(self._feature)
        said = str(error).partition("\n")[0] or "no reason given"
        if isinstance(error, SystemExit):
            said = f"the file ends the program with {error.code!r}"
        subject = f"feature {self._feature!r} cannot be evaluated: " if self._feature else ""
        kind_named = "" if isinstance(error, InvalidSpec) else f"{type(error).__name__}: "
        raise InvalidSpec(f"{place}: {subject}{kind_named}{said}{_remedy(error)}") from error


def _remedy(error: BaseException) -> str:
    if not isinstance(error, InvalidSpec):
        return "; mend the file"
    taken = [n for n in FEATURES.names() if f"{n!r} is registered twice" in str(error)]
    return f"; the other stands in {_place(taken[0])}" if taken else ""


def _few_prices() -> pl.DataFrame:
    # Three symbols that end together, enough to evaluate an expression on.
    first = datetime(2020, 1, 6, tzinfo=UTC)
    frames = []
    for segment, n_bars in enumerate(TRIED_BARS):
        place = pl.int_range(max(TRIED_BARS) - n_bars, max(TRIED_BARS), eager=True).alias("place")
        close = 100.0 + segment + 0.1 * place + (0.7 * place).sin()
        frame = pl.DataFrame({"place": place, "close": close}).with_columns(
            symbol=pl.lit(f"S{segment}"), ts=first + pl.duration(days="place"),
            open=close - 0.5, high=close + 1.0, low=close - 1.0, volume=close * 1e4,
            factor=pl.lit(1.0), session=pl.col("place"), segment=pl.lit(segment),
        )  # fmt: skip
        closed = pl.col("ts") + timedelta(hours=21)
        frames.append(frame.drop("place").with_columns(close_at=closed, known_at=closed))
    return PRICES.conform(pl.concat(frames))
