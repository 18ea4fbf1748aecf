"""Save and load without pickle: ONNX and native text formats, sha256, manifest."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast.domain.catalog import MODELS
from candlecast.domain.specs import ModelSpec, check_parameters, to_mapping
from candlecast.errors import BadArtifact, InvalidSpec

if TYPE_CHECKING:
    from candlecast.domain.catalog import Model

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
MAX_FILE_BYTES: Final = 512 * 1024**2
SUFFIXES: Final = frozenset({".json", ".onnx", ".txt", ".safetensors"})
LIBRARIES: Final = (
    *("numpy", "scipy", "scikit-learn", "lightgbm", "xgboost-cpu", "catboost", "torch", "river"),
    *("onnx", "onnxruntime"),
)


def write_json(path: Path, state: object) -> None:
    """Write plain values; refuses NaN, because other readers of JSON would."""
    path.write_text(json.dumps(state, allow_nan=False, sort_keys=True), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Plain values; BadArtifact when the file is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadArtifact(f"{path.name}: {error}; register the model again") from error


def make_base_model(spec: ModelSpec, seed: int) -> Model:
    """The model of the catalogue that `spec` names, not calibrated; its members, where it takes
    any, as functions that make a fresh one each. InvalidSpec for what the kind does not take.
    """
    factory = MODELS.get(spec.kind)
    check_parameters(spec.kind, factory, spec.parameters, hidden=("seed", "members"))
    takes_members = "members" in inspect.signature(factory).parameters
    if takes_members != bool(spec.members):
        remedy = "name some as [[model.members]]" if takes_members else "leave them out"
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
    files = {
        name: {"sha256": _sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(_names(folder))
    }
    manifest = {
        "format": FORMAT,
        "spec": to_mapping(spec),
        "libraries": {name: found for name in LIBRARIES if (found := _installed(name))},
        "files": files,
        **details,
    }
    write_json(folder / MANIFEST, manifest)
    return _sha256(folder / MANIFEST)


def open_sealed(folder: Path, manifest_sha256: str | None = None) -> dict[str, Any]:
    """The manifest of `folder`, after every file's name, size and hash were found right."""
    if manifest_sha256 is not None and _sha256(folder / MANIFEST) != manifest_sha256:
        raise BadArtifact(f"the manifest of {folder.name} was changed; register the model again")
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise BadArtifact(f"{folder.name} has format {manifest.get('format')}, not {FORMAT}")
    names = _names(folder)
    if names != set(manifest["files"]):
        raise BadArtifact(f"{folder.name} holds {sorted(names)}, not {sorted(manifest['files'])}")
    for name, expected in manifest["files"].items():
        _check_file(folder / name, expected)
    return manifest


def _names(folder: Path) -> set[str]:
    # All files but the manifest, also those of members in folders of their own.
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found} - {MANIFEST}


def _installed(library: str) -> str | None:
    try:
        return library_version(library)
    except PackageNotFoundError:
        return None


def _check_file(path: Path, expected: dict[str, Any]) -> None:
    if path.suffix not in SUFFIXES or path.is_symlink() or not path.is_file():
        raise BadArtifact(f"{path.name} is no file of a kind that models use")
    if path.stat().st_size != expected["bytes"] or path.stat().st_size > MAX_FILE_BYTES:
        raise BadArtifact(f"{path.name} has an unexpected size; register the model again")
    if _sha256(path) != expected["sha256"]:
        raise BadArtifact(f"{path.name} was changed after it was saved; register the model again")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadArtifact(f"{path}: {error}") from error
