"""Location and scale of each feature of each timeframe, learnt from the training span alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import FloatArray
from candlecast.domain.specs import TensorSpec
from candlecast.errors import BadArtifact, InvalidSpec, NotEnoughHistory

Values: TypeAlias = NDArray[np.float32]

WIDEST: Final = 8.0
"""Normalised values are kept within this: a wild bar is told as wild, not as anything at all."""
NORMAL_RANGE: Final = 1.3489795003921634
"""The interquartile range of the standard normal distribution."""


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Puts features into units of their usual spread: (value - location) / scale, within ±8.

    The location is the median, the scale the interquartile range over that of a normal
    distribution; where that is 0 (most values are the same), the standard deviation; where that is
    0 as well, 1. Markets have wild days: these decide a mean and a standard deviation, but no
    median and no quartile.

    Attributes
    ----------
    timeframes, features : what it was fitted for
    location, scale : (n_timeframes, n_features) float64, finite, scale > 0
    is_learnt : (n_timeframes,) bool, False where no bar of the training span had all features:
        what begins later in a coarse timeframe is no input to what never saw it
    """

    timeframes: tuple[str, ...]
    features: tuple[str, ...]
    location: FloatArray
    scale: FloatArray
    is_learnt: NDArray[np.bool_]

    @classmethod
    def fit(cls, spec: TensorSpec, known: Iterable[tuple[Values, NDArray[np.bool_]]]) -> Self:
        """The units of (n, n_features) values of each timeframe, of the rows that the flags choose.

        NotEnoughHistory names the rarest feature where no timeframe has a bar with all of them.
        """
        shape = (len(spec.timeframes), len(spec.features))
        location, scale, is_learnt = np.zeros(shape), np.ones(shape), np.zeros(shape[0], dtype=bool)
        rarest = ""
        for at, (values, is_known) in zip(range(shape[0]), known, strict=True):
            is_value = np.isfinite(values) & is_known[:, None]
            rarest = rarest or spec.features[int(is_value.sum(axis=0).argmin())]
            is_learnt[at] = is_value.all(axis=1).any()
            if is_learnt[at]:
                for place, has_value in enumerate(is_value.T):
                    location[at, place], scale[at, place] = _spread(values[has_value, place])
        if not is_learnt.any():
            raise NotEnoughHistory(
                f"no bar of {spec.timeframes[0]} in the training span has all features, and "
                f"{rarest} is the rarest; leave it out, or train on a longer span"
            )
        return cls(spec.timeframes, spec.features, location, scale, is_learnt)

    def check(self, spec: TensorSpec) -> None:
        """InvalidSpec unless it was fitted for the timeframes and features of `spec`."""
        if (self.timeframes, self.features) != (spec.timeframes, spec.features):
            raise InvalidSpec(
                f"a normaliser of {', '.join(self.timeframes)} and {len(self.features)} features "
                "is not for these windows; fit one on them"
            )

    def apply(self, values: Values, place: int) -> None:
        """Normalise (..., n_features) values of the timeframe at `place`, in place; NaN stay."""
        values -= self.location[place].astype(np.float32)
        values /= self.scale[place].astype(np.float32)
        np.clip(values, -WIDEST, WIDEST, out=values)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_mapping` reads them back, to the last bit."""
        return {
            "timeframes": list(self.timeframes),
            "features": list(self.features),
            "location": self.location.tolist(),
            "scale": self.scale.tolist(),
            "is_learnt": self.is_learnt.tolist(),
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """What `to_mapping` gave; BadArtifact where it is damaged."""
        try:
            names = [tuple(map(str, values[name])) for name in ("timeframes", "features")]
            units = [np.array(values[name], dtype=np.float64) for name in ("location", "scale")]
            is_learnt = np.array(values["is_learnt"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadArtifact(f"a normaliser is damaged ({error}); fit it again") from error
        shape = (len(names[0]), len(names[1]))
        is_sound = all(unit.shape == shape and np.isfinite(unit).all() for unit in units)
        if not is_sound or (units[1] <= 0).any():
            raise BadArtifact(f"a normaliser has no {shape} finite, positive units; fit it again")
        if is_learnt.dtype != np.bool_ or is_learnt.shape != shape[:1] or not is_learnt.any():
            raise BadArtifact("a normaliser does not say what was learnt; fit it again")
        return cls(names[0], names[1], units[0], units[1], is_learnt)


def _spread(values: Values) -> tuple[float, float]:
    low, middle, high = np.quantile(values.astype(np.float64), (0.25, 0.5, 0.75))
    scale = (high - low) / NORMAL_RANGE
    if not scale > 0:
        scale = float(np.std(values, dtype=np.float64))
    return float(middle), float(scale) if scale > 0 else 1.0
