"""Artefacts made by an attacker are refused, and nothing in them is run."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from candlecast.domain.distribution import check_quantiles
from candlecast.domain.specs import ModelSpec
from candlecast.errors import BadArtifact
from candlecast.models.artifact import open_sealed, read_json
from candlecast.models.conformal import load_model, make_model, save_model
from candlecast.models.sealed import inside
from hostile_artifacts import (
    Hostile,
    damaged,
    misdescribed,
    misdrawn,
    misplaced,
    misstated,
    reseal,
)
from markets import make_examples

TREES = {"n_estimators": 2, "num_leaves": 4}
SPECS = {
    "climatology": ModelSpec("climatology"),
    "har": ModelSpec("har"),
    "linear": ModelSpec("linear"),
    "lightgbm": ModelSpec("lightgbm", TREES),
    "averaging": ModelSpec("averaging", members=(ModelSpec("har"), ModelSpec("lightgbm", TREES))),
}
ROWS = make_examples(seed=9, n_days=5, edge=0.5).without_outcomes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """A sound artefact of each kind, and the hash that the registry knows of its manifest."""
    examples = make_examples(seed=1, n_days=300, edge=0.5)
    details = {"feature_names": list(examples.feature_names), "horizons": list(examples.horizons)}
    found = {}
    for kind, spec in SPECS.items():
        folder = tmp_path_factory.mktemp(kind)
        found[kind] = folder, save_model(make_model(spec, 7).fit(examples), spec, folder, details)
    return found


def attacked(folder: Path, hostiles: Iterable[Hostile], place: Path) -> Iterable[tuple[str, Path]]:
    """Copies of an artefact, each after one attack."""
    for number, hostile in enumerate(hostiles):
        copy = place / f"{folder.name}-{number}"
        shutil.copytree(folder, copy)
        hostile.attack(copy)
        if hostile.is_resealed:
            reseal(copy)
        yield hostile.name, copy


def refused(name: str, folder: Path, sha256: str | None) -> str | None:
    """None where it is, else what happened instead."""
    try:
        load_model(folder, sha256)
    except BadArtifact:
        return None
    return f"{folder.name}: {name} is loaded"


def test_what_was_sealed_is_loaded(good: dict[str, tuple[Path, str]]) -> None:
    for folder, sha256 in good.values():
        assert np.isfinite(load_model(folder, sha256).predict(ROWS)).all()


def test_hostile_artefacts_are_refused_whoever_knows_their_hash(
    good: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    rng, marker, n = np.random.default_rng(5), tmp_path / "was-run", 0
    wrong = []
    for kind, (folder, sha256) in good.items():
        own = [damaged(folder, rng, marker)]
        if kind in ("har", "averaging"):
            own += [misplaced(), misdescribed()]
        for name, copy in attacked(folder, itertools.chain(*own), tmp_path):
            n += 1
            wrong += [refused(name, copy, sha256)]
            if not name.startswith("manifest.json"):  # whose own hash only the registry knows
                wrong += [refused(name, copy, None)]
    assert [what for what in wrong if what] == []
    assert n >= 200
    assert not marker.exists()


def test_artefacts_with_hashes_made_right_again_are_refused_by_the_registrys_and_else_harmless(
    good: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    rng, n_loaded, n = np.random.default_rng(6), 0, 0
    wrong = []
    for folder, sha256 in good.values():
        own = [misstated(folder), misdrawn(folder, rng)]
        for name, copy in attacked(folder, itertools.chain(*own), tmp_path):
            n += 1
            wrong += [refused(name, copy, sha256)]
            with contextlib.suppress(BadArtifact):
                check_quantiles(load_model(copy).predict(ROWS))
                n_loaded += 1
    assert [what for what in wrong if what] == []
    assert n >= 200
    assert n_loaded < n / 4


def test_files_of_members_are_not_taken_for_one_another(
    good: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    folder, sha256 = good["averaging"]
    copy = tmp_path / "swapped"
    shutil.copytree(folder, copy)
    (copy / "member_0").rename(copy / "aside")
    (copy / "member_1").rename(copy / "member_0")
    (copy / "aside").rename(copy / "member_1")
    for known in (sha256, None):
        assert refused("swapped", copy, known) is None
    reseal(copy)
    for known in (sha256, None):
        assert refused("swapped and sealed", copy, known) is None


def test_an_artefact_of_another_model_is_refused_by_the_hash_that_the_registry_knows(
    good: dict[str, tuple[Path, str]],
) -> None:
    assert refused("har for linear", good["har"][0], good["linear"][1]) is None


def test_a_folder_that_is_a_link_or_none_is_refused(
    good: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(good["har"][0])
    (tmp_path / "file").write_text("{}")
    for name in ("link", "file", "absent", "a\0b"):
        with pytest.raises(BadArtifact):
            open_sealed(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["../model.json", "/etc/passwd", "a/b.json", "a\0.json", "x.pkl", "", ".x.json", 3, None],
)
def test_a_state_cannot_name_a_file_elsewhere(name: object, tmp_path: Path) -> None:
    with pytest.raises(BadArtifact):
        inside(tmp_path, name)
    assert inside(tmp_path, "scale_0.onnx") == tmp_path / "scale_0.onnx"


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 1}', "[" * 5000, "1" * 5000]
)
def test_json_that_others_would_read_otherwise_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(BadArtifact):
        read_json(path)
