"""What an experiment may ask for: features that are inputs, and the label that models forecast."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from candlecast.domain.catalog import FEATURES, check_feature_name
from candlecast.domain.specs import ExperimentSpec, FeatureSpec
from candlecast.errors import InvalidSpec
from candlecast.features.chosen import with_code
from candlecast.features.compute import standard_set
from candlecast.pipelines.label import look_up
from candlecast.pipelines.universe import Market

TRAINABLE: Final = "forward_return"
"""The label that models forecast, as a log return."""


def resolved(spec: ExperimentSpec, market: Market) -> ExperimentSpec:
    """`spec` with the symbols and features by name that it stands for now, so that it goes on
    standing for them when others have come.
    """
    return replace(spec, symbols=market.tickers, features=resolved_features(spec.features))


def resolved_features(features: FeatureSpec) -> FeatureSpec:
    """`features` by name, with the hash of the user's files that define any of them."""
    coded = with_code(features)
    return replace(coded, names=feature_names(coded))


def feature_names(features: FeatureSpec) -> tuple[str, ...]:
    """What a model is to see; NotFound or InvalidSpec names a feature that it cannot."""
    names = features.names or standard_set()
    for name in names:
        check_feature_name(name)
        if not FEATURES.get(name).is_input:
            raise InvalidSpec(
                f"feature {name!r} is a level, which is stored and shown but is no input of a "
                "model; name scale-free features, or none for the standard set"
            )
    if len({*names}) < len(names):
        raise InvalidSpec("a feature is named twice; name each once")
    return tuple(names)


def check_trainable(spec: ExperimentSpec) -> None:
    """InvalidSpec unless the label is what models forecast: the log return."""
    kind = look_up(spec.labels)[1].stored_kind
    if kind != TRAINABLE:
        raise InvalidSpec(
            f"models forecast log returns, not {kind}; use the label {TRAINABLE} without "
            "parameters, or take the rows elsewhere with `candlecast dataset export`"
        )
