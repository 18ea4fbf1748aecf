"""Artefacts as an attacker would make them, from good ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from candlecast.models.sealed import MANIFEST, sha256_of

if TYPE_CHECKING:
    from onnx import ModelProto as Graph

Attack = Callable[[Path], None]
JUNK: tuple[Any, ...] = (None, "x", [], {}, 1e308, [[1.0]], ["../x.onnx"])


@dataclass(frozen=True)
class Hostile:
    """What is done to a copy of an artefact; `is_resealed` when its hashes are made right again."""

    name: str
    attack: Attack
    is_resealed: bool = False


def reseal(folder: Path) -> None:
    """The manifest lists whatever is there now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": len(content)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
        for content in [path.read_bytes()]
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))


def damaged(folder: Path, rng: np.random.Generator, marker: Path) -> Iterator[Hostile]:
    """Each file cut, changed, prolonged, emptied, made a program of; hashes as they were."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        place, cut = int(rng.integers(size)), int(rng.integers(size))
        yield Hostile(f"{name} cut at {cut}", lambda f, n=name, c=cut: os.truncate(f / n, c))
        yield Hostile(f"{name} changed", lambda f, n=name, p=place: _flip(f / n, p))
        yield Hostile(f"{name} prolonged", lambda f, n=name: _write(f / n, b"\n", "ab"))
        yield Hostile(f"{name} emptied", lambda f, n=name: os.truncate(f / n, 0))
        yield Hostile(f"{name} gone", lambda f, n=name: (f / n).unlink())
        code = b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR."  # unpickling it makes a folder
        yield Hostile(f"{name} pickled", lambda f, n=name, c=code: _write(f / n, c))
        yield Hostile(f"{name} linked", lambda f, n=name: _linked(f, n))


def misplaced() -> Iterator[Hostile]:
    """Files that are none, or are where none may be, listed in the manifest or not."""
    yield Hostile("a stranger", lambda f: _write(f / "other.json", b"{}"))
    yield Hostile("a hidden file", lambda f: _write(f / ".hidden.json", b"{}"), True)
    yield Hostile("an empty folder", lambda f: (f / "empty").mkdir())
    yield Hostile("a deep folder", lambda f: _deep(f, 12), True)
    yield Hostile("a queue", lambda f: os.mkfifo(f / "queue.json"))
    yield Hostile("the manifest a queue", lambda f: _replaced(f, os.mkfifo))
    yield Hostile("the manifest a folder", lambda f: _replaced(f, os.mkdir))
    yield Hostile(
        "the manifest a device", lambda f: _replaced(f, lambda p: p.symlink_to("/dev/zero"))
    )
    yield Hostile("a device", lambda f: (f / "zero.json").symlink_to("/dev/zero"))
    yield Hostile("a folder elsewhere", lambda f: (f / "member_9").symlink_to("/etc"))
    for name in (
        "model.pkl",
        "run.py",
        "model.JSON",
        "a b.json",
        "é.json",
        "x.so",
        "m.npy",
        "json",
    ):
        yield Hostile(f"a file {name}", lambda f, n=name: _write(f / n, b"{}"), True)
    yield Hostile("two that differ in case", lambda f: _write(f / "MODEL.json", b"{}"), True)
    yield Hostile("a lied size", lambda f: _listed(f, "model.json", bytes=2**40))


def misdescribed() -> Iterator[Hostile]:
    """Manifests with what none says."""
    huge, deep = b" " * 5_000_000, b"[" * 100_000 + b"]" * 100_000
    nested = b'{"format": 1, "x": ' + b"[" * 200 + b"]" * 200 + b"}"
    texts = (b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", huge, deep, nested)
    for number, text in enumerate(texts):
        yield Hostile(f"manifest text {number}", lambda f, t=text: _write(f / MANIFEST, t))
    for insertion in ('"format": 1, ', '"x": NaN, ', '"x": 1e999, ', '"x": -Infinity, '):
        yield Hostile(f"manifest with {insertion}", lambda f, i=insertion: _inserted(f, i))
    for key in ("format", "spec", "files"):
        yield Hostile(f"manifest without {key}", lambda f, k=key: _manifest(f, lambda m: m.pop(k)))
        for junk in JUNK:
            change = lambda m, k=key, j=junk: m.update({k: j})  # noqa: E731 - one of many
            yield Hostile(f"{key} is {junk!r}", lambda f, c=change: _manifest(f, c))
    for key in ("feature_names", "horizons"):
        for junk in ("x", [1], {"a": 1}, 3):
            change = lambda m, k=key, j=junk: m.update({k: j})  # noqa: E731 - one of many
            yield Hostile(f"{key} are {junk!r}", lambda f, c=change: _manifest(f, c))
    yield from _listings()
    for spec in ({"kind": "unheard_of"}, {"kind": "../har"}, {"kind": 1}, {"kind": "har", "x": 1}):
        change = lambda m, s=spec: m.update(spec=s)  # noqa: E731 - one of many
        yield Hostile(f"spec {spec}", lambda f, c=change: _manifest(f, c))


def _listings() -> Iterator[Hostile]:
    names = (
        "../model.json",
        "/etc/passwd",
        "a\0.json",
        "..",
        "C:\\x.json",
        "a//b.json",
        "./m.json",
    )
    for name in (*names, "model.json/", "", "x" * 300 + ".json", "/".join("a" * 20) + ".json"):
        yield Hostile(f"lists {name[:20]!r}", lambda f, n=name: _listed(f, n))
    for value in (-1, True, 1.5, "1", None, 2**60):
        yield Hostile(f"bytes {value!r}", lambda f, v=value: _listed(f, "model.json", bytes=v))
    for value in ("", "A" * 64, "g" * 64, None, 1, ["a"]):
        yield Hostile(f"sha256 {value!r}", lambda f, v=value: _listed(f, "model.json", sha256=v))
    yield Hostile("lists a text", lambda f: _manifest(f, lambda m: m["files"].update(a="b")))
    more = lambda m: m["files"]["model.json"].update(run="rm")  # noqa: E731 - one of many
    yield Hostile("lists more", lambda f: _manifest(f, more))


def misstated(folder: Path) -> Iterator[Hostile]:
    """Each value of each state gone or junk, the hashes made right again; not those of members."""
    for path in sorted(folder.glob("*.json")):
        name = path.name
        if name == MANIFEST:
            continue
        for key in json.loads(path.read_text()):
            yield Hostile(f"{name} without {key}", lambda f, n=name, k=key: _state(f / n, k), True)
            for junk in JUNK:
                attack = lambda f, n=name, k=key, j=junk: _state(f / n, k, j)  # noqa: E731 - many
                yield Hostile(f"{key} of {name} is {junk!r}", attack, True)
        for text in (b"[]", b"null", b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"scores": [[1e999]]}'):
            attack = lambda f, n=name, t=text: _write(f / n, t)  # noqa: E731 - one of many
            yield Hostile(f"{name} is {text[:20]!r}", attack, True)


def misdrawn(folder: Path, rng: np.random.Generator) -> Iterator[Hostile]:
    """Each ONNX graph made another, the hashes made right again; not those of members."""
    for path in sorted(folder.glob("*.onnx")):
        name, size = path.name, path.stat().st_size
        for change in REDRAWINGS:
            attack = lambda f, n=name, c=change: _redrawn(f / n, c)  # noqa: E731 - one of many
            yield Hostile(f"{name} {change.__name__}", attack, True)
        for cut in (0, 1, size // 2, size - 1):
            yield Hostile(f"{name} cut {cut}", lambda f, n=name, c=cut: os.truncate(f / n, c), True)
        for place in rng.integers(size, size=6).tolist():
            yield Hostile(f"{name} bit {place}", lambda f, n=name, p=place: _flip(f / n, p), True)


def _external(model: Graph) -> None:
    from onnx import TensorProto

    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_attribute(model: Graph) -> None:
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.external_data.add(key="location", value="../model.json")
    tree = next(node for node in model.graph.node if node.op_type.startswith("Tree"))
    tree.attribute.append(helper.make_attribute("nodes_values_as_tensor", tensor))


def _custom(model: Graph) -> None:
    from onnx import helper

    model.graph.node[0].domain = "com.attacker"
    model.opset_import.append(helper.make_opsetid("com.attacker", 1))


def _looping(model: Graph) -> None:
    from onnx import helper

    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["never"], body=body))


def _huge(model: Graph) -> None:
    from onnx import helper, numpy_helper

    shape = numpy_helper.from_array(np.array([2**40], dtype=np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["bomb"]))


def _functions(model: Graph) -> None:
    from onnx import helper

    opsets = [helper.make_opsetid("", 15)]
    model.functions.append(helper.make_function("", "Identity", [], [], [], opsets))


def _filled(model: Graph) -> None:
    from onnx import TensorProto

    model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2**31, 2**31])


def _declared(model: Graph) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**50


def _twice(model: Graph) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.name += "_other"


def _sparse(model: Graph) -> None:
    model.graph.sparse_initializer.add(dims=[2**40])


REDRAWINGS = (
    *(_external, _external_attribute, _custom, _looping, _huge),
    *(_functions, _filled, _declared, _twice, _sparse),
)


def _redrawn(path: Path, change: Callable[[Graph], None]) -> None:
    import onnx

    model = onnx.load_from_string(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())


def _write(path: Path, content: bytes, mode: str = "wb") -> None:
    with path.open(mode) as file:
        file.write(content)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x41
    path.write_bytes(bytes(content))


def _linked(folder: Path, name: str) -> None:
    elsewhere = folder.with_name(f"{folder.name}-{name.replace('/', '-')}")
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)


def _deep(folder: Path, depth: int) -> None:
    inner = folder.joinpath(*["d"] * depth)
    inner.mkdir(parents=True)
    (inner / "m.json").write_text("{}")


def _replaced(folder: Path, make: Callable[[Path], object]) -> None:
    (folder / MANIFEST).unlink()
    make(folder / MANIFEST)


def _manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _inserted(folder: Path, text: str) -> None:
    known = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(known.replace("{", "{" + text, 1))


def _listed(folder: Path, name: str, **values: Any) -> None:
    def change(manifest: dict[str, Any]) -> None:
        known = manifest["files"].get(name, {"sha256": "0" * 64, "bytes": 2})
        manifest["files"][name] = known | values

    _manifest(folder, change)


def _state(path: Path, key: str, *value: Any) -> None:
    state = json.loads(path.read_text())
    del state[key]
    path.write_text(json.dumps(state | dict.fromkeys([key][: len(value)], *value)))
