"""The shapes you can plug in (Protocols) and Catalog, which finds them.

A plug-in is one file with one registration. Each catalogue knows the package its plug-ins live
in and imports its modules when first asked, so importing a catalogue costs nothing and a new
file needs no second place. Heavy libraries load inside the plug-in's functions.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
    runtime_checkable,
)

import polars as pl

from candlecast.domain.distribution import FloatArray
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import TensorSpec
from candlecast.errors import InvalidSpec, NotFound

T = TypeVar("T")
LabelFunction: TypeAlias = Callable[..., pl.DataFrame]
Scope: TypeAlias = Literal["symbol", "universe", "market"]
FeatureTable: TypeAlias = Literal["ohlcv", "sentiment"]
FEATURE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""What can name a feature, and so a column of the tables."""
RESERVED: Final = frozenset(
    {
        *("symbol", "symbol_id", "timeframe", "ts", "as_of", "set_id"),
        *("ticker", "dt", "label_ret_1d", "weight"),
    }
)
"""The columns beside the features in the tables that keep them, their view and exported rows."""
RESERVED_STARTS: Final = ("y_", "end_at_")
"""So begin the names of outcomes in exported rows."""
SETTLING_BARS: Final = 300
"""Recursive averages forget their start within so many bars after the warm-up."""


class Catalog(Generic[T]):
    """Named plug-ins of one `kind`, found in the modules of one `package`."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._is_complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: enter a plug-in under `name`; a name is taken once."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise InvalidSpec(f"{self.kind} {name!r} is registered twice; rename one")
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """The plug-in called `name`; NotFound names the close matches."""
        self._import_all()
        if name not in self._entries:
            raise NotFound.among(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        self._import_all()
        return name in self._entries

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._import_all()
        return tuple(sorted(self._entries))

    def describe(self, name: str) -> str:
        """The first line of the plug-in's docstring."""
        entry = self.get(name)
        described = getattr(entry, "expression", getattr(entry, "compute", entry))
        text = inspect.getdoc(described) or ""
        return text.partition("\n")[0]

    def _import_all(self) -> None:
        if self._is_complete:
            return
        package = import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            import_module(module.name)
        self._is_complete = True


class Forecaster(Protocol):
    """Answers rows with distributions."""

    def predict(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, 17) quantiles of the log return; never crossing."""
        ...


class Model(Forecaster, Protocol):
    """Turns examples into distributions; constructed with keyword parameters and a seed."""

    def fit(self, examples: Examples) -> Self:
        """Learn from the past; returns itself."""
        ...

    def save(self, folder: Path) -> None:
        """Write code-free files into an existing, empty `folder`."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...


@runtime_checkable
class SequenceModel(Protocol):
    """A model that looks at windows: its rows carry `sequences`."""

    @classmethod
    def default_tensors(cls, timeframe: str, features: tuple[str, ...]) -> TensorSpec:
        """The windows it takes where the spec names none."""
        ...


@runtime_checkable
class Updatable(Protocol):
    """A model that learns from what came since without being fitted again."""

    def update(self, examples: Examples) -> Self:
        """Learn from later examples, each once, in the order of their as_of; returns itself."""
        ...


@runtime_checkable
class Attributed(Protocol):
    """A model that can say which features its forecasts rest on."""

    def importances(self) -> dict[str, float]:
        """The share of each feature in what was learnt (gain), summing to 1; empty: of none."""
        ...

    def contributions(self, rows: Rows) -> FloatArray:
        """(n_rows, n_horizons, n_features): what each feature adds to the log of the scale."""
        ...


@runtime_checkable
class Attentive(Protocol):
    """A model that can say which bars its forecasts look at."""

    def attention(self, rows: Rows) -> FloatArray:
        """(n_rows, n_steps, n_timeframes): shares that sum to 1 in each row; 0 where masked."""
        ...


@dataclass(frozen=True)
class Feature:
    """One column of numbers that a model may see.

    `expression()` yields a Polars expression over PRICES and the `INPUTS` of `features.inputs`.
    A feature of scope ``symbol`` is evaluated within each segment (a symbol between two real
    gaps), one of scope ``universe`` across all symbols of one ``ts``: it names the symbol features
    that it compares. One of scope ``market`` is evaluated within each segment again and may name
    both. The first `warmup_bars` values of a segment are null; a value may depend on
    `settling_bars` further bars: a recursive average forgets its start only slowly.
    `is_input` says whether a model may see it: then it is scale-free, a ratio, z-score or
    logarithm, never a level. The others are stored and shown, in the units that people know.
    `table` says where its values are stored, and what it is made of: prices alone, or news,
    posts and indices as well. `origin` is the file of a feature that candlecast does not bring.
    """

    name: str
    expression: Callable[[], pl.Expr]
    warmup_bars: int
    scope: Scope = "symbol"
    is_input: bool = True
    table: FeatureTable = "ohlcv"
    settling_bars: int = SETTLING_BARS
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Label:
    """A kind of outcome, and its horizons on daily and on finer bars by default.

    `compute(prices, *, timeframe, horizons, calendars, ...)` takes PRICES, a Timeframe, names of
    horizons and a calendar for each ticker, with keyword parameters of its own that have defaults.
    It returns LABELS, one row for each (symbol, ts, horizon): `value` is null until `end_at` has
    come.
    """

    name: str
    compute: LabelFunction
    daily: tuple[str, ...]
    intraday: tuple[str, ...]

    def default_horizons(self, timeframe: Timeframe) -> tuple[str, ...]:
        """The horizons when none are named."""
        return self.daily if timeframe.is_daily else self.intraday


class Scorer(Protocol):
    """How good or bad a text is for whom it speaks of; constructed with keyword parameters."""

    @property
    def id(self) -> str:
        """Name and content hash: two scorers with one id give one text one score."""
        ...

    def score(self, texts: Sequence[str]) -> FloatArray:
        """(n_texts,) in [-1, 1], bad to good; 0 where nothing is said. Each text by itself."""
        ...


FEATURES: Final[Catalog[Feature]] = Catalog("feature", "candlecast.features")
LABELS: Final[Catalog[Label]] = Catalog("label", "candlecast.labels")
SCORERS: Final[Catalog[Callable[..., Scorer]]] = Catalog("scorer", "candlecast.scorers")
MODELS: Final[Catalog[Callable[..., Any]]] = Catalog("model", "candlecast.models")
PROVIDERS: Final[Catalog[Callable[..., Any]]] = Catalog("provider", "candlecast.providers")


def check_feature_name(name: str) -> None:
    """InvalidSpec unless `name` can name a column of features that stands beside the others."""
    if not FEATURE_NAME.fullmatch(name):
        raise InvalidSpec(f"{name!r} cannot name a feature; use a-z, 0-9 and _, at most 63")
    if name in RESERVED or name.startswith(RESERVED_STARTS):
        raise InvalidSpec(
            f"{name!r} cannot name a feature: it names another column of the table or view of "
            "features, or of an exported training set; rename the feature"
        )


def feature(
    name: str,
    *,
    warmup_bars: int,
    scope: Scope = "symbol",
    is_input: bool = True,
    table: FeatureTable = "ohlcv",
    settling_bars: int = SETTLING_BARS,
) -> Callable[[Callable[[], pl.Expr]], Callable[[], pl.Expr]]:
    """Decorator: enter a function that yields a Polars expression as a feature called `name`.

    InvalidSpec where the name or a setting makes no sense.
    """
    check_feature_name(name)
    for setting, n_bars in (("warmup_bars", warmup_bars), ("settling_bars", settling_bars)):
        if n_bars < 0:
            raise InvalidSpec(f"feature {name!r}: {setting} is {n_bars}; use 0 or more bars")
    for setting, value, kind in (("scope", scope, Scope), ("table", table, FeatureTable)):
        if value not in get_args(kind):
            known = ", ".join(get_args(kind))
            raise InvalidSpec(f"feature {name!r}: unknown {setting} {value!r}; use one of {known}")

    def enter(expression: Callable[[], pl.Expr]) -> Callable[[], pl.Expr]:
        is_ours = expression.__module__.partition(".")[0] == __name__.partition(".")[0]
        origin = "" if is_ours else inspect.unwrap(expression).__code__.co_filename
        entry = Feature(
            name, expression, warmup_bars, scope, is_input, table, settling_bars, origin
        )
        FEATURES.register(name)(entry)
        return expression

    return enter


def label(
    name: str, *, daily: tuple[str, ...], intraday: tuple[str, ...]
) -> Callable[[LabelFunction], LabelFunction]:
    """Decorator: enter a function as a label called `name`, with its default horizons."""

    def enter(compute: LabelFunction) -> LabelFunction:
        LABELS.register(name)(Label(name, compute, daily, intraday))
        return compute

    return enter
