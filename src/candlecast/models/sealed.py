"""Files of an artefact, held against their manifest before any of them is parsed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from candlecast.errors import BadArtifact

MANIFEST: Final = "manifest.json"
MAX_FILE_BYTES: Final = 512 * 1024**2
MAX_JSON_BYTES: Final = 64 * 1024**2
MAX_MANIFEST_BYTES: Final = 4 * 1024**2
MAX_FILES: Final = 4096
MAX_DEPTH: Final = 8
MAX_JSON_DEPTH: Final = 64
SUFFIXES: Final = frozenset({".json", ".onnx", ".txt", ".safetensors"})
SHA256: Final = re.compile(r"[0-9a-f]{64}")
PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""What can name a file or folder of an artefact: nothing that leads out of it or hides."""


def read_strict_json(path: Path, most_bytes: int = MAX_JSON_BYTES) -> Any:
    """Plain values; BadArtifact when the file is missing, too large or too deep, no JSON, repeats
    a key or holds a number that is not finite.
    """
    try:
        content = _read(path, most_bytes)
        values = json.loads(
            content.decode("utf-8"),
            parse_constant=_refused,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise BadArtifact(f"{path.name}: {error}; run `candlecast train`") from error
    _check_depth(path.name, values)
    return values


def inside(folder: Path, name: object) -> Path:
    """The file `name` of `folder`; BadArtifact when the name is none of a file right in it."""
    if not isinstance(name, str) or not PART.fullmatch(name) or Path(name).suffix not in SUFFIXES:
        raise BadArtifact(f"{name!r} names no file of a model; run `candlecast train`")
    return folder / name


def hashed_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of every file below `folder` but the manifest; BadArtifact for what is none."""
    return {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(_names(folder))
    }


def check_files(folder: Path, listed: Mapping[str, Any]) -> None:
    """BadArtifact unless the files below `folder` are those `listed`, byte by byte."""
    for name, expected in listed.items():
        _check_listed(name, expected)
    found = _names(folder)
    if found != set(listed):
        other = sorted(found ^ set(listed))
        raise BadArtifact(f"{folder.name} lacks or adds {other[:5]}; run `candlecast train`")
    if len({name.casefold() for name in found}) < len(found):
        raise BadArtifact(f"{folder.name} has names that differ only in case; rename them")
    for name, expected in listed.items():
        path = folder / name
        if path.stat().st_size != expected["bytes"]:
            raise BadArtifact(f"{name} has an unexpected size; run `candlecast train`")
        if sha256_of(path) != expected["sha256"]:
            raise BadArtifact(f"{name} was changed after it was saved; run `candlecast train`")


def sha256_of(path: Path) -> str:
    """The hash of a plain file; BadArtifact when it is none or cannot be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BadArtifact(f"{path.name} is no plain file; artefacts hold no links or devices")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise BadArtifact(f"{path.name}: {error}; run `candlecast train`") from error


def _names(folder: Path) -> set[str]:
    # Plain files only, also those of members in folders of their own; the manifest left out.
    names: set[str] = set()
    waiting = [("", 0)]
    while waiting:
        inner, depth = waiting.pop()
        n_before = len(names)
        for entry in _entries(folder / inner):
            name = inner + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if not PART.fullmatch(entry.name) or depth == MAX_DEPTH:
                raise BadArtifact(f"{name!r} names no file of a model; remove it")
            if stat.S_ISDIR(mode):
                waiting.append((f"{name}/", depth + 1))
            elif stat.S_ISREG(mode):
                names.add(name)
            else:
                raise BadArtifact(f"{name} is no plain file; artefacts hold no links or devices")
        if inner and len(names) == n_before and not any(w.startswith(inner) for w, _ in waiting):
            raise BadArtifact(f"the folder {inner} is empty; remove it")
        if len(names) > MAX_FILES:
            raise BadArtifact(f"{folder.name} has more than {MAX_FILES} files; it is no model")
    return names - {MANIFEST}


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        raise BadArtifact(f"{folder.name}: {error}; run `candlecast train`") from error


def _check_listed(name: object, expected: object) -> None:
    is_sound = (
        isinstance(name, str)
        and len(parts := name.split("/")) <= MAX_DEPTH + 1
        and all(PART.fullmatch(part) for part in parts)
        and Path(name).suffix in SUFFIXES
        and isinstance(expected, Mapping)
        and set(expected) == {"sha256", "bytes"}
        and isinstance(expected["sha256"], str)
        and SHA256.fullmatch(expected["sha256"]) is not None
        and type(expected["bytes"]) is int
        and 0 <= expected["bytes"] <= MAX_FILE_BYTES
    )
    if not is_sound:
        raise BadArtifact(f"{str(name)[:80]!r} is listed as no file of a model can be")


def _read(path: Path, most_bytes: int) -> bytes:
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no plain file")
    if state.st_size > most_bytes:
        raise ValueError(f"it takes {state.st_size} bytes, and {most_bytes} are allowed")
    return path.read_bytes()


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it repeats a key")
    return values


def _check_depth(name: str, values: Any) -> None:
    level = [values]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise BadArtifact(f"{name} is nested too deep to be a model's")
