"""Save and load without pickle: ONNX and native text formats, sha256, manifest."""

from __future__ import annotations

import inspect
import json
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast.domain.catalog import MODELS
from candlecast.domain.described import check_parameters, to_mapping
from candlecast.domain.specs import ModelSpec
from candlecast.errors import BadArtifact, InvalidSpec
from candlecast.models.sealed import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    check_files,
    hashed_files,
    read_strict_json,
    sha256_of,
)

if TYPE_CHECKING:
    from candlecast.domain.catalog import Model

FORMAT: Final = 2
"""Of what models write into their folders: one more whenever an older folder cannot be loaded."""
HOW_TO_NAME_MEMBERS: Final = (
    "name some as [[model.members]]; `candlecast train experiments/voting.toml` shows how"
)
LIBRARIES: Final = (
    *("numpy", "scipy", "scikit-learn", "lightgbm", "xgboost-cpu", "catboost", "torch", "river"),
    *("onnx", "onnxruntime"),
)


def write_json(path: Path, state: object) -> None:
    """Write plain values; refuses NaN, because other readers of JSON would."""
    path.write_text(json.dumps(state, allow_nan=False, sort_keys=True), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Plain values; BadArtifact when the file is missing or no sound JSON."""
    return read_strict_json(path)


def make_base_model(spec: ModelSpec, seed: int) -> Model:
    """The model of the catalogue that `spec` names, not calibrated; its members, where it takes
    any, as functions that make a fresh one each. InvalidSpec for what the kind does not take.
    """
    factory = MODELS.get(spec.kind)
    check_parameters(spec.kind, factory, spec.parameters, hidden=("seed", "members"))
    takes_members = "members" in inspect.signature(factory).parameters
    if takes_members != bool(spec.members):
        remedy = HOW_TO_NAME_MEMBERS if takes_members else "leave them out"
        raise InvalidSpec(f"{spec.kind} has {len(spec.members)} members; {remedy}")
    given: dict[str, Any] = dict(spec.parameters)
    if takes_members:
        given["members"] = tuple(partial(make_base_model, member, seed) for member in spec.members)
        for make_member in given["members"]:
            make_member()  # what is wrong with one is told before the work
    try:
        model: Model = factory(seed=seed, **given)
    except (TypeError, ValueError) as error:
        raise InvalidSpec(f"{spec.kind}: {error}") from error
    return model


def seal(folder: Path, spec: ModelSpec, details: dict[str, Any]) -> str:
    """Write the manifest over all files of `folder`; returns the sha256 of the manifest."""
    manifest = {
        "format": FORMAT,
        "spec": to_mapping(spec),
        "libraries": {name: found for name in LIBRARIES if (found := installed(name))},
        "files": hashed_files(folder),
        **details,
    }
    write_json(folder / MANIFEST, manifest)
    return sha256_of(folder / MANIFEST)


def open_sealed(folder: Path, manifest_sha256: str | None = None) -> dict[str, Any]:
    """The manifest of `folder`, after every file's name, size and hash were found right.

    Its `spec` describes a model, its `feature_names` and `horizons`, where told, are texts.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise BadArtifact(f"{folder.name} is no folder of a model; run `candlecast train`")
    if manifest_sha256 is not None and sha256_of(folder / MANIFEST) != manifest_sha256:
        raise BadArtifact(f"the manifest of {folder.name} was changed; run `candlecast train`")
    manifest = read_strict_json(folder / MANIFEST, MAX_MANIFEST_BYTES)
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise BadArtifact(f"the manifest of {folder.name} is none; run `candlecast train`")
    if manifest["format"] != FORMAT:
        age = "an earlier" if manifest["format"] < FORMAT else "a later"
        raise BadArtifact(
            f"{folder.name} was made by {age} version (format {manifest['format']}); "
            "run `candlecast train` to make it again"
        )
    if not all(isinstance(manifest.get(name), dict) for name in ("spec", "files")):
        raise BadArtifact(
            f"the manifest of {folder.name} lacks spec or files; run `candlecast train`"
        )
    for name in ("feature_names", "horizons"):
        told = manifest.get(name, [])
        if not isinstance(told, list) or not all(isinstance(text, str) for text in told):
            raise BadArtifact(f"{name} of {folder.name} are no texts; run `candlecast train`")
    check_files(folder, manifest["files"])
    return manifest


def installed(library: str) -> str | None:
    """The version of a library that is installed, else None."""
    try:
        return library_version(library)
    except PackageNotFoundError:
        return None
