"""Hashes of examples and of code: the same for the same, another for anything else."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import candlecast
from candlecast.domain.examples import Examples
from candlecast.domain.history import History
from candlecast.domain.sequences import Sequences
from candlecast.pipelines import provenance
from candlecast.pipelines.provenance import features_code, has_facts, rows_sha256
from markets import make_examples

ROOT = Path(candlecast.__file__).parents[1]
DECIDING = tuple(
    f"candlecast.{part}." for part in ("domain", "features", "labels", "scorers", "pipelines")
)
DECIDING_STORES = ("candlecast.store.first_facts", "candlecast.store.segments")
"""Those that choose which version of a row is read."""
ONLY_KEEPING = tuple(
    f"candlecast.pipelines.{name}"
    for name in ("materialize", "materialized", "provenance", "prune")
)
"""Pipelines that keep what others have made, or say of what it was made."""
EXAMPLES = make_examples(seed=3, n_days=40)


def altered(value):
    if isinstance(value, tuple):
        return (*value[:-1], "other")
    if isinstance(value, History):
        return replace(value, returns=altered(value.returns))
    if isinstance(value, Sequences):
        return replace(value, index=altered(value.index))
    changed = value.copy()
    place = (-1,) * changed.ndim
    if changed.dtype.kind == "M":
        changed[place] += np.timedelta64(1, "us")
    else:
        changed[place] = np.nextafter(0.5, 1) if changed.dtype.kind == "f" else 7
    return changed


@pytest.mark.parametrize("name", [field.name for field in fields(Examples)])
def test_every_part_of_the_examples_is_in_their_hash(name):
    other = replace(EXAMPLES, **{name: altered(getattr(EXAMPLES, name))})
    assert rows_sha256(other) != rows_sha256(EXAMPLES)


def test_how_arrays_lie_in_memory_does_not_matter():
    fortran = replace(EXAMPLES, X=np.asfortranarray(EXAMPLES.X), y=EXAMPLES.y[::1].copy())
    assert rows_sha256(fortran) == rows_sha256(EXAMPLES)
    everything = EXAMPLES.take(np.arange(len(EXAMPLES)))
    assert rows_sha256(everything) == rows_sha256(EXAMPLES)
    assert rows_sha256(EXAMPLES.take(np.arange(0))) != rows_sha256(EXAMPLES)


def test_a_values_place_is_part_of_the_hash():
    swapped = EXAMPLES.X.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert rows_sha256(replace(EXAMPLES, X=swapped)) != rows_sha256(EXAMPLES)


def test_the_code_of_features_depends_on_which_they_are_but_not_on_their_order():
    assert features_code(("har_1", "har_5")) == features_code(("har_5", "har_1"))
    assert features_code(("har_1",)) != features_code(("har_5",))


def test_another_library_or_source_is_another_code(monkeypatch, tmp_path):
    before = provenance.package_code.__wrapped__()
    assert provenance.package_code.__wrapped__() == before
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "version", lambda name: "0" if name == "polars" else "1")
        assert provenance.package_code.__wrapped__() != before
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "__file__", str(tmp_path / "pipelines" / "provenance.py"))
        (tmp_path / "features").mkdir()
        hashes = []
        for text in ("a", "b"):
            (tmp_path / "features" / "trend.py").write_text(text)
            hashes.append(provenance.package_code.__wrapped__())
        assert hashes[0] != hashes[1]


def imported_by(module):
    """The modules of candlecast that one of them imports, wherever in its code."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    path = path if path.is_file() else path.with_suffix("") / "__init__.py"
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = ROOT.joinpath(*name.split("."))
            if name.startswith("candlecast.") and place.with_suffix(".py").is_file():
                found.add(name)
    return found


def test_the_hash_of_the_code_sees_every_module_that_decides_a_value():
    todo = {"candlecast.pipelines.dataset", "candlecast.pipelines.materialized"}
    used = set()
    while todo:
        used.add(module := todo.pop())
        todo |= imported_by(module) - used
    assert {*DECIDING_STORES} <= used, "a store is called something else by now"
    deciding = {
        module
        for module in used
        if module in DECIDING_STORES or (module.startswith(DECIDING) and module not in ONLY_KEEPING)
    }
    assert len(deciding) > 30
    seen = [part.removesuffix(".py").replace("/", ".") for part in provenance.MAKERS]
    missing = {
        module
        for module in deciding
        if not any(f"{module}.".startswith(f"candlecast.{part}.") for part in seen)
    }
    assert missing == set()


def test_features_of_sentiment_are_made_of_facts_and_those_of_prices_are_not():
    assert has_facts(("har_1", "news_sentiment_score"))
    assert not has_facts(("har_1", "return_rank_21"))
