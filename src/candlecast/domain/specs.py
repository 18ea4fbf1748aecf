"""Frozen descriptions of features, labels, splits, models, experiments; spec.id is their hash."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from candlecast.domain.described import Parameter, Spec, canonical, check_finite
from candlecast.domain.market import Horizon, Timeframe
from candlecast.domain.thresholds import fixed_threshold
from candlecast.errors import InvalidSpec, NotFound

WEIGHTINGS: Final = ("equal", "uniqueness")
SCHEMES: Final = ("expanding", "rolling")
MAX_EMBARGO_DAYS: Final = 36_500.0
CALIBRATIONS: Final = ("split", "refit", "cross", "none")


@dataclass(frozen=True)
class FeatureSpec(Spec):
    """Which features, in which order; empty means the standard set (all scale-free ones).

    `code` is the hash of the files that define those of the user's own, None without any.
    """

    names: tuple[str, ...] = ()
    code: str | None = None


@dataclass(frozen=True)
class LabelSpec(Spec):
    """What is forecast, shortest horizon first, and where Bullish and Bearish begin.

    `threshold` is ``fixed:0.02`` (simple returns beyond ±2 %) or ``scaled`` (the symbol's own
    terciles, known at as_of). `parameters` are those of the label's kind; they are held against it
    where it is looked up. `weighting` says what training rows count: ``equal``, or ``uniqueness``,
    less where labels overlap; each halves with every `half_life_days` of age (0: never).
    """

    kind: str = "forward_return"
    horizons: tuple[str, ...] = ("1D", "1W", "1M")
    threshold: str = "scaled"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    weighting: str = "equal"
    half_life_days: float = 0.0

    def __post_init__(self) -> None:
        if not self.horizons:
            raise InvalidSpec("name at least one horizon, e.g. 1D")
        ordered = sorted({Horizon.parse(text) for text in self.horizons}, key=lambda h: h.rank)
        object.__setattr__(self, "horizons", tuple(horizon.name for horizon in ordered))
        self.fixed_threshold()
        check_finite(self.parameters)
        if self.weighting not in WEIGHTINGS:
            raise InvalidSpec(f"weighting {self.weighting!r}: use {' or '.join(WEIGHTINGS)}")
        if not 0 <= self.half_life_days < math.inf:
            raise InvalidSpec(
                f"half_life_days is {self.half_life_days}; it is finite, not negative"
            )

    def fixed_threshold(self) -> float | None:
        """The simple return of a ``fixed:`` threshold, None for ``scaled``."""
        return fixed_threshold(self.threshold)

    @property
    def stored_kind(self) -> str:
        """Under which kind such labels are stored: with the parameters that are given, by name.

        For example ``forward_return[is_simple=true]``; a whole number is written as such.
        """
        given = sorted(canonical(self.parameters).items())
        texts = [
            f"{name}={value if type(value) is str else json.dumps(value)}" for name, value in given
        ]
        return f"{self.kind}[{','.join(texts)}]" if texts else self.kind


@dataclass(frozen=True)
class TensorSpec(Spec):
    """Windows of several timeframes: the last `n_steps` bars of each, with these features.

    Timeframes are put in order, the finest first; features stay in the order given.
    """

    timeframes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    n_steps: int = 128

    def __post_init__(self) -> None:
        for kind, names, example in (
            ("timeframe", self.timeframes, "5m, 15m, 1h, 4h and 1d"),
            ("feature", self.features, "return_1 and rsi_14"),
        ):
            if not names:
                raise InvalidSpec(f"name at least one {kind}, e.g. {example}")
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise InvalidSpec(f"{kind} {', '.join(twice)} is named twice; name it once")
        if self.n_steps < 1:
            raise InvalidSpec(f"n_steps is {self.n_steps}; it is at least 1, usually 100 to 200")
        ordered = sorted(map(Timeframe.parse, self.timeframes))
        object.__setattr__(self, "timeframes", tuple(timeframe.name for timeframe in ordered))


def check_embargo(days: float) -> None:
    """InvalidSpec unless `days` is an embargo: not negative, and at most a century."""
    if not 0 <= days <= MAX_EMBARGO_DAYS:
        raise InvalidSpec(
            f"embargo_days is {days}; it is not negative, and at most {MAX_EMBARGO_DAYS:,.0f}"
        )


@dataclass(frozen=True)
class SplitSpec(Spec):
    """Walk-forward: `n_splits` test spans one after the other, each trained on what was known
    before it, and after them a final holdout that no choice has looked at.

    `scheme` is ``expanding`` (all that was known) or ``rolling`` (the last `train_size` distinct
    as_of instants of it). `test_size` is the length of a test span in distinct as_of instants
    (None: the history before the holdout is cut into n_splits + 1 equal parts). `embargo_days`
    are calendar days kept free between the end of training labels and the test span.
    `holdout_share` of the instants, the newest, are the holdout (0: none): it is walked through
    in spans of the same length, and search and selection never see it.
    """

    n_splits: int = 5
    test_size: int | None = None
    embargo_days: float = 1.0
    scheme: str = "expanding"
    train_size: int | None = None
    holdout_share: float = 0.2

    def __post_init__(self) -> None:
        sizes = (self.n_splits, self.test_size, self.train_size)
        if any(size is not None and size < 1 for size in sizes):
            raise InvalidSpec("n_splits, test_size and train_size are at least 1")
        check_embargo(self.embargo_days)
        if self.scheme not in SCHEMES:
            raise InvalidSpec(f"scheme {self.scheme!r}: use {' or '.join(SCHEMES)}")
        if (self.scheme == "rolling") != (self.train_size is not None):
            raise InvalidSpec("scheme rolling needs a train_size, and only rolling has one")
        if not 0 <= self.holdout_share < 1:
            raise InvalidSpec(f"holdout_share is {self.holdout_share}; it lies in [0, 1)")


@dataclass(frozen=True)
class ModelSpec(Spec):
    """A model of the catalogue with its parameters, and how it is calibrated.

    `calibration` is ``split`` (`calibration_share` of the training instants, the latest, are kept
    for it; 0: not calibrated), ``refit`` (the same, and then the model is fitted again on all),
    ``cross`` (on forecasts of `calibration_folds` later parts, each by a model fitted on what was
    known before, and then fitted on all) or ``none``. With `is_adaptive` bands also follow how
    forecasts fared since. `members` are the models that an ensemble is made of; `tensors` the
    windows that a sequence model looks at (None: those that its kind takes by default).
    """

    kind: str = "lightgbm"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    calibration: str = "none"
    calibration_share: float = 0.25
    calibration_folds: int = 4
    is_adaptive: bool = True
    members: tuple[ModelSpec, ...] = ()
    tensors: TensorSpec | None = None

    def __post_init__(self) -> None:
        if self.calibration not in CALIBRATIONS:
            raise InvalidSpec(f"calibration {self.calibration!r}: use {', '.join(CALIBRATIONS)}")
        if not 0 <= self.calibration_share < 1:
            raise InvalidSpec("calibration_share lies in [0, 1)")
        if self.calibration_folds < 1:
            raise InvalidSpec("calibration_folds is at least 1")
        check_finite(self.parameters)


@dataclass(frozen=True)
class ExperimentSpec(Spec):
    """All that decides what a training run yields, given the bars."""

    timeframe: str = "1d"
    symbols: tuple[str, ...] = ()
    seed: int = 7
    min_bars: int = 500
    allow_simulated: bool = False
    features: FeatureSpec = FeatureSpec()
    labels: LabelSpec = LabelSpec()
    splits: SplitSpec = SplitSpec()
    model: ModelSpec = field(default_factory=ModelSpec)

    def __post_init__(self) -> None:
        Timeframe.parse(self.timeframe)
        if self.min_bars < 1:
            raise InvalidSpec("min_bars is at least 1")

    @classmethod
    def from_toml(cls, path: Path) -> ExperimentSpec:
        """The experiment of a TOML file; InvalidSpec or NotFound names file and culprit.

        What the file says under `search` is for who searches, and left out.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            values.pop("search", None)
            return cls.from_mapping(values)
        except NotFound as error:
            raise NotFound(f"{path}: {error}") from error
        except (OSError, ValueError, InvalidSpec) as error:
            raise InvalidSpec(f"{path}: {error}") from error

    def with_kind(self, kind: str) -> ExperimentSpec:
        """The same experiment with a model of `kind`; what was said to another kind is dropped."""
        if kind == self.model.kind:
            return self
        model = replace(self.model, kind=kind, parameters={}, members=(), tensors=None)
        return replace(self, model=model)

    def with_parameters(self, parameters: Mapping[str, Parameter]) -> ExperimentSpec:
        """The same experiment with further model parameters."""
        merged = {**self.model.parameters, **parameters}
        return replace(self, model=replace(self.model, parameters=merged))
