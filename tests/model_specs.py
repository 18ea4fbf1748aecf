"""Each kind of model, small enough to be fitted many times: what the conformance tests fit."""

from __future__ import annotations

from candlecast.domain.described import Parameter
from candlecast.domain.specs import ModelSpec
from markets import TENSORS

MEMBERS = (ModelSpec(kind="ewma"), ModelSpec(kind="har"))
TINY: dict[str, Parameter] = {"n_epochs": 1, "max_rows": 256, "max_batches": 4, "n_jobs": 1}
SPECS: dict[str, ModelSpec] = {
    "lightgbm": ModelSpec(kind="lightgbm", parameters={"n_estimators": 10, "n_jobs": 1}),
    "xgboost": ModelSpec(kind="xgboost", parameters={"n_estimators": 10, "n_jobs": 1}),
    "catboost": ModelSpec(kind="catboost", parameters={"n_estimators": 10, "n_jobs": 1}),
    "forest": ModelSpec(kind="forest", parameters={"n_estimators": 10, "n_jobs": 1}),
    "voting": ModelSpec(kind="voting", members=MEMBERS),
    "averaging": ModelSpec(kind="averaging", members=MEMBERS),
    "stacking": ModelSpec(kind="stacking", members=MEMBERS),
    "lstm": ModelSpec(kind="lstm", parameters=TINY | {"n_hidden": 8}, tensors=TENSORS),
    "transformer": ModelSpec(kind="transformer", parameters=TINY | {"n_width": 8}, tensors=TENSORS),
}
"""The kinds that need members, windows or fewer steps; every other is fitted as it comes."""


def small_spec(kind: str) -> ModelSpec:
    """The spec with which `kind` is tried."""
    return SPECS.get(kind, ModelSpec(kind=kind))
