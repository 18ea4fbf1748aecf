"""What an experiment may ask for: inputs, windows of them, and the label that models forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from candlecast.domain.catalog import FEATURES, MODELS, SequenceModel, check_feature_name
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, ModelSpec, TensorSpec
from candlecast.errors import InvalidSpec
from candlecast.features.chosen import with_code
from candlecast.features.compute import standard_set
from candlecast.pipelines.label import look_up
from candlecast.pipelines.universe import Market

TRAINABLE: Final = "forward_return"
"""The label that models forecast, as a log return."""


def resolved(spec: ExperimentSpec, market: Market) -> ExperimentSpec:
    """`spec` with the symbols, features and windows by name that it stands for now, so that it
    goes on standing for them when others have come.
    """
    features = resolved_features(spec.features)
    model = _resolved_model(spec.model, spec.timeframe, features.names)
    return replace(spec, symbols=market.tickers, features=features, model=model)


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


def windows_of(spec: ExperimentSpec) -> TensorSpec | None:
    """The windows that the model of `spec`, or its members, look at; None where none does.

    InvalidSpec where members look at different ones, for rows carry one kind of windows; and
    where they show a feature that is none of the experiment's: it would be part of the model, but
    of no gate and no record.
    """
    names = feature_names(spec.features)
    found = list(_windows_in(_resolved_model(spec.model, spec.timeframe, names)))
    if not found:
        return None
    windows, *others = found
    if different := [tensors for tensors in others if tensors != windows]:
        raise InvalidSpec(
            f"the members look at different windows, {_described(windows)} and "
            f"{_described(different[0])}; give those that look at windows the same "
            "[model.members.tensors]: timeframes, features and n_steps"
        )
    if unknown := sorted({*windows.features} - {*names}):
        raise InvalidSpec(
            f"the windows show {', '.join(unknown)}, which the experiment does not name; "
            "name them among its features as well"
        )
    return windows


def _resolved_model(model: ModelSpec, timeframe: str, names: tuple[str, ...]) -> ModelSpec:
    # The windows of a model and of its members by name.
    members = tuple(_resolved_model(member, timeframe, names) for member in model.members)
    kind = MODELS.get(model.kind)
    if not isinstance(kind, SequenceModel):
        if model.tensors is not None:
            raise InvalidSpec(f"{model.kind} looks at no windows; leave its tensors out")
        return replace(model, members=members)
    tensors = model.tensors or kind.default_tensors(timeframe, names)
    return replace(model, members=members, tensors=tensors)


def _windows_in(model: ModelSpec) -> Iterator[TensorSpec]:
    if model.tensors is not None:
        yield model.tensors
    for member in model.members:
        yield from _windows_in(member)


def _described(tensors: TensorSpec) -> str:
    shown = ", ".join(tensors.features[:3]) + (" …" if len(tensors.features) > 3 else "")
    return f"{tensors.n_steps} steps of {', '.join(tensors.timeframes)} with {shown}"


def check_trainable(spec: ExperimentSpec) -> None:
    """InvalidSpec unless the label is what models forecast: the log return."""
    kind = look_up(spec.labels)[1].stored_kind
    if kind != TRAINABLE:
        raise InvalidSpec(
            f"models forecast log returns, not {kind}; use the label {TRAINABLE} without "
            "parameters, or take the rows elsewhere with `candlecast dataset export`"
        )
